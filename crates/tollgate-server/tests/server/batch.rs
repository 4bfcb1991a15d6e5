//! Batches: each check is decided separately; the size is bounded; a batch with a malformed check is refused as a
//! whole.

use serde_json::{Value, json};

use crate::support::Fixture;

const BATCH: &str = "/rate-limit/check/batch";

fn batch(users: impl IntoIterator<Item = String>) -> String {
    let checks: Vec<Value> =
        users.into_iter().map(|user| json!({"userId": user, "modelId": "m"})).collect();
    json!({ "checks": checks }).to_string()
}

#[tokio::test]
async fn each_check_is_decided_by_itself_and_in_order() {
    let yaml = "policies: [{id: one, scope: USER, limit: 1, windowSeconds: 10}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    let users = ["a", "a", "b", "a", "c"].map(str::to_owned);
    let answer = fixture.post(BATCH, &batch(users)).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let allowed: Vec<&Value> =
        body["decisions"].as_array().unwrap().iter().map(|d| &d["allowed"]).collect();
    assert_eq!(allowed, [true, false, true, false, true]);
}

#[tokio::test]
async fn a_batch_holds_up_to_1000_checks() {
    let fixture = Fixture::start().await;
    for (count, status) in [(0, 200), (1, 200), (1_000, 200), (1_001, 422), (5_000, 422)] {
        let answer = fixture.post(BATCH, &batch((0..count).map(|n| format!("u{n}")))).await;
        assert_eq!(answer.status, status, "{count}");
        if status == 200 {
            assert_eq!(answer.json()["decisions"].as_array().unwrap().len(), count);
        } else {
            let error = &answer.json()["errors"][0];
            assert_eq!(error["field"], "checks");
            assert_eq!(error["problem"], format!("has {count} elements"));
        }
    }
}

#[tokio::test]
async fn one_malformed_check_refuses_the_batch_and_names_where() {
    let fixture = Fixture::start().await;
    let cases: [(&str, &[&str]); 8] = [
        ("{}", &["checks"]),
        (r#"{"checks":{}}"#, &["checks"]),
        (r#"{"checks":[],"x":1}"#, &["x"]),
        (r#"{"checks":[],"checks":[]}"#, &["checks"]),
        (r#"{"checks":[5,{"userId":"a","modelId":"m"},null]}"#, &["checks[0]", "checks[2]"]),
        (
            r#"{"checks":[{"userId":"a","modelId":"m"},{"userId":"a","modelId":"m"},
                {"userId":"a","modelId":"m"},{"userId":"a","modelId":"m","cost":{"tokens":-1}}]}"#,
            &["checks[3].cost.tokens"],
        ),
        (r#"{"checks":[{"userId":"a"},{"cost":{"tokens":1}}]}"#, &["checks[1]"]),
        (
            r#"{"checks":[{"userId":"a","cost":{"concurrency":0}}]}"#,
            &["checks[0].cost.concurrency"],
        ),
    ];
    for (body, expected) in cases {
        let answer = fixture.post(BATCH, body).await;
        assert_eq!(answer.status, 422, "{body}");
        let problem = answer.json();
        let fields: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields, expected, "{body}");
        let unknown = problem["errors"][0]["problem"] == "is unknown";
        assert_eq!(unknown, body.contains(r#""x":1"#), "{problem}");
    }
    let metrics = fixture.get("/metrics").await.body;
    assert!(metrics.contains("\ntollgate_store_keys 0\n"), "something was charged: {metrics}");
}

#[tokio::test]
async fn a_batch_lists_a_bounded_number_of_problems_and_counts_the_rest() {
    let fixture = Fixture::start().await;
    let answer = fixture.post(BATCH, &batch((0..300).map(|_| String::new()))).await;
    assert_eq!(answer.status, 422);
    let problem = answer.json();
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert!(problem["detail"].as_str().unwrap().starts_with("300 fields"), "{problem}");
}
