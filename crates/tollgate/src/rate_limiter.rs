//! One limit per user and model: the smallest limiter, and the fastest.

use std::time::Duration;

use tollgate_core::counting::Verdict;
use tollgate_core::{Amount, Clock, Counting, Decision, MonotonicClock, Subject, Unit, Window};
use tollgate_store::MemoryStore;
use tollgate_store::memory::{MemoryStoreOptions, MemoryStoreStats};

use crate::metrics::{Counters, counting_calls};
use crate::quota::{Draft, UserModelLimit, subject_of};
use crate::resets::Resets;
use crate::{BuildError, Metrics, Quota};

/// Limits the requests of each user and model in any window. In memory, for one process.
///
/// ```
/// use std::time::Duration;
/// use tollgate::RateLimiter;
///
/// let limiter = RateLimiter::new(2, Duration::from_secs(3600));
/// assert!(limiter.allow("alice", "gpt-4"));
/// assert!(limiter.allow("alice", "gpt-4"));
/// assert!(!limiter.allow("alice", "gpt-4"));
/// assert!(limiter.allow("alice", "gpt-3.5"), "another model is another limit");
///
/// let decision = limiter.check("alice", "gpt-4");
/// assert!(decision.retry_after_ms().is_some_and(|ms| ms <= 3_600_001));
/// ```
///
/// It is exact under any concurrency (R1): no interval of the window's length ever holds more than the limit. All calls
/// take `&self` and O(1); share it by reference or in an `Arc`. Users and models can be any strings, and no choice of
/// them makes two limits share usage (R8). A check allocates nothing except for its key's log.
///
/// The number of keys is capped ([`RateLimiterBuilder::max_keys`]); idle keys are removed.
#[derive(Debug)]
pub struct RateLimiter<C = MonotonicClock> {
    store: MemoryStore<C>,
    limit: UserModelLimit,
    resets: Resets,
    counters: Counters,
}

impl RateLimiter {
    /// At most `limit` requests in any `window` for each user and model. A limit of 0 denies everything.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is above 2^53 − 1, or if `window` is shorter than 1 ms or longer than 366 days.
    /// [`RateLimiter::try_new`] returns an error instead.
    #[expect(
        clippy::panic,
        reason = "documented: an impossible quota in the code is a mistake in it"
    )]
    pub fn new(limit: u64, window: Duration) -> Self {
        match Self::try_new(limit, window) {
            Ok(limiter) => limiter,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`RateLimiter::new`] for quotas that are only known at run time.
    pub fn try_new(limit: u64, window: Duration) -> Result<Self, BuildError> {
        Self::builder(limit, window).build()
    }

    /// A builder for all options.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{Counting, RateLimiter};
    ///
    /// let limiter = RateLimiter::builder(150_000, Duration::from_secs(60))
    ///     .counting(|window| Counting::Counter { window })
    ///     .max_keys(1_000_000)
    ///     .build()?;
    /// assert!(limiter.allow("alice", "gpt-4"));
    /// # Ok::<(), tollgate::BuildError>(())
    /// ```
    pub fn builder(limit: u64, window: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder {
            draft: Draft::new("default".to_owned(), Quota::new(limit, window)),
            options: MemoryStoreOptions::default(),
        }
    }
}

impl<C: Clock> RateLimiter<C> {
    /// Whether one request by `user` for `model` may pass now. If it may, it is charged; a denial changes nothing.
    #[inline]
    pub fn allow(&self, user: &str, model: &str) -> bool {
        self.charge(user, model, Amount::ONE).allowed
    }

    /// [`RateLimiter::allow`], with the full decision: what is left, and when to retry.
    pub fn check(&self, user: &str, model: &str) -> Decision {
        self.check_cost(user, model, 1)
    }

    /// [`RateLimiter::check`] for a request that costs `cost` of the limit's unit. The cost is charged as a whole or
    /// not at all.
    ///
    /// A cost of 0 is admitted while there is room for 1, and charges nothing (R1). A cost above the limit never fits:
    /// then [`Decision::retry_after_ms`] is `None` (R6).
    pub fn check_cost(&self, user: &str, model: &str, cost: u32) -> Decision {
        let cost = amount(cost);
        let verdict = self.charge(user, model, cost);
        self.decision(user, model, cost, verdict)
    }

    /// The decision that [`RateLimiter::check_cost`] would make now; changes nothing and counts in no metric.
    pub fn peek(&self, user: &str, model: &str, cost: u32) -> Decision {
        let cost = amount(cost);
        let verdict = self.resets.with_generation(user, self.store.clock(), |generation| {
            let subject = subject_of(user, model, generation);
            self.store.peek(&[self.limit.charge_in(generation, &subject, cost)])[0]
        });
        self.decision(user, model, cost, verdict)
    }

    /// What `user` has used of `model` in the window that ends now, in the limit's unit.
    pub fn request_count(&self, user: &str, model: &str) -> u64 {
        self.peek(user, model, 0).limits()[0].count
    }

    /// Clears what `user` has used, for all models.
    ///
    /// A check that begins after this returns counts nothing from before; a check that runs at the same time may count
    /// before or after it. The memory is freed when the window has passed. O(1): the store cannot list a user's models,
    /// so the user gets new keys instead. Until the user has been idle for two windows and a second, checks of all
    /// users need one more lookup.
    pub fn reset_user(&self, user: &str) {
        self.resets.reset(user, self.store.clock());
    }

    counting_calls!();

    #[inline]
    fn charge(&self, user: &str, model: &str, cost: Amount) -> Verdict {
        let verdict = if self.resets.is_empty() {
            self.store.charge_one(&self.limit.charge(&Subject::new(user, model), cost))
        } else {
            self.charge_in_generation(user, model, cost)
        };
        self.counters.count(verdict.allowed);
        verdict
    }

    #[cold]
    fn charge_in_generation(&self, user: &str, model: &str, cost: Amount) -> Verdict {
        self.resets.with_generation(user, self.store.clock(), |generation| {
            let subject = subject_of(user, model, generation);
            self.store.charge_one(&self.limit.charge_in(generation, &subject, cost))
        })
    }

    fn decision(&self, user: &str, model: &str, cost: Amount, verdict: Verdict) -> Decision {
        let subject = Subject::new(user, model);
        Decision::assemble(&[self.limit.charge(&subject, cost)], &[verdict])
    }
}

/// Every `u32` is a valid amount.
pub(crate) fn amount(cost: u32) -> Amount {
    Amount::new(u64::from(cost)).unwrap_or(Amount::MAX)
}

/// Builds a [`RateLimiter`]; see [`RateLimiter::builder`].
#[derive(Clone, Debug)]
pub struct RateLimiterBuilder {
    draft: Draft,
    options: MemoryStoreOptions,
}

impl RateLimiterBuilder {
    /// How to count over the limiter's window; by default the exact log. The counter needs two numbers per key, and its
    /// worst window holds just below twice the limit (R2).
    #[must_use]
    pub fn counting(mut self, over: impl FnOnce(Window) -> Counting) -> Self {
        self.draft.count(over);
        self
    }

    /// The unit of the limit; by default requests. It only appears in answers: costs are in this unit.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.draft.unit = unit;
        self
    }

    /// The policy's id in decisions and response fields; by default `default`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.draft.name = name.into();
        self
    }

    /// The most keys (a user with a model) at a time; 10 million by default, at least one. At the cap, a new key evicts
    /// an idle key, or else one of those with the smallest share of the limit in use, whose usage is forgotten.
    #[must_use]
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.options = self.options.max_keys(max_keys);
        self
    }

    /// Builds the limiter with the machine's monotonic clock.
    pub fn build(self) -> Result<RateLimiter, BuildError> {
        self.build_with_clock(MonotonicClock::new())
    }

    /// Builds the limiter with another clock: a [`ManualClock`](crate::ManualClock) in tests.
    pub fn build_with_clock<C: Clock>(self, clock: C) -> Result<RateLimiter<C>, BuildError> {
        let limit = UserModelLimit::compile(&self.draft)?;
        Ok(RateLimiter {
            store: MemoryStore::with_clock(clock, &self.options),
            resets: Resets::new(limit.longest_life()),
            limit,
            counters: Counters::new(),
        })
    }
}
