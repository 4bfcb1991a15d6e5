//! Checks: decide, peek, batch, explain and reset.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tollgate_catalog::{Snapshot, SnapshotReader};
use tollgate_core::{
    Attribute, Check, Consideration, Decision, LeaseUpdate, Limit, Policy, PolicyId, PriorityClass,
    Reason, Subject, Unit,
};
use tollgate_store::{LeaseId, LeaseState, Ordered, Store, StoreError, key_bytes};

use crate::decision_feed::DecisionFeed;
use crate::directory::{DirectoryLookup, Origins, resolved};
use crate::journal::SettlementJournal;
use crate::learned::LearnedUsage;
use crate::tracer::{Traced, Tracer};

/// The most checks of one batch.
pub const MAX_BATCH_CHECKS: usize = 1_000;

/// The most checks of one batch in flight at a time: few enough that each is decided well within its deadline.
pub(crate) const MAX_UNDER_WAY: usize = 256;

/// A batch has this many checks or settlements, which is more than [`MAX_BATCH_CHECKS`]. None of them was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTooLong(pub usize);

impl fmt::Display for BatchTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the batch has {} elements; accepted: at most {MAX_BATCH_CHECKS}", self.0)
    }
}

impl std::error::Error for BatchTooLong {}

/// Receives every check with its decision, except peeks, and what becomes of leases. It is called while the caller waits, so it must
/// not block.
pub trait TrafficObserver: fmt::Debug + Send + Sync + 'static {
    /// `check` as the limits saw it, completed from the catalog and without an API key in clear text; `lease` is what it reserved.
    fn decided(&self, check: &Check<'_>, decision: &Decision, lease: Option<&LeaseId>);

    /// This node has made `update`, or a repetition of it.
    fn updated(&self, lease: &LeaseId, update: &LeaseUpdate, state: &LeaseState);
}

/// Decides checks over the policies in force and the usage in `S`.
#[derive(Debug)]
pub struct RateLimitService<S> {
    store: S,
    policies: SnapshotReader,
    directory: Option<DirectoryLookup>,
    decision_feed: Option<Arc<DecisionFeed>>,
    traffic: Option<Arc<dyn TrafficObserver>>,
    tracer: Option<Arc<dyn Tracer>>,
    journal: Option<Arc<SettlementJournal>>,
    learned: LearnedUsage,
    /// Units that are learned although no policy reserves by what was learned.
    learned_units: Vec<Unit>,
}

/// The explanation of a decision.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The subject, completed from the catalog.
    pub subject: &'a Subject<'a>,
    /// Whether the catalog has its user and its tenant, and the source of its tier.
    pub origins: Origins,
    /// The priority class of its tier.
    pub priority: PriorityClass,
    /// The version of the policies.
    pub version: u64,
    /// Why no limit was evaluated, if none was.
    pub refused: Option<Reason>,
    /// The outcome of each policy.
    pub policies: Vec<(&'a Policy, Consideration)>,
    /// The decision that a check would get now.
    pub decision: Decision,
}

/// The operation on the limits that a check meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Charge,
    Reserve,
    Peek,
}

impl<S: Store> RateLimitService<S> {
    /// A service over `store` and `policies`. Subjects are used as the callers give them.
    pub fn new(store: S, policies: SnapshotReader) -> Self {
        Self {
            store,
            policies,
            directory: None,
            decision_feed: None,
            traffic: None,
            tracer: None,
            journal: None,
            learned: LearnedUsage::default(),
            learned_units: Vec::new(),
        }
    }

    /// The same service, which also learns how much of `unit` answers use if no policy [reserves](tollgate_core::ReserveRule) by it, for
    /// callers that read [`RateLimitService::learned`].
    #[must_use]
    pub fn learning(mut self, unit: Unit) -> Self {
        self.learned_units.push(unit);
        self
    }

    /// The same service, which completes each subject from `directory`.
    #[must_use]
    pub fn with_directory(mut self, directory: DirectoryLookup) -> Self {
        self.directory = Some(directory);
        self
    }

    /// The same service, which publishes its decisions to `decision_feed`.
    #[must_use]
    pub fn with_decision_feed(mut self, decision_feed: Arc<DecisionFeed>) -> Self {
        self.decision_feed = Some(decision_feed);
        self
    }

    /// The same service, which passes every check to `observer`.
    #[must_use]
    pub fn with_traffic_observer(mut self, observer: Arc<dyn TrafficObserver>) -> Self {
        self.traffic = Some(observer);
        self
    }

    /// The same service, which tells `tracer` where use cases begin and end.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// `use_case` begins.
    #[inline]
    pub(crate) fn traced(&self, use_case: &'static str) -> Traced {
        Traced::begin(self.tracer.as_ref(), use_case)
    }

    /// The same service, which keeps settlements in `journal` while the store does not answer. Call
    /// [`RateLimitService::replay_settlements`] now and then.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<SettlementJournal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The units that are learned although no policy reserves by what was learned.
    pub(crate) fn learned_units(&self) -> &[Unit] {
        &self.learned_units
    }

    /// What the answers whose leases were settled here have used.
    pub fn learned(&self) -> &LearnedUsage {
        &self.learned
    }

    /// What keeps settlements while the store does not answer.
    pub fn journal(&self) -> Option<&Arc<SettlementJournal>> {
        self.journal.as_ref()
    }

    /// The feed that receives its decisions.
    pub fn decision_feed(&self) -> Option<&Arc<DecisionFeed>> {
        self.decision_feed.as_ref()
    }

    /// Where usage lives.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What completes the subjects, if anything does.
    pub fn directory(&self) -> Option<&DirectoryLookup> {
        self.directory.as_ref()
    }

    /// The policies in force.
    pub fn policies(&self) -> &SnapshotReader {
        &self.policies
    }

    /// Decides `check` and charges all the limits that it meets, or none (R3). A check whose request id was already
    /// admitted is not charged again and gets the first answer (R12).
    ///
    /// A denial is a decision. An error means that none was possible, and says whether something may have been charged.
    /// A check that meets no limit does not use the store.
    #[inline]
    pub async fn check(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        let traced = self.traced("check");
        let decided = self.decide(&self.policies.current(), check, Verb::Charge).await;
        traced.end(decided.as_ref().map(Some));
        decided
    }

    /// The decision that [`RateLimitService::check`] would make now; changes nothing.
    #[inline]
    pub async fn peek(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        let traced = self.traced("peek");
        let decided = self.decide(&self.policies.current(), check, Verb::Peek).await;
        traced.end(decided.as_ref().map(Some));
        decided
    }

    /// Decides each of `checks` separately, all with one version of the policies, without waiting for each answer
    /// before sending the next. If two checks meet the same limit, the later one sees what the earlier one charged. If
    /// one fails, the others are still decided.
    pub async fn check_batch(
        &self,
        checks: &[Check<'_>],
    ) -> Result<Vec<Result<Decision, StoreError>>, BatchTooLong> {
        if checks.len() > MAX_BATCH_CHECKS {
            return Err(BatchTooLong(checks.len()));
        }
        let traced = self.traced("check_batch");
        let snapshot = self.policies.snapshot();
        let mut all_known = Vec::with_capacity(checks.len());
        if let Some(directory) = &self.directory {
            for check in checks {
                all_known.push(directory.resolve(&snapshot, check).await);
            }
        }
        let resolved_checks: Vec<_> = match &self.directory {
            Some(_) => {
                let known = checks.iter().zip(&all_known);
                known.map(|(check, known)| resolved(check, &known.resolution, &snapshot)).collect()
            }
            None => checks.to_vec(),
        };
        let refusals = all_known.iter().map(|known| known.refused).chain(std::iter::repeat(None));
        let asked: Vec<_> = resolved_checks.iter().zip(refusals).collect();
        let mut decisions = Vec::with_capacity(checks.len());
        for wave in self.waves(&snapshot, &asked) {
            let decide_all = async {
                let mut calls = FuturesOrdered::new();
                for (check, refused) in wave {
                    if calls.len() == MAX_UNDER_WAY {
                        decisions.extend(calls.next().await);
                    }
                    // Boxed: it is large, and would be copied more than once.
                    let call = self.decide_or_refuse(&snapshot, check, *refused, Verb::Charge);
                    calls.push_back(Box::pin(call));
                }
                while let Some(decision) = calls.next().await {
                    decisions.push(decision);
                }
            };
            Ordered::new(decide_all).await;
        }
        traced.end_many(decisions.len());
        Ok(decisions)
    }

    /// Splits `checks` into parts that may be sent before the first of them is answered: all checks, if the store keeps
    /// their order; otherwise a new part starts when a check shares the usage of a limit with one before it.
    fn waves<'w, 'c>(
        &self,
        snapshot: &Snapshot,
        checks: &'w [(&'c Check<'c>, Option<Reason>)],
    ) -> Vec<&'w [(&'c Check<'c>, Option<Reason>)]> {
        if self.store.keeps_order() {
            return vec![checks];
        }
        let (mut waves, mut begin, mut used) = (Vec::new(), 0, HashSet::new());
        for (place, (check, _)) in checks.iter().enumerate() {
            let charges = snapshot.policies().plan(check);
            let keys = || charges.iter().map(|charge| key_bytes(charge.limit, charge.subject));
            if keys().any(|key| used.contains(&key)) {
                waves.push(&checks[begin..place]);
                (begin, used) = (place, HashSet::new());
            }
            used.extend(keys());
        }
        waves.push(&checks[begin..]);
        waves
    }

    /// Clears the usage of every limit that `check` meets, and returns the policies of these limits.
    ///
    /// If one reset fails, the earlier ones stay done: a reset may be repeated.
    pub async fn reset(&self, check: &Check<'_>) -> Result<Vec<PolicyId>, StoreError> {
        self.reset_where(check, |_| true).await
    }

    /// [`RateLimitService::reset`] for the limits that are kept per user. What all users share, such as the limit of a model, stays.
    pub async fn reset_user(&self, check: &Check<'_>) -> Result<Vec<PolicyId>, StoreError> {
        self.reset_where(check, |limit| limit.per().attributes().contains(&Attribute::User)).await
    }

    async fn reset_where(
        &self,
        check: &Check<'_>,
        is_wanted: impl Fn(&Limit) -> bool,
    ) -> Result<Vec<PolicyId>, StoreError> {
        let snapshot = self.policies.snapshot();
        let known = match &self.directory {
            Some(directory) => Some(directory.resolve(&snapshot, check).await),
            None => None,
        };
        let known = known.as_ref().map(|known| resolved(check, &known.resolution, &snapshot));
        let mut reset = Vec::new();
        let plan = snapshot.policies().plan(known.as_ref().unwrap_or(check));
        for charge in plan.iter().filter(|charge| is_wanted(charge.limit)) {
            self.store.reset(charge.limit, charge.subject).await?;
            reset.push(charge.limit.policy_id().clone());
        }
        Ok(reset)
    }

    /// Calls `render` with the result of a peek at `check` and the outcome of each policy.
    pub async fn explain<T>(
        &self,
        check: &Check<'_>,
        render: impl FnOnce(Explanation<'_>) -> T,
    ) -> Result<T, StoreError> {
        let snapshot = self.policies.snapshot();
        let known = match &self.directory {
            Some(directory) => Some(directory.resolve(&snapshot, check).await),
            None => None,
        };
        let refused = known.as_ref().and_then(|known| known.refused);
        let origins = Origins::of(check, known.as_ref().map(|known| &known.resolution));
        let known = known.as_ref().map(|known| resolved(check, &known.resolution, &snapshot));
        let check = known.as_ref().unwrap_or(check);
        let decision = match refused {
            Some(reason) => Decision::refused(reason),
            None => self.decide_known(&snapshot, check, Verb::Peek).await?,
        };
        Ok(render(Explanation {
            subject: &check.subject,
            origins,
            priority: check.priority,
            version: snapshot.version(),
            refused,
            policies: snapshot.policies().explain(check),
            decision,
        }))
    }

    #[inline]
    async fn decide(
        &self,
        snapshot: &Snapshot,
        check: &Check<'_>,
        verb: Verb,
    ) -> Result<Decision, StoreError> {
        let Some(directory) = &self.directory else {
            return self.decide_known(snapshot, check, verb).await;
        };
        let known = directory.resolve(snapshot, check).await;
        let check = resolved(check, &known.resolution, snapshot);
        self.decide_or_refuse(snapshot, &check, known.refused, verb).await
    }

    /// Decides a resolved check, unless it is `refused`.
    #[inline]
    async fn decide_or_refuse(
        &self,
        snapshot: &Snapshot,
        check: &Check<'_>,
        refused: Option<Reason>,
        verb: Verb,
    ) -> Result<Decision, StoreError> {
        let Some(reason) = refused else {
            return self.decide_known(snapshot, check, verb).await;
        };
        let decision = Decision::refused(reason);
        self.decided(check, &decision, verb, None);
        Ok(decision)
    }

    #[inline]
    async fn decide_known(
        &self,
        snapshot: &Snapshot,
        check: &Check<'_>,
        verb: Verb,
    ) -> Result<Decision, StoreError> {
        let charges = snapshot.policies().plan(check);
        let decision = if charges.is_empty() {
            Decision::assemble(&[], &[])
        } else {
            let answer = match verb {
                Verb::Charge => self.store.charge(&charges, check.request_id).await?,
                Verb::Reserve | Verb::Peek => self.store.peek(&charges).await?,
            };
            Decision::assemble(&charges, &answer.verdicts).with_degraded(answer.degraded)
        };
        self.decided(check, &decision, verb, None);
        Ok(decision)
    }

    /// Publishes the decision, and what it reserved, to subscribers. Peeks are skipped because they charge nothing.
    #[inline]
    pub(crate) fn decided(
        &self,
        check: &Check<'_>,
        decision: &Decision,
        verb: Verb,
        lease: Option<&LeaseId>,
    ) {
        if verb == Verb::Peek {
            return;
        }
        if let Some(decision_feed) = &self.decision_feed {
            decision_feed.decided(check, decision, verb, lease);
        }
        if let Some(traffic) = &self.traffic {
            traffic.decided(check, decision, lease);
        }
    }

    /// Publishes what `update` did to a lease.
    #[inline]
    pub(crate) fn updated(&self, lease: &LeaseId, update: &LeaseUpdate, state: &LeaseState) {
        if let Some(decision_feed) = &self.decision_feed {
            decision_feed.updated(lease, update, state);
        }
        if let Some(traffic) = &self.traffic {
            traffic.updated(lease, update, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::{Amount, ManualClock, Per, PolicySet, Window};
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
    async fn a_reset_of_a_user_leaves_what_all_users_share() {
        let window = Window::new(std::time::Duration::from_mins(1)).unwrap();
        let policy = |scope| {
            let (id, per) = (PolicyId::new(scope).unwrap(), Per::from_scope(scope).unwrap());
            Policy::new(id, per, Amount::new(9), window)
        };
        let policies = ["GLOBAL", "MODEL", "USER", "USER_MODEL"].map(policy);
        let service = service(PolicySet::new(policies.to_vec()).unwrap());
        let check = Check::new("alice", "gpt-4");
        service.check(&check).await.unwrap();
        let reset = service.reset_user(&check).await.unwrap();
        assert_eq!(reset.iter().map(PolicyId::as_str).collect::<Vec<_>>(), ["USER", "USER_MODEL"]);
        let peeked = service.peek(&check).await.unwrap();
        let counts = peeked.limits().iter().map(|one| (one.limit.policy_id().as_str(), one.count));
        let counts: std::collections::BTreeMap<_, _> = counts.collect();
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("GLOBAL", 1), ("MODEL", 1), ("USER", 0), ("USER_MODEL", 0)]
        );
        assert_eq!(service.reset(&check).await.unwrap().len(), 4);
        let peeked = service.peek(&check).await.unwrap();
        assert!(peeked.limits().iter().all(|one| one.count == 0));
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
