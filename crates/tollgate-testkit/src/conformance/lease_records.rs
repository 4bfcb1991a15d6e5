//! What is remembered of a lease beside its ledger: its request id (R12), its note, and that it is alive (R16).

use std::cmp::Reverse;
use std::time::Duration;

use tollgate_core::{Attribute, Check, LeaseUpdate, Totals, Ttl, Unit};
use tollgate_store::{LeaseId, LeaseRequest, LeaseStatus, Store};

use super::leases::{amount, extend, leasing, settle, slots};
use super::{MONTH, START, check_at, policy};
use crate::{Limiter, MovableClock};

const USER: &[Attribute] = &[Attribute::User];
const WINDOW: Duration = Duration::from_secs(10);

fn requests(total: u64) -> Totals {
    Totals::none().with(Unit::Requests, amount(total))
}

fn reserve<H: MovableClock>(limiter: &Limiter<'_, H>, check: &Check<'_>) -> LeaseId {
    limiter.reserve(check, Ttl::MAX).1.unwrap().id
}

/// R12, R13: what was released was never reserved.
pub fn the_request_id_of_a_released_lease_is_new<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter =
        Limiter::new(&harness, vec![policy("user", USER, 10, MONTH), slots("slots", USER, 2)]);
    let check = check_at("alice", 3).with_request_id("id");
    let first = reserve(&limiter, &check);
    assert_eq!(reserve(&limiter, &check), first);
    limiter.update(&first, &LeaseUpdate::Release).unwrap();
    assert_eq!(limiter.counts(&check), [0, 0]);
    let second = reserve(&limiter, &check);
    assert_ne!(second, first);
    assert_eq!(limiter.counts(&check), [3, 1]);
    assert_eq!(reserve(&limiter, &check), second);
    // The old lease has nothing to do with it any more.
    limiter.update(&first, &LeaseUpdate::Release).unwrap();
    assert_eq!(reserve(&limiter, &check), second);
    assert_eq!(limiter.counts(&check), [3, 1]);
}

/// R12: whoever sends a reservation again learns what became of the lease.
pub fn a_repeated_reservation_says_what_became_of_its_lease<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter =
        Limiter::new(&harness, vec![policy("user", USER, 10, MONTH), slots("slots", USER, 9)]);
    let ttl = Ttl::from_ms(20_000).unwrap();
    let reserve = |id: &str| {
        let check = check_at("alice", 1).with_request_id(id);
        let lease = limiter.reserve(&check, ttl).1.unwrap();
        (lease.id, (lease.status, lease.repeated, lease.lives_for.as_millis()))
    };
    let fresh = (LeaseStatus::Live, false, 20_000);
    harness.set(START);
    let (settled, first) = reserve("settled");
    assert_eq!((first, reserve("expires").1), (fresh, fresh));
    limiter.update(&settled, &settle(1, requests(1))).unwrap();
    harness.set(START.after(Duration::from_secs(5)));
    assert_eq!(reserve("settled"), (settled.clone(), (LeaseStatus::Settled, true, 0)));
    let (expires, again) = reserve("expires");
    assert_eq!((again.0, again.1), (LeaseStatus::Live, true));
    // Clocks of microseconds may round.
    assert!((14_999..=15_001).contains(&again.2), "{again:?}");
    harness.set(START.after(Duration::from_secs(21)));
    assert_eq!(reserve("expires"), (expires.clone(), (LeaseStatus::Expired, true, 0)));
    limiter.update(&expires, &extend(1, Totals::none(), Totals::none())).unwrap();
    assert_eq!(reserve("expires").1.0, LeaseStatus::Live, "it lives again");
    limiter.update(&expires, &LeaseUpdate::Release).unwrap();
    assert_eq!(reserve("expires").1, fresh, "a release makes the id new");
    // It ended so long ago that the store need not know it any more.
    harness.set(START.after(Duration::from_mins(3)));
    assert_eq!(reserve("settled"), (settled, (LeaseStatus::Settled, true, 0)));
}

/// R16: a lease that is alive is counted, whatever is reset.
pub fn a_reset_keeps_the_slots_of_live_leases<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter =
        Limiter::new(&harness, vec![policy("user", USER, 10, MONTH), slots("slots", USER, 1)]);
    let alice = check_at("alice", 3);
    let id = reserve(&limiter, &alice);
    limiter.reset(&alice);
    assert_eq!(limiter.counts(&alice), [0, 1]);
    assert!(limiter.reserve(&alice, Ttl::MAX).1.is_none());
    let state = limiter.update(&id, &extend(1, Totals::none(), Totals::none())).unwrap();
    assert!(state.is_live() && state.proceed);
    limiter.update(&id, &settle(2, Totals::none())).unwrap();
    assert_eq!(limiter.counts(&alice), [0, 0]);
}

/// Whoever updates a lease gets the note of whoever reserved it.
pub fn a_lease_returns_its_note<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter =
        Limiter::new(&harness, vec![policy("user", USER, 10, MONTH), slots("slots", USER, 2)]);
    for length in [0, 1, 63, 64, 255, 256, LeaseRequest::MAX_NOTE_BYTES] {
        // Any bytes, also those with which a record may mark its parts.
        let note: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        let id = limiter.reserve_noted(&check_at("alice", 0), &note).id;
        let updates = [
            extend(1, Totals::none(), Totals::none()),
            settle(2, requests(0)),
            settle(3, requests(0)),
        ];
        for update in updates {
            let state = limiter.update(&id, &update).unwrap();
            assert_eq!(*state.note, *note, "{length} bytes, {update:?}");
        }
    }
}

/// The oldest first, and only those that are alive.
pub fn live_leases_are_listed<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let store = harness.store();
    let limiter =
        Limiter::new(&harness, vec![policy("user", USER, 100, MONTH), slots("slots", USER, 9)]);
    let live = |most| harness.run(store.live_leases(most)).unwrap();
    assert!(live(10).leases.is_empty() && live(10).is_complete);
    let ids: Vec<_> =
        (0..6).map(|nth| limiter.reserve_noted(&check_at("alice", 2), &[nth]).id).collect();
    limiter.update(&ids[1], &settle(1, requests(1))).unwrap();
    limiter.update(&ids[4], &LeaseUpdate::Release).unwrap();
    limiter.update(&ids[0], &extend(1, requests(1), requests(5))).unwrap();
    let listed = live(10);
    assert!(listed.is_complete);
    let mut found: Vec<_> = listed.leases.iter().map(|lease| lease.id.clone()).collect();
    assert!(listed.leases.is_sorted_by_key(|lease| Reverse(lease.age)));
    found.sort_by_key(LeaseId::to_string);
    let mut expected: Vec<_> = [0, 2, 3, 5].map(|nth| ids[nth].clone()).to_vec();
    expected.sort_by_key(LeaseId::to_string);
    assert_eq!(found, expected);
    let first = listed.leases.iter().find(|lease| lease.id == ids[0]).unwrap();
    assert_eq!((&*first.note, &first.observed), (&[0][..], &requests(1)));
    let holds = first.holds.iter().map(|hold| (hold.policy_id.as_str(), hold.charged));
    assert_eq!(holds.collect::<Vec<_>>(), [("user", 5), ("slots", 1)]);
    assert!(first.lives_for <= Ttl::MAX.as_duration());
    let some = live(2);
    assert_eq!((some.leases.len(), some.is_complete), (2, false));
}

/// R12: also after extensions, and longer than any window.
pub fn a_request_id_names_a_lease_as_long_as_it_lives<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let policies = vec![policy("user", USER, 100, WINDOW), slots("slots", USER, 9)];
    let limiter = Limiter::new(&harness, policies);
    let check = check_at("alice", 3).with_request_id("id");
    let ttl = Ttl::from_ms(30_000).unwrap();
    let at = |seconds| harness.set(START.after(Duration::from_secs(seconds)));
    at(0);
    let first = limiter.reserve(&check, ttl).1.unwrap();
    assert_eq!(first.lives_for, Duration::from_secs(30));
    for (nth, seconds) in (1..).zip([20, 70, 120]) {
        at(seconds);
        let again = limiter.reserve(&check, ttl).1.unwrap();
        let lives_for = Duration::from_secs(10);
        assert_eq!((&again.id, again.lives_for), (&first.id, lives_for), "at {seconds} s");
        let longer = LeaseUpdate::Extend {
            seq: amount(nth),
            ttl: Ttl::from_ms(60_000),
            observed: Totals::none(),
            wanted: Totals::none(),
        };
        limiter.update(&first.id, &longer).unwrap();
    }
    at(179);
    assert_eq!(limiter.reserve(&check, ttl).1.unwrap().id, first.id);
    assert_eq!(limiter.counts(&check), [0, 1]);
    at(180);
    assert_ne!(limiter.reserve(&check, ttl).1.unwrap().id, first.id, "a new one");
    assert_eq!(limiter.counts(&check), [3, 1]);
}
