//! Leases: reserve, extend, settle and release (R13–R16).
//!
//! A reservation is a check that is also kept as a lease: its subject is completed, and the decision is published, as for
//! every check. An update names its lease only by its id, so any node over the same store can make it.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use smallvec::SmallVec;
use tollgate_core::{Amount, Check, Cost, Decision, LeaseUpdate, Quality, Totals, Ttl};
use tollgate_store::{
    FaultDomain, LeaseId, LeaseRequest, LeaseState, NewLease, Ordered, Store, StoreError,
};

use crate::journal::Keeping;
use crate::lease_note::LeaseNote;
use crate::rate_limit::{BatchTooLong, MAX_BATCH_CHECKS, MAX_UNDER_WAY, RateLimitService, Verb};

/// The most settlements of one batch: as many as checks.
pub const MAX_BATCH_SETTLEMENTS: usize = MAX_BATCH_CHECKS;

/// The answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The decision, as on a check. Limits of concurrency took part in it.
    pub decision: Decision,
    /// The lease; `None` if the check was denied.
    pub lease: Option<NewLease>,
    /// What was asked for in all, with what policies reserve of units that the check does not name.
    pub asked: Cost,
}

/// What a lease used in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence number: from 1, above that of every earlier update of the lease.
    pub seq: Amount,
    /// What was used in all, by unit. A unit that is not named stays as reserved.
    pub usage: Totals,
    /// Whether it is all that was used.
    pub quality: Quality,
}

impl Settlement {
    /// The same as an update of the lease.
    pub fn to_update(&self) -> LeaseUpdate {
        let Self { seq, quality, .. } = *self;
        LeaseUpdate::Settle { seq, usage: self.usage.clone(), quality }
    }
}

/// The store did not answer a settlement, so nobody knows whether it was made. It may be sent again: it counts once.
#[derive(Debug)]
pub struct Unsettled {
    /// Why.
    pub error: StoreError,
    /// How safely this process keeps it until the store answers.
    pub kept: Keeping,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store did not answer a settlement")
    }
}

impl Error for Unsettled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// The most expired leases that are published at a time, and so in a second.
const MAX_PUBLISHED_EXPIRED: usize = 1_000;

/// The most settlements of the journal that are sent before the first of them is answered.
const MAX_REPLAYED_TOGETHER: usize = 64;

impl<S: Store> RateLimitService<S> {
    /// Decides `check` like [`RateLimitService::check`], and keeps what was charged as a lease that lives for `ttl` (R13). It
    /// also takes a slot of each limit of concurrency that the check meets (R16). A check that meets no limit gets a lease
    /// that holds nothing.
    ///
    /// A denial is a decision. An error means that none was possible, and says whether something may have been charged. A
    /// store without leases returns an error of the kind [`Unsupported`](tollgate_store::StoreErrorKind::Unsupported).
    pub async fn reserve(&self, check: &Check<'_>, ttl: Ttl) -> Result<Reservation, StoreError> {
        self.reserve_for(check, ttl, 0).await
    }

    /// [`RateLimitService::reserve`] for an input of so many bytes, 0 if that is not known. If the check does not name
    /// `input_tokens`, as many are reserved as inputs of this length have, as far as that has been learned.
    ///
    /// If policies say how much is [reserved](tollgate_core::ReserveRule) of a unit that the check does not name, the lease reserves
    /// what answers of the same model and tenant have used, which settlements on this node teach. If several limits say so of
    /// one unit, the greatest of their amounts counts.
    pub async fn reserve_for(
        &self,
        check: &Check<'_>,
        ttl: Ttl,
        input_bytes: u64,
    ) -> Result<Reservation, StoreError> {
        self.reserve_named(check, ttl, input_bytes, check.request_id).await
    }

    /// [`RateLimitService::reserve_for`], where the store knows the lease by `name` in place of the request id (R12).
    pub(crate) async fn reserve_named(
        &self,
        check: &Check<'_>,
        ttl: Ttl,
        input_bytes: u64,
        name: Option<&str>,
    ) -> Result<Reservation, StoreError> {
        let traced = self.traced("reserve");
        let reserved = self.reserve_known(check, ttl, input_bytes, name).await;
        traced.end(reserved.as_ref().map(|reservation| Some(&reservation.decision)));
        reserved
    }

    async fn reserve_known(
        &self,
        check: &Check<'_>,
        ttl: Ttl,
        input_bytes: u64,
        name: Option<&str>,
    ) -> Result<Reservation, StoreError> {
        let snapshot = self.policies().current();
        let known = match self.directory() {
            Some(directory) => Some(directory.resolve(&snapshot, check).await),
            None => None,
        };
        let refused = known.as_ref().and_then(|known| known.refused);
        let known = known.as_ref().map(|known| known.complete(check, &snapshot));
        let check = known.as_ref().unwrap_or(check);
        let asked = self.asked(snapshot.policies(), check, input_bytes);
        let completed = asked.as_ref().map(|asked| check.clone().at_cost(asked.clone()));
        let check = completed.as_ref().unwrap_or(check);
        let asked = check.cost.clone();
        let reservation = if let Some(reason) = refused {
            Reservation { decision: Decision::refused(reason), lease: None, asked }
        } else {
            let charges = snapshot.policies().plan(check);
            let note = LeaseNote::bytes_of(&check.subject, input_bytes);
            let request = LeaseRequest::new(&charges, ttl).named(name);
            let reserved = self.store().reserve(&request.with_note(&note)).await?;
            // Without a limit, nothing was decided, so nothing was decided without the store.
            let is_degraded = reserved.degraded && !charges.is_empty();
            let decision = Decision::assemble(&charges, &reserved.verdicts);
            let decision = decision.with_degraded(is_degraded);
            Reservation { decision, lease: reserved.lease, asked }
        };
        let id = reservation.lease.as_ref().map(|lease| &lease.id);
        self.decided(check, &reservation.decision, Verb::Reserve, id);
        Ok(reservation)
    }

    /// Extends, settles or releases a lease (R14, R15); `None` if there is no such lease, or not any more.
    ///
    /// It can be repeated after an error: it counts once.
    pub async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        let traced = self.traced("update_lease");
        let answer = self.store().update_lease(id, update).await;
        traced.end(answer.as_ref().map(|_| None));
        let state = answer?;
        if let Some(state) = &state {
            self.learn(update, state);
            self.updated(id, update, state);
        }
        Ok(state)
    }

    /// Publishes the leases that the store has found to be expired since the last call. Only a store in this process's memory finds
    /// any without being asked about them. It reads every lease, so do not call it on a thread that serves.
    pub fn publish_expired_leases(&self) {
        let Some(feed) = self.decision_feed() else { return };
        // Those that expire while nobody listens are news for nobody.
        let most = if feed.has_subscribers() { MAX_PUBLISHED_EXPIRED } else { 0 };
        for lease in self.store().expired_leases(most) {
            feed.expired(lease);
        }
    }

    /// Settles a lease (R14); `None` if there is no such lease, or not any more. If the store does not answer, the
    /// [journal](RateLimitService::with_journal) keeps the settlement.
    ///
    /// Those of the same lease that the journal keeps are made first, because they count in their order.
    pub async fn settle(&self, settlement: &Settlement) -> Result<Option<LeaseState>, Unsettled> {
        let error = match self.settle_in_order(settlement).await {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        let kept = match self.journal() {
            Some(journal) if self.may_settle_later(&error) => journal.keep(settlement).await,
            _ => Keeping::Not,
        };
        Err(Unsettled { error, kept })
    }

    async fn settle_in_order(
        &self,
        settlement: &Settlement,
    ) -> Result<Option<LeaseState>, StoreError> {
        let earlier =
            self.journal().map(|journal| journal.before(&settlement.lease, settlement.seq));
        // They stay in the journal until they are sent again, which counts nothing twice.
        for settlement in earlier.into_iter().flatten() {
            let made = self.update_lease(&settlement.lease, &settlement.to_update()).await;
            if let Err(error) = made
                && self.may_settle_later(&error)
            {
                return Err(error);
            }
        }
        self.update_lease(&settlement.lease, &settlement.to_update()).await
    }

    /// Whether the same settlement may succeed when the store is available again.
    fn may_settle_later(&self, error: &StoreError) -> bool {
        self.store().capabilities().leases && !error.kind().concerns_one_check()
    }

    /// Sends the settlements of the journal to the store again, in order; `answered` gets each with its answer. Those that
    /// the store does not answer stay, and others that need the same part of the store are not sent.
    ///
    /// A settlement that fails because of what its keys hold is not kept any longer: what its lease reserved stays charged.
    pub async fn replay_settlements(
        &self,
        mut answered: impl FnMut(&Settlement, Result<Option<&LeaseState>, &StoreError>),
    ) {
        let Some(journal) = self.journal() else { return };
        let mut failed: SmallVec<[FaultDomain; 2]> = SmallVec::new();
        // The first one goes alone, so that a store that still fails is asked once.
        let (mut last, mut most) = (None, 1);
        loop {
            let mut waiting = journal.waiting(last, most);
            // Of each lease one at a time, because they count in their order.
            let mut named = HashSet::new();
            let again = waiting.iter().position(|(_, one)| !named.insert(one.lease.clone()));
            waiting.truncate(again.unwrap_or(waiting.len()));
            let Some((number, _)) = waiting.last() else { return };
            (last, most) = (Some(*number), MAX_REPLAYED_TOGETHER);
            let mut calls = FuturesOrdered::new();
            for (number, settlement) in waiting {
                let parts = self.store().fault_domains_of(&settlement.lease);
                if parts.iter().any(|part| failed.contains(part)) {
                    continue;
                }
                calls.push_back(async move {
                    let update = settlement.to_update();
                    let answer = self.update_lease(&settlement.lease, &update).await;
                    (number, settlement, parts, answer)
                });
            }
            while let Some((number, settlement, parts, answer)) = calls.next().await {
                match &answer {
                    Err(error) if self.may_settle_later(error) => {
                        failed.extend(parts);
                        continue;
                    }
                    _ => journal.answered(number, &settlement),
                }
                answered(&settlement, answer.as_ref().map(Option::as_ref));
            }
        }
    }

    /// Makes each of `settlements` by itself, without waiting for each answer before sending the next. If two name the same
    /// lease, the first is answered before the second is made. If one fails, the others are still made.
    pub async fn settle_batch(
        &self,
        settlements: &[Settlement],
    ) -> Result<Vec<Result<Option<LeaseState>, Unsettled>>, BatchTooLong> {
        if settlements.len() > MAX_BATCH_SETTLEMENTS {
            return Err(BatchTooLong(settlements.len()));
        }
        let mut answers = Vec::with_capacity(settlements.len());
        for wave in waves(settlements, self.store().keeps_order()) {
            let settle_all = async {
                let mut calls = FuturesOrdered::new();
                for settlement in wave {
                    if calls.len() == MAX_UNDER_WAY {
                        answers.extend(calls.next().await);
                    }
                    let call = self.settle(settlement);
                    // Boxed: it is large, and would be copied more than once.
                    calls.push_back(Box::pin(call));
                }
                while let Some(answer) = calls.next().await {
                    answers.push(answer);
                }
            };
            Ordered::new(settle_all).await;
        }
        Ok(answers)
    }
}

/// Splits `settlements` into parts that may be sent before the first of them is answered: all of them, if the store keeps their
/// order; otherwise a new part starts when a lease is named again.
fn waves(settlements: &[Settlement], keeps_order: bool) -> Vec<&[Settlement]> {
    if keeps_order {
        return vec![settlements];
    }
    let (mut waves, mut begin, mut named) = (Vec::new(), 0, HashSet::new());
    for (place, settlement) in settlements.iter().enumerate() {
        if !named.insert(&settlement.lease) {
            waves.push(&settlements[begin..place]);
            (begin, named) = (place, HashSet::from([&settlement.lease]));
        }
    }
    waves.push(&settlements[begin..]);
    waves
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use tollgate_catalog::SnapshotReader;
    use tollgate_core::{
        Charge, Cost, Counting, Limit, ManualClock, Per, Policy, PolicyId, PolicySet, Subject,
        Unit, WallClock, Window,
    };
    use tollgate_store::memory::MemoryStoreOptions;
    use tollgate_store::{
        Capabilities, Charged, Effect, LeaseStatus, MemoryStore, Reserved, StoreErrorKind,
    };

    use super::*;
    use crate::{By, DecisionFeed, LeaseEvent, Observed, SettlementJournal};

    fn policy(id: &str, unit: Unit, limit: u64) -> Policy {
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let per = Per::from_scope("USER").unwrap();
        let policy = Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), window);
        let counting = match unit {
            Unit::Concurrency => Counting::Concurrency,
            _ => policy.counting,
        };
        Policy { unit, counting, ..policy }
    }

    fn service(policies: Vec<Policy>) -> RateLimitService<MemoryStore<ManualClock>> {
        let store = MemoryStore::with_clock(ManualClock::default(), &MemoryStoreOptions::default());
        let set = PolicySet::new(policies).unwrap();
        RateLimitService::new(store, SnapshotReader::fixed(set))
    }

    fn two_slots() -> RateLimitService<MemoryStore<ManualClock>> {
        service(vec![policy("slots", Unit::Concurrency, 2), policy("tokens", Unit::Tokens, 100)])
    }

    fn alice(tokens: u64) -> Check<'static> {
        let cost = Cost::one_request().with(Unit::Tokens, Amount::new(tokens).unwrap());
        Check::new("alice", "gpt-4").at_cost(cost)
    }

    fn settlement(lease: &LeaseId, seq: u64, tokens: u64) -> Settlement {
        let usage = Totals::none().with(Unit::Tokens, Amount::new(tokens).unwrap());
        let seq = Amount::new(seq).unwrap();
        Settlement { lease: lease.clone(), seq, usage, quality: Quality::Exact }
    }

    fn counts(decision: &Decision) -> Vec<u64> {
        decision.limits().iter().map(|status| status.count).collect()
    }

    /// R16: a check is denied while no slot is free, and takes none.
    #[tokio::test]
    async fn a_reservation_takes_a_slot_and_a_check_takes_none() {
        let service = two_slots();
        let mut ids = Vec::new();
        for taken in 1..=2 {
            assert!(service.check(&alice(0)).await.unwrap().allowed());
            let reserved = service.reserve(&alice(10), Ttl::DEFAULT).await.unwrap();
            assert_eq!(counts(&reserved.decision), [taken, 10 * taken]);
            ids.push(reserved.lease.unwrap().id);
        }
        let denied = service.reserve(&alice(10), Ttl::DEFAULT).await.unwrap();
        assert!(!denied.decision.allowed() && denied.lease.is_none());
        assert!(!service.check(&alice(0)).await.unwrap().allowed());
        let released = service.update_lease(&ids[0], &LeaseUpdate::Release).await.unwrap();
        assert_eq!(released.unwrap().status(), LeaseStatus::Released);
        assert_eq!(counts(&service.peek(&alice(0)).await.unwrap()), [1, 10]);
    }

    #[tokio::test]
    async fn a_batch_settles_each_lease_by_itself_in_order() {
        let service = two_slots();
        let mut ids = Vec::new();
        for _ in 0..2 {
            let reserved = service.reserve(&alice(10), Ttl::DEFAULT).await.unwrap();
            ids.push(reserved.lease.unwrap().id);
        }
        let unknown = LeaseId::parse("unknown").unwrap();
        let batch = [
            settlement(&ids[0], 1, 70),
            settlement(&unknown, 1, 5),
            settlement(&ids[1], 2, 4),
            settlement(&ids[1], 1, 50),
            settlement(&ids[0], 2, 60),
        ];
        let answers = service.settle_batch(&batch).await.unwrap();
        let effects: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap().map(|state| (state.effect, state.holds[1].charged)))
            .collect();
        let expected = [
            Some((Effect::Changed, 70)),
            None,
            Some((Effect::Changed, 4)),
            Some((Effect::Repeated, 4)),
            Some((Effect::Changed, 60)),
        ];
        assert_eq!(effects, expected);
        assert_eq!(counts(&service.peek(&alice(0)).await.unwrap()), [0, 64]);
        let too_long = vec![settlement(&unknown, 1, 1); MAX_BATCH_SETTLEMENTS + 1];
        let refused = service.settle_batch(&too_long).await.unwrap_err();
        assert_eq!(refused, BatchTooLong(MAX_BATCH_SETTLEMENTS + 1));
    }

    /// The state machine of a lease is the same if it holds nothing.
    #[tokio::test]
    async fn a_reservation_that_no_limit_meets_gets_a_lease_that_holds_nothing() {
        let service = service(vec![policy("tokens", Unit::Tokens, 0)]);
        let nobody = Check::of(tollgate_core::Subject::empty());
        let reserved = service.reserve(&nobody, Ttl::DEFAULT).await.unwrap();
        assert!(reserved.decision.allowed() && reserved.decision.limits().is_empty());
        let id = reserved.lease.unwrap().id;
        let update = settlement(&id, 1, 5).to_update();
        let settled = service.update_lease(&id, &update).await.unwrap().unwrap();
        assert!(settled.holds.is_empty() && settled.effect == Effect::Changed);
        let released = service.update_lease(&id, &LeaseUpdate::Release).await.unwrap();
        assert_eq!(released.unwrap().effect, Effect::Refused);
    }

    /// A store in memory that fails when the test says so.
    #[derive(Default)]
    struct Failing {
        memory: MemoryStore,
        fails: AtomicBool,
        calls: AtomicU64,
    }

    // SeqCst here and below: the service must see what the test does.
    impl Failing {
        fn set(&self, fails: bool) {
            self.fails.store(fails, Ordering::SeqCst);
        }

        fn check(&self) -> Result<(), StoreError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if self.fails.load(Ordering::SeqCst) {
                return Err(StoreError::new(StoreErrorKind::Unavailable, "as it was told"));
            }
            Ok(())
        }
    }

    impl Store for Failing {
        async fn charge(
            &self,
            charges: &[Charge<'_>],
            request_id: Option<&str>,
        ) -> Result<Charged, StoreError> {
            self.check()?;
            Store::charge(&self.memory, charges, request_id).await
        }

        async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
            self.check()?;
            Store::peek(&self.memory, charges).await
        }

        async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
            self.check()?;
            Store::reset(&self.memory, limit, subject).await
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::ALL
        }

        async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
            self.check()?;
            Store::reserve(&self.memory, request).await
        }

        async fn update_lease(
            &self,
            id: &LeaseId,
            update: &LeaseUpdate,
        ) -> Result<Option<LeaseState>, StoreError> {
            self.check()?;
            Store::update_lease(&self.memory, id, update).await
        }
    }

    /// P17: what the store did not answer is sent again when it is back, and counts once.
    #[tokio::test]
    async fn a_settlement_without_an_answer_is_sent_again_until_it_is_answered() {
        let set = PolicySet::new(vec![policy("tokens", Unit::Tokens, 1_000)]).unwrap();
        let journal = Arc::new(SettlementJournal::in_memory(SettlementJournal::DEFAULT_MAX_BYTES));
        let service = RateLimitService::new(Failing::default(), SnapshotReader::fixed(set))
            .with_journal(Arc::clone(&journal));
        let mut ids = Vec::new();
        for _ in 0..100 {
            let reserved = service.reserve(&alice(10), Ttl::DEFAULT).await.unwrap();
            ids.push(reserved.lease.unwrap().id);
        }
        service.store().set(true);
        for (seq, id) in (1..).zip(&ids) {
            let unsettled = service.settle(&settlement(id, seq, 3)).await.unwrap_err();
            assert_eq!(unsettled.kept, Keeping::InMemory);
        }
        let calls = || service.store().calls.load(Ordering::SeqCst);
        let before = calls();
        service.replay_settlements(|_, _| panic!("nothing is answered")).await;
        assert_eq!((calls() - before, journal.stats().waiting), (1, 100), "it is asked once");
        service.store().set(false);
        let mut answers = Vec::new();
        let replay = service.replay_settlements(|settlement, answer| {
            answers.push((settlement.lease.clone(), answer.unwrap().unwrap().effect));
        });
        replay.await;
        let expected: Vec<_> = ids.iter().map(|id| (id.clone(), Effect::Changed)).collect();
        assert_eq!(answers, expected, "in order");
        assert_eq!(journal.stats().waiting, 0);
        assert_eq!(counts(&service.peek(&alice(0)).await.unwrap()), [300]);
    }

    /// P17, R14: settlements of one lease count in their order, whichever of them the store did not answer.
    #[tokio::test]
    async fn settlements_of_one_lease_that_name_different_units_all_count() {
        let policies =
            vec![policy("in", Unit::InputTokens, 1_000), policy("out", Unit::OutputTokens, 1_000)];
        let journal = Arc::new(SettlementJournal::in_memory(SettlementJournal::DEFAULT_MAX_BYTES));
        let set = SnapshotReader::fixed(PolicySet::new(policies).unwrap());
        let service =
            RateLimitService::new(Failing::default(), set).with_journal(Arc::clone(&journal));
        let amount = |amount| Amount::new(amount).unwrap();
        let cost = Cost::one_request()
            .with(Unit::InputTokens, amount(100))
            .with(Unit::OutputTokens, amount(800));
        let check = Check::new("alice", "gpt-4").at_cost(cost);
        let mut expected = [0, 0];
        for answered_second in [false, true] {
            let reserved = service.reserve(&check, Ttl::DEFAULT).await.unwrap();
            let lease = reserved.lease.unwrap().id;
            let of = |seq, unit: Unit, used: u64| Settlement {
                lease: lease.clone(),
                seq: amount(seq),
                usage: Totals::none().with(unit, amount(used)),
                quality: Quality::Exact,
            };
            service.store().set(true);
            let first = service.settle(&of(1, Unit::OutputTokens, 30)).await;
            assert_eq!(first.unwrap_err().kept, Keeping::InMemory);
            service.store().set(!answered_second);
            let second = service.settle(&of(2, Unit::InputTokens, 9)).await;
            assert_eq!(second.is_ok(), answered_second);
            service.store().set(false);
            service.replay_settlements(|_, answer| assert!(answer.unwrap().is_some())).await;
            assert_eq!(journal.stats().waiting, 0);
            expected = [expected[0] + 9, expected[1] + 30];
            let peeked = service.peek(&Check::new("alice", "gpt-4")).await.unwrap();
            assert_eq!(counts(&peeked), expected);
        }
    }

    #[derive(Debug)]
    struct StoppedClock;

    impl WallClock for StoppedClock {
        fn wall_time(&self) -> tollgate_core::Timestamp {
            tollgate_core::Timestamp::from_ms(0)
        }
    }

    /// Subscribers and top keys see a reservation as they see a check.
    #[tokio::test]
    async fn the_decision_on_a_reservation_is_published() {
        let feed = std::sync::Arc::new(DecisionFeed::new(ManualClock::default(), StoppedClock));
        let service = two_slots().with_decision_feed(std::sync::Arc::clone(&feed));
        let mut decisions = feed.subscribe().unwrap();
        let reserved = service.reserve(&alice(10), Ttl::DEFAULT).await.unwrap();
        let Ok(Observed::Decision(observed)) = decisions.try_recv() else { panic!("no decision") };
        assert_eq!(observed.decision, reserved.decision);
        assert_eq!(observed.attribute("user"), Some("alice"));
        let id = reserved.lease.unwrap().id;
        assert_eq!((observed.is_reservation, &observed.lease), (true, &Some(id.clone())));
        service.settle(&settlement(&id, 1, 30)).await.unwrap();
        service.settle(&settlement(&id, 1, 30)).await.unwrap();
        let Ok(Observed::Lease(lease)) = decisions.try_recv() else { panic!("no settlement") };
        assert_eq!((lease.event, &lease.id), (LeaseEvent::Settled, &id));
        assert_eq!((lease.note.user.as_deref(), lease.holds[1].charged), (Some("alice"), 30));
        assert!(decisions.try_recv().is_err(), "what was repeated is no change");
        service.settle(&settlement(&id, 2, 10)).await.unwrap();
        _ = decisions.try_recv();
        let policy = PolicyId::new("tokens").unwrap();
        let (_, keys) = service.top_keys(&policy, By::Use, 1).await.unwrap();
        assert_eq!(keys[0].status.as_ref().unwrap().count, 10);
    }
}
