//! `sliding_window_log` (R1): exact, one entry per admission.
//!
//! Times are kept in ticks of [`Window::tick_ns`]. An admission is stamped with its time rounded up and now is
//! rounded down, so an admission never leaves early and leaves at most two ticks late (R7). For times that are
//! whole ticks the window is exact to the nanosecond.

use super::{Verdict, Wait, fits, needed};
use crate::{Amount, Timestamp, Window};

/// The admissions of one key that are in the window, oldest first; their ticks never decrease.
pub trait Log {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stamp of admission `index`.
    fn tick(&self, index: usize) -> u64;

    /// The costs of all admissions together.
    fn usage(&self) -> u64;

    /// The first index such that the costs of `0..=index` together are at least `amount`, which is in
    /// `1..=usage`.
    fn index_freeing(&self, amount: u64) -> usize;
}

/// The stamp of an admission made at `now`.
#[inline]
pub fn stamp(window: Window, now: Timestamp) -> u64 {
    now.as_ns().div_ceil(window.tick_ns())
}

/// The newest stamp that has left the window at `now`; `None` if none can have.
#[inline]
pub fn newest_expired(window: Window, now: Timestamp) -> Option<u64> {
    (now.as_ns() / window.tick_ns()).checked_sub(window.ticks())
}

/// Nanoseconds from `now` until an admission stamped `tick` leaves the window.
#[inline]
fn leaves_after_ns(window: Window, now: Timestamp, tick: u64) -> u64 {
    (tick + window.ticks()).saturating_mul(window.tick_ns()).saturating_sub(now.as_ns())
}

/// Whether `cost` is admitted beside `log` (R1), and if not, when (R6).
///
/// `log` holds only what is in the window at `now`. O(1) for entries of cost 1, O(log n) for weighted ones.
#[inline]
pub fn evaluate(
    log: &impl Log,
    limit: Amount,
    window: Window,
    now: Timestamp,
    cost: Amount,
) -> Verdict {
    let usage = log.usage();
    let reset_after_ns = match log.len() {
        0 => 0,
        len => leaves_after_ns(window, now, log.tick(len - 1)),
    };
    let allowed = fits(usage, cost, limit);
    let wait = if allowed {
        Wait::None
    } else if needed(cost) > limit.get() {
        Wait::Never
    } else {
        let index = log.index_freeing(usage - (limit.get() - needed(cost)));
        Wait::Ns(leaves_after_ns(window, now, log.tick(index)))
    };
    Verdict { allowed, usage, wait, reset_after_ns }
}

/// The verdict after the check was admitted: its cost counted, and nothing left to wait for but the window.
#[inline]
#[must_use]
pub fn admitted(verdict: Verdict, window: Window, now: Timestamp, cost: Amount) -> Verdict {
    if cost == Amount::ZERO {
        return verdict;
    }
    Verdict {
        usage: verdict.usage + cost.get(),
        reset_after_ns: leaves_after_ns(window, now, stamp(window, now)),
        ..verdict
    }
}
