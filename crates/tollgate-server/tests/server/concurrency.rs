//! Policies of concurrency over HTTP (R16): they are stored, explained and answered without a window.

use serde_json::json;

use crate::support::{Admin, matches_schema};

#[tokio::test]
async fn a_policy_of_concurrency_is_stored_as_it_was_given_and_has_no_window() {
    let admin = Admin::start().await;
    let given = json!({"id": "slots", "scope": "USER", "unit": "concurrency", "limit": 2});
    assert!(matches_schema("NewPolicy", &given));
    let created = admin.ask("POST", "/admin/policies", &given).await;
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.json(), given);
    let limit = admin.ask("PATCH", "/admin/policies/slots", &json!({"limit": 3})).await;
    assert_eq!(limit.json()["limit"], 3, "{}", limit.body);

    let check = json!({"userId": "alice", "modelId": "m"});
    let decided = admin.ask("POST", "/rate-limit/enforce", &check).await.json();
    let slots = decided["limits"].as_array().unwrap().iter().find(|one| one["policyId"] == "slots");
    let slots = slots.unwrap();
    let (algorithm, unit) = (&slots["algorithm"], &slots["unit"]);
    assert_eq!((algorithm, unit), (&json!("concurrency"), &json!("concurrency")));
    // A check holds no slot.
    let counted = (&slots["limit"], &slots["count"], &slots["windowSeconds"]);
    assert_eq!(counted, (&json!(3), &json!(0), &json!(null)));
    assert!(matches_schema("Decision", &decided));
    let explained = admin.ask("POST", "/admin/explain", &check).await;
    assert_eq!(explained.status, 200, "{}", explained.body);
    assert!(matches_schema("Explanation", &explained.json()), "{}", explained.body);
}

#[tokio::test]
async fn a_window_beside_concurrency_is_refused_and_the_schema_says_so() {
    let admin = Admin::start().await;
    let fields = [
        ("windowSeconds", json!(60)),
        ("window", json!("1m")),
        ("calendar", json!("day")),
        ("timeZone", json!("UTC")),
        ("algorithm", json!("token_bucket")),
        ("burst", json!(5)),
        ("overLimit", json!("charge")),
    ];
    for (field, value) in fields {
        let mut policy = json!({"id": "slots", "scope": "USER", "unit": "concurrency", "limit": 2});
        policy[field] = value;
        assert!(!matches_schema("NewPolicy", &policy), "{policy}");
        for path in ["/admin/policies", "/admin/policies/validate"] {
            let refused = admin.ask("POST", path, &policy).await;
            assert_eq!(refused.status, 422, "{path} {}", refused.body);
            let problem = &refused.json()["errors"][0];
            assert_eq!(problem["field"], field, "{}", refused.body);
            let said = problem.to_string();
            assert!(said.contains("beside `unit: concurrency`"), "{said}");
        }
    }
}
