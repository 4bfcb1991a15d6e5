//! The contenders: limiters of 100 requests an hour per key, behind one trait.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tollgate_core::{Amount, Charge, Limit, MonotonicClock, Policy, Subject};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

use crate::key::Key;
use crate::naive_log::NaiveLog;

/// The limit of every contender.
pub const LIMIT: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// The window of every contender.
pub const WINDOW: Duration = Duration::from_hours(1);

/// A limiter under measurement.
pub trait Contender: Sync {
    /// Its name in reports.
    const NAME: &'static str;

    /// A limiter without keys that can hold at least `keys`.
    fn for_keys(keys: u64) -> Self;

    /// Whether the next request of `key` may pass; if so, it is counted.
    fn allow(&self, key: &Key) -> bool;

    /// The number of keys.
    fn held_keys(&self) -> u64;
}

/// `governor`, keyed by `String` in a `DashMap`, with its default clock.
pub type Governor = RateLimiter<String, DashMapStateStore<String>, DefaultClock>;

impl Contender for Governor {
    const NAME: &'static str = "governor";

    fn for_keys(_keys: u64) -> Self {
        RateLimiter::dashmap(Quota::per_hour(LIMIT))
    }

    #[inline]
    fn allow(&self, key: &Key) -> bool {
        self.check_key(key.as_string()).is_ok()
    }

    fn held_keys(&self) -> u64 {
        self.len() as u64
    }
}

impl Contender for NaiveLog {
    const NAME: &'static str = "naive log";

    fn for_keys(_keys: u64) -> Self {
        Self::new(LIMIT.get() as usize, WINDOW)
    }

    #[inline]
    fn allow(&self, key: &Key) -> bool {
        NaiveLog::allow(self, key.as_string())
    }

    fn held_keys(&self) -> u64 {
        NaiveLog::held_keys(self)
    }
}

/// The in-memory store, charged for one compiled limit; the server uses it in the same way.
#[derive(Debug)]
pub struct TollgateStore {
    store: MemoryStore,
    limit: Arc<Limit>,
}

impl Contender for TollgateStore {
    const NAME: &'static str = "tollgate store";

    fn for_keys(keys: u64) -> Self {
        let policy = Policy::default_policy();
        let Some(limit) = Limit::of(&policy) else {
            unreachable!("the default policy limits");
        };
        let store = MemoryStore::with_clock(MonotonicClock::new(), &options_for(keys));
        Self { store, limit: Arc::new(limit) }
    }

    #[inline]
    fn allow(&self, key: &Key) -> bool {
        let (user, model) = key.user_and_model();
        let subject = Subject::new(user, model);
        let charge = Charge { limit: &self.limit, subject: &subject, cost: Amount::ONE };
        self.store.charge_one(&charge).allowed
    }

    fn held_keys(&self) -> u64 {
        self.store.stats().keys
    }
}

/// The library that users embed.
#[derive(Debug)]
pub struct TollgateLibrary(tollgate::RateLimiter);

impl Contender for TollgateLibrary {
    const NAME: &'static str = "tollgate library";

    fn for_keys(keys: u64) -> Self {
        let builder = tollgate::RateLimiter::builder(u64::from(LIMIT.get()), WINDOW);
        let Ok(limiter) = builder.max_keys(options_for(keys).max_keys).build() else {
            unreachable!("100 an hour is a quota");
        };
        Self(limiter)
    }

    #[inline]
    fn allow(&self, key: &Key) -> bool {
        let (user, model) = key.user_and_model();
        self.0.allow(user, model)
    }

    fn held_keys(&self) -> u64 {
        self.0.stats().keys
    }
}

/// A cap somewhat above `keys`, so that no key is evicted even if the shards are filled unevenly.
fn options_for(keys: u64) -> MemoryStoreOptions {
    let mut options = MemoryStoreOptions::default();
    let roomy = usize::try_from(keys.saturating_add(keys / 8)).unwrap_or(usize::MAX);
    options.max_keys = options.max_keys.max(roomy);
    options
}

/// Limits nothing: measures the cost of the harness.
#[derive(Debug)]
pub struct Harness;

impl Contender for Harness {
    const NAME: &'static str = "harness alone";

    fn for_keys(_keys: u64) -> Self {
        Self
    }

    #[inline]
    fn allow(&self, key: &Key) -> bool {
        std::hint::black_box(key);
        true
    }

    fn held_keys(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_limit<C: Contender>() {
        let limiter = C::for_keys(2);
        for index in 0..2 {
            let key = Key::new(index);
            let admitted = (0..150).filter(|_| limiter.allow(&key)).count();
            assert_eq!(admitted, 100, "{}", C::NAME);
        }
        assert_eq!(limiter.held_keys(), 2, "{}", C::NAME);
    }

    #[test]
    fn every_contender_admits_100_an_hour_and_key() {
        check_limit::<Governor>();
        check_limit::<NaiveLog>();
        check_limit::<TollgateStore>();
        check_limit::<TollgateLibrary>();
    }
}
