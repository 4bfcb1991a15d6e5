//! `sliding_window_log` (R1): exact, one entry per admission.
//!
//! Times are kept in ticks: of [`Window::tick_ns`] in memory, of a microsecond in Redis. An admission is stamped with
//! its time rounded up and now is rounded down, so an admission never leaves early and leaves at most two ticks late
//! (R7). For times that are whole ticks the window is exact to the nanosecond.
//!
//! [`evaluate`] decides and changes nothing; [`LogState`] is both halves, decision and record, in their plainest form.

mod state;

pub use state::{Admission, LogState};

use super::{Verdict, Wait, fits, needed};
use crate::{Amount, Timestamp, Window};

/// The name in policies and answers.
pub const NAME: &str = "sliding_window_log";

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

/// A moment in the ticks of a window.
#[derive(Clone, Copy, Debug)]
pub struct LogTime {
    now_ns: u64,
    window: Window,
    window_ticks: u64,
    tick_ns: u64,
    floor: u64,
    stamp: u64,
}

impl LogTime {
    /// `now` in the ticks of `window`.
    #[inline]
    pub fn new(window: Window, now: Timestamp) -> Self {
        let (now_ns, tick_ns) = (now.as_ns(), window.tick_ns());
        let floor = window.whole_ticks(now_ns);
        let stamp = floor + u64::from(floor * tick_ns != now_ns);
        Self { now_ns, window, window_ticks: window.ticks(), tick_ns, floor, stamp }
    }

    /// `now` in ticks of `tick_ns` nanoseconds, at least 1, whatever the window: for a store whose clock has a
    /// resolution of its own.
    pub fn in_ticks_of(tick_ns: u64, window: Window, now: Timestamp) -> Self {
        let (now_ns, tick_ns) = (now.as_ns(), tick_ns.max(1));
        Self {
            now_ns,
            window,
            window_ticks: window.as_ns().div_ceil(tick_ns),
            tick_ns,
            floor: now_ns / tick_ns,
            stamp: now_ns.div_ceil(tick_ns),
        }
    }

    /// The same moment by a clock that is `ahead` of this one by so many ticks.
    #[must_use]
    pub fn shifted(&self, ahead: u64) -> Self {
        Self {
            now_ns: self.now_ns.saturating_add(ahead.saturating_mul(self.tick_ns)),
            floor: self.floor + ahead,
            stamp: self.stamp + ahead,
            ..*self
        }
    }

    /// The moment in nanoseconds since the Unix epoch.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The length of a tick, in nanoseconds.
    #[inline]
    pub fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    /// The window whose ticks these are.
    #[inline]
    pub fn window(&self) -> Window {
        self.window
    }

    /// The stamp of an admission made now: rounded up.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Whether an admission stamped `tick` has left the window.
    #[inline]
    pub fn has_left(&self, tick: u64) -> bool {
        tick + self.window_ticks <= self.floor
    }

    /// When an admission stamped `tick` leaves the window, in nanoseconds since the Unix epoch.
    #[inline]
    pub fn leaves_at_ns(&self, tick: u64) -> u64 {
        (tick + self.window_ticks).saturating_mul(self.tick_ns)
    }

    #[inline]
    fn leaves_after_ns(&self, tick: u64) -> u64 {
        self.leaves_at_ns(tick).saturating_sub(self.now_ns)
    }

    /// The same for a reset: never more than the window, although an admission may stay a tick longer.
    #[inline]
    fn resets_after_ns(&self, newest: u64) -> u64 {
        self.leaves_after_ns(newest).min(self.window.as_ns())
    }
}

/// Whether `cost` is admitted beside `log` (R1), and if not, when (R6).
///
/// `log` holds only what has not left the window. O(1) for entries of cost 1, O(log n) for weighted ones.
#[inline]
pub fn evaluate(log: &impl Log, limit: Amount, time: &LogTime, cost: Amount) -> Verdict {
    let usage = log.usage();
    let reset_after_ns = match log.len() {
        0 => 0,
        len => time.resets_after_ns(log.tick(len - 1)),
    };
    let allowed = fits(usage, cost, limit);
    let wait = if allowed {
        Wait::None
    } else if needed(cost) > limit.get() {
        Wait::Never
    } else {
        let index = log.index_freeing(usage - (limit.get() - needed(cost)));
        Wait::Ns(time.leaves_after_ns(log.tick(index)))
    };
    Verdict::new(allowed, usage, wait, reset_after_ns)
}

/// The verdict after the check was admitted: its cost counted, and nothing left to wait for but the window.
#[inline]
#[must_use]
pub fn admitted(verdict: Verdict, time: &LogTime, cost: Amount) -> Verdict {
    if cost == Amount::ZERO {
        return verdict;
    }
    Verdict {
        usage: verdict.usage + cost.get(),
        reset_after_ns: time.resets_after_ns(time.stamp),
        ..verdict
    }
}
