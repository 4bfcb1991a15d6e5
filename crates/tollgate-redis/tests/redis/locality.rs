//! C7, P19: a primary of a Cluster that hangs or dies degrades only the checks whose limits lie on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::{Amount, Charge, Limit, MonotonicClock, Subject};
use tollgate_redis::{Announcement, RedisOptions, RedisStore};
use tollgate_store::resilience::{BreakerState, ResilienceOptions, Resilient};
use tollgate_store::{Charged, Store};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{RUNTIME, limit_of, owner, per_hour};

type Node = Resilient<RedisStore, Arc<MonotonicClock>>;

/// Enough time for an answer of a working server, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);

/// A node over `url` as the server runs it: with probes, and with announcements.
fn node(url: &str, deadline: Duration) -> Arc<Node> {
    let mut redis = RedisOptions::default();
    redis.deadline = deadline;
    let store = RedisStore::new(&url.parse().unwrap(), &redis).unwrap();
    let mut options = ResilienceOptions::default();
    options.timeout = None;
    let clock = Arc::new(MonotonicClock::new());
    let node = Arc::new(Node::around(store, clock, &options, Arc::new(())));
    let invalidations = node.invalidations();
    RUNTIME.spawn(node.store().clone().listen(move |announcement| match announcement {
        Announcement::Connected(domain) => invalidations.connected(domain),
        Announcement::Disconnected(domain) => invalidations.disconnected(domain),
        Announcement::GivenBack(key) => invalidations.forget(key),
        _ => invalidations.forget_all(),
    }));
    let tended = Arc::downgrade(&node);
    RUNTIME.spawn(async move {
        while let Some(node) = tended.upgrade() {
            node.tend().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    node
}

async fn check(node: &Node, limit: &Arc<Limit>, user: &str) -> Charged {
    let subject = Subject::new(user, "m");
    let charge = Charge { limit, subject: &subject, cost: Amount::ONE };
    node.charge(&[charge], None).await.unwrap()
}

/// Users whose usage under `limit` lies on `server`, and users whose usage does not.
fn users(cluster: &RedisCluster, node: &Node, limit: &Limit) -> (usize, Vec<String>, Vec<String>) {
    let port_of = |user: &str| {
        let key = node.store().key(limit, &Subject::new(user, "m"));
        owner(cluster, &key).port()
    };
    let hung_port = port_of("user-0");
    let names = (0..24).map(|number| format!("user-{number}"));
    let (hung, healthy) = names.partition(|user| port_of(user) == hung_port);
    let at = cluster.nodes().iter().position(|server| server.port() == hung_port).unwrap();
    (at, hung, healthy)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_mins(1), "waited until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn a_primary_is_lost(lose: impl Fn(&RedisServer), back: impl Fn(&RedisServer)) {
    let cluster = RedisCluster::of(3, 0);
    // The remaining primaries must serve their slots without the others.
    for server in cluster.nodes() {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let node = node(&cluster.url(), DEADLINE);
    let (plenty, spent) =
        (per_hour(1_000_000), limit_of("spent", "USER", 1, Duration::from_hours(1), Way::Log));
    let (at, hung, healthy) = users(&cluster, &node, &plenty);
    RUNTIME.block_on(async {
        // Known denials are answered here as soon as each primary has a subscription.
        for user in hung.iter().chain(&healthy) {
            until("the node knows that the limit is spent", async || {
                !check(&node, &spent, user).await.verdicts[0].allowed
            })
            .await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for user in hung.iter().chain(&healthy) {
            check(&node, &spent, user).await;
        }
        lose(&cluster.nodes()[at]);
        until("the breaker opens for the lost primary", async || {
            check(&node, &plenty, &hung[0]).await;
            node.breaker_state() == BreakerState::Open
        })
        .await;
        let mut usage = std::collections::HashMap::new();
        for round in 0..50_u64 {
            for user in &healthy {
                let answer = check(&node, &plenty, user).await;
                assert!(!answer.degraded, "round {round}: {user} lies elsewhere");
                let count = usage.entry(user.as_str()).or_insert(0);
                *count += 1;
                assert_eq!(answer.verdicts[0].usage, *count, "exact");
                let denied = check(&node, &spent, user).await;
                assert!(!denied.degraded && !denied.verdicts[0].allowed);
            }
            assert!(check(&node, &plenty, &hung[0]).await.degraded);
        }
        back(&cluster.nodes()[at]);
        until("it is enforced again", async || node.breaker_state() == BreakerState::Closed).await;
        until("it decides", async || !check(&node, &plenty, &hung[0]).await.degraded).await;
    });
}

#[test]
fn a_primary_that_hangs_degrades_no_check_of_the_others() {
    a_primary_is_lost(RedisServer::pause, RedisServer::resume);
}

/// A dead primary comes back while nobody sends checks: the record of its failures is cleared nevertheless.
#[test]
fn a_primary_that_dies_degrades_no_check_of_the_others() {
    let cluster = RedisCluster::of(3, 0);
    for server in cluster.nodes() {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let node = node(&cluster.url(), DEADLINE);
    let plenty = per_hour(1_000_000);
    let (at, hung, healthy) = users(&cluster, &node, &plenty);
    RUNTIME.block_on(async {
        for user in hung.iter().chain(&healthy) {
            assert!(!check(&node, &plenty, user).await.degraded);
        }
        cluster.nodes()[at].kill();
        for round in 0..50 {
            for user in &healthy {
                let answer = check(&node, &plenty, user).await;
                assert!(!answer.degraded, "round {round}: {user} lies elsewhere");
            }
            assert!(check(&node, &plenty, &hung[0]).await.degraded);
        }
    });
}

/// A check over limits on a primary that hangs and on one that works: nothing is charged on the one that works.
#[test]
fn a_check_over_several_slots_charges_nothing_while_one_is_lost() {
    let cluster = RedisCluster::of(3, 0);
    let node = node(&cluster.url(), DEADLINE);
    let by_user = per_hour(1_000);
    let (at, _, healthy) = users(&cluster, &node, &by_user);
    let window = Duration::from_hours(1);
    // Limits per model whose usage lies on the primary that will hang.
    let hung_port = cluster.nodes()[at].port();
    let by_model = (0..100)
        .map(|number| limit_of(&format!("model-{number}"), "MODEL", 1_000, window, Way::Log));
    let lies_there = |limit: &Arc<Limit>| {
        owner(&cluster, &node.store().key(limit, &Subject::new("", "m"))).port() == hung_port
    };
    let by_model = by_model.into_iter().find(lies_there).unwrap();
    let subject = Subject::new(&healthy[0], "m");
    let charge = |limit| Charge { limit, subject: &subject, cost: Amount::ONE };
    RUNTIME.block_on(async {
        let both = [charge(&by_user), charge(&by_model)];
        assert!(!node.charge(&both, None).await.unwrap().degraded);
        cluster.nodes()[at].pause();
        for number in 0..40 {
            // Some callers disconnect, some wait.
            let call = node.charge(&both, None);
            let patience = Duration::from_millis(if number % 2 == 0 { 20 } else { 5_000 });
            if let Ok(answer) = tokio::time::timeout(patience, call).await {
                assert!(answer.unwrap().degraded);
            }
        }
        cluster.nodes()[at].resume();
        // Late charges are refunded when their answers arrive.
        node.finish().await;
        for limit in [&by_user, &by_model] {
            let mut usage = 0;
            until("only the first check is charged", async || {
                let peeked = node.store().peek(&[charge(limit)]).await;
                usage = peeked.map_or(0, |peeked| peeked.verdicts[0].usage);
                usage == 1
            })
            .await;
        }
    });
}
