//! P5: without the store, three processes decide by the failure mode, say so, and count it.

use tollgate_testkit::redis::RedisServer;

use super::support::{Decision, Node};

const LIMIT: u32 = 100;

/// What 300 checks of one key over three nodes were answered, the store gone.
async fn without_the_store(arguments: &[&str], yaml: Option<&str>) -> (Vec<Decision>, Vec<Node>) {
    let server = RedisServer::start();
    let start = |_| match yaml {
        None => Node::start(&server.url(), arguments),
        Some(yaml) => Node::start_with_policies(&server.url(), arguments, yaml),
    };
    let nodes: Vec<_> = (0..3).map(start).collect();
    for node in &nodes {
        while node.client().await.check("somebody", "m").await.degraded {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    server.kill();
    let mut decisions = Vec::new();
    for node in &nodes {
        let mut client = node.client().await;
        for _ in 0..LIMIT {
            decisions.push(client.check("alice", "m").await);
        }
    }
    (decisions, nodes)
}

/// A counter of `/metrics`, over all nodes.
async fn counted(nodes: &[Node], series: &str) -> u64 {
    let mut total = 0;
    for node in nodes {
        let (_, text) = node.client().await.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let value = line.unwrap_or_else(|| panic!("{series} in {text}"));
        total += value.trim().parse::<u64>().unwrap();
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_nodes_admit_their_shares_together() {
    let (decisions, nodes) =
        without_the_store(&["--on-store-error", "local", "--nodes", "3"], None).await;
    let admitted = decisions.iter().filter(|decision| decision.allowed).count();
    assert_eq!(admitted, 3 * (LIMIT as usize / 3));
    assert!(decisions.iter().all(|decision| decision.degraded));
    let series = r#"tollgate_degraded_decisions_total{mode="local"}"#;
    assert!(counted(&nodes, series).await >= decisions.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allowing_nodes_admit_everything_and_say_so() {
    let (decisions, nodes) = without_the_store(&["--on-store-error", "allow"], None).await;
    assert!(decisions.iter().all(|decision| decision.allowed && decision.degraded));
    let series = r#"tollgate_degraded_decisions_total{mode="allow"}"#;
    assert!(counted(&nodes, series).await >= decisions.len() as u64);
    for node in nodes {
        assert_eq!(node.logged("the store fails"), 1, "once for the transition");
        drop(node.end());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denying_nodes_admit_nothing_and_say_why() {
    let (decisions, nodes) = without_the_store(&["--on-store-error", "deny"], None).await;
    let denied =
        Decision { allowed: false, degraded: true, reason: Some("store_unavailable".to_owned()) };
    assert!(decisions.iter().all(|decision| *decision == denied), "{:?}", decisions[0]);
    let series = r#"tollgate_degraded_decisions_total{mode="deny"}"#;
    assert!(counted(&nodes, series).await >= decisions.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_says_otherwise_than_its_server() {
    let yaml =
        "policies:\n  - {id: p, scope: USER, limit: 100, windowSeconds: 60, onStoreError: deny}\n";
    let (decisions, _) = without_the_store(&["--on-store-error", "allow"], Some(yaml)).await;
    assert!(decisions.iter().all(|decision| !decision.allowed && decision.degraded));
}
