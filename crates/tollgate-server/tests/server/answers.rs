//! The form of a decision over HTTP, and its values.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Fixture;

const ALICE: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;

/// Two requests in ten seconds for a user.
const TWO_IN_TEN: &str = "policies: [{id: two, scope: USER, limit: 2, windowSeconds: 10}]";

#[tokio::test]
async fn a_check_is_answered_with_the_fields_of_the_design_in_their_order() {
    let fixture = Fixture::start().await;
    let answer = fixture.post("/rate-limit/check", ALICE).await;
    assert_eq!(answer.status, 200);
    let reset = answer.json()["resetAfterMs"].to_string();
    let expected = r#"{"allowed":true,"limit":100,"count":1,"remaining":99,"windowSeconds":3600,"retryAfterMs":0,"resetAfterMs":RESET,"policyId":"default","scope":"USER_MODEL","unit":"requests","reason":null,"degraded":false,"limits":[{"policyId":"default","scope":"USER_MODEL","unit":"requests","algorithm":"sliding_window_log","mode":"enforce","allowed":true,"limit":100,"count":1,"remaining":99,"windowSeconds":3600,"retryAfterMs":0,"resetAfterMs":RESET}]}"#;
    assert_eq!(answer.body, expected.replace("RESET", &reset));
    // A log of an hour keeps times in ticks, and none leaves early (R7): it waits at most a millisecond longer.
    assert!(["3600000", "3600001"].contains(&&*reset), "{reset}");
}

#[tokio::test]
async fn an_admission_has_the_headers_and_no_retry_after() {
    let fixture = Fixture::start().await;
    let answer = fixture.post("/rate-limit/check", ALICE).await;
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""default";q=100;w=3600"#));
    let left = answer.header("ratelimit").unwrap();
    assert!(left.starts_with(r#""default";r=99;t=360"#), "{left}");
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// R6 and P12 over HTTP: a check after exactly the given wait is admitted, and one millisecond earlier it is denied.
#[tokio::test]
async fn a_denial_says_exactly_when_the_same_check_is_admitted() {
    let fixture = Fixture::start_with_policies(TWO_IN_TEN).await;
    let mut client = fixture.client().await;
    for _ in 0..2 {
        assert_eq!(client.post("/rate-limit/enforce", ALICE).await.status, 200);
        fixture.clock.advance(Duration::from_millis(2_500));
    }
    let denied = client.post("/rate-limit/enforce", ALICE).await;
    assert_eq!(denied.status, 429);
    let body = denied.json();
    assert_eq!(body["allowed"], false);
    assert_eq!(body["reason"], "limit_exceeded");
    assert_eq!(body["retryAfterMs"], 5_000);
    assert_eq!(denied.header("retry-after"), Some("5"));

    fixture.clock.advance(Duration::from_millis(4_999));
    let early = client.post("/rate-limit/enforce", ALICE).await;
    assert_eq!((early.status, early.json()["retryAfterMs"].clone()), (429, json!(1)));
    assert_eq!(early.header("retry-after"), Some("1"));
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(client.post("/rate-limit/enforce", ALICE).await.status, 200);
}

#[tokio::test]
async fn a_check_denies_with_200_and_enforce_with_429_and_the_same_body() {
    let yaml = "policies: [{id: none, scope: USER, limit: 0, windowSeconds: 10}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    let checked = fixture.post("/rate-limit/check", ALICE).await;
    let enforced = fixture.post("/rate-limit/enforce", ALICE).await;
    assert_eq!((checked.status, enforced.status), (200, 429));
    assert_eq!(checked.body, enforced.body);
    assert_eq!(checked.header("ratelimit"), enforced.header("ratelimit"));
}

#[tokio::test]
async fn a_peek_says_what_a_check_would_and_charges_nothing() {
    let fixture = Fixture::start_with_policies(TWO_IN_TEN).await;
    let counts = async |path: &str| {
        let body = fixture.post(path, ALICE).await.json();
        (body["allowed"].as_bool().unwrap(), body["count"].as_u64().unwrap())
    };
    assert_eq!(counts("/rate-limit/peek").await, (true, 0));
    assert_eq!(counts("/rate-limit/peek").await, (true, 0));
    assert_eq!(counts("/rate-limit/check").await, (true, 1));
    assert_eq!(counts("/rate-limit/check").await, (true, 2));
    assert_eq!(counts("/rate-limit/peek").await, (false, 2));
}

/// The answer of each policy to a check: every reason, R4's nulls, R10's shadow, windows that are not whole seconds.
#[tokio::test]
async fn each_kind_of_decision_has_its_fields() {
    let check = r#"{"userId":"alice","modelId":"gpt-4","cost":{"tokens":50}}"#;
    let cases: [(&str, Value); 6] = [
        (
            "{id: p, scope: USER, limit: 0, windowSeconds: 60}",
            json!({"allowed": false, "reason": "banned", "retryAfterMs": null, "limit": 0,
                   "remaining": 0, "policyId": "p", "scope": "USER", "windowSeconds": 60}),
        ),
        (
            "{id: p, per: [user, model], unit: tokens, limit: 49, windowSeconds: 0.5}",
            json!({"allowed": false, "reason": "cost_exceeds_limit", "retryAfterMs": null,
                   "unit": "tokens", "scope": "USER_MODEL", "windowSeconds": 0.5}),
        ),
        (
            "{id: p, per: [user, service], limit: 1, windowSeconds: 60}",
            json!({"allowed": true, "limit": null, "count": 0, "remaining": null,
                   "windowSeconds": null, "retryAfterMs": 0, "resetAfterMs": 0, "policyId": null,
                   "scope": null, "reason": null, "degraded": false, "limits": []}),
        ),
        (
            "{id: p, scope: USER, limit: null, windowSeconds: 60}",
            json!({"allowed": true, "limit": null, "policyId": null, "limits": []}),
        ),
        (
            "{id: p, scope: USER, limit: 0, windowSeconds: 60, mode: shadow}",
            json!({"allowed": true, "limit": null, "policyId": null, "reason": null}),
        ),
        (
            "{id: p, scope: USER, unit: tokens, limit: 60, windowSeconds: 60, \
             algorithm: sliding_window_counter}",
            json!({"allowed": true, "limit": 60, "count": 50, "remaining": 10, "unit": "tokens"}),
        ),
    ];
    for (policy, expected) in cases {
        let fixture = Fixture::start_with_policies(&format!("policies: [{policy}]")).await;
        let answer = fixture.post("/rate-limit/check", check).await;
        let body = answer.json();
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&body[field], value, "{field} of {policy}: {body}");
        }
        if body["reason"] == "banned" || body["reason"] == "cost_exceeds_limit" {
            assert_eq!(answer.header("retry-after"), None, "waiting does not help");
        }
    }
}

#[tokio::test]
async fn every_field_of_a_check_reaches_the_policies() {
    let cases = [
        ("scope: TENANT", r#""tenantId":"x""#),
        ("scope: API_KEY", r#""apiKey":"x""#),
        ("per: [service]", r#""service":"x""#),
        ("scope: IP", r#""ip":"203.0.113.7""#),
        ("scope: MODEL_TIER", r#""attributes":{"modelTier":"x"}"#),
        ("per: [tier]", r#""attributes":{"tier":"x"}"#),
        ("per: [region]", r#""attributes":{"region":"x"}"#),
    ];
    for (per, field) in cases {
        let yaml = format!("policies: [{{id: p, {per}, limit: 1, windowSeconds: 60}}]");
        let fixture = Fixture::start_with_policies(&yaml).await;
        let allowed = async |user: &str, field: &str| {
            let body = format!(r#"{{"userId":"{user}","modelId":"m"{field}}}"#);
            fixture.post("/rate-limit/check", &body).await.json()["allowed"].clone()
        };
        let with_field = format!(",{field}");
        assert_eq!(allowed("a", &with_field).await, true, "{per}");
        assert_eq!(allowed("b", &with_field).await, false, "{per}: the same limit");
        assert_eq!(allowed("b", "").await, true, "{per}: no limit is met");
    }
}

#[tokio::test]
async fn spellings_of_one_address_share_its_limit() {
    let yaml = "policies: [{id: ip, scope: IP, limit: 1, windowSeconds: 60}]";
    let same = [["203.0.113.7", "::ffff:203.0.113.7"], ["2001:db8::1", "2001:0DB8:0:0:0:0:0:1"]];
    for [first, second] in same {
        let fixture = Fixture::start_with_policies(yaml).await;
        let allowed = async |ip: &str| {
            let body = format!(r#"{{"userId":"a","modelId":"m","ip":"{ip}"}}"#);
            fixture.post("/rate-limit/check", &body).await.json()["allowed"].clone()
        };
        assert_eq!(allowed(first).await, true);
        assert_eq!(allowed(second).await, false, "{second} is {first}");
    }
}

/// R8: whether a client escapes a character makes no difference to the key.
#[tokio::test]
async fn escapes_of_one_id_share_its_limit() {
    let fixture = Fixture::start_with_policies(TWO_IN_TEN).await;
    let bodies = [
        r#"{"userId":"né","modelId":"m"}"#,
        r#"{"userId":"n\u00e9","modelId":"m"}"#,
        r#"{"userId":"\u006e\u00e9","modelId":"m"}"#,
    ];
    let mut counts = Vec::new();
    for body in bodies {
        counts.push(fixture.post("/rate-limit/check", body).await.json()["allowed"].clone());
    }
    assert_eq!(counts, [true, true, false]);
}

#[tokio::test]
async fn null_is_as_good_as_absent_for_what_is_optional() {
    let fixture = Fixture::start().await;
    let body = r#"{"userId":"a","modelId":"m","tenantId":null,"apiKey":null,"service":null,
        "ip":null,"attributes":null,"cost":null,"requestId":null}"#;
    assert_eq!(fixture.post("/rate-limit/check", body).await.json()["allowed"], true);
}

/// P1 over HTTP: with many connections at once, exactly the limit is admitted.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_is_admitted_under_64_clients_at_once() {
    let yaml = "policies: [{id: p, scope: USER, limit: 500, windowSeconds: 60}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut client = fixture.client().await;
        clients.spawn(async move {
            let mut admitted = 0;
            for _ in 0..10 {
                let answer = client.post("/rate-limit/enforce", ALICE).await;
                admitted += u32::from(answer.status == 200);
            }
            admitted
        });
    }
    let admitted: u32 = clients.join_all().await.iter().sum();
    assert_eq!(admitted, 500);
}

/// R12 over HTTP: a check that is sent again with its id is charged once, alone and in a batch.
#[tokio::test]
async fn a_check_sent_again_with_its_request_id_is_charged_once() {
    let fixture = Fixture::start_with_policies(TWO_IN_TEN).await;
    let mut client = fixture.client().await;
    let check = r#"{"userId":"alice","modelId":"gpt-4","requestId":"r-1"}"#;
    let first = client.post("/rate-limit/check", check).await;
    assert_eq!(first.json()["count"], 1);
    for path in ["/rate-limit/check", "/rate-limit/enforce"] {
        assert_eq!(client.post(path, check).await.body, first.body, "{path}");
    }
    let other = check.replace("r-1", "r-2");
    let batch = format!(r#"{{"checks":[{check},{other},{other},{ALICE}]}}"#);
    let decisions = client.post("/rate-limit/check/batch", &batch).await.json();
    let allowed: Vec<_> = (0..4).map(|index| &decisions["decisions"][index]["allowed"]).collect();
    assert_eq!(allowed, [true, true, true, false], "the last one has no id");
    let peeked = client.post("/rate-limit/peek", check).await.json();
    assert_eq!((peeked["allowed"].clone(), peeked["count"].clone()), (json!(false), json!(2)));
}
