//! C13: a Redis that drops keys drops limits that are in force; that is said while it happens, wherever it happens.

use tollgate_testkit::redis::{RedisCluster, RedisSentinels, RedisServer};

use crate::support::{Node, PATIENT, until, until_enforcing};

/// Bytes of each key that others write.
const VALUE_BYTES: usize = 100_000;
const MEMORY: &str = "6mb";

/// Lets `server` evict.
fn make_small(server: &RedisServer) {
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.command(&["CONFIG", "SET", "maxmemory", MEMORY]);
}

/// Writes what `server` has no room for.
fn fill(server: &RedisServer, tag: &str) {
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..200 {
        server.command(&["SET", &format!("other{{{tag}}}{number}"), &value]);
    }
    assert_ne!(server.info("evicted_keys").unwrap(), "0");
}

/// Starts a node over `url`, lets `server` evict, and waits for the alarm.
async fn is_told(url: &str, server: &RedisServer, tag: &str) {
    let node = Node::start(url, &PATIENT);
    until_enforcing(&node).await;
    let mut client = node.client().await;
    until("it is ready", async || client.get("/readyz").await.1.contains(r#""status":"ready""#))
        .await;
    // Evictions of before are no news: it has looked at least once since it was ready.
    assert_eq!(node.counted("tollgate_redis_evicts").await, 0);
    until("it tells of evictions", async || {
        fill(server, tag);
        client.get("/readyz").await.1.contains("evicts keys")
    })
    .await;
    let (_, ready) = client.get("/readyz").await;
    assert!(ready.contains(r#""status":"degraded""#), "{ready}");
    assert_eq!(node.counted("tollgate_redis_evicts").await, 1);
    assert!(node.counted("tollgate_redis_evicted_keys_total").await > 0);
    // The counter begins anew; it goes on to be read, and the alarm stands.
    server.command(&["CONFIG", "RESETSTAT"]);
    let before = node.counted("tollgate_redis_evicted_keys_total").await;
    until("it counts on", async || {
        fill(server, tag);
        node.counted("tollgate_redis_evicted_keys_total").await > before
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
    // The last primary answers for the last third of the slots: `b` lies in 3300, `c` in 7365, `a` in 15495.
    is_told(&cluster.url(), last, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_primary_behind_sentinels_is_an_alarm() {
    let sentinels = RedisSentinels::start();
    make_small(&sentinels.primary);
    is_told(&sentinels.url(), &sentinels.primary, "").await;
}
