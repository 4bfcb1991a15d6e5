//! Checks: the questions that the limiter answers.

use std::fmt;

use tollgate_catalog::{Snapshot, SnapshotReader};
use tollgate_core::{Check, Decision};
use tollgate_store::{Store, StoreError};

/// The most checks of one batch.
pub const MAX_BATCH_CHECKS: usize = 1_000;

/// A batch has more than [`MAX_BATCH_CHECKS`] checks: this many. None of them was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTooLong(pub usize);

impl fmt::Display for BatchTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the batch has {} checks; accepted: at most {MAX_BATCH_CHECKS}", self.0)
    }
}

impl std::error::Error for BatchTooLong {}

/// Decides checks over the policies in force and the usage in `S`.
#[derive(Debug)]
pub struct RateLimitService<S> {
    store: S,
    policies: SnapshotReader,
}

impl<S: Store> RateLimitService<S> {
    /// A service over `store` and `policies`.
    pub fn new(store: S, policies: SnapshotReader) -> Self {
        Self { store, policies }
    }

    /// Where usage lives.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The policies in force.
    pub fn policies(&self) -> &SnapshotReader {
        &self.policies
    }

    /// Decides `check` and charges all the limits that it meets, or none (R3); a check whose request id was
    /// admitted before is charged no more and gets the first answer (R12).
    ///
    /// A denial is a decision; an error means that none was possible, and says whether something may have been
    /// charged. A check that meets no limit does not ask the store.
    #[inline]
    pub async fn check(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        self.check_by(&self.policies.current(), check).await
    }

    /// The decision that [`RateLimitService::check`] would take now; changes nothing.
    #[inline]
    pub async fn peek(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        let snapshot = self.policies.current();
        let charges = snapshot.policies().plan(check);
        if charges.is_empty() {
            return Ok(Decision::assemble(&[], &[]));
        }
        let peeked = self.store.peek(&charges).await?;
        Ok(Decision::assemble(&charges, &peeked.verdicts).with_degraded(peeked.degraded))
    }

    /// Decides each of `checks` by itself, in their order, all by one version of the policies. Of the same
    /// limit, a later one sees what an earlier one charged; the failure of one leaves the others alone.
    pub async fn check_batch(
        &self,
        checks: &[Check<'_>],
    ) -> Result<Vec<Result<Decision, StoreError>>, BatchTooLong> {
        if checks.len() > MAX_BATCH_CHECKS {
            return Err(BatchTooLong(checks.len()));
        }
        let snapshot = self.policies.snapshot();
        let mut decisions = Vec::with_capacity(checks.len());
        for check in checks {
            decisions.push(self.check_by(&snapshot, check).await);
        }
        Ok(decisions)
    }

    #[inline]
    async fn check_by(
        &self,
        snapshot: &Snapshot,
        check: &Check<'_>,
    ) -> Result<Decision, StoreError> {
        let charges = snapshot.policies().plan(check);
        if charges.is_empty() {
            return Ok(Decision::assemble(&[], &[]));
        }
        let answer = self.store.charge(&charges, check.request_id).await?;
        Ok(Decision::assemble(&charges, &answer.verdicts).with_degraded(answer.degraded))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::{Amount, ManualClock, Per, Policy, PolicyId, PolicySet, Window};
    use tollgate_store::MemoryStore;
    use tollgate_store::memory::MemoryStoreOptions;

    use super::*;

    fn user_policy(id: &str, limit: u64) -> PolicySet {
        let window = Window::new(std::time::Duration::from_mins(1)).unwrap();
        let id = PolicyId::new(id).unwrap();
        let per = Per::from_scope("USER").unwrap();
        PolicySet::new(vec![Policy::new(id, per, Amount::new(limit), window)]).unwrap()
    }

    fn service(set: PolicySet) -> RateLimitService<MemoryStore<ManualClock>> {
        let store = MemoryStore::with_clock(ManualClock::default(), &MemoryStoreOptions::default());
        RateLimitService::new(store, SnapshotReader::fixed(set))
    }

    #[tokio::test]
    async fn a_peek_says_what_a_check_would_and_charges_nothing() {
        let service = service(user_policy("one", 1));
        let check = Check::new("alice", "gpt-4");
        for _ in 0..3 {
            let peeked = service.peek(&check).await.unwrap();
            assert!(peeked.allowed());
            assert_eq!(peeked.headline().unwrap().count, 0);
        }
        assert!(service.check(&check).await.unwrap().allowed());
        assert!(!service.peek(&check).await.unwrap().allowed());
    }

    #[tokio::test]
    async fn a_batch_decides_each_check_by_itself_in_order() {
        let service = service(user_policy("two", 2));
        let checks = ["a", "a", "b", "a"].map(|user| Check::new(user, "gpt-4"));
        let decisions = service.check_batch(&checks).await.unwrap();
        let allowed: Vec<_> = decisions.iter().map(|d| d.as_ref().unwrap().allowed()).collect();
        assert_eq!(allowed, [true, true, true, false]);
    }

    #[tokio::test]
    async fn a_batch_above_its_bound_decides_nothing() {
        let service = service(user_policy("one", 1));
        let checks = vec![Check::new("alice", "gpt-4"); MAX_BATCH_CHECKS + 1];
        let refused = service.check_batch(&checks).await.unwrap_err();
        assert_eq!(refused, BatchTooLong(MAX_BATCH_CHECKS + 1));
        assert!(service.check(&checks[0]).await.unwrap().allowed());
    }

    #[tokio::test]
    async fn a_check_that_no_limit_meets_is_allowed() {
        let service = service(user_policy("p", 0));
        let nobody = Check::of(tollgate_core::Subject::empty());
        let decision = service.check(&nobody).await.unwrap();
        assert!(
            decision.allowed() && decision.headline().is_none() && decision.limits().is_empty()
        );
    }
}
