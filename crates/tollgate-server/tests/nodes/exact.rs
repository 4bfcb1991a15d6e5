//! P1 across processes: three nodes over one store admit exactly the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, PATIENT, every_key_expires, until, until_ready};

const LIMIT: u32 = 100;
const CLIENTS: usize = 64;
const ROUNDS: usize = 1_000;
/// The checks of each client in a round: 192 in total.
const CHECKS: u32 = 3;

/// 64 clients of three processes send checks for one key at once, many times; each time exactly 100 pass.
pub(crate) async fn exactly_the_limit_passes(url: &str, rounds: usize) {
    let nodes: Vec<_> = (0..3).map(|_| Node::start(url, &PATIENT)).collect();
    for node in &nodes {
        until_ready(node).await;
    }
    let admitted: Arc<Vec<AtomicU32>> = Arc::new((0..rounds).map(|_| AtomicU32::new(0)).collect());
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
    exactly_the_limit_passes(&server.url(), ROUNDS).await;
    every_key_expires(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_over_a_cluster_admit_exactly_the_limit() {
    let cluster = RedisCluster::start().patient();
    exactly_the_limit_passes(&cluster.url(), ROUNDS).await;
    // Each primary has decided some of the rounds.
    for primary in &cluster.nodes()[..3] {
        every_key_expires(primary);
    }
}

const METRIC: &str = "tollgate_catalog_other_api_key_secret";
const LINE: &str = "another server on the same store has another secret";

/// P13: two servers with catalogs of their own hash API keys with secrets of their own, so each counts a key apart; the later
/// one says so, and says when it is over.
#[tokio::test]
async fn another_secret_for_api_keys_is_noticed() {
    let redis = RedisServer::start();
    let with = |secret: &'static str| {
        Node::start_with(&PATIENT, |command, _| {
            command.env("TOLLGATE_API_KEY_SECRET", secret).args(["--store", &redis.url()]);
        })
    };
    let first = with("the secret of the first node");
    until_ready(&first).await;
    let key = || redis.command(&["KEYS", "tg:agreed-*"]);
    until("the first node has told its secret", async || !key().is_empty()).await;
    let (same, other) = (with("the secret of the first node"), with("the secret of another node"));
    until("the other one notices", async || other.counted(METRIC).await == 1).await;
    assert_eq!((other.logged(LINE), same.logged(LINE), first.logged(LINE)), (1, 0, 0));
    drop((first, same));
    redis.command(&["DEL", "tg:agreed-api-key-secret"]);
    until("it is over", async || other.counted(METRIC).await == 0).await;
    assert_eq!(other.logged("have the same secret for API keys again"), 1);
}
