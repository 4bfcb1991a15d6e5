//! The only module that reads a clock to measure.
//!
//! Long runs are cut into slices of about a millisecond, and the median slice is the result. This excludes slices in
//! which the kernel ran another program, or a table of some thousands of keys was moved. It includes what all slices
//! pay, such as waiting for a lock or growing one log in ten checks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tollgate_core::{Clock, MonotonicClock};

use crate::report::median;

/// Runs `work` and returns the mean time of each of its `operations`, in nanoseconds.
#[inline]
pub fn ns_per_operation(operations: u64, work: impl FnOnce()) -> f64 {
    let elapsed = timed(work);
    as_ns(elapsed) / to_f64(operations.max(1))
}

/// Operations of a slice: about a millisecond where each waits for memory.
const SLICE: u64 = 2_000;

/// Runs `operations` of `work` in slices, and returns the time per operation of the median slice, in nanoseconds. `work`
/// gets the number of operations of its slice.
#[inline]
pub fn ns_in_median_slice(operations: u64, mut work: impl FnMut(u64)) -> f64 {
    let slices = operations.div_ceil(SLICE);
    let mut slice_ns = Vec::with_capacity(usize::try_from(slices).unwrap_or_default());
    for slice in 0..slices {
        let operations = SLICE.min(operations - slice * SLICE);
        slice_ns.push(ns_per_operation(operations, || work(operations)));
    }
    median(&slice_ns)
}

/// Runs `work` and returns its duration.
#[inline]
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    start.elapsed()
}

/// The start of a measurement.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this is the stopwatch")]
pub fn now() -> Instant {
    Instant::now()
}

/// A count as a floating-point number, for averages.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

fn as_ns(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The cost of reading a clock, which is the minimum for every limiter: a name and the nanoseconds of one reading for
/// each clock.
#[expect(clippy::disallowed_methods, reason = "reading the clock is what is measured")]
pub fn clock_reads(readings: u64) -> [(&'static str, f64); 3] {
    let quanta = quanta::Clock::new();
    let monotonic = MonotonicClock::new();
    [
        ("std Instant", ns_in_median_slice(readings, |times| repeat(times, Instant::now))),
        ("quanta", ns_in_median_slice(readings, |times| repeat(times, || quanta.now()))),
        ("tollgate clock", ns_in_median_slice(readings, |times| repeat(times, || monotonic.now()))),
    ]
}

#[inline]
fn repeat<T>(times: u64, mut read: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(read());
    }
}
