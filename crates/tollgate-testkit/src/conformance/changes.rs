//! Policies that change while there is usage (R8): usage belongs to the policy id and the key. If the way of counting
//! changes, usage starts at 0; if the window changes, a log keeps its admissions.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tollgate_core::{Amount, Counting, OverLimit, Policy, Timestamp, Window};

use super::{START, check_at, counted_by, policy};
use crate::property::for_all;
use crate::{Limiter, MovableClock, Way};

const LIMIT: u64 = 5;

fn limiter_of<H: MovableClock>(harness: &H, way: Way, window: Duration) -> Limiter<'_, H> {
    limiter_with(harness, way, window, LIMIT)
}

fn limiter_with<H: MovableClock>(
    harness: &H,
    way: Way,
    window: Duration,
    limit: u64,
) -> Limiter<'_, H> {
    Limiter::new(harness, vec![counted_by(way, policy("p", &[], limit, window))])
}

/// Sends checks until one is denied; returns how many were admitted, at most one more than the limit.
fn admit_all<H: MovableClock>(limiter: &Limiter<'_, H>) -> u64 {
    (0..=LIMIT).take_while(|_| limiter.check(&check_at("alice", 1)).allowed()).count() as u64
}

/// The state of one way of counting is not used by another.
pub fn a_changed_way_of_counting_starts_afresh<H: MovableClock>() {
    // Unit costs in the slot, beyond it, and weighted ones.
    for used in [vec![1, 1], vec![1; 5], vec![2, 3]] {
        let pairs = Way::ALL.into_iter().flat_map(|from| Way::ALL.map(|to| (from, to)));
        for (from, to) in pairs.filter(|(from, to)| from != to) {
            let (harness, window) = (H::new(), Duration::from_secs(10));
            harness.set(START.after(Duration::from_secs(3)));
            let old = limiter_of(&harness, from, window);
            for &cost in &used {
                assert!(old.check(&check_at("alice", cost)).allowed());
            }
            let new = limiter_of(&harness, to, window);
            assert_eq!(new.counts(&check_at("alice", 1)), [0], "{from:?} to {to:?}");
            assert_eq!(admit_all(&new), LIMIT, "{from:?} to {to:?}");
            let again = limiter_of(&harness, from, window);
            assert_eq!(again.counts(&check_at("alice", 1)), [0], "and back");
            assert_eq!(admit_all(&again), LIMIT);
        }
    }
}

/// The new refill of a token bucket applies from the first check that meets it, also if all checks are denied: the wait in an
/// answer is right.
pub fn a_changed_refill_applies_although_all_is_denied<H: MovableClock>() {
    for (old, new) in [(1, 10), (10, 1)] {
        let harness = H::new();
        let limiter = |refill| {
            let window = Window::new(Duration::from_secs(10)).unwrap();
            let refill = Amount::new(refill).unwrap();
            let counting = Counting::Bucket { window, refill };
            let policy = policy("p", &[], 10, window.as_duration());
            let over_limit = OverLimit::Charge;
            Limiter::new(&harness, vec![Policy { counting, over_limit, ..policy }])
        };
        harness.set(START);
        assert!(!limiter(old).check(&check_at("alice", 30)).allowed());
        let limiter = limiter(new);
        let admits_at = START.after(Duration::from_secs(21 * 10 / new));
        for part in 0..4 {
            let now = START.after(admits_at.since(START) / 4 * part);
            harness.set(now);
            // A cost of 0 is not recorded.
            let wait_ms = limiter.check(&check_at("alice", 0)).retry_after_ms();
            let expected = admits_at.since(now).as_millis();
            assert_eq!(wait_ms.map(u128::from), Some(expected), "{old} to {new}: {part}");
        }
        harness.set(admits_at);
        assert!(limiter.check(&check_at("alice", 1)).allowed(), "{old} to {new}");
    }
}

const WINDOWS_MS: [u64; 9] =
    [1, 7, 1_000, 10_000, 20_000, 100_000, 3_600_000, 86_400_000 * 30, 86_400_000 * 366];

/// After a change of the window, a log counts its admissions within the new window, as far as the old one still held
/// them. An admission may leave two ticks of the coarser window late, but never early (R7).
pub fn a_changed_window_keeps_the_admissions_of_a_log<H: MovableClock>() {
    // Ages and later times, in thousandths of the window.
    let admissions = vec((0..1_000_u64, 1..=3_u64), 1..12);
    let windows = || select(WINDOWS_MS.to_vec());
    let later = vec(0..1_500_u64, 0..6);
    let cases = (admissions, windows(), windows(), later, any::<bool>());
    for_all("a_changed_window_keeps_the_admissions_of_a_log", &cases, |case| {
        let (mut admissions, old_ms, new_ms, mut later, weighted) = case;
        let [old, new] = [old_ms, new_ms].map(Duration::from_millis);
        admissions.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        later.sort_unstable();
        let changed_at = START.after(old * 3);
        let harness = H::new();
        let limiter = limiter_with(&harness, Way::Log, old, 1_000);
        let mut admitted = Vec::new();
        for (age, cost) in admissions {
            let at_ns = changed_at.as_ns() - old_ms * 1_000 * age;
            let cost = if weighted { cost } else { 1 };
            harness.set(Timestamp::from_ns(at_ns));
            prop_assert!(limiter.check(&check_at("alice", cost)).allowed());
            admitted.push((at_ns, cost));
        }
        harness.set(changed_at);
        let limiter = limiter_with(&harness, Way::Log, new, 1_000);
        let ticks = [old, new].map(|w| Window::new(w).unwrap().tick_ns());
        let tick_ns = ticks.into_iter().chain(H::TICK_NS).max();
        let window_ns = new_ms * 1_000_000;
        for part in std::iter::once(0).chain(later) {
            let now_ns = changed_at.as_ns() + new_ms * 1_000 * part;
            harness.set(Timestamp::from_ns(now_ns));
            let count_within = |window_ns: u64| -> u64 {
                let inside = admitted.iter().filter(|(at_ns, _)| now_ns - at_ns < window_ns);
                inside.map(|(_, cost)| *cost).sum()
            };
            let (least, most) =
                (count_within(window_ns), count_within(window_ns + 2 * tick_ns.unwrap()));
            let count = limiter.counts(&check_at("alice", 1))[0];
            prop_assert!((least..=most).contains(&count), "{count} not in {least}..={most}");
        }
        Ok(())
    });
}

/// A longer window keeps what it has counted once: an admission that was in the old window when the window changed
/// stays for the whole new window, even if nothing was admitted in between.
pub fn a_longer_window_keeps_what_it_knows_until_it_leaves<H: MovableClock>() {
    let (short, long) = (Duration::from_secs(20), Duration::from_secs(100));
    for cost in [1, LIMIT] {
        let harness = H::new();
        let check = check_at("alice", cost);
        harness.set(START);
        while limiter_of(&harness, Way::Log, short).check(&check).allowed() {}
        harness.set(START.after(Duration::from_secs(10)));
        let limiter = limiter_of(&harness, Way::Log, long);
        assert_eq!(limiter.check_one(&check).retry_after_ms, Some(90_000));
        for after_s in [21, 60, 99] {
            harness.set(START.after(Duration::from_secs(after_s)));
            assert!(!limiter.check(&check).allowed(), "at {after_s} s");
        }
        harness.set(START.after(long));
        assert!(limiter.check(&check).allowed());
    }
}

/// A counter with a new window length may start at 0, but it never admits more than its limit at one moment, and its
/// answers stay within its windows.
pub fn a_changed_window_of_a_counter_admits_no_more_than_its_limit<H: MovableClock>() {
    for (old_ms, new_ms) in WINDOWS_MS.into_iter().flat_map(|old| WINDOWS_MS.map(|new| (old, new)))
    {
        let harness = H::new();
        for after_ns in [0, 1, old_ms * 400_000, old_ms * 1_100_000, old_ms * 3_000_000] {
            harness.set(START.after(Duration::from_nanos(after_ns)));
            for window_ms in [old_ms, new_ms] {
                let limiter = limiter_of(&harness, Way::Counter, Duration::from_millis(window_ms));
                assert!(admit_all(&limiter) <= LIMIT, "{old_ms} ms to {new_ms} ms");
                let status = limiter.peek_one(&check_at("alice", 1));
                assert!(!status.allowed && status.count <= LIMIT);
                assert!(status.retry_after_ms.is_some_and(|wait_ms| wait_ms <= 2 * window_ms));
                assert!(status.reset_after_ms <= 2 * window_ms);
            }
        }
    }
}
