//! The algorithms, as pure transitions: state, now and cost in; a [`Verdict`] out. No clock, no lock, no I/O.
//!
//! A store evaluates every limit of a check first and records the admissions only if all allow it (R3), so
//! each algorithm has two halves: `evaluate`, which changes nothing, and the record of an admission.

pub mod sliding_window_counter;
pub mod sliding_window_log;

use crate::Amount;

/// How long the same check would have to wait (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Not at all: it is admitted now.
    None,
    /// This many nanoseconds, at least 1.
    Ns(u64),
    /// Nobody knows: the store that could say did not answer (R11).
    Unknown,
    /// For ever: its cost is above the limit.
    Never,
}

/// What one limit says to one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether this limit, by itself, admits.
    pub allowed: bool,
    /// The usage, without this check until [`Verdict::usage`] is raised by a charge.
    pub usage: u64,
    /// The least wait after which this limit would admit the same check if nobody else came.
    pub wait: Wait,
    /// When the usage would be 0 again, in nanoseconds from now.
    pub reset_after_ns: u64,
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
