//! The smallest limiter: a policy set over a store under test.

use tollgate_core::{
    Charge, Check, Decision, LeaseUpdate, Limit, LimitStatus, Policy, PolicySet, Ttl,
};
use tollgate_store::{Charged, LeaseId, LeaseRequest, LeaseState, NewLease, Store, Verdicts};

use crate::Harness;

/// Decides checks with a store under test. An error of the store fails the test.
#[derive(Debug)]
pub struct Limiter<'h, H> {
    harness: &'h H,
    policies: PolicySet,
}

impl<'h, H: Harness> Limiter<'h, H> {
    /// A limiter of `policies` over the store of `harness`.
    pub fn new(harness: &'h H, policies: Vec<Policy>) -> Self {
        Self { harness, policies: PolicySet::new(policies).unwrap() }
    }

    /// Decides `check` and charges it if it is allowed, once if it has a request id.
    pub fn check(&self, check: &Check<'_>) -> Decision {
        let plan = self.policies.plan(check);
        let store = self.harness.store();
        let charged = self.harness.run(store.charge(&plan, check.request_id)).unwrap();
        Decision::assemble(&plan, &of_the_store(charged))
    }

    /// Decides `check` and makes a lease of it if it is allowed (R13).
    pub fn reserve(&self, check: &Check<'_>, ttl: Ttl) -> (Decision, Option<NewLease>) {
        let plan = self.policies.plan(check);
        let store = self.harness.store();
        let reserved = self
            .harness
            .run(store.reserve(&LeaseRequest::new(&plan, ttl).named(check.request_id)))
            .unwrap();
        assert!(!reserved.degraded, "the store under test did not decide by itself");
        (Decision::assemble(&plan, &reserved.verdicts), reserved.lease)
    }

    /// A lease of `check`, which is admitted, with `note`.
    pub fn reserve_noted(&self, check: &Check<'_>, note: &[u8]) -> NewLease {
        let plan = self.policies.plan(check);
        let request = LeaseRequest::new(&plan, Ttl::MAX).with_note(note);
        self.harness.run(self.harness.store().reserve(&request)).unwrap().lease.unwrap()
    }

    /// Extends, settles or releases a lease (R14, R15).
    pub fn update(&self, id: &LeaseId, update: &LeaseUpdate) -> Option<LeaseState> {
        self.harness.run(self.harness.store().update_lease(id, update)).unwrap()
    }

    /// The decision that `check` would get with the current usage: its cost is not counted.
    pub fn peek(&self, check: &Check<'_>) -> Decision {
        let plan = self.policies.plan(check);
        Decision::assemble(&plan, &peek(self.harness, &plan))
    }

    /// The usage of every limit that `check` meets, in the order of the policies.
    pub fn counts(&self, check: &Check<'_>) -> Vec<u64> {
        self.peek(check).limits().iter().map(|limit| limit.count).collect()
    }

    /// The only limit that `check` meets, as [`Limiter::check`] reports it.
    pub fn check_one(&self, check: &Check<'_>) -> LimitStatus {
        only_limit(&self.check(check))
    }

    /// The only limit that `check` meets, as [`Limiter::peek`] reports it.
    pub fn peek_one(&self, check: &Check<'_>) -> LimitStatus {
        only_limit(&self.peek(check))
    }

    /// Clears the usage of every limit that `check` meets.
    pub fn reset(&self, check: &Check<'_>) {
        for charge in self.policies.plan(check) {
            let limit: &Limit = charge.limit;
            self.harness.run(self.harness.store().reset(limit, charge.subject)).unwrap();
        }
    }
}

fn only_limit(decision: &Decision) -> LimitStatus {
    match decision.limits() {
        [limit] => limit.clone(),
        limits => panic!("the check meets {} limits, not one", limits.len()),
    }
}

/// Charges `charges` to the store under test.
pub fn charge(harness: &impl Harness, charges: &[Charge<'_>]) -> Verdicts {
    of_the_store(harness.run(harness.store().charge(charges, None)).unwrap())
}

/// Peeks at `charges` in the store under test.
pub fn peek(harness: &impl Harness, charges: &[Charge<'_>]) -> Verdicts {
    of_the_store(harness.run(harness.store().peek(charges)).unwrap())
}

/// The verdicts, which must not be degraded.
fn of_the_store(charged: Charged) -> Verdicts {
    assert!(!charged.degraded, "the store under test did not decide by itself");
    charged.verdicts
}
