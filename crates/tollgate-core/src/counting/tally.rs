//! Usage as a few numbers, whose size does not grow with what was admitted.
//!
//! A store that keeps a [`Tally`] of each key can count in every way that is [`Tallied`], without knowing which it is. A
//! log is kept otherwise, because it grows with what it admits.

use super::{Verdict, bucket, calendar, counter};
use crate::{Amount, Calendar, Timestamp, Window, Zone};

/// A way of counting whose usage is a [`Tally`]: the fields are those of the same variant of [`Counting`](super::Counting).
#[derive(Clone, Copy, Debug)]
pub enum Tallied {
    /// [`Counting::Counter`](super::Counting::Counter)
    Counter {
        /// The length of the windows.
        window: Window,
    },
    /// [`Counting::Bucket`](super::Counting::Bucket)
    Bucket {
        /// How fast it is refilled.
        rate: bucket::Rate,
    },
    /// [`Counting::Calendar`](super::Counting::Calendar)
    Calendar {
        /// Which periods.
        calendar: Calendar,
        /// Whose clocks show when they start.
        zone: Zone,
    },
}

/// The usage of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Which way of counting the numbers belong to: they mean nothing to the others.
    pub kind: TallyKind,
    /// What this way of counting remembers.
    pub numbers: [u64; 2],
    /// When nothing of it counts any more, at the latest: in nanoseconds since the Unix epoch.
    pub idle_at_ns: u64,
}

/// Which way of counting a [`Tally`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyKind {
    /// [`Tallied::Counter`]
    Counter,
    /// [`Tallied::Bucket`]
    Bucket,
    /// [`Tallied::Calendar`]
    Calendar,
}

impl Tallied {
    /// The verdict of a limit of `limit` on `cost` at `now`, given the tally `kept`; if it admits, also the verdict and the
    /// tally after the cost is charged (R3).
    ///
    /// `kept` may be the tally of another way of counting, or of another window.
    #[inline]
    #[must_use]
    pub fn decide(
        self,
        kept: Option<Tally>,
        limit: Amount,
        now: Timestamp,
        cost: Amount,
    ) -> (Verdict, Option<(Verdict, Tally)>) {
        match self {
            Self::Counter { window } => counter::decide_tally(kept, limit, window, now, cost),
            Self::Bucket { rate } => bucket::decide_tally(kept, limit, rate, now, cost),
            Self::Calendar { calendar, zone } => {
                calendar::decide_tally(kept, limit, calendar.period(zone, now), now, cost)
            }
        }
    }

    /// The tally after `kept` was charged `new` in place of `old` at the time `at` (R14); `None` if nothing changes, because what was
    /// charged counts no more, or the usage would be above [`Amount::MAX`]. `used_then` is the usage right after the charge.
    ///
    /// A counter and a calendar are as if `new` had been charged at `at`. A token bucket gives back no more than what is certainly
    /// still missing of what was missing then, because what is produced into a full bucket is lost.
    #[must_use]
    pub fn change(
        self,
        kept: Option<Tally>,
        now: Timestamp,
        (at, used_then): (Timestamp, u64),
        old: Amount,
        new: Amount,
    ) -> Option<Tally> {
        match self {
            Self::Counter { window } => counter::change_tally(kept?, window, now, at, old, new),
            Self::Bucket { rate } => {
                bucket::change_tally(kept?, rate, now, (at, used_then), old, new)
            }
            Self::Calendar { calendar, zone } => {
                let [then, now] = [at, now].map(|time| calendar.period(zone, time));
                calendar::change_tally(kept?, now, then, old, new)
            }
        }
    }

    /// Whether `kept` belongs to this way of counting and, for a calendar, to one of its periods. Of a window it knows nothing.
    #[must_use]
    pub fn is_of(self, kept: &Tally) -> bool {
        match self {
            Self::Counter { .. } => kept.kind == TallyKind::Counter,
            Self::Bucket { .. } => kept.kind == TallyKind::Bucket,
            Self::Calendar { calendar, zone } => {
                let [_, start_ns] = kept.numbers;
                let period = calendar.period(zone, Timestamp::from_ns(start_ns));
                let (start_ns, end_ns) = (start_ns, kept.idle_at_ns);
                kept.kind == TallyKind::Calendar
                    && (period.start.as_ns(), period.end.as_ns()) == (start_ns, end_ns)
            }
        }
    }

    /// The tally that a store keeps in the place of `kept` from `now` on, because the limit has changed; `None` if it keeps
    /// that.
    #[inline]
    #[must_use]
    pub fn changed(self, kept: Tally, now: Timestamp) -> Option<Tally> {
        match self {
            Self::Bucket { rate } if kept.kind == TallyKind::Bucket => {
                bucket::refilled(kept, rate, now)
            }
            _ => None,
        }
    }
}

impl Tally {
    /// About how much is in use, so that keys can be compared at any time: an estimate that needs neither window nor clock.
    pub fn usage(&self) -> u64 {
        match self.kind {
            TallyKind::Counter => counter::rough_usage(self),
            TallyKind::Bucket => bucket::rough_usage(self),
            TallyKind::Calendar => calendar::rough_usage(self),
        }
    }
}
