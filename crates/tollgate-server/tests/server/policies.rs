//! The policy file is watched: a valid change applies as a whole, an invalid one never (P11).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::Fixture;

const CHECK: &str = "/rate-limit/check";
const ALICE: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;
/// Longer than any change takes to be noticed; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn write(path: &Path, yaml: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, yaml).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Waits for the expected readiness.
async fn until(fixture: &Fixture, what: impl Fn(&Value) -> bool) -> Value {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let ready = fixture.get("/readyz").await.json();
            if what(&ready) {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the change was not seen")
}

fn limit(yaml_limit: u64) -> String {
    format!("policies: [{{id: p, scope: USER, limit: {yaml_limit}, windowSeconds: 60}}]")
}

#[tokio::test]
async fn a_valid_change_is_in_force_and_keeps_the_usage() {
    let fixture = Fixture::start_with_policies(&limit(1)).await;
    assert_eq!(fixture.post(CHECK, ALICE).await.json()["allowed"], true);
    assert_eq!(fixture.post(CHECK, ALICE).await.json()["allowed"], false);
    write(&fixture.policy_file(), &limit(3));
    until(&fixture, |ready| ready["policiesVersion"] == 2).await;
    let body = fixture.post(CHECK, ALICE).await.json();
    assert_eq!((&body["allowed"], &body["count"]), (&Value::Bool(true), &Value::from(2)));
    let metrics = fixture.get("/metrics").await.body;
    assert!(metrics.contains("\ntollgate_policies_version 2\n"), "{metrics}");
    assert!(metrics.contains("\ntollgate_policy_reloads_total 1\n"), "{metrics}");
    let counted = r#"{outcome="allowed",policy="p",reason=""} 2"#;
    assert!(metrics.contains(counted), "counters of a policy that stays go on: {metrics}");
}

#[tokio::test]
async fn an_invalid_change_is_refused_and_the_old_policies_go_on() {
    let fixture = Fixture::start_with_policies(&limit(1)).await;
    write(&fixture.policy_file(), "policies: [{id: p, scope: USER, limit: -1, windowSeconds: 60}]");
    let ready = until(&fixture, |ready| ready["status"] == "degraded").await;
    assert_eq!(ready["policiesVersion"], 1);
    assert_eq!(ready["parts"]["catalog"]["status"], "degraded");
    assert_eq!(ready["parts"]["catalog"]["cause"], "changeRefused");
    assert_eq!(fixture.get("/readyz").await.status, 200, "it still works");
    assert_eq!(fixture.post(CHECK, ALICE).await.json()["limit"], 1);
    let metrics = fixture.get("/metrics").await.body;
    assert!(metrics.contains("\ntollgate_policy_reloads_refused_total 1\n"), "{metrics}");

    write(&fixture.policy_file(), &limit(5));
    until(&fixture, |ready| ready["status"] == "ready" && ready["policiesVersion"] == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_in_flight_are_decided_by_one_version_or_the_other() {
    // The two versions differ in two policies: a decision that mixed them would show one of each.
    let version = |limit: u64| {
        format!(
            "policies: [{{id: p, scope: USER, limit: {limit}, windowSeconds: 60}}, \
             {{id: q, scope: MODEL, limit: {limit}, windowSeconds: 60}}]"
        )
    };
    let fixture = Fixture::start_with_policies(&version(1_000_000)).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = fixture.client().await;
        let over = Arc::clone(&over);
        clients.spawn(async move {
            let mut seen = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let answer = client.post(CHECK, ALICE).await;
                assert_eq!(answer.status, 200);
                let body = answer.json();
                let limits: Vec<u64> = body["limits"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|limit| limit["limit"].as_u64().unwrap())
                    .collect();
                assert_eq!(limits.len(), 2);
                assert_eq!(limits[0], limits[1], "two versions in one decision");
                seen.push(limits[0]);
            }
            seen.dedup();
            seen
        });
    }
    for (number, limit) in [(2, 2_000_000), (3, 3_000_000)] {
        write(&fixture.policy_file(), &version(limit));
        until(&fixture, |ready| ready["policiesVersion"] == number).await;
    }
    over.store(true, Ordering::SeqCst);
    for seen in clients.join_all().await {
        assert!(seen.is_sorted(), "a version came back: {seen:?}");
    }
}
