//! Live data about decisions: top keys of a policy, and the stream of events.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tollgate_server::Secret;
use tollgate_service::UnknownApiKeys;

use crate::support::{Fixture, HttpAnswer, READ};

const TOKEN: &str = "the-token-that-writes";
const POLICIES: &str = "
policies:
  - {id: per-user, scope: USER, limit: 3, windowSeconds: 60}
  - {id: banned, scope: IP, limit: 0}
";
/// Longer than any event takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> Fixture {
    Fixture::start_with_policies_and(POLICIES, |config| {
        config.admin_token = Some(Secret::new(TOKEN));
    })
    .await
}

async fn get(fixture: &Fixture, path: &str) -> HttpAnswer {
    let token = format!("Bearer {TOKEN}");
    fixture.client().await.send("GET", path, &[("authorization", &token)], "").await
}

async fn check(fixture: &Fixture, user: &str) -> Value {
    let body = json!({"userId": user, "modelId": "m"});
    fixture.post("/rate-limit/check", &body.to_string()).await.json()
}

fn ranked(usage: &Value) -> Vec<(&str, u64, u64, u64)> {
    let items = usage["items"].as_array().unwrap().iter();
    let number = |item: &Value, name: &str| item[name].as_u64().unwrap();
    items
        .map(|item| {
            let user = item["key"]["user"].as_str().unwrap();
            (user, number(item, "count"), number(item, "admitted"), number(item, "denied"))
        })
        .collect()
}

/// The usage comes from the store; admissions and denials are counted from the decisions.
#[tokio::test]
async fn the_keys_that_use_most_and_are_denied_most_are_told() {
    let fixture = start().await;
    for (user, times) in [("a", 1), ("b", 9), ("c", 2), ("d", 4)] {
        for _ in 0..times {
            check(&fixture, user).await;
        }
    }
    let usage = get(&fixture, "/admin/usage?policy=per-user&limit=3").await.json();
    let by_use = ranked(&usage);
    assert_eq!(by_use[2], ("c", 2, 2, 0));
    assert!(by_use[..2].contains(&("b", 3, 3, 6)) && by_use[..2].contains(&("d", 3, 3, 1)));
    let usage = get(&fixture, "/admin/usage?policy=per-user&by=denials&limit=1").await.json();
    let by_denials = ranked(&usage);
    assert_eq!(
        (by_denials[0].0, by_denials[0].1, by_denials[0].3, by_denials.len()),
        ("b", 3, 6, 1)
    );
    fixture.clock.advance(Duration::from_mins(1));
    let usage = get(&fixture, "/admin/usage?policy=per-user").await.json();
    assert_eq!(ranked(&usage)[0].1, 0, "what was used has left the window: {usage}");
    assert_eq!(get(&fixture, "/admin/usage?policy=banned").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_wrong_question_about_usage_or_events_is_refused() {
    let fixture = start().await;
    let cases = [
        ("/admin/usage", 422, "policy"),
        ("/admin/usage?policy=per-user&by=size", 422, "by"),
        ("/admin/usage?policy=per-user&limit=0", 422, "limit"),
        ("/admin/usage?policy=per-user&limit=101", 422, "limit"),
        ("/admin/usage?policy=per-user&window=1", 422, "window"),
        ("/admin/events?allowed=yes", 422, "allowed"),
        ("/admin/events?user=", 422, "user"),
        ("/admin/events?color=red", 422, "color"),
    ];
    for (path, status, field) in cases {
        let answer = get(&fixture, path).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (status, &json!(field)));
    }
    assert_eq!(get(&fixture, "/admin/usage?policy=nothing").await.status, 404);
}

/// P15: a read token must not see credentials of others.
#[tokio::test]
async fn a_key_that_is_denied_is_not_shown_to_those_who_watch() {
    let fixture = Fixture::start_with_policies_and(POLICIES, |config| {
        config.admin_token = Some(Secret::new(TOKEN));
        config.unknown_api_keys = UnknownApiKeys::Deny;
    })
    .await;
    let mut subscriber = Subscriber::connect(&fixture, "").await;
    let body = json!({"userId": "u", "modelId": "m", "apiKey": "sk-somebody-elses"});
    fixture.post("/rate-limit/check", &body.to_string()).await;
    let event = subscriber.next("decision").await.unwrap();
    assert_eq!(event["reason"], "api_key_unknown");
    let shown = event["subject"]["apiKey"].as_str().unwrap();
    assert!(shown.len() == 64 && !event.to_string().contains("sk-somebody"), "{event}");
}

/// A subscriber to the events of a server.
struct Subscriber(Lines<BufReader<TcpStream>>);

impl Subscriber {
    async fn connect(fixture: &Fixture, query: &str) -> Self {
        Self::connect_as(fixture, query, TOKEN).await
    }

    async fn connect_as(fixture: &Fixture, query: &str, token: &str) -> Self {
        let mut stream = TcpStream::connect(fixture.address()).await.unwrap();
        let request = format!(
            "GET /admin/events{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "HTTP/1.1 200 OK");
        Self(lines)
    }

    /// The next event called `name`; `None` if the stream ends before.
    async fn next(&mut self, name: &str) -> Option<Value> {
        let next = async {
            let wanted = format!("event: {name}");
            while let Some(line) = self.0.next_line().await.unwrap() {
                if line == wanted {
                    let data = self.0.next_line().await.unwrap().unwrap();
                    return Some(
                        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
                    );
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap()
    }
}

/// P15: without a token there are no events.
#[tokio::test]
async fn subscribing_needs_a_token() {
    let fixture = start().await;
    assert_eq!(fixture.get("/admin/events").await.status, 401);
}

#[tokio::test]
async fn each_subscriber_gets_the_decisions_that_it_asked_for() {
    let fixture = start().await;
    let mut all = Subscriber::connect(&fixture, "").await;
    let mut denials = Subscriber::connect(&fixture, "?allowed=false&policy=per-user").await;
    let mut of_bob = Subscriber::connect(&fixture, "?user=bob&model=m").await;
    for _ in 0..4 {
        check(&fixture, "alice").await;
    }
    check(&fixture, "bob").await;
    let first = all.next("decision").await.unwrap();
    assert_eq!(first["subject"], json!({"user": "alice", "model": "m", "tier": "default"}));
    assert_eq!(
        (&first["allowed"], &first["count"], &first["weight"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let denied = denials.next("decision").await.unwrap();
    assert_eq!(
        (&denied["reason"], &denied["policyId"]),
        (&json!("limit_exceeded"), &json!("per-user"))
    );
    assert_eq!(denied["retryAfterMs"], 60_000);
    assert_eq!((&denied["needed"], &denied["remaining"]), (&json!(1), &json!(0)));
    assert_eq!(denied["cost"], json!({"requests": 1}));
    assert_eq!(of_bob.next("decision").await.unwrap()["subject"]["user"], "bob");
    let stats = loop {
        let stats = all.next("stats").await.unwrap();
        if stats["allowed"] == 4 {
            break stats;
        }
    };
    assert_eq!((&stats["denied"], &stats["keys"]), (&json!(1), &json!(2)));
    assert_eq!(stats["policies"]["per-user"], json!({"allowed": 4, "denied": 1}));
    assert_eq!((&stats["store"], &stats["catalog"]), (&json!("ok"), &json!("ok")));
}

const LEASES: &str = "/rate-limit/leases";

/// The next change of a lease, without its time.
async fn next_lease(subscriber: &mut Subscriber) -> Value {
    let mut event = subscriber.next("lease").await.unwrap();
    assert!(event.as_object_mut().unwrap().remove("at").unwrap().as_u64().unwrap() > 0);
    event
}

/// Whoever knows the id of a lease can settle it, so only a token that may write is told.
#[tokio::test]
async fn changes_of_leases_are_told_with_their_ids_to_those_who_may_settle_them() {
    let yaml = "
policies:
  - {id: tokens, scope: USER, unit: tokens, limit: 50, windowSeconds: 60}
  - {id: slots, scope: USER, unit: concurrency, limit: 5}
";
    let fixture = Fixture::start_with_policies_and(yaml, |config| {
        config.admin_token = Some(Secret::new(TOKEN));
        config.admin_read_token = Some(Secret::new(READ));
    })
    .await;
    let mut writer = Subscriber::connect(&fixture, "").await;
    let mut reader = Subscriber::connect_as(&fixture, "?user=alice&model=m", READ).await;
    let mut denials = Subscriber::connect(&fixture, "?allowed=false").await;
    let mut ids = Vec::new();
    for user in ["bob", "alice", "alice", "alice"] {
        let body = json!({"userId": user, "modelId": "m", "cost": {"tokens": 10}, "ttlMs": 20_000});
        let reserved = fixture.post(LEASES, &body.to_string()).await.json();
        let id = reserved["lease"]["id"].as_str().unwrap().to_owned();
        let decision = writer.next("decision").await.unwrap();
        assert_eq!((&decision["reservation"], &decision["leaseId"]), (&json!(true), &json!(id)));
        ids.push(id);
    }
    let decision = reader.next("decision").await.unwrap();
    assert_eq!((&decision["reservation"], &decision["leaseId"]), (&json!(true), &Value::Null));
    let extend = json!({"seq": 1, "wanted": {"tokens": 12}}).to_string();
    fixture.post(&format!("{LEASES}/{}/extend", ids[1]), &extend).await;
    let settle = json!({"seq": 2, "usage": {"tokens": 70}}).to_string();
    for _ in 0..2 {
        fixture.post(&format!("{LEASES}/{}/settle", ids[1]), &settle).await;
    }
    let mut client = fixture.client().await;
    let released = client.send("DELETE", &format!("{LEASES}/{}", ids[2]), &[], "").await;
    assert_eq!(released.status, 200);
    fixture.clock.advance(Duration::from_secs(20));
    let change = |event: &str, (was, state): (&str, &str), tokens: Value, slot: Value| {
        let held = |policy: &str, unit: &str, numbers: Value| json!({"policyId": policy, "unit": unit, "chargedBefore": numbers[0], "charged": numbers[1], "debt": numbers[2]});
        json!({
            "event": event, "was": was, "state": state, "weight": 1,
            "subject": {"user": "alice", "model": "m"},
            "limits": [held("tokens", "tokens", tokens), held("slots", "concurrency", slot)]
        })
    };
    let expected = [
        (1, change("extended", ("live", "live"), json!([10, 12, 0]), json!([1, 1, 0]))),
        (1, change("settled", ("live", "settled"), json!([12, 70, 40]), json!([1, 0, 0]))),
        (2, change("released", ("live", "released"), json!([10, 0, 30]), json!([1, 0, 0]))),
        (3, change("expired", ("live", "expired"), json!([10, 10, null]), json!([1, 0, null]))),
    ];
    for (lease, mut expected) in expected {
        expected["leaseId"] = Value::Null;
        assert_eq!(next_lease(&mut reader).await, expected);
        expected["leaseId"] = json!(ids[lease]);
        let mut told = next_lease(&mut writer).await;
        if told["subject"]["user"] == "bob" {
            assert_eq!((&told["event"], &told["leaseId"]), (&json!("expired"), &json!(ids[0])));
            told = next_lease(&mut writer).await;
        }
        assert_eq!(told, expected);
    }
    fixture.post("/rate-limit/check", r#"{"userId":"alice","cost":{"tokens":99}}"#).await;
    assert_eq!(denials.next("decision").await.unwrap()["leaseId"], Value::Null);
}

/// A stream of events does not count as an idle connection, even if there are few events.
#[tokio::test]
async fn a_subscriber_is_not_closed_as_idle() {
    let fixture = Fixture::start_with_policies_and(POLICIES, |config| {
        config.admin_token = Some(Secret::new(TOKEN));
        config.limits.idle_timeout = Duration::from_millis(400);
        config.limits.header_timeout = Duration::from_millis(400);
    })
    .await;
    let mut subscriber = Subscriber::connect(&fixture, "").await;
    for _ in 0..3 {
        assert!(subscriber.next("stats").await.is_some());
    }
}

/// The number of subscribers is bounded, and they do not keep a server from ending (P13).
#[tokio::test]
async fn subscribers_are_bounded_and_end_with_the_server() {
    let fixture = start().await;
    let mut subscribers = Vec::new();
    for _ in 0..16 {
        subscribers.push(Subscriber::connect(&fixture, "").await);
    }
    let refused = get(&fixture, "/admin/events").await;
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (503, &json!("urn:tollgate:problem:too-many-listeners"))
    );
    assert!(
        tokio::time::timeout(PATIENCE, fixture.server.drain()).await.unwrap(),
        "all was answered"
    );
    for mut subscriber in subscribers {
        assert_eq!(subscriber.next("decision").await, None);
    }
}
