//! R22 across processes: nodes that take parts of a hot limit never admit more than it, though one is killed or Redis hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tollgate_testkit::redis::RedisServer;

use crate::support::{Node, PATIENT, until_enforcing, until_ready};

const LIMIT: u64 = 4_000;
const CLIENTS: usize = 24;

fn hot() -> String {
    format!(
        "policies:\n- {{id: hot, scope: GLOBAL, limit: {LIMIT}, windowSeconds: 3600, split: {{share: 0.05}}, \
         onStoreError: deny}}\n"
    )
}

fn node(server: &RedisServer, arguments: &[&str]) -> Node {
    Node::start_with_policies(&server.url(), arguments, &hot())
}

/// Sends `checks` checks from each client, spread over `nodes`; adds those admitted to `admitted`.
async fn hammer(nodes: &[&Node], checks: u64, admitted: &Arc<AtomicU64>) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = nodes[number % nodes.len()].client().await;
        let admitted = Arc::clone(admitted);
        clients.spawn(async move {
            for _ in 0..checks {
                let decision = client.check(number, "m").await;
                // Relaxed: read after all clients have ended.
                admitted.fetch_add(u64::from(decision.allowed), Ordering::Relaxed);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// What a node that is killed holds is lost until it leaves the window, and no more than its share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_takes_no_more_than_its_share_with_it() {
    let server = RedisServer::start();
    let nodes: Vec<_> = (0..3).map(|_| node(&server, &PATIENT)).collect();
    for node in &nodes {
        until_ready(node).await;
    }
    let admitted = Arc::<AtomicU64>::default();
    hammer(&nodes.iter().collect::<Vec<_>>(), 100, &admitted).await;
    assert_eq!(admitted.load(Ordering::Relaxed), 24 * 100, "there is room for all");
    let [killed, second, third] = nodes.try_into().ok().unwrap();
    killed.end();
    hammer(&[&second, &third], 100, &admitted).await;
    // An orderly end gives back what these two hold.
    for node in [second, third] {
        assert!(node.counted("tollgate_local_admissions_total").await > 0, "no part was taken");
        assert!(node.counted("tollgate_split_units_held").await <= LIMIT / 20);
        assert_eq!(node.stop().0, Some(0));
    }
    let last = node(&server, &PATIENT);
    until_ready(&last).await;
    hammer(&[&last], 100, &admitted).await;
    let (admitted, share) = (admitted.load(Ordering::Relaxed), LIMIT / 20);
    assert!((LIMIT - share..=LIMIT).contains(&admitted), "{admitted}");
}

/// While Redis hangs, a node spends what it holds and then denies; later the limit still holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_in_hand_outlast_a_hung_redis() {
    let server = RedisServer::start();
    let node = node(&server, &[]);
    until_enforcing(&node).await;
    let admitted = Arc::<AtomicU64>::default();
    hammer(&[&node], 50, &admitted).await;
    server.pause();
    hammer(&[&node], 50, &admitted).await;
    let mut client = node.client().await;
    let decision = client.check("late", "m").await;
    assert!(!decision.allowed && decision.degraded, "{decision:?}");
    server.resume();
    until_enforcing(&node).await;
    hammer(&[&node], 250, &admitted).await;
    let admitted = admitted.load(Ordering::Relaxed);
    assert!(admitted <= LIMIT, "{admitted}");
}
