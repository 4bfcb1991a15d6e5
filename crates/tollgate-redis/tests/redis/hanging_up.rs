//! C5: callers that disconnect hide nothing from the breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::{Amount, Charge, MonotonicClock, Subject};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;
use tollgate_store::resilience::{BreakerState, ResilienceOptions, Resilient};
use tollgate_testkit::redis::RedisServer;

use crate::support::{RUNTIME, per_hour};

const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_millis(30);

/// Eight clients disconnect after 30 ms from a Redis that was stopped: the breaker opens although nobody waits for a
/// call to fail, a client that waits gets its degraded answer, and the connection is closed.
#[test]
fn callers_that_hang_up_do_not_hide_a_redis_that_hangs() {
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url().parse().unwrap(), &RedisOptions::default()).unwrap();
    let mut options = ResilienceOptions::default();
    options.timeout = None;
    // Before the server is stopped, slow answers of a busy machine do not count as failures.
    options.breaker.consecutive_failures = 8;
    let clock = Arc::new(MonotonicClock::new());
    let node = Arc::new(Resilient::around(store, clock, &options, Arc::new(())));
    let limit = per_hour(1_000_000);
    let charge = async |user: String| {
        let subject = Subject::new(&user, "m");
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
        node.charge(&[charge], None).await.unwrap()
    };
    RUNTIME.block_on(async {
        while charge("alice".to_owned()).await.degraded {}
        server.pause();
        let opened = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (node, limit, opened) = (Arc::clone(&node), limit.clone(), Arc::clone(&opened));
            clients.spawn(async move {
                let user = format!("user-{client}");
                let subject = Subject::new(&user, "m");
                let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                // SeqCst: the clients must see what the test does.
                while !opened.load(Ordering::SeqCst) {
                    let _ = tokio::time::timeout(PATIENCE, node.charge(&[charge], None)).await;
                }
            });
        }
        let started = tokio::time::Instant::now();
        while node.breaker_state() == BreakerState::Closed {
            assert!(started.elapsed() < Duration::from_secs(30), "the breaker never opened");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(charge("alice".to_owned()).await.degraded, "who waits is answered");
        opened.store(true, Ordering::SeqCst);
        while clients.join_next().await.is_some() {}
        server.resume();
        while charge("alice".to_owned()).await.degraded {
            assert!(started.elapsed() < Duration::from_mins(1), "it never came back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
