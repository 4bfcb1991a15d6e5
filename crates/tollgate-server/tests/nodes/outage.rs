//! P3 and P8: Redis hung, cut off and slow, under load. Every check is answered in time and says that it is degraded,
//! the store gets only a few attempts, and when it works again it decides within two seconds.

use std::time::Duration;

use tollgate_testkit::redis::{Fault, Proxy, RedisServer};

use crate::support::{
    Load, Node, SLACK, connects_seldom, enforces_in_time, every_key_expires, load, until,
    until_enforcing, until_ready,
};

/// The longest that a check may take while its store does not answer,
const MOST: Duration = Duration::from_millis(150);
/// and that of 999 in 1,000.
const PER_MILLE_999: Duration = Duration::from_millis(100);

pub(crate) fn is_degraded_and_in_time(load: &Load, name: &str) {
    assert!(load.decisions.iter().all(|d| d.allowed && d.degraded), "{name}: flagged");
    let (most, p999) = (load.per_mille(1_000), load.per_mille(999));
    assert!(most <= MOST + SLACK, "{name}: at most {most:?}");
    assert!(p999 <= PER_MILLE_999 + SLACK, "{name}: 99.9 % within {p999:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_is_harmless() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let node = Node::start(&proxy.url(), &[]);
    until_enforcing(&node).await;
    server.pause();
    let load = load(&node, "stopped", Duration::from_secs(5)).await;
    server.resume();
    enforces_in_time(&node, "stopped").await;
    is_degraded_and_in_time(&load, "stopped");
    connects_seldom(&proxy, "stopped");
    every_key_expires(&server);
    logs_one_outage(&node.end());
}

/// P20: the examination at the start and the breaker meet the same outage, and log it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_at_the_start_is_logged_once() {
    for is_checked in [false, true] {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        proxy.set(Fault::BlackHole);
        let node = Node::start(&proxy.url(), &[]);
        let mut client = node.client().await;
        until("the outage is logged", async || {
            if is_checked {
                client.check("alice", "m").await;
            }
            node.logged("the store is unavailable") > 0
        })
        .await;
        proxy.set(Fault::None);
        if is_checked {
            until_enforcing(&node).await;
        }
        until_ready(&node).await;
        logs_one_outage(&node.end());
    }
}

fn logs_one_outage(log: &str) {
    for transition in ["the store is unavailable", "the store is available again"] {
        let lines = log.lines().filter(|line| line.contains(transition)).count();
        assert_eq!(lines, 1, "once for the transition: {log}");
    }
}

/// The same for other faults between the node and Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_way_to_redis_is_harmless() {
    for fault in [
        Fault::BlackHole,
        Fault::Reset,
        Fault::DropAnswers,
        Fault::LoseAnswers,
        Fault::Trickle(Duration::from_millis(40)),
        Fault::Delay(Duration::from_secs(1)),
    ] {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        let node = Node::start(&proxy.url(), &[]);
        let name = format!("{fault:?}");
        until_enforcing(&node).await;
        proxy.set(fault);
        let load = load(&node, &name, Duration::from_secs(2)).await;
        proxy.set(Fault::None);
        enforces_in_time(&node, &name).await;
        is_degraded_and_in_time(&load, &name);
        connects_seldom(&proxy, &name);
        every_key_expires(&server);
    }
}
