//! P3, P6, P8 and P14: Redis hung, cut off, slow and gone, under load.
//!
//! Deadlines are the promise here, so they are asserted, each with slack for a machine that does other things. The
//! exact figures are those of `tollgate-bench outage`.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_testkit::redis::{Fault, Proxy, RedisServer};

use super::support::{Client, Decision, Node};

/// What a busy machine may add to a promised time.
const SLACK: Duration = Duration::from_millis(350);
/// The most that a check may take while its store does not answer (P3).
const MOST: Duration = Duration::from_millis(150);
/// How soon after its return the store decides again (P3, P14).
const ENFORCING: Duration = Duration::from_secs(2);
/// The most connections that a process makes in a second (P3, P14).
const CONNECTS_PER_SECOND: u64 = 10;

const PER_SECOND: u32 = 200;
const CONNECTIONS: usize = 40;

/// Asks `PER_SECOND` checks for `seconds`, by a schedule that waits for no answer; what each was answered, and
/// the longest that one took from when it was due.
async fn load(node: &Node, name: &str, seconds: u32) -> (Vec<Decision>, Duration) {
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(node.client().await);
    }
    let start = Instant::now();
    let mut asked: JoinSet<(Client, Decision, Duration)> = JoinSet::new();
    let (mut decisions, mut longest) = (Vec::new(), Duration::ZERO);
    for number in 0..PER_SECOND * seconds {
        let due = start + Duration::from_secs(1) * number / PER_SECOND;
        tokio::time::sleep_until(due).await;
        let mut client = match idle.pop() {
            Some(client) => client,
            None => node.client().await,
        };
        let user = format!("{name}-{number}");
        asked.spawn(async move {
            let decision = client.check(&user, "m").await;
            (client, decision, due.elapsed())
        });
        while let Some(answered) = asked.try_join_next() {
            let (client, decision, took) = answered.unwrap();
            idle.push(client);
            decisions.push(decision);
            longest = longest.max(took);
        }
    }
    while let Some(answered) = asked.join_next().await {
        let (_, decision, took) = answered.unwrap();
        decisions.push(decision);
        longest = longest.max(took);
    }
    (decisions, longest)
}

/// Asks until the store decides again; how long that took.
async fn until_enforcing(node: &Node, name: &str) -> Duration {
    let (start, mut client) = (Instant::now(), node.client().await);
    for number in 0_u32.. {
        if !client.check(&format!("{name}-again-{number}"), "m").await.degraded {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{name}: still degraded");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// P8: every key of `server` will go by itself, within two windows and a second.
fn every_key_expires(server: &RedisServer) {
    let keys = server.command(&["KEYS", "*"]);
    assert!(!keys.is_empty());
    for key in keys {
        let life_ms: i64 = server.command(&["PTTL", &key])[0].parse().unwrap();
        assert!((1..=7_201_000).contains(&life_ms), "{key}: {life_ms}");
    }
}

/// What the store's way does to a node, and how it ends.
struct Outage<'a> {
    name: &'a str,
    begin: &'a dyn Fn(),
    end: &'a dyn Fn(),
}

/// P3: while the store does not answer every check is answered in time and says that it is degraded; the store is
/// left alone but for a few attempts; and when it is back, it decides within two seconds.
async fn is_harmless(node: &Node, server: &RedisServer, proxy: &Proxy, outage: Outage<'_>) {
    let Outage { name, begin, end } = outage;
    until_enforcing(node, &format!("{name}-before")).await;
    let (connects, start) = (proxy.accepted(), Instant::now());
    begin();
    let (decisions, longest) = load(node, name, 3).await;
    assert!(decisions.iter().all(|d| d.allowed && d.degraded), "{name}: allowed, and flagged");
    assert!(longest <= MOST + SLACK, "{name}: {longest:?}");
    end();
    let took = until_enforcing(node, name).await;
    assert!(took <= ENFORCING + SLACK, "{name}: enforcing after {took:?}");
    let connects = proxy.accepted() - connects;
    let seconds = start.elapsed().as_secs() + 1;
    assert!(connects <= CONNECTS_PER_SECOND * seconds, "{name}: {connects} in {seconds} s");
    every_key_expires(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_any_kind_is_harmless() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let node = Node::start(&proxy.url(), &[]);
    let stopped = Outage { name: "stopped", begin: &|| server.pause(), end: &|| server.resume() };
    is_harmless(&node, &server, &proxy, stopped).await;
    for (name, fault) in [
        ("black-hole", Fault::BlackHole),
        ("reset", Fault::Reset),
        ("trickle", Fault::Trickle(Duration::from_millis(40))),
        ("slow", Fault::Delay(Duration::from_secs(1))),
    ] {
        let (begin, end) = (|| proxy.set(fault), || proxy.set(Fault::None));
        is_harmless(&node, &server, &proxy, Outage { name, begin: &begin, end: &end }).await;
    }
    // One line when the store began to fail and one when it was back, not one for each check.
    let outages = 5;
    for line in ["the store fails", "the store decides again"] {
        let logged = node.logged(line);
        assert!((outages..=3 * outages).contains(&logged), "{logged} times {line:?}");
    }
}

/// P6 through a server: answers are lost after the commit, and the clients send their checks again, with their
/// ids. Each is charged once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_is_sent_again_after_a_lost_answer_is_charged_once() {
    const CHECKS: u32 = 60;
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let node = Node::start(&proxy.url(), &[]);
    let mut client = node.client().await;
    let body = |number: u32| {
        format!(r#"{{"userId":"alice","modelId":"m","requestId":"request {number}"}}"#)
    };
    until_enforcing(&node, "before").await;
    for number in 0..CHECKS {
        if number % 20 == 0 {
            proxy.set(Fault::None);
            until_enforcing(&node, &format!("until-{number}")).await;
            proxy.set(Fault::DropAnswers);
        }
        assert!(client.check_body(&body(number)).await.degraded, "{number}");
    }
    proxy.set(Fault::None);
    until_enforcing(&node, "after").await;
    for number in 0..CHECKS {
        assert_eq!(
            client.check_body(&body(number)).await,
            Decision { allowed: true, degraded: false, reason: None }
        );
    }
    let mut admitted = CHECKS;
    while client.check("alice", "m").await.allowed {
        admitted += 1;
    }
    assert_eq!(admitted, 100, "each id was charged once");
}

/// P14: four processes start without their store, serve at once, and say so; they look for it at a bounded pace, and
/// enforce when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_start_without_their_store_and_find_it() {
    let server = RedisServer::start();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let proxy = Proxy::start(server.port());
        proxy.set(Fault::Reset);
        let start = Instant::now();
        let node = Node::start(&proxy.url(), &[]);
        let mut client = node.client().await;
        assert!(client.check("alice", "m").await.degraded);
        assert!(start.elapsed() <= ENFORCING + SLACK, "serves after {:?}", start.elapsed());
        let (status, ready) = client.get("/readyz").await;
        assert!(status == 200 && ready.contains("degraded"), "{status} {ready}");
        nodes.push((node, proxy, start));
    }
    for (node, proxy, start) in &nodes {
        let (decisions, _) = load(node, "without", 1).await;
        assert!(decisions.iter().all(|decision| decision.degraded));
        let seconds = start.elapsed().as_secs() + 1;
        let connects = proxy.accepted();
        assert!(connects <= CONNECTS_PER_SECOND * seconds, "{connects} in {seconds} s");
    }
    for (node, proxy, _) in &nodes {
        proxy.set(Fault::None);
        let took = until_enforcing(node, "found").await;
        assert!(took <= ENFORCING + SLACK, "enforcing after {took:?}");
    }
}
