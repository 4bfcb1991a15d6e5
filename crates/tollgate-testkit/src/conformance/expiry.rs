//! Leases that expire under policies with `onExpire: refund` (R15). A store that cannot give back says so, and refuses to reserve.

use std::thread;
use std::time::Duration;

use tollgate_core::{
    Attribute, LeaseUpdate, Mode, OnExpire, Policy, PolicyId, PolicySet, Quality, Totals, Ttl, Unit,
};
use tollgate_store::{LeaseId, LeaseRequest, LeaseStatus, Store, StoreErrorKind};

use super::leases::{amount, extend, leasing, settle, slots};
use super::{MONTH, START, check_at, counted_by, policy};
use crate::{Limiter, MovableClock, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];
/// So long that nothing leaves it while a test runs, and that a bucket gets back less than 1.
const WINDOW: Duration = MONTH;
const TTL_MS: u64 = 5_000;

/// A store that gives back.
fn refunding<H: MovableClock>() -> Option<H> {
    let harness = leasing::<H>()?;
    at(&harness, 0);
    harness.store().capabilities().refunds_expired.then_some(harness)
}

/// So long after the beginning, which is not at the edge of a window or a period.
fn at<H: MovableClock>(harness: &H, ms: u64) {
    harness.set(START.after(Duration::from_mins(1)).after(Duration::from_millis(ms)));
}

fn refund(policy: Policy) -> Policy {
    Policy { on_expire: OnExpire::Refund, ..policy }
}

/// A limit of 10 for each user that gives back.
fn ten(way: Way) -> Policy {
    refund(counted_by(way, policy("ten", USER, 10, WINDOW)))
}

fn requests(total: u64) -> Totals {
    Totals::none().with(Unit::Requests, amount(total))
}

fn reserve<H: MovableClock>(limiter: &Limiter<'_, H>, cost: u64, ttl_ms: u64) -> LeaseId {
    let ttl = Ttl::from_ms(ttl_ms).unwrap();
    limiter.reserve(&check_at("alice", cost), ttl).1.unwrap().id
}

fn count<H: MovableClock>(limiter: &Limiter<'_, H>) -> u64 {
    limiter.peek_one(&check_at("alice", 0)).count
}

/// A store that keeps leases and cannot give back does not ignore that it should.
pub fn a_store_gives_back_or_refuses<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let policies = PolicySet::new(vec![ten(Way::Log)]).unwrap();
    let check = check_at("alice", 1);
    let plan = policies.plan(&check);
    let store = harness.store();
    let reserved = harness.run(store.reserve(&LeaseRequest::new(&plan, Ttl::DEFAULT)));
    if store.capabilities().refunds_expired {
        assert!(reserved.unwrap().lease.is_some());
    } else {
        assert_eq!(reserved.unwrap_err().kind(), StoreErrorKind::Unsupported);
    }
}

/// To the millisecond, in every way of counting, and only where the policy says so.
pub fn an_expired_lease_gives_back_what_it_holds<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let kept = counted_by(way, policy("keeps", MODEL, 20, WINDOW));
        let id = PolicyId::new("shadow").unwrap();
        let shadow = Policy { id, mode: Mode::Shadow, ..ten(way) };
        let limiter = Limiter::new(&harness, vec![ten(way), kept, shadow, slots("slots", USER, 2)]);
        reserve(&limiter, 6, TTL_MS);
        assert!(limiter.check(&check_at("alice", 1)).allowed());
        at(&harness, TTL_MS - 1);
        assert_eq!(limiter.counts(&check_at("alice", 0)), [7, 7, 7, 1], "{way:?}");
        assert!(!limiter.check(&check_at("alice", 4)).allowed(), "{way:?}");
        at(&harness, TTL_MS);
        assert!(
            limiter.check(&check_at("alice", 4)).allowed(),
            "{way:?}: it decides with the room"
        );
        assert_eq!(limiter.counts(&check_at("alice", 0)), [5, 11, 5, 0], "{way:?}");
        at(&harness, 3 * TTL_MS);
        assert_eq!(limiter.counts(&check_at("alice", 0)), [5, 11, 5, 0], "{way:?}: once");
    }
}

/// Whatever asks first: a check, a reservation, an update of another lease or of the lease itself.
pub fn whatever_asks_first_finds_the_room<H: MovableClock>() {
    for way in Way::ALL {
        for asks in 0..4 {
            let Some(harness) = refunding::<H>() else { return };
            let limiter = Limiter::new(&harness, vec![ten(way)]);
            let first = reserve(&limiter, 4, TTL_MS);
            let second = reserve(&limiter, 4, 60_000);
            at(&harness, TTL_MS + 1);
            let context = format!("{way:?}, {asks}");
            match asks {
                0 => assert!(limiter.check(&check_at("alice", 6)).allowed(), "{context}"),
                1 => {
                    reserve(&limiter, 6, TTL_MS);
                }
                2 => {
                    let state = limiter.update(&second, &extend(1, requests(0), requests(10)));
                    assert!(state.unwrap().proceed, "{context}");
                }
                _ => {
                    let state = limiter.update(&first, &extend(1, requests(0), requests(6)));
                    let state = state.unwrap();
                    assert!(state.proceed && state.is_live(), "{context}: it lives again");
                    assert_eq!(state.holds[0].charged_before, 0, "{context}");
                }
            }
            assert_eq!(count(&limiter), 10, "{context}");
        }
    }
}

/// What comes later is charged as a new admission, also above the limit, and nothing is given back twice.
pub fn a_late_settlement_is_charged_anew<H: MovableClock>() {
    let of = |quality, total| LeaseUpdate::Settle {
        seq: amount(1),
        usage: if total == 0 { Totals::none() } else { requests(total) },
        quality,
    };
    let updates = [
        (of(Quality::Exact, 3), 3),
        (of(Quality::Exact, 8), 8),
        (of(Quality::Exact, 13), 13),
        (of(Quality::LowerBound, 2), 2),
        (of(Quality::Exact, 0), 0),
        (LeaseUpdate::Release, 0),
    ];
    for way in Way::ALL {
        for (update, held) in &updates {
            let Some(harness) = refunding::<H>() else { return };
            let limiter = Limiter::new(&harness, vec![ten(way)]);
            let id = reserve(&limiter, 8, TTL_MS);
            assert!(limiter.check(&check_at("alice", 2)).allowed());
            at(&harness, 2 * TTL_MS);
            let context = format!("{way:?}, {update:?}");
            let state = limiter.update(&id, update).unwrap();
            let hold = &state.holds[0];
            assert_eq!(state.was, LeaseStatus::Expired, "{context}");
            assert_eq!((hold.charged_before, hold.charged), (0, *held), "{context}");
            assert_eq!((hold.usage, count(&limiter)), (held + 2, held + 2), "{context}");
            at(&harness, 4 * TTL_MS);
            limiter.update(&id, update).unwrap();
            assert_eq!(count(&limiter), held + 2, "{context}: again, and later");
        }
    }
}

/// A lease that has ended does not expire, and an extension moves the end.
pub fn what_has_ended_or_was_extended_does_not_expire<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let limiter = Limiter::new(&harness, vec![ten(way)]);
        let [settled, released, extended] = [3, 2, 4].map(|cost| reserve(&limiter, cost, TTL_MS));
        limiter.update(&settled, &settle(1, requests(1))).unwrap();
        limiter.update(&released, &LeaseUpdate::Release).unwrap();
        at(&harness, TTL_MS - 1);
        let state = limiter.update(&extended, &extend(1, requests(5), requests(7))).unwrap();
        assert_eq!((state.proceed, state.holds[0].charged), (true, 7), "{way:?}");
        at(&harness, 2 * TTL_MS - 2);
        assert_eq!(count(&limiter), 8, "{way:?}: it lives");
        at(&harness, 2 * TTL_MS - 1);
        assert_eq!(count(&limiter), 1, "{way:?}: all parts are given back");
        limiter.update(&settled, &settle(2, requests(4))).unwrap();
        assert_eq!(count(&limiter), 4, "{way:?}: a correction");
        at(&harness, 9 * TTL_MS);
        assert_eq!(count(&limiter), 4, "{way:?}");
    }
}

/// What an extension of an expired lease reports was used, so it stays, also if the lease finds no slot to live again. If it
/// does live again, it expires again.
pub fn what_an_expired_lease_reports_is_charged<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let limiter = Limiter::new(&harness, vec![ten(way), slots("slots", USER, 1)]);
        let id = reserve(&limiter, 6, TTL_MS);
        at(&harness, TTL_MS);
        let other = reserve(&limiter, 1, TTL_MS);
        let state = limiter.update(&id, &extend(1, requests(3), Totals::none())).unwrap();
        assert_eq!((state.is_live(), state.holds[0].charged), (false, 3), "{way:?}");
        at(&harness, 2 * TTL_MS - 1);
        let counts = || limiter.counts(&check_at("alice", 0));
        assert_eq!(counts(), [4, 1], "{way:?}");
        limiter.update(&other, &LeaseUpdate::Release).unwrap();
        assert_eq!(counts(), [3, 0], "{way:?}");
        let state = limiter.update(&id, &extend(2, requests(3), requests(4))).unwrap();
        assert_eq!((state.is_live(), state.holds[0].charged), (true, 4), "{way:?}");
        at(&harness, 3 * TTL_MS - 2);
        assert_eq!(counts(), [4, 1], "{way:?}");
        at(&harness, 3 * TTL_MS - 1);
        assert_eq!(counts(), [0, 0], "{way:?}: it expired again");
    }
}

/// One call gives back everything that is due, each hold once.
pub fn many_leases_expire_at_once<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let many = refund(counted_by(way, policy("many", USER, 1_000, WINDOW)));
        let limiter = Limiter::new(&harness, vec![many]);
        for nth in 0..300 {
            // A log gets a ring or a hash, and entries in the middle of it expire.
            if nth % 3 == 0 {
                assert!(limiter.check(&check_at("alice", 1)).allowed());
            }
            reserve(&limiter, 1 + nth % 2, if nth % 5 == 4 { 60_000 } else { 1_000 + nth });
        }
        assert_eq!(count(&limiter), 100 + 450, "{way:?}");
        at(&harness, TTL_MS);
        assert_eq!(count(&limiter), 100 + 90, "{way:?}");
        at(&harness, 60_000);
        assert_eq!(count(&limiter), 100, "{way:?}");
    }
}

/// The policy of the time of the reservation counts, and however it changes, nothing is lost or given back twice.
pub fn a_changed_policy_loses_and_doubles_nothing<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let [refunds, keeps] = [OnExpire::Refund, OnExpire::Keep]
            .map(|on_expire| Limiter::new(&harness, vec![Policy { on_expire, ..ten(way) }]));
        let kept = reserve(&keeps, 3, TTL_MS);
        reserve(&refunds, 4, TTL_MS);
        at(&harness, TTL_MS);
        assert_eq!(count(&refunds), 3, "{way:?}: what was reserved before the change stays");
        assert_eq!(count(&keeps), 3, "{way:?}");
        keeps.update(&kept, &settle(1, requests(1))).unwrap();
        let back = reserve(&refunds, 5, TTL_MS);
        at(&harness, 3 * TTL_MS);
        // Whether a check that keeps gives it back is for the store to say.
        assert!([1, 6].contains(&count(&keeps)), "{way:?}");
        let state = keeps.update(&back, &settle(1, requests(2))).unwrap();
        assert_eq!((state.holds[0].charged, count(&keeps)), (2, 3), "{way:?}");
        at(&harness, 9 * TTL_MS);
        assert_eq!((count(&refunds), count(&keeps)), (3, 3), "{way:?}");
    }
}

/// What was reset is not given back once more.
pub fn a_reset_leaves_nothing_to_give_back<H: MovableClock>() {
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let limiter = Limiter::new(&harness, vec![ten(way)]);
        reserve(&limiter, 4, TTL_MS);
        limiter.reset(&check_at("alice", 0));
        assert!(limiter.check(&check_at("alice", 4)).allowed());
        at(&harness, TTL_MS);
        assert_eq!(count(&limiter), 4, "{way:?}");
    }
}

/// However many calls come when leases expire, each hold is given back once, and what was settled stays.
pub fn threads_give_back_each_hold_once<H: MovableClock>() {
    const THREADS: u64 = 4;
    for way in Way::ALL {
        let Some(harness) = refunding::<H>() else { return };
        let of = |id, per| refund(counted_by(way, policy(id, per, 10_000, WINDOW)));
        let limiter = Limiter::new(&harness, vec![of("user", USER), of("model", MODEL)]);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for nth in 0..50 {
                        let id = reserve(&limiter, 2, TTL_MS);
                        if nth % 5 == 0 {
                            limiter.update(&id, &settle(1, requests(1))).unwrap();
                        }
                    }
                });
            }
        });
        at(&harness, TTL_MS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let counts = limiter.counts(&check_at("alice", 0));
                        assert_eq!(counts, [10 * THREADS; 2], "{way:?}");
                    }
                });
            }
        });
    }
}
