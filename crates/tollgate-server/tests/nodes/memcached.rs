//! Servers over memcached: exact together (P1), and harmless when it is stopped, killed, cut off or full (P3, P5, P14, P20).

use std::time::Duration;

use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::redis::{Fault, Proxy};

use crate::exact::exactly_the_limit_passes;
use crate::outage::is_degraded_and_in_time;
use crate::support::{
    Node, PATIENT, WINDOW, connects_seldom, enforces_in_time, load, refusal, serve, until,
    until_enforcing, until_ready,
};

/// How often the clients compete, unless [`ROUNDS_VARIABLE`] says otherwise.
const ROUNDS: usize = 100;
/// The variable with the number of rounds.
const ROUNDS_VARIABLE: &str = "TOLLGATE_MEMCACHED_ROUNDS";

fn url_of(proxy: &Proxy) -> String {
    format!("memcached://127.0.0.1:{}", proxy.port())
}

/// P8: every value expires, within two windows and the seconds to which memcached rounds.
fn every_value_expires(server: &MemcachedServer) {
    let most = i64::try_from(2 * WINDOW.as_secs()).unwrap() + 5;
    for (key, life_s) in server.keys() {
        assert!(life_s.is_some_and(|life_s| life_s <= most), "{key}: {life_s:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_over_one_memcached_admit_exactly_the_limit() {
    let rounds = std::env::var(ROUNDS_VARIABLE).ok().map(|text| text.parse().unwrap());
    let server = MemcachedServer::start();
    exactly_the_limit_passes(&server.url(), rounds.unwrap_or(ROUNDS)).await;
    every_value_expires(&server);
}

/// P3: each check is answered in time and flagged, and the limits are enforced again soon after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_memcached_is_harmless() {
    let server = MemcachedServer::start();
    let proxy = Proxy::start(server.port());
    let node = Node::start(&url_of(&proxy), &[]);
    until_enforcing(&node).await;
    server.pause();
    let load = load(&node, "stopped", Duration::from_secs(5)).await;
    server.resume();
    enforces_in_time(&node, "stopped").await;
    is_degraded_and_in_time(&load, "stopped");
    connects_seldom(&proxy, "stopped");
    every_value_expires(&server);
    let log = node.end();
    for transition in ["the store is unavailable", "the store is available again"] {
        let lines = log.lines().filter(|line| line.contains(transition)).count();
        assert_eq!(lines, 1, "once for the transition: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_way_to_memcached_is_harmless() {
    for fault in [
        Fault::BlackHole,
        Fault::Reset,
        Fault::DropAnswers,
        Fault::LoseAnswers,
        Fault::Trickle(Duration::from_millis(40)),
        Fault::Delay(Duration::from_secs(1)),
    ] {
        let server = MemcachedServer::start();
        let proxy = Proxy::start(server.port());
        let node = Node::start(&url_of(&proxy), &[]);
        let name = format!("{fault:?}");
        until_enforcing(&node).await;
        proxy.set(fault);
        let load = load(&node, &name, Duration::from_secs(2)).await;
        proxy.set(Fault::None);
        enforces_in_time(&node, &name).await;
        is_degraded_and_in_time(&load, &name);
        connects_seldom(&proxy, &name);
    }
}

/// P5, P14 and P20: killed, three servers enforce their shares by themselves and say so; started again, it is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_share_the_limits_of_a_memcached_that_was_killed() {
    let server = MemcachedServer::start();
    let port = server.port();
    let arguments = ["--on-store-error", "local", "--nodes", "4"];
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&server.url(), &arguments)).collect();
    for node in &nodes {
        until_ready(node).await;
    }
    server.kill();
    drop(server);
    for node in &nodes {
        let mut client = node.client().await;
        let mut admitted = 0;
        for _ in 0..100 {
            let decision = client.check("alice", "m").await;
            assert!(decision.degraded);
            admitted += usize::from(decision.allowed);
        }
        assert_eq!(admitted, 25, "a quarter of the built-in policy");
        until("it says that it is degraded", async || {
            client.get("/readyz").await.1.contains(r#""status":"degraded""#)
        })
        .await;
        assert_eq!(node.counted("tollgate_store_enforcing").await, 0);
    }
    let _server = MemcachedServer::start_on(port, &["-M"]);
    for node in &nodes {
        enforces_in_time(node, "started again").await;
        until_ready(node).await;
    }
}

/// Full and forbidden to evict, it refuses what is new: that is an outage, and said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memcached_is_an_outage() {
    let server = MemcachedServer::start_with(&["-M", "-m", "2"]);
    let node = Node::start(&server.url(), &[]);
    until_ready(&node).await;
    server.fill();
    let mut client = node.client().await;
    let mut asked = 0;
    until("it is full", async || {
        asked += 1;
        client.check(format!("user-{asked}"), "m").await.degraded
    })
    .await;
    until("it says so", async || client.get("/readyz").await.1.contains("out_of_memory")).await;
    assert_eq!(server.stat("evictions"), 0);
}

/// A value that a full memcached deletes because it has no room for a change of it is reported like one that it evicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memcached_says_what_it_loses() {
    let server = MemcachedServer::start_with(&["-M", "-m", "2"]);
    let node = Node::start(&server.url(), &PATIENT);
    until_ready(&node).await;
    let mut client = node.client().await;
    for user in 0..50 {
        client.check(format!("user-{user}"), "m").await;
    }
    server.fill();
    let mut asked = 0;
    until("it tells of lost values", async || {
        asked += 1;
        client.check(format!("user-{}", asked % 50), "m").await;
        client.get("/readyz").await.1.contains("evicts keys")
    })
    .await;
    assert_eq!(server.stat("evictions"), 0);
    assert!(node.counted("tollgate_store_evicted_keys_total").await > 0);
}

#[tokio::test]
async fn denials_that_need_no_memcached_are_counted() {
    let server = MemcachedServer::start();
    let policies = "policies: [{id: one, scope: USER, limit: 1, windowSeconds: 3600}]";
    let node = Node::start_with_policies(&server.url(), &[], policies);
    assert!(node.client().await.check("alice", "m").await.allowed);
    until("a denial is counted", async || {
        assert!(!node.client().await.check("alice", "m").await.allowed);
        node.counted("tollgate_local_denials_total").await > 0
    })
    .await;
}

/// What is evicted is reported, and that it may happen is a warning at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_memcached_is_an_alarm() {
    let server = MemcachedServer::start_with(&["-m", "2"]);
    let node = Node::start(&server.url(), &PATIENT);
    until_ready(&node).await;
    let mut client = node.client().await;
    assert_eq!(node.counted("tollgate_store_evicts").await, 0);
    let (value, mut written) = ("x".repeat(10_000), 0);
    until("it tells of evictions", async || {
        written += 1;
        server.set(&format!("other{written}"), &value);
        client.get("/readyz").await.1.contains("evicts keys")
    })
    .await;
    assert_eq!(node.counted("tollgate_store_evicts").await, 1);
    assert!(node.counted("tollgate_store_evicted_keys_total").await > 0);
    let log = node.end();
    for line in ["start it with -M, give it memory", "memcached evicts or deletes values because"] {
        assert_eq!(log.lines().filter(|said| said.contains(line)).count(), 1, "{line}: {log}");
    }
}

/// Policies about leases, and the wrong kind of server, are refused at the start with their reason.
#[test]
fn what_memcached_cannot_do_is_refused_at_the_start() {
    let server = MemcachedServer::start();
    let redis = tollgate_testkit::redis::RedisServer::start();
    let wrong = format!("memcached://127.0.0.1:{}", redis.port());
    let slots = "policies: [{id: slots, scope: USER, unit: concurrency, limit: 5}]";
    let requests = "policies: [{id: p, scope: USER, limit: 5, windowSeconds: 60}]";
    let cases = [
        (server.url(), slots, "keeps no leases", "of these policies are about: slots"),
        (wrong, requests, "does not speak memcached's protocol", "check the host and the port"),
    ];
    for (url, policies, problem, remedy) in cases {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("policies.yaml");
        std::fs::write(&file, policies).unwrap();
        let mut command = serve(&directory);
        command.args(["--store", &url, "--catalog", &format!("file:{}", file.display())]);
        let (code, said) = refusal(&mut command);
        assert_eq!(code, Some(2), "{said}");
        for part in [problem, remedy, "--store"] {
            assert!(said.contains(part), "{part:?} in {said}");
        }
    }
}
