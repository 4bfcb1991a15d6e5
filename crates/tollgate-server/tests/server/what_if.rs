//! Policies compared with those in force over `/admin/what-if`.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_server::{RecordConfig, WhatIfBounds};

use crate::support::{Admin, HttpAnswer, READ, WRITE, check_schema};

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
            json!({"policies": policies, "trace": "timestamp,userId\n"}),
            "trace",
            "the uploaded trace has no check",
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

const ONE: &str = "policies: [{id: one, scope: USER, limit: 1, window: 1m}]";

/// A trace with a check of each of `users`, by name.
fn trace_of(users: &[&str]) -> String {
    let lines = users.iter().enumerate().map(|(second, user)| format!("{second},{user}\n"));
    "timestamp,userId\n".to_owned() + &lines.collect::<String>()
}

/// The answer to ONE on `trace`, of a server with these bounds.
async fn within(change: impl FnOnce(&mut WhatIfBounds), trace: &str) -> HttpAnswer {
    let admin = Admin::start_with(|config| change(&mut config.what_if)).await;
    what_if(&admin, &json!({"policies": ONE, "trace": trace})).await
}

/// As many checks as the bound are all compared; what comes after them is left out, and the report says so.
#[tokio::test]
async fn a_trace_is_cut_at_the_bound_of_checks() {
    for (users, is_cut, checks) in
        [(&["a", "a"][..], false, 2), (&["a", "a", "a"][..], false, 3), (&["a"; 4][..], true, 3)]
    {
        let answer = within(|bounds| bounds.max_checks = 3, &trace_of(users)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let report = answer.json();
        assert_eq!((&report["isCut"], &report["checks"]), (&is_cut.into(), &checks.into()));
    }
    assert_eq!(WhatIfBounds::default().max_checks, 1_000_000);
}

#[tokio::test]
async fn subjects_beyond_the_bound_are_counted_together() {
    for (users, count, beyond) in [(&["a", "b"][..], 2, 0), (&["a", "b", "c", "c"][..], 2, 2)] {
        let answer = within(|bounds| bounds.max_subjects = 2, &trace_of(users)).await;
        let subjects = &answer.json()["subjects"][0];
        assert_eq!(
            (&subjects["count"], &subjects["checksBeyond"]),
            (&count.into(), &beyond.into())
        );
    }
}

/// All losers are counted, and as many are listed as the bound says.
#[tokio::test]
async fn as_many_subjects_are_listed_as_the_bound_says() {
    for (users, losing, listed) in
        [(&["a", "b", "a", "b"][..], 2, 2), (&["a", "b", "c", "a", "b", "c"][..], 3, 2)]
    {
        let answer = within(|bounds| bounds.top = 2, &trace_of(users)).await;
        let subjects = &answer.json()["subjects"][0];
        assert_eq!(subjects["checks"]["losing"], losing);
        assert_eq!(subjects["losers"].as_array().map(Vec::len), Some(listed), "{subjects}");
    }
    assert_eq!(WhatIfBounds::default().top, 20);
}

/// The time is read once for 1,024 checks.
#[tokio::test]
async fn a_comparison_that_takes_too_long_is_refused() {
    let admin = Admin::start_with(|config| config.what_if.deadline = Duration::ZERO).await;
    let ask = async |checks| {
        let trace = trace_of(&vec!["a"; checks]);
        what_if(&admin, &json!({"policies": ONE, "trace": trace})).await
    };
    assert_eq!(ask(1_023).await.status, 200);
    let answer = ask(1_024).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    let found = &answer.json()["errors"][0];
    assert_eq!(
        (&found["field"], &found["problem"]),
        (&"trace".into(), &"takes longer than 0 s to compare".into())
    );
    // The next one can begin.
    assert_eq!(ask(1).await.status, 200);
    let answer = within(|_| (), &trace_of(&["a"; 1_024])).await;
    assert_eq!((answer.status, WhatIfBounds::default().deadline), (200, Duration::from_secs(30)));
}

#[tokio::test]
async fn beyond_the_comparisons_that_may_run_at_once_the_answer_is_503() {
    let answer = within(|bounds| bounds.at_once = 0, TRACE).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:busy-comparing");
    assert_eq!(WhatIfBounds::default().at_once, 1);
    // One that has ended makes room, whether it succeeded or not.
    let admin = Admin::start().await;
    for (trace, status) in [(TRACE, 200), ("a,b\n", 422), (TRACE, 200)] {
        let answer = what_if(&admin, &json!({"policies": ONE, "trace": trace})).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

/// A token that only reads may ask; nobody may without one.
#[tokio::test]
async fn a_read_token_may_compare() {
    let admin = Admin::start().await;
    let body = json!({"policies": ONE, "trace": TRACE}).to_string();
    for (token, status) in [(READ, 200), (WRITE, 200), ("a-token-of-nobody", 401)] {
        let headers = [("content-type", "application/json")];
        let answer = admin.send_as(token, "POST", "/admin/what-if", &headers, &body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn policies_can_be_toml() {
    let admin = Admin::start().await;
    let toml = "[[policies]]\nid = \"one\"\nscope = \"USER\"\nlimit = 1\nwindow = \"1m\"\n";
    let body = json!({"policies": toml, "format": "toml", "trace": TRACE});
    let answer = what_if(&admin, &body).await;
    assert_eq!((answer.status, &answer.json()["lost"]), (200, &1.into()), "{}", answer.body);
}
