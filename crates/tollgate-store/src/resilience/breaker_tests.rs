use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use proptest::prelude::*;
use tollgate_core::{ManualClock, Ttl};
use tollgate_testkit::harness::block_on;

use super::super::scripted::{Behaviour, Hanging, Parts, Scripted, one_charge, some_lease};
use super::*;
use crate::{LeaseRequest, MemoryStore};

type Guarded = Breaker<Scripted, ManualClock>;

fn guarded() -> (Scripted, ManualClock, Guarded) {
    let (store, clock) = (Scripted::new(MemoryStore::new()), ManualClock::default());
    let breaker =
        Breaker::new(store.clone(), clock.clone(), BreakerOptions::default(), Arc::new(()));
    (store, clock, breaker)
}

/// Whether a call is answered.
fn ask(breaker: &Guarded) -> bool {
    block_on(one_charge(async |charges| breaker.charge(charges, None).await)).is_ok()
}

fn opened() -> (Scripted, ManualClock, Guarded) {
    let (store, clock, breaker) = guarded();
    store.set(Behaviour::Unavailable);
    for _ in 0..5 {
        assert!(!ask(&breaker));
    }
    assert_eq!((store.calls(), breaker.state()), (5, BreakerState::Open));
    (store, clock, breaker)
}

/// P3: while it is open, nothing waits for the store.
#[test]
fn it_opens_after_failures_in_a_row_and_then_asks_no_more() {
    let (store, _clock, breaker) = opened();
    for _ in 0..1_000 {
        assert!(!ask(&breaker));
    }
    assert_eq!(store.calls(), 5);
}

#[test]
fn a_success_between_failures_keeps_it_closed_below_the_share() {
    let (store, clock, breaker) = guarded();
    for call in 0..1_000_u64 {
        store.set(if call % 3 == 0 { Behaviour::Unavailable } else { Behaviour::Works });
        ask(&breaker);
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!((store.calls(), breaker.state()), (1_000, BreakerState::Closed));
}

#[test]
fn it_opens_when_half_of_the_calls_of_a_second_fail() {
    let (store, clock, breaker) = guarded();
    for call in 0..40_u64 {
        store.set(if call % 2 == 1 { Behaviour::Unavailable } else { Behaviour::Works });
        ask(&breaker);
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(store.calls(), 20, "as soon as there are enough calls to tell");
}

#[test]
fn what_failed_seconds_ago_counts_no_more() {
    let (store, clock, breaker) = guarded();
    for call in 0..100_u64 {
        store.set(if call % 2 == 1 { Behaviour::Unavailable } else { Behaviour::Works });
        ask(&breaker);
        clock.advance(Duration::from_millis(200));
    }
    assert_eq!(breaker.state(), BreakerState::Closed, "never 20 calls a second");
}

/// A key of another type under our prefix must not degrade all other keys.
#[test]
fn a_store_that_answers_what_it_must_not_is_not_left_alone() {
    let (store, _clock, breaker) = guarded();
    store.set(Behaviour::HasForeignKey);
    for _ in 0..100 {
        assert!(!ask(&breaker));
    }
    assert_eq!((store.calls(), breaker.state()), (100, BreakerState::Closed));
}

/// One probe at a time; its success closes the breaker.
#[test]
fn half_open_lets_one_call_through() {
    let (store, clock, breaker) = opened();
    clock.advance(Duration::from_secs(1));
    store.set(Behaviour::Hangs);
    block_on(async {
        let mut probe = pin!(one_charge(async |charges| breaker.charge(charges, None).await));
        poll_fn(|context| {
            assert!(probe.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!((store.calls(), breaker.state()), (6, BreakerState::HalfOpen));
        for _ in 0..100 {
            assert!(!ask(&breaker));
        }
        assert_eq!(store.calls(), 6, "no second probe");
    });
    // The probe was dropped.
    assert_eq!(breaker.state(), BreakerState::Open, "an abandoned probe does not block it");
    store.set(Behaviour::Works);
    clock.advance(Duration::from_millis(100));
    assert!(ask(&breaker));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// A slow failure of an earlier call must not open a breaker that has just closed.
#[test]
fn an_answer_to_an_earlier_phase_is_not_counted() {
    let (_store, clock, breaker) = guarded();
    let begin = || breaker.begin(&[FaultDomain::WHOLE]).unwrap();
    let fail = |report: CallReport| {
        let error = StoreError::new(StoreErrorKind::Unavailable, "slow");
        report.ended::<()>(&Err(error));
    };
    let mut slow = (0..10).map(|_| begin()).collect::<Vec<_>>().into_iter();
    slow.by_ref().take(5).for_each(fail);
    assert_eq!(breaker.state(), BreakerState::Open);
    clock.advance(Duration::from_secs(1));
    let probe = begin();
    slow.by_ref().take(1).for_each(fail);
    slow.by_ref().take(1).for_each(|report| report.ended(&Ok(())));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    probe.ended(&Ok(()));
    slow.for_each(fail);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// Records each change of the breaker, and whether it had a cause.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<(BreakerState, BreakerState, bool)>>);

impl StoreObserver for Noting {
    fn breaker_changed(
        &self,
        _: FaultDomain,
        from: BreakerState,
        to: BreakerState,
        cause: Option<&StoreError>,
    ) {
        self.0.lock().unwrap().push((from, to, cause.is_some()));
    }
}

/// An outage is reported once, however many checks and probes fail during it.
#[test]
fn an_outage_is_told_once() {
    use BreakerState::{Closed, HalfOpen, Open};
    let (store, clock) = (Scripted::new(MemoryStore::new()), ManualClock::default());
    let noting = Arc::new(Noting::default());
    let observer: Arc<dyn StoreObserver> = Arc::<Noting>::clone(&noting);
    let options = BreakerOptions::default();
    let breaker = Breaker::new(store.clone(), clock.clone(), options, observer);
    store.set(Behaviour::Unavailable);
    for _ in 0..10_000 {
        ask(&breaker);
        clock.advance(Duration::from_millis(1));
    }
    store.set(Behaviour::Works);
    clock.advance(Duration::from_secs(1));
    assert!(ask(&breaker));
    let changes = noting.0.lock().unwrap();
    let times = |change| changes.iter().filter(|known| **known == change).count();
    assert_eq!((times((Closed, Open, true)), times((HalfOpen, Closed, false))), (1, 1));
    assert_eq!(changes.len(), 2 * times((Open, HalfOpen, false)) + 1, "the rest are probes");
}

/// Sends `breaker` one check of `users`, as a caller that gives up at once if there is no answer.
fn hang_up(
    breaker: &Breaker<Parts, ManualClock>,
    users: &[&str],
) -> Option<Result<(), StoreErrorKind>> {
    let limit = Arc::new(Limit::of(&tollgate_core::Policy::default_policy()).unwrap());
    let subjects: Vec<_> = users.iter().map(|user| Subject::new(user, "m")).collect();
    let cost = tollgate_core::Amount::ONE;
    let charges: Vec<_> =
        subjects.iter().map(|subject| Charge { limit: &limit, subject, cost }).collect();
    block_on(async {
        let mut call = pin!(breaker.charge(&charges, None));
        poll_fn(|context| {
            Poll::Ready(match call.as_mut().poll(context) {
                Poll::Ready(answer) => Some(answer.map(drop).map_err(|error| error.kind())),
                Poll::Pending => None,
            })
        })
        .await
    })
}

fn parts() -> (Parts, ManualClock, Breaker<Parts, ManualClock>) {
    let (store, clock) = (Parts::default(), ManualClock::default());
    let options = BreakerOptions::default();
    let breaker = Breaker::new(store.clone(), clock.clone(), options, Arc::new(()));
    (store, clock, breaker)
}

/// P19 and P3: one part of the store hangs, and every caller gives up before its call fails. The breaker opens for that
/// part as soon as the calls have failed, and calls to the other part continue.
#[test]
fn a_part_that_hangs_is_left_alone_although_all_callers_hang_up_and_the_others_go_on() {
    let (store, clock, breaker) = parts();
    store.set_failing(&[Parts::LEFT]);
    for _ in 0..5 {
        assert_eq!(hang_up(&breaker, &["left"]), None);
    }
    assert_eq!(breaker.state(), BreakerState::Closed, "no call has failed yet");
    store.end_calls();
    assert_eq!(breaker.state(), BreakerState::Open);
    let asked = store.calls();
    for _ in 0..100 {
        assert_eq!(hang_up(&breaker, &["left"]), Some(Err(StoreErrorKind::NotAsked)));
        assert_eq!(hang_up(&breaker, &["both", "right"]), Some(Err(StoreErrorKind::NotAsked)));
    }
    assert_eq!(store.calls(), asked);
    for _ in 0..100 {
        assert_eq!(hang_up(&breaker, &["right"]), Some(Ok(())));
    }
    // The probe of a check over both parts fails in the left one; the right one is not blamed.
    clock.advance(Duration::from_secs(1));
    assert_eq!(hang_up(&breaker, &["right", "left"]), None);
    store.end_calls();
    assert_eq!(hang_up(&breaker, &["right"]), Some(Ok(())));
    assert_eq!(hang_up(&breaker, &["left"]), Some(Err(StoreErrorKind::NotAsked)));
}

/// A store that works again is noticed although no check arrives, and a part that is gone for good is forgotten.
#[test]
fn a_breaker_that_is_tended_closes_by_itself() {
    for is_gone in [false, true] {
        let (store, clock, breaker) = parts();
        store.set_failing(&[Parts::LEFT]);
        for _ in 0..5 {
            assert_eq!(hang_up(&breaker, &["left"]), None);
        }
        store.end_calls();
        clock.advance(Duration::from_secs(1));
        block_on(breaker.tend());
        assert_eq!(breaker.state(), BreakerState::Open, "it still fails");
        if is_gone {
            store.set_gone(Parts::LEFT);
        } else {
            store.set_failing(&[]);
            clock.advance(Duration::from_secs(1));
        }
        block_on(breaker.tend());
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

/// P20: one failed check is enough to find out, by probes, whether the store fails although few checks are sent.
#[test]
fn a_domain_in_doubt_is_probed_until_it_answers_or_opens() {
    for works_again in [false, true] {
        let (store, _clock, breaker) = parts();
        store.set_failing(&[Parts::LEFT]);
        let report = breaker.begin(&[Parts::LEFT]).unwrap();
        report.ended::<()>(&Err(StoreError::new(StoreErrorKind::Unavailable, "as it was told")));
        assert_eq!(breaker.state(), BreakerState::Closed);
        if works_again {
            store.set_failing(&[]);
        }
        for _ in 0..4 {
            block_on(breaker.tend());
        }
        let expected = if works_again { BreakerState::Closed } else { BreakerState::Open };
        assert_eq!(breaker.state(), expected);
    }
}

/// Notes the kinds of failed calls.
#[derive(Debug, Default)]
struct Failures(Mutex<Vec<StoreErrorKind>>);

impl StoreObserver for Failures {
    fn call_failed(&self, error: &StoreError) {
        self.0.lock().unwrap().push(error.kind());
    }
}

/// A call is noted when it fails, although its caller has gone, and when it is not sent. Nobody called a probe.
#[test]
fn failed_calls_are_noted_whether_or_not_somebody_waits() {
    let (store, clock) = (Parts::default(), ManualClock::default());
    let failures = Arc::new(Failures::default());
    let observer = Arc::clone(&failures) as Arc<dyn StoreObserver>;
    let options = BreakerOptions { consecutive_failures: 2, ..BreakerOptions::default() };
    let breaker = Breaker::new(store.clone(), clock.clone(), options, observer);
    store.set_failing(&[Parts::LEFT]);
    for _ in 0..2 {
        assert_eq!(hang_up(&breaker, &["left"]), None);
    }
    assert_eq!(*failures.0.lock().unwrap(), [], "nobody knows yet");
    store.end_calls();
    clock.advance(Duration::from_secs(1));
    block_on(breaker.tend());
    assert_eq!(breaker.state(), BreakerState::Open, "the probe failed");
    assert!(hang_up(&breaker, &["left"]).is_some());
    let (failed, not_sent) = (StoreErrorKind::Unavailable, StoreErrorKind::NotAsked);
    assert_eq!(*failures.0.lock().unwrap(), [failed, failed, not_sent]);
}

/// A right that only some calls need: an ordinary call that succeeds does not show that the others would.
#[test]
fn only_a_probe_ends_a_failure_that_spares_some_calls() {
    for kind in [StoreErrorKind::Forbidden, StoreErrorKind::Unsupported] {
        let (store, clock, breaker) = parts();
        let report = breaker.begin(&[Parts::LEFT]).unwrap();
        report.ended::<()>(&Err(StoreError::new(kind, "as it was told")));
        for fails in [true, false] {
            clock.advance(Duration::from_secs(1));
            assert_eq!(breaker.begin(&[Parts::LEFT]).unwrap_err().kind(), StoreErrorKind::NotAsked);
            breaker.begin(&[Parts::RIGHT]).unwrap().ended(&Ok(()));
            store.set_failing(if fails { &[Parts::LEFT] } else { &[] });
            block_on(breaker.tend());
            let expected = if fails { BreakerState::Open } else { BreakerState::Closed };
            assert_eq!(breaker.state(), expected, "{}", kind.name());
        }
        assert!(breaker.begin(&[Parts::LEFT]).is_ok());
    }
}

/// A reset without a right that checks do not need: they are still decided by the store.
#[test]
fn what_only_a_reset_lacks_opens_nothing() {
    for (kind, expected) in [
        (StoreErrorKind::Forbidden, BreakerState::Closed),
        (StoreErrorKind::Unsupported, BreakerState::Closed),
        (StoreErrorKind::OutOfMemory, BreakerState::Open),
    ] {
        let (_store, _clock, breaker) = guarded();
        for _ in 0..10 {
            let Ok(report) = breaker.begin_aside(&[FaultDomain::WHOLE]) else { break };
            report.ended::<()>(&Err(StoreError::new(kind, "as it was told")));
        }
        assert_eq!(breaker.state(), expected, "{}", kind.name());
    }
}

/// Every kind that concerns the store opens the breaker, at once if the server itself refuses everything, and no other
/// kind does.
#[test]
fn every_error_of_the_whole_store_opens_it() {
    for kind in StoreErrorKind::ALL {
        let (_store, _clock, breaker) = guarded();
        let opens_after = (1..=10).find(|_| {
            let report = breaker.begin(&[FaultDomain::WHOLE]).unwrap();
            report.ended::<()>(&Err(StoreError::new(kind, "as it was told")));
            breaker.state() == BreakerState::Open
        });
        let expected = match kind {
            StoreErrorKind::ForeignKey
            | StoreErrorKind::Unreadable
            // The store was not asked.
            | StoreErrorKind::NotAsked => None,
            StoreErrorKind::Unavailable
            // It may concern some slots only.
            | StoreErrorKind::ClusterDown
            | StoreErrorKind::PrimaryLost
            | StoreErrorKind::Unexpected => Some(5),
            _ => Some(1),
        };
        assert_eq!(opens_after, expected, "{}", kind.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// P14: at most 10 probes a second while the store is down, and it decides again within 2 seconds after it works
    /// again, whenever that is.
    #[test]
    fn a_store_that_is_back_is_found_within_2_seconds(away_ms in 0..30_000_u64) {
        let (store, clock, breaker) = opened();
        for _ in 0..away_ms / 5 {
            clock.advance(Duration::from_millis(5));
            prop_assert!(!ask(&breaker));
        }
        let probes = store.calls() - 5;
        prop_assert!(probes <= away_ms / 100, "{} probes in {} ms", probes, away_ms);
        store.set(Behaviour::Works);
        let tries = (0..400).take_while(|_| {
            clock.advance(Duration::from_millis(5));
            !ask(&breaker)
        });
        let found_ms = 5 * (tries.count() + 1);
        prop_assert!(found_ms <= 1_005, "{} ms", found_ms);
        prop_assert_eq!(breaker.state(), BreakerState::Closed);
    }

    /// Full jitter: nodes that lost the store at the same moment do not come back at the same moment.
    #[test]
    fn two_breakers_do_not_probe_in_step(failures in 4..20_u32) {
        let delays: Vec<_> = (0..20).map(|_| {
            let breaker = guarded().2;
            let mut machine = Machine::new(Timestamp::from_ms(0));
            machine.failed_probes = failures;
            machine.backoff(&breaker.shared.options)
        }).collect();
        let distinct: std::collections::HashSet<_> = delays.iter().collect();
        prop_assert!(distinct.len() > 5);
        let bounds = Duration::from_millis(100)..=Duration::from_secs(1);
        prop_assert!(delays.iter().all(|delay| bounds.contains(delay)));
    }
}

/// Updates of leases in a part of the store that fails open its breaker, and no other; then they fail at once.
#[test]
fn updates_count_for_the_parts_of_their_leases() {
    let store = Parts::default();
    let breaker = Breaker::new(
        store.clone(),
        ManualClock::default(),
        BreakerOptions::default(),
        Arc::new(()),
    );
    store.set_failing(&[Parts::RIGHT]);
    let settle = |id: &str| {
        let id = LeaseId::parse(id).unwrap();
        block_on(breaker.update_lease(&id, &LeaseUpdate::Release)).map_err(|e| e.kind())
    };
    for _ in 0..5 {
        assert_eq!(settle("rita"), Err(StoreErrorKind::Unavailable));
    }
    assert_eq!(settle("rita"), Err(StoreErrorKind::NotAsked));
    assert_eq!((settle("lisa").is_ok(), store.calls()), (true, 6));
}

/// R11: the answer to the id of another store needs no call, so it neither waits for a probe nor is one.
#[test]
fn an_id_of_another_store_says_nothing_about_this_one() {
    let (store, clock) = (Parts::default(), ManualClock::default());
    let options = BreakerOptions::default();
    let breaker = Breaker::new(store.clone(), clock.clone(), options, Arc::new(()));
    let release = |id: &str| {
        let id = LeaseId::parse(id).unwrap();
        block_on(breaker.update_lease(&id, &LeaseUpdate::Release)).map_err(|e| e.kind())
    };
    store.set_failing(&[Parts::LEFT, Parts::RIGHT]);
    while release("lisa") != Err(StoreErrorKind::NotAsked) {}
    let state = breaker.state();
    for _ in 0..10 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(release("xenia"), Ok(None));
        assert_eq!(breaker.state(), state);
    }
}

/// That a store keeps no leases is a mistake of the caller and no failure.
#[test]
fn a_store_without_leases_does_not_open_it() {
    let (clock, options) = (ManualClock::default(), BreakerOptions::default());
    let breaker = Breaker::new(Hanging, clock, options, Arc::new(()));
    for _ in 0..10 {
        let error = block_on(breaker.update_lease(&some_lease(), &LeaseUpdate::Release));
        assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unsupported);
        let error = block_on(breaker.reserve(&LeaseRequest::new(&[], Ttl::DEFAULT))).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}
