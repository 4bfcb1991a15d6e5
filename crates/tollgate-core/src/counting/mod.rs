//! The ways of counting: how much of a limit is used at a moment, and when there is room again (R1, R2, R16–R18).
//!
//! [`Counting`] says which way a limit counts and over which window; everything else asks it. Each way is a module of
//! pure transitions: state, now and cost in; a [`Verdict`] and the state after an admission out. No clock, no lock, no I/O.
//!
//! A store evaluates every limit of a check first and records the admissions only if all allow it (R3), so each module has
//! two halves: the verdict on a cost, which changes nothing, and the state after the cost is charged.
//!
//! Stores keep usage in three shapes ([`UsageShape`]): a [`log`], which grows with what it admits, a [`tally`] of a few numbers,
//! or [`slots`] that leases hold.

pub mod bucket;
pub mod calendar;
pub mod counter;
pub mod log;
pub mod slots;
pub mod tally;

use std::num::NonZeroU32;
use std::time::Duration;

pub use self::tally::{Tallied, Tally, TallyKind};
use crate::{Amount, Calendar, Period, Timestamp, Ttl, Window, Zone};

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Exact (R1): one entry per admission.
    Log {
        /// How long an admission counts.
        window: Window,
    },
    /// Small (R2): two numbers per key; its worst window is below twice the limit.
    Counter {
        /// The length of the windows, which are aligned to multiples of it since the Unix epoch.
        window: Window,
    },
    /// Bursts and then a steady rate (R17). The amount of the limit is the capacity of the bucket; its worst window holds
    /// the capacity and the refill.
    Bucket {
        /// How long the refill takes.
        window: Window,
        /// The tokens that are added per window.
        refill: Amount,
    },
    /// A fixed window that starts with a period of the calendar (R18): its worst interval holds twice the limit.
    Calendar {
        /// Which periods.
        calendar: Calendar,
        /// Whose clocks show when they start.
        zone: Zone,
    },
    /// The leases that are alive (R16). There is no window: a slot is free when its lease ends.
    Concurrency,
}

/// The window of a limit, as policies compare it: whether one overrides another (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// So long, from any moment.
    Window(Window),
    /// A period of this calendar, in any zone.
    Calendar(Calendar),
    /// Leases that are alive now.
    Concurrency,
}

impl Counting {
    /// Every name that `algorithm` of a policy may have; the first is the default.
    pub const NAMES: [&str; 3] = [log::NAME, counter::NAME, bucket::NAME];
    /// [`Counting::NAMES`], for messages.
    pub const ACCEPTED: &str = "`sliding_window_log`, `sliding_window_counter` or `token_bucket`";

    /// The name, as in policies and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log { .. } => log::NAME,
            Self::Counter { .. } => counter::NAME,
            Self::Bucket { .. } => bucket::NAME,
            Self::Calendar { .. } => calendar::NAME,
            Self::Concurrency => slots::NAME,
        }
    }

    /// The window that the limit holds for: what policies and answers call `windowSeconds`. Of a calendar, the usual length
    /// of a period: [`Counting::period`] has the current one. `None` for concurrency.
    #[inline]
    pub const fn window(self) -> Option<Window> {
        match self {
            Self::Log { window } | Self::Counter { window } | Self::Bucket { window, .. } => {
                Some(window)
            }
            Self::Calendar { calendar, .. } => Some(calendar.usual_length()),
            Self::Concurrency => None,
        }
    }

    /// The window, as policies compare it.
    pub const fn span(self) -> Span {
        match self {
            Self::Log { window } | Self::Counter { window } | Self::Bucket { window, .. } => {
                Span::Window(window)
            }
            Self::Calendar { calendar, .. } => Span::Calendar(calendar),
            Self::Concurrency => Span::Concurrency,
        }
    }

    /// The period that `now` lies in; `None` for every way but a calendar.
    pub fn period(self, now: Timestamp) -> Option<Period> {
        match self {
            Self::Log { .. } | Self::Counter { .. } | Self::Bucket { .. } | Self::Concurrency => {
                None
            }
            Self::Calendar { calendar, zone } => Some(calendar.period(zone, now)),
        }
    }

    /// The calendar and the zone; `None` for every other way.
    pub const fn calendar(self) -> Option<(Calendar, Zone)> {
        match self {
            Self::Log { .. } | Self::Counter { .. } | Self::Bucket { .. } | Self::Concurrency => {
                None
            }
            Self::Calendar { calendar, zone } => Some((calendar, zone)),
        }
    }

    /// What a token bucket gets back per window; `None` for every other way.
    #[inline]
    pub const fn refill(self) -> Option<Amount> {
        match self {
            Self::Log { .. } | Self::Counter { .. } | Self::Calendar { .. } | Self::Concurrency => {
                None
            }
            Self::Bucket { refill, .. } => Some(refill),
        }
    }

    /// In which shape a store keeps the usage.
    #[inline]
    pub const fn usage_shape(self) -> UsageShape {
        match self {
            Self::Log { window } => UsageShape::Log { window },
            Self::Counter { window } => UsageShape::Tally(Tallied::Counter { window }),
            Self::Bucket { window, refill } => {
                UsageShape::Tally(Tallied::Bucket { rate: bucket::Rate { refill, window } })
            }
            Self::Calendar { calendar, zone } => {
                UsageShape::Tally(Tallied::Calendar { calendar, zone })
            }
            Self::Concurrency => UsageShape::Slots,
        }
    }

    /// [`Limit::most_recorded`](crate::Limit::most_recorded)
    pub(crate) fn most_recorded(self) -> Amount {
        match self {
            Self::Log { .. } | Self::Counter { .. } | Self::Calendar { .. } | Self::Concurrency => {
                Amount::MAX
            }
            Self::Bucket { window, refill } => bucket::Rate { refill, window }.most_recorded(),
        }
    }

    /// For how long an admission may count under a limit of `amount`, of concurrency a lease that nobody extends. A log adds up
    /// to two of its ticks (R7).
    pub(crate) fn longest_life(self, amount: Amount) -> Duration {
        match self {
            Self::Log { window } => window.as_duration(),
            Self::Counter { window } => counter::longest_life(window),
            Self::Bucket { window, refill } => bucket::Rate { refill, window }.longest_life(amount),
            Self::Calendar { calendar, .. } => calendar.longest(),
            Self::Concurrency => Ttl::MAX.as_duration(),
        }
    }
}

/// The shape in which a store keeps the usage of a key.
#[derive(Clone, Copy, Debug)]
pub enum UsageShape {
    /// Every admission in the window: [`log`].
    Log {
        /// How long an admission counts.
        window: Window,
    },
    /// A few numbers: [`tally`].
    Tally(Tallied),
    /// The leases that are alive: [`slots`].
    Slots,
}

/// How long the same check would have to wait (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Not at all: it is admitted now.
    None,
    /// This many nanoseconds, at least 1.
    Ns(u64),
    /// Unknown, because the store did not answer (R11).
    Unknown,
    /// Waiting does not help: the cost is above the limit.
    Never,
}

/// The verdict of one limit on one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether this limit, by itself, admits.
    pub allowed: bool,
    /// The usage, without this check until [`Verdict::usage`] is raised by a charge.
    pub usage: u64,
    /// The shortest wait after which this limit admits the same check if no other check arrives.
    pub wait: Wait,
    /// When the usage would be 0 again, in nanoseconds from now.
    pub reset_after_ns: u64,
    /// Of a calendar, how long the current period lasts, in seconds; `None` if nobody asked its clock.
    pub period_s: Option<NonZeroU32>,
}

impl Verdict {
    /// A verdict that says nothing of a period.
    pub const fn new(allowed: bool, usage: u64, wait: Wait, reset_after_ns: u64) -> Self {
        Self { allowed, usage, wait, reset_after_ns, period_s: None }
    }
}

/// Whether `cost` fits beside `usage` (R1): a cost of 0 needs room for 1.
#[inline]
fn fits(usage: u64, cost: Amount, limit: Amount) -> bool {
    usage.checked_add(needed(cost)).is_some_and(|total| total <= limit.get())
}

/// The room that `cost` needs: its own size, but 1 for a cost of 0 (R1).
#[inline]
fn needed(cost: Amount) -> u64 {
    cost.get().max(1)
}
