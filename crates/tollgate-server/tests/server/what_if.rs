//! Policies compared with those in force over `/admin/what-if`.

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_server::RecordConfig;

use crate::support::{Admin, HttpAnswer, check_schema};

const TRACE: &str = "timestamp,userId,modelId,cost.tokens\n0,ann,m,5\n1,ann,m,5\n2,bob,m,7\n";

async fn what_if(admin: &Admin, body: &Value) -> HttpAnswer {
    admin.ask("POST", "/admin/what-if", body).await
}

#[tokio::test]
async fn an_uploaded_trace_says_who_would_lose() {
    let admin = Admin::start().await;
    let policies = "policies: [{id: one, scope: USER, limit: 1, window: 1m}]";
    let answer = what_if(&admin, &json!({"policies": policies, "trace": TRACE})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let report = answer.json();
    check_schema("Comparison", &report);
    assert_eq!(
        (&report["checks"], &report["lost"], &report["gained"]),
        (&3.into(), &1.into(), &0.into())
    );
    assert_eq!(report["tokens"], json!({"old": 17, "new": 12}));
    assert_eq!(report["firstChange"]["new"]["policyId"], "one");
    assert_eq!(report["subjects"][0]["losers"][0]["subject"]["user"], "ann");
    // No usage of the server was touched, and the policies are those of before.
    let answer =
        what_if(&admin, &json!({"policies": policies, "trace": TRACE, "format": "yaml"})).await;
    assert_eq!(answer.json()["lost"], 1);
}

#[tokio::test]
async fn the_recording_of_the_server_is_the_trace_if_none_is_given() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("recorded.csv");
    let admin = Admin::start_with(|config| {
        let (sample_millionths, max_bytes, hash_ids) = (1_000_000, 1 << 20, false);
        config.record = Some(RecordConfig { file, sample_millionths, max_bytes, hash_ids });
    })
    .await;
    for _ in 0..3 {
        admin.check(json!({"userId": "ann", "modelId": "m"})).await;
    }
    let policies = r#"{"policies":[{"id":"two","scope":"USER","limit":2,"windowSeconds":60}]}"#;
    let answer = what_if(&admin, &json!({"policies": policies, "format": "json"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&answer.json()["checks"], &answer.json()["lost"]), (&3.into(), &1.into()));
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_with_its_field() {
    let admin = Admin::start().await;
    let policies = "policies: [{id: one, scope: USER, limit: 1, window: 1m}]";
    let typo = "policies: [{id: one, scope: USER, limit: 1, window: 1m, modee: shadow}]";
    let cases = [
        (json!({}), "policies", "is missing"),
        (
            json!({"policies": policies, "tace": TRACE}),
            "tace",
            "is not a field (did you mean `trace`?)",
        ),
        (json!({"policies": 5}), "policies", "5 is a number"),
        (json!({"policies": "", "trace": TRACE}), "policies", "is empty"),
        (
            json!({"policies": typo, "trace": TRACE}),
            "policies[0].modee",
            "is not a field (did you mean `mode`?)",
        ),
        (json!({"policies": "tiers: [{id: pro}]", "trace": TRACE}), "tiers", "is not compared"),
        (
            json!({"policies": policies, "format": "ymal", "trace": TRACE}),
            "format",
            "\"ymal\" is not accepted",
        ),
        (json!({"policies": policies, "users": 0, "trace": TRACE}), "users", "0 is out of range"),
        (json!({"policies": policies}), "trace", "is missing, and this server records no traffic"),
        (
            json!({"policies": policies, "trace": "a,b\n"}),
            "trace",
            "line 1: header: is \"a,b\", of no known format",
        ),
        (
            json!({"policies": policies, "trace": "timestamp,userId\nsoon,a\n"}),
            "trace",
            "line 2: timestamp: is \"soon\"",
        ),
    ];
    for (body, field, problem) in cases {
        let answer = what_if(&admin, &body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        let found = &answer.json()["errors"][0];
        assert_eq!(found["field"], field, "{body}: {found}");
        assert!(found["problem"].as_str().unwrap().starts_with(problem), "{body}: {found}");
    }
}
