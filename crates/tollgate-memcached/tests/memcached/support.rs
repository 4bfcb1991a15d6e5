//! Shared by the tests: a runtime, limits, and a store with enough time.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate_core::{Amount, Charge, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_memcached::{MemcachedOptions, MemcachedStore};
use tollgate_store::Store;
use tollgate_testkit::Way;

/// Very long, so that a slow machine does not cause failures here.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A store at `url` with enough time.
pub(crate) fn store_at(url: &str) -> MemcachedStore {
    let mut options = MemcachedOptions::default();
    options.deadline = DEADLINE;
    MemcachedStore::new(&url.parse().unwrap(), &options)
}

/// A store with the deadline of a server.
pub(crate) fn hurried_store_at(url: &str) -> MemcachedStore {
    MemcachedStore::new(&url.parse().unwrap(), &MemcachedOptions::default())
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

pub(crate) fn charge_of<'a>(
    limit: &'a Arc<Limit>,
    subject: &'a Subject<'a>,
    cost: u64,
) -> Charge<'a> {
    Charge { limit, subject, cost: Amount::new(cost).unwrap() }
}

/// The usage by memcached itself.
pub(crate) fn usage(store: &MemcachedStore, charge: &Charge<'_>) -> u64 {
    RUNTIME.block_on(store.peek(&[*charge])).unwrap().verdicts[0].usage
}
