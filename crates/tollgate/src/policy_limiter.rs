//! A whole set of policies in memory, which can be replaced at once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tollgate_core::{Check, Clock, Decision, LeaseUpdate, MonotonicClock, PolicySet, Ttl};
use tollgate_store::memory::{MemoryStoreOptions, MemoryStoreStats};
use tollgate_store::{LeaseId, LeaseRequest, LeaseState, MemoryStore, NewLease};

use crate::Metrics;
use crate::leases::guard::sealed::KeepsLeases;
use crate::leases::{Lease, Reservation};
use crate::metrics::{Counters, counting_calls};

/// Decides checks by a [`PolicySet`], in memory, for one process. Needs the feature `policies`.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Amount, Check, Cost, Per, Policy, PolicyId, PolicyLimiter, PolicySet, Unit, Window};
///
/// let minute = Window::new(Duration::from_secs(60)).ok_or("not a window")?;
/// let per = Per::from_scope("USER").ok_or("not a scope")?;
/// let mut policy = Policy::new(PolicyId::new("tokens")?, per, Amount::new(1_000), minute);
/// policy.unit = Unit::Tokens;
///
/// let limiter = PolicyLimiter::new(PolicySet::new(vec![policy])?);
/// let tokens = |n| Cost::one_request().with(Unit::Tokens, n);
/// let cost = tokens(Amount::new(600).ok_or("too much")?);
/// assert!(limiter.check(&Check::new("alice", "gpt-4").at_cost(cost.clone())).allowed());
/// assert!(!limiter.check(&Check::new("alice", "gpt-4").at_cost(cost)).allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A check meets the limits of one version of the set (R4); all of them admit it, or none is charged (R3). All calls
/// take `&self`; O(candidate policies).
#[derive(Debug)]
pub struct PolicyLimiter<C = MonotonicClock> {
    store: MemoryStore<C>,
    policies: ArcSwap<PolicySet>,
    counters: Counters,
}

impl PolicyLimiter {
    /// A limiter on the machine's monotonic clock, with the default cap of 10 million keys.
    pub fn new(policies: PolicySet) -> Self {
        Self::with_clock(policies, MonotonicClock::new(), &MemoryStoreOptions::default())
    }
}

impl<C: Clock> PolicyLimiter<C> {
    /// A limiter with another clock and other bounds.
    pub fn with_clock(policies: PolicySet, clock: C, options: &MemoryStoreOptions) -> Self {
        Self {
            store: MemoryStore::with_clock(clock, options),
            policies: ArcSwap::from_pointee(policies),
            counters: Counters::new(),
        }
    }

    /// Decides `check`, and charges it if it is admitted, once if it has a request id (R12); a denial changes nothing.
    /// A check that meets no limit is allowed.
    pub fn check(&self, check: &Check<'_>) -> Decision {
        let policies = self.policies.load();
        let plan = policies.plan(check);
        let verdicts = match check.request_id {
            None => self.store.charge(&plan),
            Some(request_id) => self.store.charge_once(&plan, request_id),
        };
        let decision = Decision::assemble(&plan, &verdicts);
        self.counters.count(decision.allowed());
        decision
    }

    /// The decision that [`PolicyLimiter::check`] would make now; changes nothing and counts in no metric.
    pub fn peek(&self, check: &Check<'_>) -> Decision {
        let policies = self.policies.load();
        let plan = policies.plan(check);
        Decision::assemble(&plan, &self.store.peek(&plan))
    }

    /// Decides `check` like [`PolicyLimiter::check`]. If it is admitted, the lease holds what was charged, and a slot of each limit of
    /// concurrency, until it is settled, released or dropped, or for `ttl` (R13).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{
    ///     Amount, Check, Cost, Per, Policy, PolicyId, PolicyLimiter, PolicySet, Totals, Ttl, Unit, Window,
    /// };
    ///
    /// let per = || Per::from_scope("USER").ok_or("not a scope");
    /// let minute = Window::new(Duration::from_secs(60)).ok_or("not a window")?;
    /// let mut tokens = Policy::new(PolicyId::new("tokens")?, per()?, Amount::new(1_000), minute);
    /// tokens.unit = Unit::OutputTokens;
    /// let slots = Policy::of_concurrency(PolicyId::new("slots")?, per()?, Amount::new(2));
    /// let limiter = PolicyLimiter::new(PolicySet::new(vec![tokens, slots])?);
    ///
    /// // The answer may have 800 tokens.
    /// let amount = |n| Amount::new(n).ok_or("too much");
    /// let cost = Cost::one_request().with(Unit::OutputTokens, amount(800)?);
    /// let check = Check::new("alice", "gpt-4").at_cost(cost);
    /// let reservation = limiter.reserve(&check, Ttl::DEFAULT);
    /// let lease = reservation.lease.ok_or("denied")?;
    /// assert!(!limiter.peek(&check).allowed(), "another 800 do not fit");
    ///
    /// // It had 100.
    /// let used = Totals::none().with(Unit::OutputTokens, amount(100)?);
    /// let state = lease.settle(used).ok_or("forgotten")?;
    /// assert_eq!(state.holds[0].usage, 100);
    /// assert!(limiter.peek(&check).allowed() && !state.is_live());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the check has a request id that already names a lease, this returns that lease again (R12). There are two guards of
    /// it then, and it ends when either of them does.
    pub fn reserve(&self, check: &Check<'_>, ttl: Ttl) -> Reservation<Lease<&Self>> {
        let (decision, lease) = self.decide_lease(check, ttl);
        Reservation { decision, lease: lease.map(|lease| Lease::new(self, lease)) }
    }

    /// [`PolicyLimiter::reserve`], with a guard that keeps the limiter alive: for a task, or a body that is sent later.
    pub fn reserve_owned(
        self: &Arc<Self>,
        check: &Check<'_>,
        ttl: Ttl,
    ) -> Reservation<Lease<Arc<Self>>> {
        let (decision, lease) = self.decide_lease(check, ttl);
        Reservation { decision, lease: lease.map(|lease| Lease::new(Arc::clone(self), lease)) }
    }

    fn decide_lease(&self, check: &Check<'_>, ttl: Ttl) -> (Decision, Option<NewLease>) {
        let policies = self.policies.load();
        let plan = policies.plan(check);
        let reserved = self.store.reserve(&LeaseRequest::new(&plan, ttl).named(check.request_id));
        let decision = Decision::assemble(&plan, &reserved.verdicts);
        self.counters.count(decision.allowed());
        (decision, reserved.lease)
    }

    /// The current policies.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.policies.load_full()
    }

    /// Replaces the policies with `policies`, and returns the old ones. Checks in progress finish with the set with
    /// which they began. Usage belongs to policy ids: a policy that keeps its id keeps its usage, whatever its limit
    /// becomes (R8).
    pub fn swap(&self, policies: PolicySet) -> Arc<PolicySet> {
        self.policies.swap(Arc::new(policies))
    }

    counting_calls!();
}

impl<C: Clock> KeepsLeases for PolicyLimiter<C> {
    fn update_lease(&self, id: &LeaseId, update: &LeaseUpdate) -> Option<LeaseState> {
        self.store.update_lease(id, update)
    }
}
