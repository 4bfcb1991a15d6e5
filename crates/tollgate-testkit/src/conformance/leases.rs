//! Leases while no time passes (R13, R14, R16). A store without leases says so, and passes the other tests of this group without
//! being asked.

use std::thread;

use tollgate_core::lease::ledger::Ending;
use tollgate_core::{
    Amount, Attribute, Check, Cost, Counting, LeaseUpdate, Limit, Mode, Policy, Quality, Totals,
    Ttl, Unit,
};
use tollgate_store::{
    Capabilities, Effect, HoldState, LeaseId, LeaseRequest, LeaseState, LeaseStatus, Store,
    StoreErrorKind,
};

use super::{MONTH, check_at, counted_by, policy};
use crate::{Harness, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];

/// A store, if it keeps leases.
pub(super) fn leasing<H: Harness>() -> Option<H> {
    let harness = H::new();
    harness.store().capabilities().leases.then_some(harness)
}

pub(super) fn amount(amount: u64) -> Amount {
    Amount::new(amount).unwrap()
}

/// Totals in requests.
fn requests(total: u64) -> Totals {
    Totals::none().with(Unit::Requests, amount(total))
}

pub(super) fn settle(seq: u64, usage: Totals) -> LeaseUpdate {
    LeaseUpdate::Settle { seq: amount(seq), usage, quality: Quality::Exact }
}

pub(super) fn extend(seq: u64, observed: Totals, wanted: Totals) -> LeaseUpdate {
    LeaseUpdate::Extend { seq: amount(seq), ttl: None, observed, wanted }
}

/// A limit of leases that are alive at a time.
pub(super) fn slots(id: &str, per: &[Attribute], limit: u64) -> Policy {
    Policy {
        unit: Unit::Concurrency,
        counting: Counting::Concurrency,
        ..policy(id, per, limit, MONTH)
    }
}

/// A limit of 10 per user and one of 20 per model.
fn two_limits<H: Harness>(harness: &H, way: Way) -> Limiter<'_, H> {
    let policies = [policy("user", USER, 10, MONTH), policy("model", MODEL, 20, MONTH)];
    Limiter::new(harness, policies.map(|policy| counted_by(way, policy)).to_vec())
}

fn charged(state: &LeaseState) -> Vec<u64> {
    state.holds.iter().map(|hold| hold.charged).collect()
}

fn lease<H: Harness>(limiter: &Limiter<'_, H>, check: &Check<'_>) -> LeaseId {
    limiter.reserve(check, Ttl::MAX).1.unwrap().id
}

/// A store without leases says that it has none.
pub fn a_store_says_whether_it_keeps_leases<H: Harness>() {
    let harness = H::new();
    let (store, limiter) = (harness.store(), two_limits(&harness, Way::Log));
    let reserved = harness.run(store.reserve(&LeaseRequest::new(&[], Ttl::DEFAULT)));
    if store.capabilities().leases {
        assert!(reserved.unwrap().lease.is_some(), "a lease that holds nothing");
    } else {
        assert_eq!(store.capabilities(), Capabilities::NONE);
        assert_eq!(reserved.unwrap_err().kind(), StoreErrorKind::Unsupported);
    }
    assert!(limiter.check(&check_at("alice", 1)).allowed(), "the store still decides");
}

/// R13: the same decision, and the same usage after it.
pub fn a_reservation_is_decided_like_a_check<H: Harness>() {
    for way in Way::ALL {
        let (Some(harness), Some(other)) = (leasing::<H>(), leasing::<H>()) else { return };
        let (leases, checks) = (two_limits(&harness, way), two_limits(&other, way));
        for (user, cost) in
            [("alice", 4), ("alice", 7), ("alice", 6), ("bob", 0), ("bob", 11), ("bob", 9)]
        {
            let check = check_at(user, cost);
            let (reserved, lease) = leases.reserve(&check, Ttl::DEFAULT);
            let decided = checks.check(&check);
            assert_eq!(reserved.allowed(), decided.allowed(), "{way:?} {user} {cost}");
            assert_eq!(lease.is_some(), decided.allowed());
            for (a, b) in reserved.limits().iter().zip(decided.limits()) {
                assert_eq!((a.allowed, a.count, a.remaining), (b.allowed, b.count, b.remaining));
            }
        }
    }
}

/// P2: a denied reservation changes nothing, and takes no slot.
pub fn a_denied_reservation_holds_nothing<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let full = counted_by(way, policy("user", USER, 5, MONTH));
        let limiter = Limiter::new(&harness, vec![slots("slots", &[], 3), full]);
        for _ in 0..10 {
            let (decision, lease) = limiter.reserve(&check_at("alice", 6), Ttl::DEFAULT);
            assert!(!decision.allowed() && lease.is_none());
        }
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 0], "{way:?}");
        let shadow = Policy { mode: Mode::Shadow, ..slots("shadow", &[], 0) };
        let limiter = Limiter::new(&harness, vec![shadow, slots("slots", &[], 3)]);
        let id = lease(&limiter, &check_at("alice", 1));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 1], "a shadow slot denies nothing");
        let released = limiter.update(&id, &LeaseUpdate::Release).unwrap();
        assert_eq!(charged(&released), [0, 0]);
    }
}

/// R14, P17: totals are absolute; what is repeated or overtaken changes nothing.
pub fn a_settlement_counts_once_and_the_last_one_holds<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let alice = check_at("alice", 6);
        let id = lease(&limiter, &alice);
        limiter.check(&check_at("bob", 1));
        let steps = [
            (2, 4, 4),
            (2, 9, 4),
            (1, 9, 4),
            (3, 6, 6),
            (4, 5, 5),
            (4, 5, 5),
            (7, 0, 0),
            (5, 3, 0),
        ];
        let (mut was, mut before) = (LeaseStatus::Live, 6);
        for (seq, used, expected) in steps {
            let state = limiter.update(&id, &settle(seq, requests(used))).unwrap();
            assert_eq!(charged(&state), [expected, expected], "{way:?}: {seq} {used}");
            assert_eq!((state.was, state.holds[1].charged_before), (was, before), "{way:?}: {seq}");
            (was, before) = (LeaseStatus::Settled, expected);
            assert_eq!(limiter.counts(&alice), [expected, expected + 1], "{way:?}: {seq} {used}");
            assert_eq!(state.ending, Ending::Settled);
            assert_eq!(state.holds[1].usage, expected + 1);
        }
        let state = limiter.update(&id, &settle(7, requests(9))).unwrap();
        assert_eq!((state.effect, state.seq), (Effect::Repeated, amount(7)));
        let late = limiter.update(&id, &extend(8, requests(9), requests(9))).unwrap();
        assert_eq!((late.effect, charged(&late)), (Effect::Refused, vec![0, 0]));
        let released = limiter.update(&id, &LeaseUpdate::Release).unwrap();
        assert_eq!(released.effect, Effect::Refused, "it is settled");
    }
}

/// R14: what was used is charged, also above the limit.
pub fn a_settlement_above_the_reservation_is_a_debt<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let id = lease(&limiter, &check_at("alice", 4));
        let state = limiter.update(&id, &settle(1, requests(25))).unwrap();
        assert_eq!(charged(&state), [25, 25], "{way:?}");
        let debts: Vec<u64> = state.holds.iter().map(HoldState::debt).collect();
        assert_eq!(debts, [15, 5], "{way:?}");
        assert!(!limiter.check(&check_at("alice", 1)).allowed());
        assert_eq!(limiter.peek(&check_at("alice", 1)).limits()[0].debt(), 15);
        let state = limiter.update(&id, &settle(2, requests(9))).unwrap();
        assert_eq!((charged(&state), state.holds[0].debt()), (vec![9, 9], 0), "{way:?}");
        assert!(limiter.check(&check_at("alice", 1)).allowed());
    }
}

/// R14: an answer that broke off is never free.
pub fn a_lower_bound_gives_nothing_back<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let id = lease(&limiter, &check_at("alice", 4));
        let bound = |seq, total| LeaseUpdate::Settle {
            seq: amount(seq),
            usage: requests(total),
            quality: Quality::LowerBound,
        };
        for (seq, total, expected) in [(1, 2, 4), (2, 7, 7), (3, 1, 7)] {
            let state = limiter.update(&id, &bound(seq, total)).unwrap();
            assert_eq!(charged(&state), [expected, expected], "{way:?}");
        }
        let state = limiter.update(&id, &settle(4, requests(1))).unwrap();
        assert_eq!(charged(&state), [1, 1], "{way:?}: now it is known");
    }
}

/// As if the check had not been made; then there is nothing more to do.
pub fn a_release_gives_everything_back<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limits = [policy("user", USER, 10, MONTH), policy("model", MODEL, 20, MONTH)];
        let mut policies = limits.map(|policy| counted_by(way, policy)).to_vec();
        policies.push(slots("slots", USER, 1));
        let limiter = Limiter::new(&harness, policies);
        let id = lease(&limiter, &check_at("alice", 10));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [10, 10, 1]);
        assert!(!limiter.check(&check_at("alice", 1)).allowed());
        let released = limiter.update(&id, &LeaseUpdate::Release).unwrap();
        assert_eq!((released.ending, charged(&released)), (Ending::Released, vec![0, 0, 0]));
        assert!(!released.is_live());
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 0, 0], "{way:?}");
        let again = limiter.update(&id, &LeaseUpdate::Release).unwrap();
        assert_eq!(again.effect, Effect::Repeated);
        for update in [settle(1, requests(9)), extend(1, requests(9), requests(9))] {
            let refused = limiter.update(&id, &update).unwrap();
            assert_eq!((refused.effect, charged(&refused)), (Effect::Refused, vec![0, 0, 0]));
        }
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 0, 0], "{way:?}");
        assert!(limiter.reserve(&check_at("alice", 10), Ttl::DEFAULT).1.is_some());
    }
}

/// What is wanted is admitted like a check, in all limits or in none; what was observed is charged in any case.
pub fn an_extension_asks_for_more_or_gets_nothing<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let id = lease(&limiter, &check_at("alice", 4));
        limiter.check(&check_at("bob", 9));
        let steps = [
            // Sequence number, observed, wanted; whether it may go on, and what it holds then.
            (1, 0, 7, true, 7),
            (1, 9, 9, true, 7),
            (2, 3, 2, true, 7),
            (3, 0, 11, false, 7),
            (4, 8, 11, false, 8),
            (4, 9, 9, false, 8),
            (5, 8, 10, true, 10),
            (6, 13, 0, true, 13),
            (7, 13, 14, false, 13),
        ];
        for (seq, observed, wanted, proceed, held) in steps {
            let update = extend(seq, requests(observed), requests(wanted));
            let state = limiter.update(&id, &update).unwrap();
            assert_eq!(state.proceed, proceed, "{way:?}: {update:?}");
            assert_eq!(charged(&state), [held, held], "{way:?}: {update:?}");
            assert!(state.is_live() && state.seq == amount(seq));
        }
        let state = limiter.update(&id, &settle(8, requests(2))).unwrap();
        assert_eq!(charged(&state), [2, 2], "{way:?}: all parts are given back");
        assert_eq!(limiter.counts(&check_at("alice", 1)), [2, 11], "{way:?}");
    }
}

/// R16
pub fn slots_are_held_by_leases_and_not_by_checks<H: Harness>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter = Limiter::new(&harness, vec![slots("two", USER, 2)]);
    let alice = check_at("alice", 1);
    for _ in 0..3 {
        assert!(limiter.check(&alice).allowed());
        assert_eq!(limiter.counts(&alice), [0], "a check holds none");
    }
    let leases = [lease(&limiter, &alice), lease(&limiter, &alice)];
    assert_eq!(limiter.counts(&alice), [2]);
    let denied = limiter.check_one(&alice);
    assert!(!denied.allowed && denied.retry_after_ms.is_some_and(|ms| ms > 0), "{denied:?}");
    assert!(limiter.reserve(&alice, Ttl::DEFAULT).1.is_none());
    assert!(limiter.reserve(&check_at("bob", 1), Ttl::DEFAULT).1.is_some());
    let state = limiter.update(&leases[0], &extend(1, Totals::none(), Totals::none())).unwrap();
    assert_eq!((state.proceed, charged(&state)), (true, vec![1]));
    let state = limiter.update(&leases[0], &settle(2, Totals::none())).unwrap();
    assert_eq!((charged(&state), state.holds[0].usage), (vec![0], 1));
    assert!(limiter.check(&alice).allowed());
    let third = lease(&limiter, &alice);
    assert!(!limiter.check(&alice).allowed());
    for id in [&leases[1], &third] {
        limiter.update(id, &LeaseUpdate::Release).unwrap();
    }
    assert_eq!(limiter.counts(&alice), [0]);
}

/// A unit that was not reserved is charged as a new admission.
pub fn a_unit_that_was_not_reserved_is_charged_at_the_settlement<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let tokens = Policy { unit: Unit::OutputTokens, ..policy("tokens", USER, 10, MONTH) };
        let policies = [policy("user", USER, 10, MONTH), tokens];
        let limiter = Limiter::new(&harness, policies.map(|one| counted_by(way, one)).to_vec());
        let id = lease(&limiter, &check_at("alice", 1));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [1, 0]);
        let usage =
            Totals::none().with(Unit::OutputTokens, amount(12)).with(Unit::InputTokens, amount(5));
        let state = limiter.update(&id, &settle(1, usage)).unwrap();
        assert_eq!(charged(&state), [1, 12], "{way:?}: a unit that is not named stays as reserved");
        assert_eq!(limiter.counts(&check_at("alice", 1)), [1, 12], "{way:?}");
    }
}

/// An id that was made up, or cut off, or of another store.
pub fn an_unknown_lease_changes_nothing<H: Harness>() {
    let (Some(harness), Some(other)) = (leasing::<H>(), leasing::<H>()) else { return };
    let (limiter, elsewhere) = (two_limits(&harness, Way::Log), two_limits(&other, Way::Log));
    let id = lease(&limiter, &check_at("alice", 4));
    let foreign = lease(&elsewhere, &check_at("alice", 4));
    let text = id.as_str();
    let mut flipped = text.to_owned();
    let last = if flipped.ends_with('1') { "2" } else { "1" };
    flipped.replace_range(text.len() - 1.., last);
    let made_up = [&text[..text.len() - 1], &flipped, "x", &format!("{text}0"), foreign.as_str()];
    for text in made_up {
        let Some(id) = LeaseId::parse(text) else { continue };
        for update in
            [settle(1, requests(0)), extend(1, requests(9), requests(9)), LeaseUpdate::Release]
        {
            assert_eq!(limiter.update(&id, &update), None, "{text}");
        }
    }
    assert_eq!(limiter.counts(&check_at("alice", 1)), [4, 4]);
    assert_eq!(elsewhere.counts(&check_at("alice", 1)), [4, 4]);
}

/// R12
pub fn a_request_id_names_a_lease_once<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let alice = check_at("alice", 3);
        let reserve = |cost| {
            let check = check_at("alice", cost).with_request_id("id");
            let (decision, lease) = limiter.reserve(&check, Ttl::MAX);
            (decision, lease.map(|lease| lease.id))
        };
        let (first, lease) = reserve(3);
        let (again, same) = reserve(5);
        assert_eq!((lease.clone(), first), (same, again), "{way:?}: with the first cost");
        assert_eq!(limiter.counts(&alice), [3, 3], "{way:?}");
        let state = limiter.update(lease.as_ref().unwrap(), &settle(1, requests(1))).unwrap();
        assert_eq!(charged(&state), [1, 1]);
        assert_eq!(reserve(3).1, lease, "{way:?}: a settlement does not make it a new one");
        assert_eq!(limiter.counts(&alice), [1, 1], "{way:?}");
        assert!(limiter.check(&alice.clone().with_request_id("id")).allowed());
        assert_eq!(
            limiter.counts(&alice),
            [4, 4],
            "{way:?}: a check with the same id is another one"
        );
        let (other, second) = limiter.reserve(&alice.with_request_id("other"), Ttl::MAX);
        assert!(other.allowed() && second.map(|lease| lease.id) != lease);
    }
}

/// R12: the first answer stands, and names the same lease, also if policies were changed meanwhile.
pub fn a_request_id_keeps_its_lease_when_a_policy_changes<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = |way, amount, most_slots| {
            let user = counted_by(way, policy("user", USER, amount, MONTH));
            Limiter::new(&harness, vec![user, slots("slots", USER, most_slots)])
        };
        let check = check_at("alice", 8).with_request_id("id");
        let (first, lease) = limiter(way, 100, 2).reserve(&check, Ttl::MAX);
        let lease = lease.unwrap().id;
        assert!(first.allowed(), "{way:?}");
        for (other, amount) in Way::ALL.into_iter().flat_map(|way| [0, 5, 100].map(|n| (way, n))) {
            for most_slots in [0, 1, 2] {
                let limiter = limiter(other, amount, most_slots);
                let context = format!("{way:?}, then {amount} by {other:?}, {most_slots} slots");
                let (again, same) = limiter.reserve(&check, Ttl::MAX);
                assert_eq!(same.unwrap().id, lease, "{context}");
                assert_eq!((again.allowed(), again.retry_after_ms()), (true, Some(0)), "{context}");
                let said = again.limits().iter().map(|limit| (limit.count, limit.remaining));
                let expected = [(8, amount.saturating_sub(8)), (1, most_slots.saturating_sub(1))];
                assert_eq!(said.collect::<Vec<_>>(), expected, "{context}");
            }
        }
        assert_eq!(limiter(way, 100, 2).counts(&check), [8, 1], "{way:?}");
    }
}

/// R14: what was used is charged as far as the usage of a limit can hold it, and what a later settlement takes back comes back.
pub fn usage_above_what_can_be_recorded_is_charged_as_far_as_it_can_be<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let policies = [("user", USER, 10), ("all", &[][..], 20)]
            .map(|(id, per, limit)| counted_by(way, policy(id, per, limit, MONTH)));
        let most =
            policies.each_ref().map(|policy| Limit::of(policy).unwrap().most_recorded().get());
        let limiter = Limiter::new(&harness, policies.to_vec());
        let reserve = |user| limiter.reserve(&check_at(user, 3), Ttl::MAX).1.unwrap().id;
        let (first, second) = (reserve("alice"), reserve("bob"));
        let state = limiter.update(&first, &settle(1, requests(Amount::MAX.get()))).unwrap();
        // Of the limit that both meet, the second lease holds 3.
        assert_eq!(charged(&state), [most[0], most[1] - 3], "{way:?}");
        let usage: Vec<_> = state.holds.iter().map(|hold| hold.usage).collect();
        assert_eq!(usage, most, "{way:?}");
        assert_eq!(state.holds[0].debt(), most[0] - 10, "{way:?}");
        let state = limiter.update(&second, &settle(1, requests(Amount::MAX.get()))).unwrap();
        assert_eq!(charged(&state), [most[0], 3], "{way:?}: there is no room for more");
        let state = limiter.update(&first, &settle(2, requests(4))).unwrap();
        assert_eq!(charged(&state), [4, 4], "{way:?}");
        assert_eq!(limiter.counts(&check_at("alice", 1)), [4, 7], "{way:?}");
    }
}

/// P17: concurrent settlements of one lease.
pub fn threads_that_settle_one_lease_settle_it_once<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let id = lease(&limiter, &check_at("alice", 4));
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (limiter, id) = (&limiter, &id);
                scope.spawn(move || {
                    for seq in 1..=8 {
                        let used = if (seq + thread) % 2 == 0 { 2 } else { 8 };
                        limiter.update(id, &settle(seq * 10 + thread, requests(used))).unwrap();
                    }
                });
            }
        });
        let state = limiter.update(&id, &settle(1_000, requests(5))).unwrap();
        assert_eq!(charged(&state), [5, 5], "{way:?}");
        assert_eq!(limiter.counts(&check_at("alice", 1)), [5, 5], "{way:?}");
    }
}

/// P16: each thread counts what it holds itself.
pub fn threads_never_hold_more_slots_than_there_are<H: Harness>() {
    use std::sync::atomic::{AtomicI64, Ordering};
    const SLOTS: u64 = 3;
    let Some(harness) = leasing::<H>() else { return };
    let limiter = Limiter::new(&harness, vec![slots("slots", USER, SLOTS)]);
    let (held, most) = (AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let (_, lease) = limiter.reserve(&check_at("alice", 0), Ttl::MAX);
                    let Some(lease) = lease else { continue };
                    // SeqCst: every thread sees what the others hold.
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    held.fetch_sub(1, Ordering::SeqCst);
                    limiter.update(&lease.id, &settle(1, Totals::none())).unwrap();
                }
            });
        }
    });
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at a time");
    assert_eq!(limiter.counts(&check_at("alice", 1)), [0]);
}

/// A check of so many requests and tokens.
pub(super) fn check_of(user: &str, [requests, tokens]: [u64; 2]) -> Check<'_> {
    let cost =
        Cost::default().with(Unit::Requests, amount(requests)).with(Unit::Tokens, amount(tokens));
    Check::new(user, "gpt-4").at_cost(cost)
}
