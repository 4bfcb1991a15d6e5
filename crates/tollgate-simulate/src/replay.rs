//! The replay: the server's core and store on a clock that the trace sets.

use tollgate_core::{Check, Decision, ManualClock, Plan, PolicySet, Timestamp};
use tollgate_store::MemoryStore;
use tollgate_store::memory::{MemoryStoreOptions, MemoryStoreStats};

/// Decides checks as a server with an in-memory store would, in virtual time.
#[derive(Debug)]
pub struct Replay<'p> {
    policies: &'p PolicySet,
    clock: ManualClock,
    now: Timestamp,
    store: MemoryStore<ManualClock>,
}

impl<'p> Replay<'p> {
    /// A new replay: the virtual clock is at the Unix epoch, and no limit is used.
    pub fn new(policies: &'p PolicySet) -> Self {
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        Self { policies, clock, now: Timestamp::default(), store }
    }

    /// Moves the virtual clock to `at`, but never back (R7). Returns the resulting time.
    pub fn advance_to(&mut self, at: Timestamp) -> Timestamp {
        self.now = self.now.max(at);
        self.clock.set(self.now);
        self.now
    }

    /// Decides `check` now: returns the limits that it meets, and the decision with the limits in the same order.
    pub fn decide<'a>(&self, check: &'a Check<'_>) -> (Plan<'a>, Decision)
    where
        'p: 'a,
    {
        let policies: &'a PolicySet = self.policies;
        let plan = policies.plan(check);
        let verdicts = match check.request_id {
            // A check that meets no limit does not use the store.
            Some(request_id) if !plan.is_empty() => self.store.charge_once(&plan, request_id),
            _ => self.store.charge(&plan),
        };
        let decision = Decision::assemble(&plan, &verdicts);
        (plan, decision)
    }

    /// The store's statistics without idle keys, which are removed first, because the time at which the store itself
    /// removes them depends on the random key of its hashes.
    pub fn store_stats(&self) -> MemoryStoreStats {
        self.store.sweep();
        self.store.stats()
    }
}
