//! Shared by the tests: nodes, clients, load by a schedule, and assertions of promises.

mod client;
mod load;
mod node;
mod process;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;
use tollgate_testkit::redis::{Proxy, RedisServer};

pub(crate) use client::{Client, Decision};
pub(crate) use load::{Load, load};
pub(crate) use node::{Node, PATIENT};
pub(crate) use process::{refusal, serve};

/// What a busy machine may add to a promised time.
pub(crate) const SLACK: Duration = Duration::from_millis(350);
/// How soon after its return the store must decide again (P3, P14).
pub(crate) const ENFORCING: Duration = Duration::from_secs(2);
/// The most connections that a process may make in a second (P3, P14).
pub(crate) const CONNECTS_PER_SECOND: usize = 10;
/// The window of the built-in policy, and of the policies of the tests.
pub(crate) const WINDOW: Duration = Duration::from_hours(1);
/// The timeout of everything without a promised time.
const PATIENCE: Duration = Duration::from_mins(2);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Repeats `is_so` until it holds; fails the test if that takes too long.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    start.elapsed()
}

/// Sends checks for separate users until the store decides; returns how long that took.
pub(crate) async fn until_enforcing(node: &Node) -> Duration {
    let mut client = node.client().await;
    let mut asked = 0;
    until("the store decides", async || {
        asked += 1;
        // With a single user, its limit of a hundred an hour would be too low.
        let user = format!("until-enforcing-{}", asked / 50);
        !client.check(&user, "m").await.degraded
    })
    .await
}

/// Waits until the node is ready: it has reached its store, on every primary.
pub(crate) async fn until_ready(node: &Node) {
    let mut client = node.client().await;
    until("it is ready", async || client.get("/readyz").await.1.contains(r#""status":"ready""#))
        .await;
}

/// P3 and P14: the store decides within 2 seconds from now.
pub(crate) async fn enforces_in_time(node: &Node, after_what: &str) {
    let took = until_enforcing(node).await;
    assert!(took <= ENFORCING + SLACK, "{after_what}: enforcing after {took:?}");
}

/// P3 and P14: a store that fails does not get a storm of connections.
pub(crate) fn connects_seldom(proxy: &Proxy, during_what: &str) {
    let most = proxy.most_accepted_in_a_second();
    assert!(most <= CONNECTS_PER_SECOND, "{during_what}: {most} connections in a second");
}

/// A port of 127.0.0.1 that nobody listens on and that no other process gets: it is bound, such that Redis, which can
/// share it, can listen on it later.
pub(crate) fn reserved_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// P8: `server` has keys, and every key expires within two windows and a second.
pub(crate) fn every_key_expires(server: &RedisServer) {
    let bound_ms = 2 * WINDOW.as_millis() + 1_000;
    let mut keys = 0;
    let mut cursor = "0".to_owned();
    loop {
        let mut page = server.command(&["SCAN", &cursor, "COUNT", "1000"]).into_iter();
        cursor = page.next().unwrap();
        for key in page {
            let life_ms: i64 = server.command(&["PTTL", &key])[0].parse().unwrap();
            keys += 1;
            // It has expired since the scan.
            if life_ms == -2 {
                continue;
            }
            let is_bounded = u128::try_from(life_ms).is_ok_and(|life_ms| life_ms <= bound_ms);
            assert!(is_bounded, "{key}: {life_ms} ms");
        }
        if cursor == "0" {
            break;
        }
    }
    assert!(keys > 0, "no key was written");
}
