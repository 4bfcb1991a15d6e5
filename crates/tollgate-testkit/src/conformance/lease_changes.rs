//! Leases whose policy changes while they are open (R8, R14): an update forgets nothing that checks count.

use std::time::Duration;

use tollgate_core::{
    Amount, Attribute, Counting, LeaseUpdate, Policy, Quality, Totals, Ttl, Unit, Window,
};
use tollgate_store::LeaseId;

use super::leases::{amount, extend, leasing, settle, slots};
use super::{START, check_at, counted_by, policy};
use crate::{Limiter, MovableClock, Way};

const USER: &[Attribute] = &[Attribute::User];
const LIMIT: u64 = 1_000;

fn requests(total: u64) -> Totals {
    Totals::none().with(Unit::Requests, amount(total))
}

/// What may be done to a lease that holds 3, and what it holds then.
fn updates() -> [(LeaseUpdate, u64); 6] {
    let usage = requests(1);
    let bound = LeaseUpdate::Settle { seq: amount(1), usage, quality: Quality::LowerBound };
    [
        (settle(1, requests(1)), 1),
        (settle(1, requests(3)), 3),
        (settle(1, requests(10)), 10),
        (bound, 3),
        (extend(1, requests(6), requests(9)), 9),
        (LeaseUpdate::Release, 0),
    ]
}

fn log<H: MovableClock>(harness: &H, window: Duration) -> Limiter<'_, H> {
    Limiter::new(harness, vec![policy("p", USER, LIMIT, window)])
}

fn reserve<H: MovableClock>(limiter: &Limiter<'_, H>, cost: u64) -> LeaseId {
    limiter.reserve(&check_at("alice", cost), Ttl::MAX).1.unwrap().id
}

fn count<H: MovableClock>(limiter: &Limiter<'_, H>) -> u64 {
    limiter.peek_one(&check_at("alice", 1)).count
}

/// A short window and a longer one, in milliseconds: with the same ticks of a log, and with others.
const WINDOWS_MS: [(u64, u64); 6] = [
    (1, 10),
    (100, 1_000),
    (1_000, 10_000),
    (1_000, 3_600_000),
    (60_000, 3_600_000),
    (3_600_000, 86_400_000 * 30),
];

/// What has left the window of the lease is counted in the longer one of the checks.
pub fn an_update_keeps_what_a_longer_window_counts<H: MovableClock>() {
    for (short_ms, long_ms) in WINDOWS_MS {
        for (update, held) in updates() {
            for costs in [vec![5], vec![1; 5], vec![1; 30]] {
                let Some(harness) = leasing::<H>() else { return };
                let [short, long] = [short_ms, long_ms].map(Duration::from_millis);
                let context = format!("{short_ms} to {long_ms} ms, {costs:?}, {update:?}");
                harness.set(START);
                let lease = reserve(&log(&harness, short), 3);
                let limiter = log(&harness, long);
                harness.set(START.after(short / 2));
                for cost in &costs {
                    assert!(limiter.check(&check_at("alice", *cost)).allowed());
                }
                let checked: u64 = costs.iter().sum();
                let updated_at = START.after(short * 3 / 2);
                harness.set(updated_at);
                assert_eq!(count(&limiter), checked + 3, "{context}");
                let state = limiter.update(&lease, &update).unwrap();
                assert_eq!(state.holds[0].charged, held, "{context}");
                assert_eq!(count(&limiter), checked + held, "{context}");
                // Repeated updates change nothing, and forget nothing either.
                limiter.update(&lease, &update).unwrap();
                harness.set(START.after(long).after(short / 4));
                let debt = held.saturating_sub(3);
                assert_eq!(count(&limiter), checked + debt, "{context}: the first has left");
                // Two ticks later than the window at most (R7).
                let late = Duration::from_nanos(3 * Window::new(long).unwrap().tick_ns());
                harness.set(START.after(long).after(short / 2).after(late));
                assert_eq!(count(&limiter), debt, "{context}: the checks have left");
                harness.set(updated_at.after(long).after(late));
                assert_eq!(count(&limiter), 0, "{context}: all has left");
            }
        }
    }
}

/// What the lease's window still counts has left the shorter one of the checks.
pub fn an_update_adds_to_what_a_shorter_window_counts<H: MovableClock>() {
    for (short_ms, long_ms) in WINDOWS_MS {
        for (update, held) in updates() {
            let Some(harness) = leasing::<H>() else { return };
            let [short, long] = [short_ms, long_ms].map(Duration::from_millis);
            let context = format!("{long_ms} to {short_ms} ms, {update:?}");
            let at = |tenths: u32| harness.set(START.after(short * tenths / 10));
            harness.set(START);
            let lease = reserve(&log(&harness, long), 3);
            let limiter = log(&harness, short);
            at(20);
            assert!(limiter.check(&check_at("alice", 5)).allowed());
            at(25);
            let debt = held.saturating_sub(3);
            limiter.update(&lease, &update).unwrap();
            assert_eq!(count(&limiter), 5 + debt, "{context}");
            at(32);
            assert_eq!(count(&limiter), debt, "{context}");
        }
    }
}

/// Every way of counting, and concurrency.
fn ways<H: MovableClock>(harness: &H) -> Vec<(String, Limiter<'_, H>)> {
    let window = Duration::from_mins(1);
    let counted = |way| counted_by(way, policy("p", USER, LIMIT, window));
    let named = |name: String, policy: Policy| (name, Limiter::new(harness, vec![policy]));
    let mut ways: Vec<_> =
        Way::ALL.iter().map(|way| named(format!("{way:?}"), counted(*way))).collect();
    ways.push(named("slots".into(), slots("p", USER, LIMIT)));
    ways
}

/// Usage of another way of counting is none of the lease's.
pub fn an_update_leaves_usage_alone_that_is_counted_otherwise<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let count_of_ways = ways(&harness).len();
    let pairs = (0..count_of_ways).flat_map(|from| (0..count_of_ways).map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        for (update, held) in updates() {
            let harness = H::new();
            harness.set(START.after(Duration::from_secs(1)));
            let ways = ways(&harness);
            let ((old, before), (new, after)) = (&ways[from], &ways[to]);
            let context = format!("{old} to {new}: {update:?}");
            let lease = reserve(before, 3);
            // The usage of the new way begins.
            let other = reserve(after, 5);
            let counted = if new == "slots" { 1 } else { 5 };
            assert_eq!(count(after), counted, "{context}");
            let state = after.update(&lease, &update).unwrap();
            if old != "slots" && !matches!(update, LeaseUpdate::Extend { .. }) {
                assert_eq!(state.holds[0].charged, held, "{context}: by its own account");
            }
            assert_eq!(count(after), counted, "{context}");
            after.update(&lease, &LeaseUpdate::Release).unwrap();
            assert_eq!(count(after), counted, "{context}: and released");
            after.update(&other, &LeaseUpdate::Release).unwrap();
            assert_eq!(count(after), 0, "{context}: the new lease is changed as ever");
        }
    }
}

/// A counter and a token bucket of another window begin afresh: a lease of before does not end that.
pub fn an_update_does_not_bring_back_a_window<H: MovableClock>() {
    for way in [Way::Counter, Way::Bucket] {
        for (old_s, new_s) in [(10, 20), (20, 10), (7, 10), (10, 7), (3_600, 60), (60, 3_600)] {
            for (update, _) in updates() {
                let Some(harness) = leasing::<H>() else { return };
                let limiter = |seconds| {
                    let window = Duration::from_secs(seconds);
                    let policy = counted_by(way, policy("p", USER, LIMIT, window));
                    Limiter::new(&harness, vec![policy])
                };
                harness.set(START.after(Duration::from_secs(1)));
                let lease = reserve(&limiter(old_s), 3);
                let new = limiter(new_s);
                assert!(new.check(&check_at("alice", 5)).allowed());
                new.update(&lease, &update).unwrap();
                let counted = count(&new);
                let context = format!("{way:?}, {old_s} to {new_s} s, {update:?}: {counted}");
                assert!(counted >= 5, "{context}");
                assert!(new.check(&check_at("alice", 2)).allowed());
                assert_eq!(count(&new), counted + 2, "{context}");
            }
        }
    }
}

/// The refill of a token bucket is that of the checks.
pub fn an_update_keeps_the_refill_of_a_bucket<H: MovableClock>() {
    let window = Window::new(Duration::from_secs(10)).unwrap();
    for (old, new) in [(1, 10), (10, 1)] {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = |refill| {
            let counting = Counting::Bucket { window, refill: Amount::new(refill).unwrap() };
            let policy = policy("p", USER, 30, window.as_duration());
            Limiter::new(&harness, vec![Policy { counting, ..policy }])
        };
        harness.set(START);
        let lease = reserve(&limiter(old), 20);
        let limiter = limiter(new);
        assert!(limiter.check(&check_at("alice", 5)).allowed());
        limiter.update(&lease, &settle(1, requests(25))).unwrap();
        assert_eq!(count(&limiter), 30, "{old} to {new}");
        harness.set(START.after(window.as_duration()));
        limiter.update(&lease, &settle(2, requests(25))).unwrap();
        assert_eq!(count(&limiter), 30 - new, "{old} to {new}");
    }
}
