//! Leases in the library (R13–R16): guards over a limiter in memory, and over any store.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use tollgate::leases::{
    self, Effect, Ending, LeaseId, LeaseState, LeaseStatus, Reservation, StoreLease,
};
use tollgate::{
    Amount, Check, Cost, ManualClock, MemoryStoreOptions, Metrics, Per, Policy, PolicyId,
    PolicyLimiter, PolicySet, Totals, Ttl, Unit, Window,
};
use tollgate_core::{Charge, LeaseUpdate, Limit, Quality, Subject};
use tollgate_store::{
    Capabilities, Charged, LeaseRequest, MemoryStore, Reserved, Store, StoreError, StoreErrorKind,
};

const LIMIT: u64 = 1_000;
const SLOTS: u64 = 2;

fn amount(amount: u64) -> Amount {
    Amount::new(amount).unwrap()
}

fn tokens(total: u64) -> Totals {
    Totals::none().with(Unit::Tokens, amount(total))
}

/// 1,000 tokens a minute and two leases at a time, for each user.
fn policies() -> PolicySet {
    let id = |id| PolicyId::new(id).unwrap();
    let per = || Per::from_scope("USER").unwrap();
    let minute = Window::new(Duration::from_mins(1)).unwrap();
    let mut rate = Policy::new(id("tokens"), per(), Amount::new(LIMIT), minute);
    rate.unit = Unit::Tokens;
    let slots = Policy::of_concurrency(id("slots"), per(), Amount::new(SLOTS));
    PolicySet::new(vec![rate, slots]).unwrap()
}

fn limiter() -> (Arc<PolicyLimiter<ManualClock>>, ManualClock) {
    let clock = ManualClock::default();
    let options = MemoryStoreOptions::default();
    (Arc::new(PolicyLimiter::with_clock(policies(), clock.clone(), &options)), clock)
}

fn check(cost: u64) -> Check<'static> {
    Check::new("alice", "gpt-4").at_cost(Cost::one_request().with(Unit::Tokens, amount(cost)))
}

/// What is used of the tokens, and how many slots are taken.
fn usage(limiter: &PolicyLimiter<ManualClock>) -> (u64, u64) {
    let decision = limiter.peek(&check(0));
    (decision.limits()[0].count, decision.limits()[1].count)
}

/// What the lease holds of the tokens and of the slots.
fn charged(state: &LeaseState) -> (u64, u64) {
    (state.holds[0].charged, state.holds[1].charged)
}

#[test]
fn a_lease_reserves_and_settles_what_was_used() {
    let (limiter, _) = limiter();
    let reservation = limiter.reserve(&check(800), Ttl::DEFAULT);
    assert!(reservation.decision.allowed());
    let counts: Vec<_> = reservation.decision.limits().iter().map(|limit| limit.count).collect();
    assert_eq!(counts, [800, 1]);
    let lease = reservation.lease.unwrap();
    assert_eq!((usage(&limiter), lease.ttl()), ((800, 1), Ttl::DEFAULT));
    let denied = limiter.reserve(&check(201), Ttl::DEFAULT);
    assert!(!denied.decision.allowed() && denied.lease.is_none());
    assert_eq!(usage(&limiter), (800, 1), "R13: a denied lease holds nothing anywhere");
    let state = lease.settle(tokens(300)).unwrap();
    assert_eq!(
        (state.effect, state.ending, charged(&state)),
        (Effect::Changed, Ending::Settled, (300, 0))
    );
    assert_eq!(usage(&limiter), (300, 0));
    assert_eq!(limiter.metrics(), Metrics { allowed: 1, denied: 1 });
}

/// R14: what is above the reservation is charged whether or not there is room, and is never forgiven.
#[test]
fn more_than_was_reserved_becomes_debt() {
    let (limiter, clock) = limiter();
    let lease = limiter.reserve(&check(800), Ttl::DEFAULT).lease.unwrap();
    clock.advance(Duration::from_secs(20));
    let state = lease.settle(tokens(1_500)).unwrap();
    assert_eq!((state.holds[0].usage, state.holds[0].debt()), (1_500, 500));
    clock.advance(Duration::from_secs(40));
    assert_eq!(usage(&limiter), (700, 0), "the reservation has left, the rest came 20 s later");
    clock.advance(Duration::from_secs(20));
    assert_eq!(usage(&limiter), (0, 0));
}

/// R14: a lower bound gives nothing back, and charges what was seen above the reservation.
#[test]
fn a_guard_that_is_dropped_settles_as_a_lower_bound() {
    for (observed, used) in [(None, 400), (Some(0), 400), (Some(100), 400), (Some(900), 900)] {
        let (limiter, _) = limiter();
        let mut lease = limiter.reserve(&check(400), Ttl::DEFAULT).lease.unwrap();
        if let Some(total) = observed {
            lease.observe(Unit::Tokens, amount(total));
        }
        assert_eq!(usage(&limiter), (400, 1), "nothing is said before");
        drop(lease);
        assert_eq!(usage(&limiter), (used, 0), "{observed:?}");
    }
}

#[test]
fn a_guard_settles_when_its_thread_panics() {
    let (limiter, _) = limiter();
    let lease = limiter.reserve_owned(&check(400), Ttl::DEFAULT).lease.unwrap();
    assert_eq!(usage(&limiter), (400, 1));
    let holder = thread::spawn(move || {
        let mut lease = lease;
        lease.observe(Unit::Tokens, amount(500));
        panic!("the answer broke off");
    });
    assert!(holder.join().is_err());
    assert_eq!(usage(&limiter), (500, 0));
}

#[test]
fn a_released_lease_leaves_nothing() {
    let (limiter, _) = limiter();
    let mut lease = limiter.reserve(&check(400), Ttl::DEFAULT).lease.unwrap();
    lease.observe(Unit::Tokens, amount(500));
    let state = lease.release().unwrap();
    assert_eq!((state.ending, charged(&state)), (Ending::Released, (0, 0)));
    assert_eq!(usage(&limiter), (0, 0));
}

/// R16: a check holds no slot, but is denied while none is free; a holder that is gone frees its slot after its time to live.
#[test]
fn slots_are_free_when_leases_expire() {
    let (limiter, clock) = limiter();
    let leases: Vec<_> =
        (0..SLOTS).map(|_| limiter.reserve(&check(1), Ttl::DEFAULT).lease.unwrap()).collect();
    let denied = limiter.check(&check(1));
    assert_eq!(denied.headline().unwrap().limit.policy_id().as_str(), "slots");
    assert_eq!(denied.retry_after_ms(), Some(30_000));
    clock.advance(Duration::from_secs(30));
    assert!(limiter.check(&check(1)).allowed());
    assert_eq!(usage(&limiter), (3, 0), "R15: the rate holds stay");
    // A settlement that comes later still corrects what is in its window.
    for lease in leases {
        assert_eq!(lease.settle(tokens(0)).unwrap().ending, Ending::Settled);
    }
    assert_eq!(usage(&limiter), (1, 0));
}

#[test]
fn an_extension_reports_asks_and_keeps_alive() {
    let (limiter, clock) = limiter();
    let mut lease = limiter.reserve(&check(400), Ttl::DEFAULT).lease.unwrap();
    clock.advance(Duration::from_secs(20));
    lease.observe(Unit::Tokens, amount(450));
    let longer = Ttl::from_ms(60_000).unwrap();
    let state = lease.extend(Some(longer), tokens(700)).unwrap();
    assert!(state.proceed && state.is_live());
    assert_eq!((charged(&state), lease.ttl()), ((700, 1), longer));
    let state = lease.extend(None, tokens(1_001)).unwrap();
    assert!(!state.proceed && state.is_live(), "there is no room, but it goes on living");
    assert_eq!(charged(&state), (700, 1));
    clock.advance(Duration::from_secs(59));
    assert_eq!(usage(&limiter).1, 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(usage(&limiter).1, 0);
}

#[test]
fn a_lease_that_is_forgotten_changes_nothing() {
    let (limiter, clock) = limiter();
    let mut lease = limiter.reserve(&check(400), Ttl::DEFAULT).lease.unwrap();
    clock.advance(Duration::from_mins(30));
    assert_eq!(lease.extend(None, tokens(500)), None);
    assert_eq!(lease.settle(tokens(500)), None);
    assert_eq!(usage(&limiter), (0, 0));
}

/// R12: the second guard of a lease takes up its numbers where the first one is.
#[test]
fn a_request_id_names_one_lease_with_two_guards() {
    let (limiter, _) = limiter();
    let check = check(400).with_request_id("r");
    let mut first = limiter.reserve(&check, Ttl::DEFAULT).lease.unwrap();
    let second = limiter.reserve(&check, Ttl::DEFAULT).lease.unwrap();
    assert_eq!((first.id(), usage(&limiter)), (second.id(), (400, 1)));
    assert_eq!(second.status_at_reservation(), LeaseStatus::Live);
    for total in [410, 420, 430] {
        first.observe(Unit::Tokens, amount(total));
        first.extend(None, Totals::none()).unwrap();
    }
    let state = second.settle(tokens(500)).unwrap();
    assert_eq!((state.effect, charged(&state)), (Effect::Changed, (500, 0)));
    drop(first);
    assert_eq!(usage(&limiter), (500, 0), "a lower bound of what is settled changes nothing");
    let third = limiter.reserve(&check, Ttl::DEFAULT).lease.unwrap();
    assert_eq!(third.status_at_reservation(), LeaseStatus::Settled);
}

/// A store in memory that fails or hangs when it is told to, and remembers the updates that it was sent.
struct Unsteady {
    store: MemoryStore,
    next: Mutex<VecDeque<Fate>>,
    sent: Mutex<Vec<LeaseUpdate>>,
    done: tokio::sync::Notify,
}

/// What becomes of an update.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is not done, and the answer is an error.
    Fails,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and there is no answer.
    Hangs,
}

impl Unsteady {
    fn new(fates: impl IntoIterator<Item = Fate>) -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            next: Mutex::new(fates.into_iter().collect()),
            sent: Mutex::default(),
            done: tokio::sync::Notify::new(),
        })
    }

    fn sent(&self) -> Vec<LeaseUpdate> {
        self.sent.lock().unwrap().clone()
    }

    /// What is used of the tokens, and how many slots are taken.
    fn usage(&self) -> (u64, u64) {
        let policies = policies();
        let check = check(0);
        let verdicts = self.store.peek(&policies.plan(&check));
        (verdicts[0].usage, verdicts[1].usage)
    }

    fn unavailable() -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, "told to fail")
    }
}

impl Store for Unsteady {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        Store::charge(&self.store, charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        Store::peek(&self.store, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        Store::reset(&self.store, limit, subject).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        Store::reserve(&self.store, request).await
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.sent.lock().unwrap().push(update.clone());
        let fate = self.next.lock().unwrap().pop_front();
        match fate {
            Some(Fate::Fails) => return Err(Self::unavailable()),
            Some(Fate::Hangs) => return pending().await,
            Some(Fate::Lost) | None => {}
        }
        let state = self.store.update_lease(id, update);
        self.done.notify_one();
        if fate.is_some() { Err(Self::unavailable()) } else { Ok(state) }
    }
}

async fn reserve(store: &Arc<Unsteady>, cost: u64) -> StoreLease<Unsteady> {
    let Reservation { decision, lease } =
        leases::reserve(store, &policies(), &check(cost), Ttl::DEFAULT).await.unwrap();
    assert!(decision.allowed() && !decision.degraded());
    lease.unwrap()
}

#[tokio::test]
async fn a_lease_in_a_store_is_extended_settled_and_released() {
    let store = Unsteady::new([]);
    let mut lease = reserve(&store, 400).await;
    let mut other = reserve(&store, 100).await;
    let denied = leases::reserve(&store, &policies(), &check(1), Ttl::DEFAULT).await.unwrap();
    assert!(!denied.decision.allowed() && denied.lease.is_none());
    lease.observe(Unit::Tokens, amount(450));
    let state = lease.extend(None, tokens(600)).await.unwrap().unwrap();
    assert_eq!((state.proceed, charged(&state)), (true, (600, 1)));
    assert_eq!(lease.settle(tokens(500)).await.unwrap().unwrap().ending, Ending::Settled);
    assert_eq!(other.release().await.unwrap().unwrap().ending, Ending::Released);
    drop((lease, other));
    tokio::task::yield_now().await;
    assert_eq!((store.usage(), store.sent().len()), ((500, 0), 3), "dropping says no more");
}

#[tokio::test]
async fn a_lease_in_a_store_that_is_dropped_settles_as_a_lower_bound() {
    let store = Unsteady::new([]);
    let mut lease = reserve(&store, 400).await;
    lease.observe(Unit::Tokens, amount(900));
    drop(lease);
    store.done.notified().await;
    assert_eq!(store.usage(), (900, 0));
    assert!(matches!(store.sent()[..], [LeaseUpdate::Settle { quality: Quality::LowerBound, .. }]));
}

/// P17: a settlement without an answer is sent again with its number, and counts once.
#[tokio::test]
async fn an_abandoned_lease_settles_as_a_lower_bound_before_its_caller_goes_on() {
    let store = Unsteady::new([]);
    let mut lease = reserve(&store, 400).await;
    lease.observe(Unit::Tokens, amount(100));
    let state = lease.abandon().await.unwrap().unwrap();
    assert_eq!((charged(&state), store.usage()), ((400, 0), (400, 0)));
    drop(lease);
    assert_eq!(store.sent().len(), 1, "nothing is sent again");
}

#[tokio::test]
async fn a_settlement_that_failed_is_sent_again_by_hand_or_when_the_guard_is_dropped() {
    for fate in [Fate::Fails, Fate::Lost] {
        let store = Unsteady::new([fate]);
        let mut lease = reserve(&store, 400).await;
        lease.settle(tokens(100)).await.unwrap_err();
        let state = lease.settle(tokens(100)).await.unwrap().unwrap();
        assert_eq!((charged(&state), store.usage()), ((100, 0), (100, 0)), "{fate:?}");

        let store = Unsteady::new([fate]);
        let mut lease = reserve(&store, 400).await;
        lease.settle(tokens(100)).await.unwrap_err();
        if matches!(fate, Fate::Lost) {
            store.done.notified().await;
        }
        drop(lease);
        store.done.notified().await;
        assert_eq!(store.usage(), (100, 0), "{fate:?}");
        let sent = store.sent();
        assert_eq!(sent[0], sent[1], "the same number and the same totals");
    }
}

#[tokio::test]
async fn a_settlement_that_nobody_waits_for_is_sent_again() {
    let store = Unsteady::new([Fate::Hangs]);
    let mut lease = reserve(&store, 400).await;
    {
        let settling = pin!(lease.settle(tokens(100)));
        assert!(settling.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(lease);
    store.done.notified().await;
    assert_eq!(store.usage(), (100, 0));
}

/// A guard may be dropped by a thread outside of any runtime.
#[tokio::test]
async fn a_guard_settles_on_the_runtime_in_which_it_was_reserved() {
    let store = Unsteady::new([]);
    let lease = reserve(&store, 400).await;
    thread::spawn(move || drop(lease)).join().unwrap();
    store.done.notified().await;
    assert_eq!(store.usage(), (400, 0));
}

/// Without leases in the store there is an error, and nothing is charged.
#[tokio::test]
async fn a_store_without_leases_says_so() {
    struct Plain;

    impl Store for Plain {
        async fn charge(&self, _: &[Charge<'_>], _: Option<&str>) -> Result<Charged, StoreError> {
            panic!("nothing is charged")
        }

        async fn peek(&self, _: &[Charge<'_>]) -> Result<Charged, StoreError> {
            panic!("nothing is asked")
        }

        async fn reset(&self, _: &Limit, _: &Subject<'_>) -> Result<(), StoreError> {
            panic!("nothing is reset")
        }
    }

    let error = leases::reserve(&Arc::new(Plain), &policies(), &check(1), Ttl::DEFAULT).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unsupported);
}
