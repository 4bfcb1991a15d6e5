//! Leases over HTTP (R13–R16): reserve, extend, settle, release, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Admin, Client, Fixture, HttpAnswer, document, json_headers, matches_schema};

const LEASES: &str = "/rate-limit/leases";
const BATCH: &str = "/rate-limit/settle/batch";

const POLICIES: &str = "
policies:
  - {id: tokens, scope: USER, unit: tokens, limit: 100, windowSeconds: 60}
  - {id: requests, scope: USER, limit: 10, windowSeconds: 60}
  - {id: images, scope: USER, unit: images, limit: 5, windowSeconds: 60}
";

/// A server with [`POLICIES`], and one connection to it.
struct Server {
    fixture: Fixture,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        let fixture = Fixture::start_with_policies(POLICIES).await;
        let client = fixture.client().await;
        Self { fixture, client }
    }

    async fn post(&mut self, path: &str, body: &Value) -> HttpAnswer {
        self.client.post(path, &body.to_string()).await
    }

    /// Reserves `tokens` for alice.
    async fn reserve(&mut self, tokens: u64) -> HttpAnswer {
        self.post(LEASES, &json!({"userId": "alice", "cost": {"tokens": tokens}})).await
    }

    /// The id of a lease of so many tokens.
    async fn lease(&mut self, tokens: u64) -> String {
        let answer = self.reserve(tokens).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["lease"]["id"].as_str().unwrap().to_owned()
    }

    async fn extend(&mut self, id: &str, body: Value) -> HttpAnswer {
        self.post(&format!("{LEASES}/{id}/extend"), &body).await
    }

    async fn settle(&mut self, id: &str, body: Value) -> HttpAnswer {
        self.post(&format!("{LEASES}/{id}/settle"), &body).await
    }

    async fn release(&mut self, id: &str) -> HttpAnswer {
        self.client.send("DELETE", &format!("{LEASES}/{id}"), &[], "").await
    }

    /// What alice has used of tokens, requests and images.
    async fn counts(&mut self) -> Value {
        let peeked = self.post("/rate-limit/peek", &json!({"userId": "alice"})).await.json();
        peeked["limits"].as_array().unwrap().iter().map(|limit| limit["count"].clone()).collect()
    }
}

fn some(body: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| body[field].clone()).collect()
}

/// The `charged` of each limit.
fn charged(lease: &Value) -> Value {
    lease["limits"].as_array().unwrap().iter().map(|limit| limit["charged"].clone()).collect()
}

#[tokio::test]
async fn a_reservation_is_answered_like_a_check_with_a_lease() {
    let mut server = Server::start().await;
    let answer = server.reserve(40).await;
    assert_eq!(answer.status, 201);
    let body = answer.json();
    assert_eq!(
        some(&body, &["allowed", "policyId", "count", "degraded"]),
        json!([true, "tokens", 40, false])
    );
    assert!(answer.header("ratelimit").unwrap().starts_with(r#""tokens";r=60;"#));
    assert_eq!(body["lease"]["ttlMs"], 30_000);
    let expires_at = body["lease"]["expiresAt"].as_str().unwrap();
    assert!(expires_at.ends_with('Z') && expires_at.len() == 24, "{expires_at}");
    assert_eq!(server.counts().await, json!([40, 1, 0]));

    let denied = server.reserve(61).await;
    let check = json!({"userId": "alice", "cost": {"tokens": 61}});
    let enforced = server.post("/rate-limit/enforce", &check).await;
    assert_eq!((denied.status, enforced.status), (429, 429));
    let mut body = denied.json();
    let asked = body.as_object_mut().unwrap().remove("reserved").unwrap();
    assert_eq!(asked, json!({"requests": 1, "tokens": 61}));
    assert_eq!(body, enforced.json());
    for field in ["ratelimit", "ratelimit-policy", "retry-after", "content-type"] {
        assert_eq!(denied.header(field), enforced.header(field), "{field}");
    }
    assert_eq!(server.counts().await, json!([40, 1, 0]), "a denied lease holds nothing");
}

/// R12: a request id names a lease once.
#[tokio::test]
async fn a_reservation_sent_again_with_its_request_id_gets_the_same_lease() {
    let mut server = Server::start().await;
    let body = json!({"userId": "alice", "requestId": "r-1", "ttlMs": 5_000});
    let first = server.post(LEASES, &body).await.json();
    let second = server.post(LEASES, &body).await.json();
    assert_eq!(first["lease"]["id"], second["lease"]["id"]);
    assert_eq!(first["lease"]["ttlMs"], 5_000);
    assert_eq!(server.counts().await, json!([0, 1, 0]));
    let state = |answer: &Value| some(&answer["lease"], &["state", "repeated"]);
    assert_eq!(state(&first), json!(["live", false]));
    assert_eq!(state(&second), json!(["live", true]));
    server.fixture.clock.advance(Duration::from_secs(5));
    let third = server.post(LEASES, &body).await.json();
    assert_eq!(
        (&third["lease"]["id"], state(&third)),
        (&first["lease"]["id"], json!(["expired", true]))
    );
    server.settle(first["lease"]["id"].as_str().unwrap(), json!({"seq": 1, "usage": {}})).await;
    let fourth = server.post(LEASES, &body).await.json();
    assert_eq!(state(&fourth), json!(["settled", true]), "it is no new grant");
    let metrics = server.fixture.get("/metrics").await.body;
    for (event, count) in [("reserved", 1), ("repeated", 3)] {
        let line = format!("tollgate_lease_events_total{{event=\"{event}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

/// What is reserved without being named is learned from settlements.
#[tokio::test]
async fn what_a_reservation_does_not_name_is_learned() {
    let policies = "
policies:
  - id: output
    scope: USER
    unit: output_tokens
    limit: 1000000
    windowSeconds: 60
    reserve: {output_tokens: {quantile: 0.9, atLeast: 50, atMost: 1000}}
  # R10: what a shadow policy would reserve must not make an enforced one deny.
  - id: trial
    scope: USER
    unit: output_tokens
    mode: shadow
    limit: 9000000
    windowSeconds: 60
    reserve: {output_tokens: {atMost: 5000000}}
  - {id: input, scope: USER, unit: input_tokens, limit: 1000000, windowSeconds: 60}
";
    let fixture = Fixture::start_with_policies(policies).await;
    let client = fixture.client().await;
    let mut server = Server { fixture, client };
    let ask = json!({"userId": "alice", "modelId": "m", "tenantId": "acme", "inputBytes": 4_000});
    let reserved = async |server: &mut Server, ask: &Value| {
        let answer = server.post(LEASES, ask).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let lease = &answer.json()["lease"];
        (lease["id"].as_str().unwrap().to_owned(), lease["reserved"].clone())
    };
    let (_, first) = reserved(&mut server, &ask).await;
    let unknown = json!({"requests": 1, "input_tokens": 2_000, "output_tokens": 1_000});
    assert_eq!(first, unknown, "one token for two bytes, and the most");
    for number in 1..=30 {
        let (id, _) = reserved(&mut server, &ask).await;
        let usage = json!({"input_tokens": 1_000, "output_tokens": 10 * number});
        let settled = server.settle(&id, json!({"seq": 1, "usage": usage})).await;
        assert_eq!(settled.status, 200, "{}", settled.body);
        // Neither a correction nor a lower bound teaches.
        let usage = json!({"output_tokens": 900});
        server.settle(&id, json!({"seq": 2, "usage": usage})).await;
        let (id, _) = reserved(&mut server, &ask).await;
        let bound = json!({"seq": 1, "usage": {"output_tokens": 1}, "quality": "lower_bound"});
        server.settle(&id, bound).await;
    }
    // Never below what so many answers have used.
    let about =
        |value: &Value, exact: u64| (exact..=exact + exact / 30).contains(&value.as_u64().unwrap());
    let (_, learned) = reserved(&mut server, &ask).await;
    assert!(about(&learned["output_tokens"], 270), "{learned}");
    assert!(about(&learned["input_tokens"], 1_000), "{learned}");
    let other = json!({"userId": "bob", "modelId": "m", "tenantId": "other"});
    let (_, of_model) = reserved(&mut server, &other).await;
    assert!(about(&of_model["output_tokens"], 270), "the model's, for another tenant: {of_model}");
    let large = json!({"userId": "bob", "tenantId": "other", "modelId": "m", "cost": {"input_tokens": 2_000_000}});
    let denied = server.post(LEASES, &large).await;
    assert_eq!(denied.status, 429, "{}", denied.body);
    let denied = denied.json();
    assert_eq!(denied.get("lease"), None);
    let mut expected = of_model.clone();
    expected["input_tokens"] = json!(2_000_000);
    assert_eq!(denied["reserved"], expected, "a denial says what it asked for");
    let named = json!({"userId": "alice", "modelId": "m", "cost": {"output_tokens": 7}});
    let (_, named) = reserved(&mut server, &named).await;
    assert_eq!(named, json!({"requests": 1, "output_tokens": 7}), "what is named counts");
}

/// R14: what was not used comes back at once, and what was used above the reservation is a debt.
#[tokio::test]
async fn a_settlement_replaces_what_was_reserved_by_what_was_used() {
    let mut server = Server::start().await;
    let id = server.lease(60).await;
    let settled = server.settle(&id, json!({"seq": 1, "usage": {"tokens": 25}})).await;
    let body = settled.json();
    assert_eq!(settled.status, 200);
    assert_eq!(
        some(&body, &["id", "state", "seq", "repeated", "ttlMs", "expiresAt"]),
        json!([id, "settled", 1, false, 30_000, null])
    );
    assert_eq!(
        body["limits"][0],
        json!({"policyId": "tokens", "unit": "tokens", "limit": 100, "count": 25, "remaining": 75,
               "debt": 0, "charged": 25})
    );
    assert_eq!(server.counts().await, json!([25, 1, 0]));

    let corrected = server.settle(&id, json!({"seq": 2, "usage": {"tokens": 130}})).await.json();
    let tokens = &corrected["limits"][0];
    assert_eq!(some(tokens, &["count", "remaining", "debt"]), json!([130, 0, 30]));
    assert_eq!(server.reserve(1).await.status, 429, "a debt is not forgiven");

    // Nothing that was sent before changes anything.
    for seq in [2, 1] {
        let repeated = server.settle(&id, json!({"seq": seq, "usage": {"tokens": 1}})).await;
        let body = repeated.json();
        assert_eq!((repeated.status, &body["repeated"]), (200, &json!(true)), "{seq}");
        assert_eq!((&body["seq"], charged(&body)), (&json!(2), json!([130, 1, 0])));
    }
    let broken_off = json!({"seq": 3, "usage": {"tokens": 1}, "quality": "lower_bound"});
    let bound = server.settle(&id, broken_off).await.json();
    assert_eq!(charged(&bound), json!([130, 1, 0]), "a lower bound gives nothing back");
}

#[tokio::test]
async fn a_unit_that_was_not_reserved_is_charged_when_it_is_settled() {
    let mut server = Server::start().await;
    let id = server.lease(10).await;
    let usage = json!({"images": 7, "nothing_counts_this": 9});
    let settled = server.settle(&id, json!({"seq": 1, "usage": usage})).await.json();
    assert_eq!(charged(&settled), json!([10, 1, 7]), "a unit that is not named stays");
    assert_eq!(settled["limits"][2]["debt"], 2);
    assert_eq!(server.counts().await, json!([10, 1, 7]));
}

#[tokio::test]
async fn an_extension_charges_what_was_used_and_asks_for_more() {
    let mut server = Server::start().await;
    let id = server.lease(40).await;
    let more =
        json!({"seq": 1, "ttlMs": 60_000, "observed": {"tokens": 50}, "wanted": {"tokens": 90}});
    let extended = server.extend(&id, more.clone()).await.json();
    assert_eq!(
        some(&extended, &["state", "proceed", "seq", "ttlMs", "repeated"]),
        json!(["live", true, 1, 60_000, false])
    );
    assert!(extended["expiresAt"].is_string());
    assert_eq!(charged(&extended), json!([90, 1, 0]));

    let refused = server.extend(&id, json!({"seq": 2, "wanted": {"tokens": 101}})).await;
    assert_eq!((refused.status, &refused.json()["proceed"]), (200, &json!(false)));
    assert_eq!(charged(&refused.json()), json!([90, 1, 0]), "all of it or nothing");
    // The answer to what is repeated is the current state.
    let repeated = server.extend(&id, more).await.json();
    assert_eq!(some(&repeated, &["repeated", "proceed", "seq"]), json!([true, false, 2]));
    assert_eq!(server.counts().await, json!([90, 1, 0]));
}

/// R16: a lease holds a slot until it ends or expires; a check holds none, and is denied while none is free.
#[tokio::test]
async fn a_lease_holds_a_slot_of_each_limit_of_concurrency() {
    let yaml = "policies: [{id: slots, scope: USER, unit: concurrency, limit: 2}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    let mut server = Server { client: fixture.client().await, fixture };
    let (one, other) = (server.lease(0).await, server.lease(0).await);
    let denied = server.reserve(0).await;
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("30")));
    let check = json!({"userId": "alice"});
    assert_eq!(server.post("/rate-limit/enforce", &check).await.status, 429);
    let settled = server.settle(&one, json!({"seq": 1, "usage": {}})).await.json();
    let slots = json!({"policyId": "slots", "unit": "concurrency", "limit": 2, "count": 1, "remaining": 1,
                       "debt": 0, "charged": 0});
    assert_eq!(settled["limits"][0], slots);
    for _ in 0..3 {
        assert_eq!(server.post("/rate-limit/enforce", &check).await.status, 200);
    }
    let third = server.lease(0).await;
    server.fixture.clock.advance(Duration::from_secs(31));
    let (one, two) = (server.lease(0).await, server.lease(0).await);
    // Both slots are taken again, so neither of the expired leases can live on.
    for expired in [&other, &third] {
        let extended = server.extend(expired, json!({"seq": 1})).await.json();
        assert_eq!(some(&extended, &["state", "proceed"]), json!(["expired", false]));
    }
    assert_eq!(server.release(&one).await.json()["limits"][0]["count"], 1);
    let extended = server.extend(&other, json!({"seq": 2})).await.json();
    assert_eq!(some(&extended, &["state", "proceed"]), json!(["live", true]));
    assert_eq!(server.release(&two).await.status, 200);
}

/// R15: a lease expires by the clock of the store, and a late settlement still corrects what is in its window.
#[tokio::test]
async fn a_lease_that_expired_is_extended_or_settled_late() {
    let mut server = Server::start().await;
    let (one, other) = (server.lease(30).await, server.lease(30).await);
    server.fixture.clock.advance(Duration::from_secs(31));
    assert_eq!(server.counts().await, json!([60, 2, 0]), "an expired lease keeps its holds");
    let known = server.settle(&one, json!({"seq": 1, "usage": {"tokens": 5}})).await.json();
    assert_eq!((&known["state"], charged(&known)), (&json!("settled"), json!([5, 1, 0])));
    let revived = server.extend(&other, json!({"seq": 1})).await.json();
    assert_eq!((&revived["state"], &revived["proceed"]), (&json!("live"), &json!(true)));
    server.fixture.clock.advance(Duration::from_secs(31));
    let repeated = server.extend(&other, json!({"seq": 1})).await.json();
    assert_eq!(
        some(&repeated, &["state", "repeated", "expiresAt"]),
        json!(["expired", true, null])
    );
    server.fixture.clock.advance(Duration::from_mins(3));
    let forgotten = server.settle(&other, json!({"seq": 2, "usage": {}})).await;
    assert_eq!(forgotten.status, 404, "{}", forgotten.body);
}

#[tokio::test]
async fn a_release_gives_everything_back_and_ends_the_lease() {
    let mut server = Server::start().await;
    let id = server.lease(60).await;
    for repeated in [false, true] {
        let released = server.release(&id).await;
        let body = released.json();
        assert_eq!(released.status, 200);
        assert_eq!(some(&body, &["state", "repeated"]), json!(["released", repeated]));
        assert_eq!(charged(&body), json!([0, 0, 0]));
    }
    assert_eq!(server.counts().await, json!([0, 0, 0]));
    let kind = |answer: &HttpAnswer| (answer.status, answer.json()["type"].clone());
    let was_released = (409, json!("urn:tollgate:problem:lease-released"));
    assert_eq!(kind(&server.extend(&id, json!({"seq": 1})).await), was_released);
    let settlement = json!({"seq": 1, "usage": {"tokens": 5}});
    assert_eq!(kind(&server.settle(&id, settlement.clone()).await), was_released);

    let id = server.lease(60).await;
    assert_eq!(server.settle(&id, settlement).await.status, 200);
    let was_settled = (409, json!("urn:tollgate:problem:lease-settled"));
    assert_eq!(kind(&server.extend(&id, json!({"seq": 2})).await), was_settled);
    assert_eq!(kind(&server.release(&id).await), was_settled);
    assert_eq!(server.counts().await, json!([5, 1, 0]), "nothing was changed");
}

#[tokio::test]
async fn an_id_of_no_lease_is_404_and_changes_nothing() {
    let mut server = Server::start().await;
    let id = server.lease(60).await;
    let mut forged = id.clone();
    forged.replace_range(20..21, if &id[20..21] == "0" { "1" } else { "0" });
    let long = "x".repeat(513);
    for id in [&*forged, "unknown", "a%20b", "%F0%9F%92%A9", "%FF", &*long] {
        let answers = [
            server.extend(id, json!({"seq": 1, "wanted": {"tokens": 9}})).await,
            server.settle(id, json!({"seq": 1, "usage": {"tokens": 9}})).await,
            server.release(id).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, 404, "{id}: {}", answer.body);
            assert_eq!(answer.json()["type"], "urn:tollgate:problem:unknown-lease", "{id}");
        }
    }
    assert_eq!(server.counts().await, json!([60, 1, 0]));
    // However a client writes it, it is the same id.
    let encoded = format!("%{:02X}{}", id.as_bytes()[0], &id[1..]);
    let settled = server.settle(&encoded, json!({"seq": 1, "usage": {"tokens": 9}})).await;
    assert_eq!((settled.status, settled.json()["id"].as_str()), (200, Some(&*id)));
}

#[tokio::test]
async fn a_batch_settles_each_lease_by_itself_in_order() {
    let mut server = Server::start().await;
    let (one, other) = (server.lease(30).await, server.lease(30).await);
    let released = server.lease(1).await;
    server.release(&released).await;
    let settlement = |id: &str, seq: u64, tokens: u64| json!({"leaseId": id, "seq": seq, "usage": {"tokens": tokens}});
    let bound =
        json!({"leaseId": other, "seq": 2, "usage": {"tokens": 1}, "quality": "lower_bound"});
    let batch = json!({"settlements": [
        settlement(&one, 1, 10), settlement("no id!", 1, 1), settlement("unknown", 1, 1), bound,
        settlement(&other, 1, 1), settlement(&released, 1, 1), settlement(&one, 2, 12)
    ]});
    let answer = server.post(BATCH, &batch).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let answers = body["settlements"].as_array().unwrap();
    let statuses: Value = answers.iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!(statuses, json!([200, 404, 404, 200, 200, 409, 200]));
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["leaseId"]).collect();
    assert_eq!(ids, [&*one, "no id!", "unknown", &*other, &*other, &*released, &*one]);
    assert_eq!(answers[1]["problem"]["type"], "urn:tollgate:problem:unknown-lease");
    assert_eq!(answers[5]["problem"]["type"], "urn:tollgate:problem:lease-released");
    assert_eq!(charged(&answers[3]["lease"]), json!([30, 1, 0]));
    assert_eq!(answers[4]["lease"]["repeated"], true);
    assert_eq!(charged(&answers[6]["lease"]), json!([12, 1, 0]));
    for answer in answers {
        let (schema, part) =
            if answer["status"] == 200 { ("Lease", "lease") } else { ("Problem", "problem") };
        assert!(matches_schema(schema, &answer[part]), "{answer}");
    }
    assert_eq!(server.counts().await, json!([42, 2, 0]));
}

/// A body, and the field and part of the problem of each error, in the order of the body.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const RESERVATIONS: &[Case] = &[
    ("{}", &[("body", "names no subject")]),
    ("[]", &[("body", "is an array")]),
    (r#"{"ttlMs":500}"#, &[("body", "names no subject")]),
    (r#"{"userId":"alice","ttlMs":99}"#, &[("ttlMs", "is out of range")]),
    (r#"{"userId":"alice","ttlMs":0}"#, &[("ttlMs", "is out of range")]),
    (r#"{"userId":"alice","ttlMs":3600001}"#, &[("ttlMs", "is out of range")]),
    (r#"{"userId":"alice","ttlMs":-1}"#, &[("ttlMs", "is negative")]),
    (r#"{"userId":"alice","ttlMs":1000.5}"#, &[("ttlMs", "is not a whole number")]),
    (r#"{"userId":"alice","ttlMs":"30s"}"#, &[("ttlMs", "is a string")]),
    (r#"{"userId":"alice","ttlMs":500,"ttlMs":500}"#, &[("ttlMs", "is given twice")]),
    (r#"{"userId":"alice","ttl":500}"#, &[("ttl", "is unknown")]),
    (
        r#"{"userId":"alice","cost":{"tokens":-1,"concurrency":1,"Tok":2},"ttlMs":1}"#,
        &[
            ("cost.tokens", "is negative"),
            ("cost.concurrency", "a lease holds one slot by itself"),
            ("cost.Tok", "is not a unit"),
            ("ttlMs", "is out of range"),
        ],
    ),
];

const EXTENSIONS: &[Case] = &[
    ("{}", &[("seq", "is missing")]),
    ("null", &[("body", "is null")]),
    (r#"{"seq":0}"#, &[("seq", "is 0")]),
    (r#"{"seq":null}"#, &[("seq", "is null")]),
    (r#"{"seq":-1}"#, &[("seq", "is negative")]),
    (r#"{"seq":1.5}"#, &[("seq", "is not a whole number")]),
    (r#"{"seq":9007199254740992}"#, &[("seq", "is too large")]),
    (r#"{"seq":1,"seq":2}"#, &[("seq", "is given twice")]),
    (r#"{"seq":1,"ttlMs":99}"#, &[("ttlMs", "is out of range")]),
    (r#"{"seq":1,"usage":{}}"#, &[("usage", "is unknown")]),
    (r#"{"seq":1,"observed":5}"#, &[("observed", "is a number")]),
    (
        r#"{"observed":{"tokens":-1},"wanted":{"tokens":1.5,"concurrency":2,"x y":1,"tokens":3}}"#,
        &[
            ("observed.tokens", "is negative"),
            ("wanted.tokens", "is not a whole number"),
            ("wanted.concurrency", "a lease holds one slot by itself"),
            ("wanted.x y", "is not a unit"),
            ("wanted.tokens", "is given twice"),
            ("seq", "is missing"),
        ],
    ),
];

const SETTLEMENTS: &[Case] = &[
    ("{}", &[("seq", "is missing"), ("usage", "is missing")]),
    (r#""settle""#, &[("body", "is a string")]),
    (r#"{"seq":0,"usage":{}}"#, &[("seq", "is 0")]),
    (r#"{"seq":1,"usage":null}"#, &[("usage", "is null")]),
    (r#"{"seq":1,"usage":[]}"#, &[("usage", "is an array")]),
    (r#"{"seq":1,"usage":{"tokens":-1}}"#, &[("usage.tokens", "is negative")]),
    (r#"{"seq":1,"usage":{"tokens":0.5}}"#, &[("usage.tokens", "is not a whole number")]),
    (r#"{"seq":1,"usage":{"tokens":9007199254740992}}"#, &[("usage.tokens", "is too large")]),
    (r#"{"seq":1,"usage":{"concurrency":0}}"#, &[("usage.concurrency", "holds one slot")]),
    (r#"{"seq":1,"usage":{"Tokens":0}}"#, &[("usage.Tokens", "is not a unit")]),
    (r#"{"seq":1,"usage":{},"quality":"guess"}"#, &[("quality", "is not a quality")]),
    (r#"{"seq":1,"usage":{},"quality":1}"#, &[("quality", "is a number")]),
    (r#"{"seq":1,"usage":{},"leaseId":"x"}"#, &[("leaseId", "is unknown")]),
];

const BATCHES: &[Case] = &[
    ("{}", &[("settlements", "is missing")]),
    (r#"{"settlements":{}}"#, &[("settlements", "is an object")]),
    (r#"{"checks":[],"settlements":[]}"#, &[("checks", "is unknown")]),
    (
        r#"{"settlements":[{"leaseId":"a","seq":1,"usage":{}},{"seq":1,"usage":{}},
            {"leaseId":5,"seq":0,"usage":{"tokens":-1}}, 7]}"#,
        &[
            ("settlements[1].leaseId", "is missing"),
            ("settlements[2].leaseId", "is a number"),
            ("settlements[2].seq", "is 0"),
            ("settlements[2].usage.tokens", "is negative"),
            ("settlements[3]", "is a number"),
        ],
    ),
];

/// Each problem names its field, and nothing is charged, given back or ended.
#[tokio::test]
async fn a_value_that_is_not_accepted_is_named_and_changes_nothing() {
    let mut server = Server::start().await;
    let id = server.lease(60).await;
    let (extend, settle) = (format!("{LEASES}/{id}/extend"), format!("{LEASES}/{id}/settle"));
    let cases =
        [(LEASES, RESERVATIONS), (&*extend, EXTENSIONS), (&*settle, SETTLEMENTS), (BATCH, BATCHES)];
    for (path, cases) in cases {
        for (body, expected) in cases {
            let answer = server.client.post(path, body).await;
            assert_eq!(answer.status, 422, "{path} {body}: {}", answer.body);
            let problem = answer.json();
            let errors = problem["errors"].as_array().unwrap();
            let all_named = errors.len() == expected.len()
                && errors.iter().zip(*expected).all(|(error, (field, part))| {
                    error["field"] == *field && error["problem"].as_str().unwrap().contains(part)
                });
            assert!(all_named, "{path} {body}: expected {expected:?}, not {errors:?}");
        }
    }
    for (path, body, status) in [(LEASES, "{", 400), (&*settle, "", 400), (BATCH, "[", 400)] {
        assert_eq!(server.client.post(path, body).await.status, status, "{path} {body}");
    }
    let plain = [("content-type", "text/plain")];
    assert_eq!(server.client.send("POST", &settle, &plain, "{}").await.status, 415);
    assert_eq!(server.counts().await, json!([60, 1, 0]));
    let state = server.extend(&id, json!({"seq": 1})).await.json();
    assert_eq!((&state["state"], charged(&state)), (&json!("live"), json!([60, 1, 0])));
}

/// The schemas refuse no body that the parser accepts.
#[tokio::test]
async fn the_schemas_say_what_is_accepted() {
    let mut server = Server::start().await;
    let id = server.lease(1).await;
    let totals = |count: usize| -> Value {
        (0..count).map(|n| (format!("u{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into()
    };
    let cases = [
        ("Reservation", LEASES.to_owned(), json!({"userId": "bob", "ttlMs": 100}), 201),
        ("Reservation", LEASES.to_owned(), json!({"userId": "bob", "ttlMs": 3_600_000}), 201),
        ("Reservation", LEASES.to_owned(), json!({"userId": "bob", "ttlMs": null}), 201),
        ("LeaseExtension", format!("{LEASES}/{id}/extend"), json!({"seq": 1}), 200),
        (
            "LeaseExtension",
            format!("{LEASES}/{id}/extend"),
            json!({"seq": 2, "ttlMs": null, "observed": null, "wanted": totals(16)}),
            200,
        ),
        (
            "LeaseExtension",
            format!("{LEASES}/{id}/extend"),
            json!({"seq": 3, "observed": totals(17)}),
            422,
        ),
        (
            "LeaseSettlement",
            format!("{LEASES}/{id}/settle"),
            json!({"seq": 9_007_199_254_740_991_u64, "usage": {"tokens": 9_007_199_254_740_991_u64},
                   "quality": null}),
            200,
        ),
        ("SettlementBatch", BATCH.to_owned(), json!({"settlements": []}), 200),
    ];
    for (schema, path, body, status) in cases {
        assert_eq!(server.post(&path, &body).await.status, status, "{path} {body}");
        assert_eq!(matches_schema(schema, &body), status < 400, "{schema} {body}");
    }
    let too_many = vec![json!({"leaseId": "x", "seq": 1, "usage": {}}); 1_001];
    let answer = server.post(BATCH, &json!({ "settlements": too_many })).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["errors"][0]["problem"], "has 1001 elements");
    let refused = &document()["components"]["schemas"]["Check"]["properties"]["ttlMs"];
    assert!(refused.is_null(), "a check has no time to live");
    let check = json!({"userId": "a", "ttlMs": 500});
    assert_eq!(server.post("/rate-limit/check", &check).await.status, 422);
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let mut server = Server::start().await;
    let cases = [
        ("GET", LEASES.to_owned(), 405, Some("POST")),
        ("GET", format!("{LEASES}/x"), 405, Some("DELETE")),
        ("PUT", format!("{LEASES}/x/settle"), 405, Some("POST")),
        ("GET", BATCH.to_owned(), 405, Some("POST")),
        ("POST", format!("{LEASES}/x/renew"), 404, None),
        ("POST", format!("{LEASES}/"), 404, None),
    ];
    for (method, path, status, allow) in cases {
        let answer = server.client.send(method, &path, &json_headers(), "{}").await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {path}");
        assert_ne!(answer.json()["type"], "urn:tollgate:problem:unknown-lease", "{method} {path}");
    }
}

/// A reservation with a key that may not pass is denied like a check.
#[tokio::test]
async fn a_reservation_with_an_unknown_key_is_denied() {
    let admin = Admin::start_with(|config| {
        config.unknown_api_keys = tollgate_service::UnknownApiKeys::Deny;
    })
    .await;
    let answer = admin.fixture.post(LEASES, r#"{"userId":"alice","apiKey":"nobody's"}"#).await;
    assert_eq!(answer.status, 429);
    let body = answer.json();
    assert_eq!(
        some(&body, &["allowed", "reason", "limits"]),
        json!([false, "api_key_unknown", []])
    );
    assert_eq!(body.get("lease"), None);
}

/// What `/metrics` says about leases, with series that no client adds to.
#[tokio::test]
async fn leases_are_counted_by_what_happened_and_by_unit() {
    let mut server = Server::start().await;
    let before = server.fixture.get("/metrics").await.body;
    let (one, other, third) =
        (server.lease(40).await, server.lease(40).await, server.lease(5).await);
    server.reserve(60).await;
    server.extend(&one, json!({"seq": 1, "wanted": {"tokens": 45}})).await;
    server.extend(&one, json!({"seq": 2, "wanted": {"tokens": 99}})).await;
    let settlement = json!({"seq": 3, "usage": {"tokens": 70, "images": 2}});
    for _ in 0..2 {
        server.settle(&one, settlement.clone()).await;
    }
    server.release(&third).await;
    server.settle(&third, settlement.clone()).await;
    server.settle("unknown", settlement.clone()).await;
    server.fixture.clock.advance(Duration::from_secs(31));
    let late = json!({"settlements": [
        {"leaseId": other, "seq": 1, "usage": {"tokens": 10}},
        {"leaseId": other, "seq": 2, "usage": {"tokens": 20}},
        {"leaseId": "no id!", "seq": 2, "usage": {"canary_unit": 20}}
    ]});
    server.post(BATCH, &late).await;
    let metrics = server.fixture.get("/metrics").await.body;
    let value = |series: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
    };
    for (event, count) in [
        ("reserved", 3),
        ("denied", 1),
        ("extended", 1),
        ("stopped", 1),
        ("settled", 1),
        ("settled_late", 1),
        ("expired", 1),
        ("corrected", 1),
        ("released", 1),
        ("repeated", 1),
        ("refused", 1),
        ("not_found", 2),
    ] {
        let series = format!(r#"tollgate_lease_events_total{{event="{event}"}}"#);
        assert_eq!(value(&series), count, "{event}");
    }
    for (unit, reserved, used, debt) in
        [("tokens", 85, 80, 15), ("requests", 2, 2, 0), ("(other)", 0, 2, 0)]
    {
        for (name, count) in [("reserved", reserved), ("used", used), ("debt", debt)] {
            let series = format!(r#"tollgate_lease_{name}_total{{unit="{unit}"}}"#);
            assert_eq!(value(&series), count, "{name} {unit}");
        }
    }
    for (unit, unused, exceeded) in [("tokens", 30, 25), ("requests", 0, 0), ("(other)", 0, 2)] {
        let of = |name: &str| value(&format!(r#"tollgate_lease_{name}_total{{unit="{unit}"}}"#));
        assert_eq!((of("unused"), of("exceeded")), (unused, exceeded), "{unit}");
    }
    assert_eq!((value("tollgate_store_leases"), value("tollgate_leases_live")), (3, 0));
    assert_eq!(value(r#"tollgate_decision_duration_seconds_count{call="reserve"}"#), 4);
    assert_eq!(value(r#"tollgate_decision_duration_seconds_count{call="settle_batch"}"#), 1);
    let series = |metrics: &str| metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(series(&metrics), series(&before));
    assert!(!metrics.contains("canary") && !metrics.contains("unit=\"images"), "{metrics}");
}
