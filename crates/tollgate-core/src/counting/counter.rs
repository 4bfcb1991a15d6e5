//! `sliding_window_counter` (R2): two numbers per key, windows aligned to multiples of W since the Unix epoch.
//!
//! Usage is `current + previous·(W − elapsed)/W`, as if the admissions of the previous window had been spread
//! evenly over it. They may have come all at its end, so the worst window holds nearly 2L: L at the end of one
//! window, and then, as the first L fade, almost L more within W.

use std::time::Duration;

use super::{Tally, TallyKind, Verdict, Wait, fits, needed};
use crate::{Amount, Timestamp, Window};

/// The name in policies and answers.
pub const NAME: &str = "sliding_window_counter";

/// For how long an admission may count: until the end of the window after its own.
pub(super) const fn longest_life(window: Window) -> Duration {
    Duration::from_nanos(2 * window.as_ns())
}

/// The usage of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The start of the current window.
    pub start: Timestamp,
    /// The costs admitted in the current window.
    pub current: u64,
    /// The costs admitted in the window before.
    pub previous: u64,
}

impl Counter {
    /// The counter as it is at `now`, which is not before its start: one window on, the current count is the
    /// previous one; two windows on, nothing is left.
    #[inline]
    #[must_use]
    pub fn at(self, window: Window, now: Timestamp) -> Self {
        let width_ns = window.as_ns();
        let start_ns = now.as_ns() - now.as_ns() % width_ns;
        let start = Timestamp::from_ns(start_ns);
        if self.start == start {
            self
        } else if start_ns.checked_sub(width_ns) == Some(self.start.as_ns()) {
            Self { start, current: 0, previous: self.current }
        } else {
            Self { start, current: 0, previous: 0 }
        }
    }

    /// The counter as it is at `now`, which may be before its start: after a step back of the clock its counts belong to
    /// the window that now is in (R7). That window ends no later than a window from now, so a step back makes a wait no
    /// longer than that.
    #[must_use]
    pub fn following(self, window: Window, now: Timestamp) -> Self {
        let start_ns = now.as_ns() - now.as_ns() % window.as_ns();
        if self.start.as_ns() > start_ns {
            return Self { start: Timestamp::from_ns(start_ns), ..self };
        }
        self.at(window, now)
    }

    /// When nothing of it counts any more.
    #[inline]
    pub fn idle_at(self, window: Window) -> Timestamp {
        let windows = match (self.current, self.previous) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        };
        Timestamp::from_ns(self.start.as_ns().saturating_add(windows * window.as_ns()))
    }
}

/// The weighted usage at `now`, rounded up: admitting while this plus the cost is at most the limit is R2.
#[inline]
fn usage(counter: Counter, window: Window, now: Timestamp) -> u64 {
    let width = u128::from(window.as_ns());
    let left = width - u128::from(now.as_ns() - counter.start.as_ns());
    let faded = (u128::from(counter.previous) * left).div_ceil(width);
    counter.current.saturating_add(u64::try_from(faded).unwrap_or(u64::MAX))
}

/// Whether `cost` is admitted by `counter` (R2), and if not, when (R6). `counter` is as [`Counter::at`] `now`.
/// O(1).
#[inline]
pub fn evaluate(
    counter: Counter,
    limit: Amount,
    window: Window,
    now: Timestamp,
    cost: Amount,
) -> Verdict {
    let usage = usage(counter, window, now);
    let reset_after_ns = counter.idle_at(window).as_ns().saturating_sub(now.as_ns());
    let allowed = fits(usage, cost, limit);
    let wait = if allowed {
        Wait::None
    } else if needed(cost) > limit.get() {
        Wait::Never
    } else {
        Wait::Ns(wait_ns(counter, limit, window, now, cost))
    };
    Verdict::new(allowed, usage, wait, reset_after_ns)
}

/// The wait of a cost that fits the limit but not the usage.
fn wait_ns(counter: Counter, limit: Amount, window: Window, now: Timestamp, cost: Amount) -> u64 {
    let room = limit.get() - needed(cost);
    // Either the previous window fades enough before this one ends, or this one fades in the next.
    let (fading, faded_to, start_ns) = match room.checked_sub(counter.current) {
        Some(room) => (counter.previous, room, counter.start.as_ns()),
        None => (counter.current, room, counter.start.as_ns().saturating_add(window.as_ns())),
    };
    // The least elapsed such that fading·(W − elapsed) ≤ faded_to·W; `fading` is above `faded_to`, or the
    // cost would have fitted.
    let width = u128::from(window.as_ns());
    let left = u128::from(faded_to) * width / u128::from(fading.max(1));
    let elapsed = u64::try_from(width.saturating_sub(left)).unwrap_or(u64::MAX);
    start_ns.saturating_add(elapsed).saturating_sub(now.as_ns())
}

/// The verdict on `cost` and, if it is admitted, the verdict and the counter after the cost is charged. `counter` must be
/// as [`Counter::at`] `now` returns it; a cost of 0 charges nothing.
#[inline]
#[must_use]
pub fn decide(
    counter: Counter,
    limit: Amount,
    window: Window,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, Counter)>) {
    let verdict = evaluate(counter, limit, window, now, cost);
    if !verdict.allowed || cost == Amount::ZERO {
        return (verdict, None);
    }
    let after = Counter { current: counter.current.saturating_add(cost.get()), ..counter };
    let charged = Verdict {
        usage: verdict.usage.saturating_add(cost.get()),
        reset_after_ns: after.idle_at(window).as_ns().saturating_sub(now.as_ns()),
        ..verdict
    };
    (verdict, Some((charged, after)))
}

/// [`decide`] over the usage that a store keeps.
#[inline]
pub(super) fn decide_tally(
    kept: Option<Tally>,
    limit: Amount,
    window: Window,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, Tally)>) {
    let counter = kept.and_then(|tally| of_tally(tally, window)).unwrap_or_default();
    let (verdict, charged) = decide(counter.at(window, now), limit, window, now, cost);
    (verdict, charged.map(|(verdict, after)| (verdict, tally(after, window))))
}

/// The counter after a cost that was charged in the window that starts at `start` was changed from `old` to `new`. Counts of a
/// clock that has stepped back may have moved to an earlier window. `None` if it counts no more, or the count would be above
/// [`Amount::MAX`].
#[must_use]
pub fn change(
    counter: Counter,
    window: Window,
    start: Timestamp,
    old: Amount,
    new: Amount,
) -> Option<Counter> {
    let mut changed = counter;
    let count = if counter.start <= start {
        &mut changed.current
    } else if counter.start.as_ns() == start.as_ns().saturating_add(window.as_ns()) {
        &mut changed.previous
    } else {
        return None;
    };
    *count = count.checked_sub(old.get())? + new.get();
    (*count <= Amount::MAX.get()).then_some(changed)
}

/// [`change`] of the usage that a store keeps.
pub(super) fn change_tally(
    kept: Tally,
    window: Window,
    now: Timestamp,
    at: Timestamp,
    old: Amount,
    new: Amount,
) -> Option<Tally> {
    let start = Timestamp::from_ns(at.as_ns() - at.as_ns() % window.as_ns());
    let counter = of_tally(kept, window)?.at(window, now);
    change(counter, window, start, old, new).map(|counter| tally(counter, window))
}

#[inline]
fn tally(counter: Counter, window: Window) -> Tally {
    Tally {
        kind: TallyKind::Counter,
        numbers: [counter.current, counter.previous],
        idle_at_ns: counter.start.as_ns() + 2 * window.as_ns(),
    }
}

#[inline]
fn of_tally(tally: Tally, window: Window) -> Option<Counter> {
    let [current, previous] = tally.numbers;
    let start = Timestamp::from_ns(tally.idle_at_ns.saturating_sub(2 * window.as_ns()));
    (tally.kind == TallyKind::Counter).then_some(Counter { start, current, previous })
}

/// [`Tally::usage`]: a half of the last window counts, since it fades to nothing in the course of this one.
pub(super) fn rough_usage(tally: &Tally) -> u64 {
    let [current, previous] = tally.numbers;
    current.saturating_add(previous / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const WINDOW_NS: u64 = 1_000_000;

    fn window() -> Window {
        Window::new(Duration::from_nanos(WINDOW_NS)).unwrap()
    }

    proptest! {
        /// R2 word by word, and R6: the wait is the first nanosecond that admits.
        #[test]
        fn the_counter_admits_what_r2_admits_and_waits_no_longer(
            previous in 0..20_u64, current in 0..20_u64, limit in 0..20_u64, cost in 0..22_u64,
            elapsed in 0..WINDOW_NS,
        ) {
            let start = Timestamp::from_ns(WINDOW_NS * 7);
            let counter = Counter { start, current, previous };
            let amount = |n| Amount::new(n).unwrap();
            let r2 = |counter: Counter, now: Timestamp| {
                let (w, now) = (u128::from(WINDOW_NS), now.as_ns());
                let left = w - u128::from(now - counter.start.as_ns());
                u128::from(counter.current) * w + u128::from(counter.previous) * left
                    + u128::from(cost.max(1)) * w <= u128::from(limit) * w
            };
            let now = Timestamp::from_ns(start.as_ns() + elapsed);
            let verdict = evaluate(counter, amount(limit), window(), now, amount(cost));
            prop_assert_eq!(verdict.allowed, r2(counter, now));
            match verdict.wait {
                Wait::None => prop_assert!(verdict.allowed),
                Wait::Never => prop_assert!(cost.max(1) > limit),
                Wait::Unknown => prop_assert!(false, "a counter always knows"),
                Wait::Ns(ns) => {
                    prop_assert!(ns > 0 && !verdict.allowed);
                    let then = Timestamp::from_ns(now.as_ns() + ns);
                    prop_assert!(r2(counter.at(window(), then), then));
                    let before = Timestamp::from_ns(then.as_ns() - 1);
                    prop_assert!(!r2(counter.at(window(), before), before));
                }
            }
        }
    }
}
