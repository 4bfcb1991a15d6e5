//! P1 across processes: three nodes over one store admit exactly the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, PATIENT, every_key_expires, until_ready};

const LIMIT: u32 = 100;
const CLIENTS: usize = 64;
const ROUNDS: usize = 1_000;
/// The checks of each client in a round: 192 in total.
const CHECKS: u32 = 3;

/// 64 clients of three processes send checks for one key at once, a thousand times; each time exactly 100 pass.
async fn exactly_the_limit_passes(url: &str) {
    let nodes: Vec<_> = (0..3).map(|_| Node::start(url, &PATIENT)).collect();
    for node in &nodes {
        until_ready(node).await;
    }
    let admitted: Arc<Vec<AtomicU32>> = Arc::new((0..ROUNDS).map(|_| AtomicU32::new(0)).collect());
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = nodes[number % nodes.len()].client().await;
        let (admitted, barrier) = (Arc::clone(&admitted), Arc::clone(&barrier));
        clients.spawn(async move {
            for (round, admitted) in admitted.iter().enumerate() {
                barrier.wait().await;
                for _ in 0..CHECKS {
                    let decision = client.check(format!("round-{round}"), "m").await;
                    assert!(!decision.degraded, "round {round}");
                    // Relaxed: read after all clients have ended.
                    admitted.fetch_add(u32::from(decision.allowed), Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    for (round, count) in admitted.iter().enumerate() {
        assert_eq!(count.load(Ordering::Relaxed), LIMIT, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_over_one_redis_admit_exactly_the_limit() {
    let server = RedisServer::start();
    exactly_the_limit_passes(&server.url()).await;
    every_key_expires(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_over_a_cluster_admit_exactly_the_limit() {
    let cluster = RedisCluster::start().patient();
    exactly_the_limit_passes(&cluster.url()).await;
    // Each primary has decided some of the rounds.
    for primary in &cluster.nodes()[..3] {
        every_key_expires(primary);
    }
}
