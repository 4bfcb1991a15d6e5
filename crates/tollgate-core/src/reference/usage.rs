//! The usage of a limit in the model: filtered and summed.

use super::period::period;
use super::{Admission, width_ns};
use crate::{Counting, Policy, Window};

/// The usage at `now_ns`, which is not before any of `admissions`.
pub(super) fn usage(
    policy: &Policy,
    tick_ns: u128,
    admissions: &[Admission],
    now_ns: u128,
) -> u128 {
    match policy.counting {
        Counting::Log { window } => log_usage(window, tick_ns, admissions, now_ns),
        Counting::Counter { window } => {
            // Rounded up to whole units, so that comparing integers admits exactly what R2 admits.
            weighted_usage(window, admissions, now_ns).div_ceil(width_ns(window))
        }
        Counting::Bucket { window, refill } => {
            bucket_usage(window, u128::from(refill.get()), admissions, now_ns)
        }
        Counting::Calendar { calendar, zone } => {
            // R18: the costs admitted since the start of the period.
            let (start_ns, _) = period(calendar, zone, now_ns);
            sum(admissions.iter().filter(|admission| admission.at_ns >= start_ns))
        }
        // R16: the leases that are alive.
        Counting::Concurrency => {
            sum(admissions.iter().filter(|admission| admission.expires_ns > now_ns))
        }
    }
}

fn sum<'a>(admissions: impl Iterator<Item = &'a Admission>) -> u128 {
    admissions.map(|admission| admission.cost).sum::<i128>().unsigned_abs()
}

/// R1: the costs admitted in (t−W, t].
fn log_usage(window: Window, tick_ns: u128, admissions: &[Admission], now_ns: u128) -> u128 {
    sum(admissions.iter().filter(|admission| leaves_at_ns(window, tick_ns, admission) > now_ns))
}

/// When an admission leaves a log: W after it, both in ticks and rounded up (R7).
pub(super) fn leaves_at_ns(window: Window, tick_ns: u128, admission: &Admission) -> u128 {
    (admission.at_ns.div_ceil(tick_ns) + width_ns(window).div_ceil(tick_ns)) * tick_ns
}

/// R2: `current·W + previous·(W−elapsed)`, the usage times W.
fn weighted_usage(window: Window, admissions: &[Admission], now_ns: u128) -> u128 {
    let width_ns = width_ns(window);
    let (index, elapsed_ns) = (now_ns / width_ns, now_ns % width_ns);
    let admitted_in = |index: u128| -> u128 {
        sum(admissions.iter().filter(|admission| admission.at_ns / width_ns == index))
    };
    let previous = if index == 0 { 0 } else { admitted_in(index - 1) };
    admitted_in(index) * width_ns + previous * (width_ns - elapsed_ns)
}

/// R17: what is missing from the bucket. Since the epoch ⌊t·L/W⌋ tokens were produced; those that found the bucket full
/// are lost.
pub(super) fn bucket_usage(
    window: Window,
    refill: u128,
    admissions: &[Admission],
    now_ns: u128,
) -> u128 {
    let produced = |at_ns: u128| at_ns * refill / width_ns(window);
    let (mut missing, mut seen) = (0_u128, 0);
    let end = Admission::of_check(now_ns, 0);
    for admission in admissions.iter().chain([&end]) {
        let new = produced(admission.at_ns) - seen;
        missing = missing.saturating_sub(new).saturating_add_signed(admission.cost);
        seen += new;
    }
    missing
}

/// Whether `admission` can still count at `now_ns` or later.
pub(super) fn counts(policy: &Policy, tick_ns: u128, admission: &Admission, now_ns: u128) -> bool {
    match policy.counting {
        Counting::Log { window } => leaves_at_ns(window, tick_ns, admission) > now_ns,
        Counting::Counter { window } => {
            let width_ns = width_ns(window);
            admission.at_ns / width_ns + 1 >= now_ns / width_ns
        }
        // It may have kept the bucket from being full, whatever was produced since.
        Counting::Bucket { .. } => true,
        // Whether it was made in the same period is for the sum to say.
        Counting::Calendar { calendar, .. } => {
            admission.at_ns + calendar.longest().as_nanos() > now_ns
        }
        Counting::Concurrency => admission.expires_ns > now_ns,
    }
}
