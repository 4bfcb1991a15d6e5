//! C13: if Redis evicts keys, the usage of limits in force is lost; the node reports that while it happens, on
//! whichever primary.

use tollgate_testkit::redis::{RedisCluster, RedisSentinels, RedisServer};

use crate::support::{Node, PATIENT, until, until_enforcing};

/// The size in bytes of each key that other programs write.
const VALUE_BYTES: usize = 100_000;
const MEMORY: &str = "6mb";

/// Allows `server` to evict.
fn make_small(server: &RedisServer) {
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.command(&["CONFIG", "SET", "maxmemory", MEMORY]);
}

/// Writes more than fits into `server`.
fn fill(server: &RedisServer, tag: &str) {
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..200 {
        server.command(&["SET", &format!("other{{{tag}}}{number}"), &value]);
    }
    assert_ne!(server.info("evicted_keys").unwrap(), "0");
}

/// Starts a node over `url`, allows `server` to evict, and waits for the alarm.
async fn is_told(url: &str, server: &RedisServer, tag: &str) {
    let node = Node::start(url, &PATIENT);
    until_enforcing(&node).await;
    let mut client = node.client().await;
    until("it is ready", async || client.get("/readyz").await.1.contains(r#""status":"ready""#))
        .await;
    // Earlier evictions are not reported: the node has checked at least once since it was ready.
    assert_eq!(node.counted("tollgate_store_evicts").await, 0);
    until("it tells of evictions", async || {
        fill(server, tag);
        client.get("/readyz").await.1.contains("evicts keys")
    })
    .await;
    let (_, ready) = client.get("/readyz").await;
    assert!(ready.contains(r#""status":"degraded""#), "{ready}");
    assert_eq!(node.counted("tollgate_store_evicts").await, 1);
    assert!(node.counted("tollgate_store_evicted_keys_total").await > 0);
    // The counter is reset; the node keeps reading it, and the alarm stays.
    server.command(&["CONFIG", "RESETSTAT"]);
    let before = node.counted("tollgate_store_evicted_keys_total").await;
    until("it counts on", async || {
        fill(server, tag);
        node.counted("tollgate_store_evicted_keys_total").await > before
    })
    .await;
    let log = node.end();
    let said = log.lines().filter(|line| line.contains("noeviction, and give it more memory"));
    assert_eq!(said.count(), 1, "once for the transition: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_redis_is_an_alarm() {
    let server = RedisServer::start();
    make_small(&server);
    is_told(&server.url(), &server, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_evicting_primary_of_a_cluster_is_an_alarm() {
    let cluster = RedisCluster::of(3, 0);
    let last = &cluster.nodes()[2];
    make_small(last);
    // The last primary owns the last third of the slots: `b` is in 3300, `c` in 7365, `a` in 15495.
    is_told(&cluster.url(), last, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_primary_behind_sentinels_is_an_alarm() {
    let sentinels = RedisSentinels::start();
    make_small(&sentinels.primary);
    is_told(&sentinels.url(), &sentinels.primary, "").await;
}
