//! P12: what has happened already is recorded although it is denied (R19).

use serde_json::{Value, json};

use crate::support::Fixture;

const POLICIES: &str = r"
policies:
  - {id: spent, scope: USER, unit: tokens, limit: 90000, windowSeconds: 3600, overLimit: charge}
  - {id: requests, scope: USER, limit: 100, windowSeconds: 60}
";

async fn ask(fixture: &Fixture, path: &str, mut check: Value) -> Value {
    check["userId"] = json!("alice");
    let answer = fixture.post(path, &check.to_string()).await;
    assert_eq!(answer.status, 200, "{check}: {}", answer.body);
    answer.json()
}

/// The policies and the counts of a decision.
fn counts(decision: &Value) -> Vec<(&str, u64)> {
    let limits = decision["limits"].as_array().unwrap().iter();
    limits
        .map(|limit| (limit["policyId"].as_str().unwrap(), limit["count"].as_u64().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_charge_after_the_fact_is_denied_and_recorded() {
    const CHECK: &str = "/rate-limit/check";
    let fixture = Fixture::start_with_policies(POLICIES).await;
    let late = json!({"cost": {"tokens": 95_000}, "requestId": "stream-1"});
    for _ in 0..2 {
        let denied = ask(&fixture, CHECK, late.clone()).await;
        assert_eq!((&denied["allowed"], &denied["policyId"]), (&json!(false), &json!("spent")));
        assert_eq!(denied["reason"], "cost_exceeds_limit");
        assert_eq!(counts(&denied), [("spent", 95_000), ("requests", 0)]);
        assert_eq!(denied["limits"][0]["debt"], 5_000);
        assert_eq!(denied["limits"][1].get("debt"), None, "left out where there is none");
        let over_limits = [0, 1].map(|place| &denied["limits"][place]["overLimit"]);
        assert_eq!(over_limits, [&json!("charge"), &Value::Null]);
    }
    let next = ask(&fixture, CHECK, json!({"cost": {"tokens": 10}})).await;
    assert_eq!((&next["allowed"], &next["reason"]), (&json!(false), &json!("limit_exceeded")));
    assert_eq!(counts(&next), [("spent", 95_010), ("requests", 0)]);
    let wait_ms = next["retryAfterMs"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&wait_ms), "{wait_ms}");
}
