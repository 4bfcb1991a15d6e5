//! Priority classes over HTTP: the tier of a check determines how much of a limit it may use (decision 0009).

use serde_json::{Value, json};

use crate::support::Fixture;

const CATALOG: &str = "
tiers: [{id: night, priority: batch}, {id: paid, priority: premium}]
tenants: [{id: acme}]
users: [{id: robot, tenantId: acme, tier: night}, {id: alice, tenantId: acme, tier: paid}]
policies:
  - {id: gpus, scope: GLOBAL, limit: 4, windowSeconds: 60, shares: {batch: 0.5}}
";

async fn check(fixture: &Fixture, user: &str, attributes: Value) -> Value {
    let body = json!({"userId": user, "modelId": "m", "attributes": attributes});
    fixture.post("/rate-limit/enforce", &body.to_string()).await.json()
}

#[tokio::test]
async fn the_less_important_class_is_shed_first_and_told_its_part() {
    let fixture = Fixture::start_with_policies(CATALOG).await;
    for remaining in [1, 0] {
        let admitted = check(&fixture, "robot", json!({})).await;
        assert_eq!((&admitted["allowed"], &admitted["limit"]), (&json!(true), &json!(2)));
        assert_eq!(admitted["remaining"], remaining);
        let limit = &admitted["limits"][0];
        assert_eq!((&limit["priority"], &limit["share"]), (&json!("batch"), &json!(0.5)));
    }
    assert_eq!(check(&fixture, "robot", json!({})).await["reason"], "limit_exceeded");
    let admitted = check(&fixture, "alice", json!({})).await;
    assert_eq!((&admitted["limit"], &admitted["count"]), (&json!(4), &json!(3)));
    assert_eq!(admitted["limits"][0].get("share"), None, "the whole limit is no part");
    let body = r#"{"userId":"robot","modelId":"m"}"#;
    let denied = fixture.post("/rate-limit/enforce", body).await;
    assert_eq!(denied.status, 429);
    assert_eq!(denied.header("ratelimit-policy"), Some("\"gpus\";q=2;w=60"));
    let metrics = fixture.get("/metrics").await.body;
    let counted = r#"{outcome="denied",policy="gpus",reason="limit_exceeded"} 2"#;
    assert!(metrics.contains(counted), "classes of one policy are counted together: {metrics}");
}

/// If the catalog does not know the user, the caller's tier is used; its class still comes from the catalog.
#[tokio::test]
async fn a_tier_that_the_caller_gives_has_the_class_of_that_tier() {
    let fixture = Fixture::start_with_policies(CATALOG).await;
    for (tier, limit) in [("night", 2), ("paid", 4), ("unknown", 4)] {
        assert_eq!(
            check(&fixture, "stranger", json!({"tier": tier})).await["limit"],
            limit,
            "{tier}"
        );
    }
    let robot = check(&fixture, "robot", json!({"tier": "paid"})).await;
    assert_eq!(robot["limit"], 2, "who is known has the tier that the catalog gives");
}
