//! A server with its usage in memory, restarted: it goes on from its last snapshot.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Node, refusal, serve, until, until_ready};

const POLICIES: &str = "policies:
  - {id: requests, scope: USER, limit: 5, windowSeconds: 3600}
  - {id: slots, scope: USER, unit: concurrency, limit: 1}";

/// A node that writes snapshots to `dir`.
fn node(dir: &TempDir, arguments: &[&str]) -> Node {
    let store = format!("memory:{}", dir.path().display());
    Node::start_with_policies(&store, arguments, POLICIES)
}

async fn used(node: &Node, user: &str) -> u64 {
    let body = json!({"userId": user, "modelId": "m"}).to_string();
    let text = node.client().await.post("/rate-limit/peek", &body).await.1;
    let said: Value = serde_json::from_str(&text).unwrap();
    let limits = said["limits"].as_array().unwrap();
    limits.iter().find(|one| one["policyId"] == "requests").unwrap()["count"].as_u64().unwrap()
}

/// Windows, leases and request ids go on after an orderly end.
#[tokio::test]
async fn nothing_is_forgotten_after_an_orderly_end() {
    let dir = TempDir::new().unwrap();
    let first = node(&dir, &[]);
    let mut client = first.client().await;
    for _ in 0..3 {
        assert!(client.check("alice", "m").await.allowed);
    }
    let named = json!({"userId": "bob", "modelId": "m", "requestId": "once"}).to_string();
    assert!(client.decide("check", &named).await.allowed);
    let reserve = json!({"userId": "carol", "modelId": "m", "ttlMs": 600_000}).to_string();
    let (status, text) = client.post("/rate-limit/leases", &reserve).await;
    assert_eq!(status, 201, "{text}");
    let lease: Value = serde_json::from_str(&text).unwrap();
    drop(client);
    let (code, log) = first.stop();
    assert_eq!(code, Some(0), "{log}");

    let second = node(&dir, &[]);
    assert_eq!(second.logged("usage goes on from a snapshot"), 1);
    assert_eq!(used(&second, "alice").await, 3);
    let mut client = second.client().await;
    assert!(client.decide("check", &named).await.allowed);
    assert_eq!(used(&second, "bob").await, 1, "the request id is charged once");
    assert_eq!(client.post("/rate-limit/leases", &reserve).await.0, 429, "the slot is taken");
    let settle = format!("/rate-limit/leases/{}/settle", lease["lease"]["id"].as_str().unwrap());
    let (status, text) = client.post(&settle, r#"{"seq": 1, "usage": {"requests": 0}}"#).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(used(&second, "carol").await, 0);
    assert_eq!(client.post("/rate-limit/leases", &reserve).await.0, 201, "the slot is free");
}

/// A second signal gives up the requests in flight, and not the usage.
#[tokio::test]
async fn nothing_is_forgotten_after_a_second_signal() {
    let dir = TempDir::new().unwrap();
    let first = node(&dir, &["--drain-timeout-ms", "600000"]);
    assert!(first.client().await.check("alice", "m").await.allowed);
    let _half = first.half_request().await;
    first.ask_to_end();
    until("it drains", async || first.logged("draining") > 0).await;
    let (code, log) = first.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("second signal") && !log.contains("third signal"), "{log}");
    let second = node(&dir, &[]);
    assert_eq!(used(&second, "alice").await, 1);
}

/// A third signal ends a server that is still sending what it has left: here to a collector that never answers.
#[tokio::test]
async fn a_third_signal_ends_at_once() {
    let dir = TempDir::new().unwrap();
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let node = node(&dir, &["--drain-timeout-ms", "600000", "--otlp-endpoint", &endpoint]);
    let _half = node.half_request().await;
    node.ask_to_end();
    until("it drains", async || node.logged("draining") > 0).await;
    node.ask_to_end();
    until("it gives up", async || node.logged("second signal") > 0).await;
    let (code, log) = node.stop();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("third signal"), "{log}");
}

/// A supervisor sees that usage was lost.
#[tokio::test]
async fn a_last_snapshot_that_cannot_be_written_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let node = node(&dir, &["--snapshot-every-ms", "1000"]);
    assert!(node.client().await.check("alice", "m").await.allowed);
    std::fs::remove_dir_all(dir.path()).unwrap();
    snapshots_fail(&node, 1).await;
    let (code, log) = node.stop();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("the last snapshot of usage is missing"), "{log}");
}

/// What is in the last snapshot counts after a crash.
#[tokio::test]
async fn a_crash_loses_what_came_after_the_last_snapshot() {
    const WRITTEN: &str = "tollgate_store_snapshots_total";
    let dir = TempDir::new().unwrap();
    let first = node(&dir, &["--snapshot-every-ms", "1000"]);
    let mut client = first.client().await;
    for _ in 0..3 {
        assert!(client.check("alice", "m").await.allowed);
    }
    let before = first.counted(WRITTEN).await;
    // One may have begun before the last check.
    until("two snapshots are written", async || first.counted(WRITTEN).await >= before + 2).await;
    first.end();
    let second = node(&dir, &[]);
    assert_eq!(used(&second, "alice").await, 3);
}

/// Snapshots that cannot be written are shown where an operator looks, and are logged once.
#[tokio::test]
async fn snapshots_that_fail_are_shown_until_they_can_be_written_again() {
    let dir = TempDir::new().unwrap();
    let node = node(&dir, &["--snapshot-every-ms", "1000"]);
    let mut client = node.client().await;
    assert!(client.check("alice", "m").await.allowed);
    // A write beyond the limit would end a process that does not expect the signal.
    node.limit_files("16");
    snapshots_fail(&node, 1).await;
    node.limit_files("unlimited");
    snapshots_are_written_again(&node, 1).await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    snapshots_fail(&node, 2).await;
    std::fs::create_dir(dir.path()).unwrap();
    snapshots_are_written_again(&node, 2).await;
    assert!(client.check("alice", "m").await.allowed);
    let (code, log) = node.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Waits until snapshots fail for the `nth` time.
async fn snapshots_fail(node: &Node, nth: u64) {
    until("snapshots fail", async || {
        let (status, text) = node.client().await.get("/readyz").await;
        assert_eq!(status, 200, "the server works without snapshots");
        text.contains("snapshotsFail")
    })
    .await;
    assert!(node.counted("tollgate_store_snapshot_failures_total").await >= nth);
}

/// Waits until they are written again, and checks that each of the `outages` was logged once.
async fn snapshots_are_written_again(node: &Node, outages: usize) {
    until_ready(node).await;
    for line in ["could not be written", "can be written again"] {
        until("the log has the line", async || node.logged(line) == outages).await;
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_server_starts_empty() {
    let dir = TempDir::new().unwrap();
    let first = node(&dir, &[]);
    assert!(first.client().await.check("alice", "m").await.allowed);
    first.stop();
    let path = dir.path().join("usage.snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let second = node(&dir, &[]);
    assert_eq!(second.logged("the checksum of a section does not match"), 1);
    assert_eq!(second.logged("the store starts empty"), 1);
    assert_eq!(used(&second, "alice").await, 0);
    assert_eq!(std::fs::read(dir.path().join("usage.snapshot.refused")).unwrap(), bytes);
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let dir = TempDir::new().unwrap();
    let _first = node(&dir, &[]);
    let other = TempDir::new().unwrap();
    let store = format!("memory:{}", dir.path().display());
    let (code, said) = refusal(serve(&other).args(["--store", &store]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--store: ") && said.contains("another process uses"), "{said}");
}
