//! Shared by the tests: a runtime, limits, and a store with enough time.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate_core::{Amount, Limit, Per, Policy, PolicyId, Window};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

/// Very long, so that a slow machine does not cause failures here.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A store at `url` with enough time.
pub(crate) fn store_at(url: &str) -> RedisStore {
    let mut options = RedisOptions::default();
    options.deadline = DEADLINE;
    RedisStore::new(&url.parse().unwrap(), &options).unwrap()
}

/// The limit of the policy `id`.
pub(crate) fn limit_of(
    id: &str,
    scope: &str,
    amount: u64,
    window: Duration,
    way: Way,
) -> Arc<Limit> {
    let per = Per::from_scope(scope).unwrap();
    let window = Window::new(window).unwrap();
    let policy = Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(amount), window);
    Arc::new(Limit::of(&Policy { counting: way.over(window, policy.limit), ..policy }).unwrap())
}

/// Exactly `amount` an hour for each user.
pub(crate) fn per_hour(amount: u64) -> Arc<Limit> {
    limit_of("p", "USER", amount, Duration::from_hours(1), Way::Log)
}

/// The primary of `cluster` that owns `key`.
pub(crate) fn owner<'a>(cluster: &'a RedisCluster, key: &str) -> &'a RedisServer {
    let slot = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", key]).concat();
    let slot: u32 = slot.parse().unwrap();
    let owns = |node: &&RedisServer| {
        let lines = node.command(&["CLUSTER", "NODES"]).concat();
        let own = lines.lines().find(|line| line.contains("myself")).unwrap().to_owned();
        own.contains("master")
            && own.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let parse = |text: &str| text.parse::<u32>();
                matches!((parse(first), parse(last)), (Ok(a), Ok(b)) if (a..=b).contains(&slot))
            })
    };
    cluster.nodes().iter().find(owns).unwrap()
}
