//! P14: processes start without their store, serve at once, report it, try to reach it at a bounded pace, and enforce
//! limits when it is available.

use std::time::Duration;

use tokio::time::Instant;
use tollgate_testkit::redis::{Proxy, RedisCluster, RedisServer};

use crate::support::{
    Node, PATIENT, SLACK, connects_seldom, enforces_in_time, every_key_expires, load,
    reserved_port, until_ready,
};

/// How soon a process without its store serves.
const SERVING: Duration = Duration::from_secs(2);
const PROCESSES: usize = 4;

/// A node that has just started needs some connections before it knows a Cluster. That alone must not cause decisions
/// without the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_node_over_a_cluster_decides_from_its_first_check() {
    let cluster = RedisCluster::start();
    for start in 0..8 {
        let node = Node::start(&cluster.url(), &PATIENT);
        let mut client = node.client().await;
        for user in 0..20 {
            let decision = client.check(format!("user-{user}"), "m").await;
            assert!(!decision.degraded, "start {start}, user {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_start_without_their_store_and_find_it() {
    let (_reserved, port) = reserved_port();
    let mut nodes = Vec::new();
    for _ in 0..PROCESSES {
        // Counts connections, and closes each one while nothing listens behind the proxy.
        let proxy = Proxy::start(port);
        let start = Instant::now();
        let node = Node::start(&proxy.url(), &[]);
        let mut client = node.client().await;
        let (status, ready) = client.get("/readyz").await;
        assert!(status == 200 && ready.contains(r#""status":"degraded""#), "{status} {ready}");
        let decision = client.check("alice", "m").await;
        assert!(decision.allowed && decision.degraded, "{decision:?}");
        let took = start.elapsed();
        assert!(took <= SERVING + SLACK, "serves after {took:?}");
        nodes.push((node, proxy));
    }
    let without = |at: usize| load(&nodes[at].0, "without", Duration::from_secs(3));
    let (a, b, c, d) = tokio::join!(without(0), without(1), without(2), without(3));
    for load in [a, b, c, d] {
        assert!(load.decisions.iter().all(|decision| decision.allowed && decision.degraded));
    }
    for (_, proxy) in &nodes {
        assert!(proxy.accepted() > 0, "it was looked for");
        connects_seldom(proxy, "nobody listens");
    }
    let server = RedisServer::start_on(port, &[]);
    for (node, proxy) in &nodes {
        enforces_in_time(node, "started").await;
        connects_seldom(proxy, "it was found");
        until_ready(node).await;
    }
    every_key_expires(&server);
}
