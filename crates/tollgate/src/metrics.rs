//! Counts allowed and denied checks at almost no cost.
//!
//! A single counter for all threads would be the slowest part of a check: its cache line would move between the
//! processors, and even without contention an atomic addition waits for all earlier writes (7 ns of a check of 45). So
//! each thread has a cache line that only it writes, with a load and a store. If there are more threads than lines, the
//! other threads share one line and add atomically.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::thread_slot::{self, SHARED};

/// The numbers of allowed and denied checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Checks allowed.
    pub allowed: u64,
    /// Checks denied.
    pub denied: u64,
}

impl Metrics {
    /// All checks.
    pub fn total(&self) -> u64 {
        self.allowed.saturating_add(self.denied)
    }

    /// The share of checks that were denied, in 0.0..=1.0; 0.0 before the first.
    #[expect(clippy::cast_precision_loss, reason = "a share for people; 53 bits are plenty")]
    pub fn deny_rate(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            total => self.denied as f64 / total as f64,
        }
    }
}

/// The counts of one thread. Two lines, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    allowed: AtomicU64,
    denied: AtomicU64,
}

/// Counts that many threads add to.
#[derive(Debug)]
pub(crate) struct Counters {
    /// They only grow, because setting one to 0 would race with its thread.
    lines: Box<[Line; SHARED + 1]>,
    /// Their values at the last reset.
    base: Mutex<Metrics>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let lines = Box::new(std::array::from_fn(|_| Line::default()));
        Self { lines, base: Mutex::default() }
    }

    /// Counts one check.
    #[inline]
    pub(crate) fn count(&self, allowed: bool) {
        let number = thread_slot::current();
        let line = &self.lines[number.min(SHARED)];
        let counter = if allowed { &line.allowed } else { &line.denied };
        // Relaxed: each count is independent.
        if number < SHARED {
            // No other thread writes this line while this one has the number.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts since the last reset. O(1): reads about 65 cache lines.
    pub(crate) fn metrics(&self) -> Metrics {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        since(*base, self.sum())
    }

    /// Starts to count from 0, and returns the counts until now: each check is in exactly one of the two.
    pub(crate) fn reset(&self) -> Metrics {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.sum();
        since(std::mem::replace(&mut *base, now), now)
    }

    fn sum(&self) -> Metrics {
        self.lines.iter().fold(Metrics::default(), |sum, line| Metrics {
            // Relaxed: see `count`. Checks that ended before this call, as far as this thread knows, are included.
            allowed: sum.allowed.wrapping_add(line.allowed.load(Ordering::Relaxed)),
            denied: sum.denied.wrapping_add(line.denied.load(Ordering::Relaxed)),
        })
    }
}

fn since(base: Metrics, now: Metrics) -> Metrics {
    Metrics {
        allowed: now.allowed.wrapping_sub(base.allowed),
        denied: now.denied.wrapping_sub(base.denied),
    }
}

/// What every limiter tells of its `counters` and its `store`.
macro_rules! counting_calls {
    () => {
        /// How many checks were allowed and denied since the limiter was made or
        /// [`reset_metrics`](Self::reset_metrics) was called. A check that has returned is counted.
        pub fn metrics(&self) -> Metrics {
            self.counters.metrics()
        }

        /// Counts from 0 again, and returns what was counted until now: no check is lost between the two.
        pub fn reset_metrics(&self) -> Metrics {
            self.counters.reset()
        }

        /// The keys held, and how many were evicted at the cap.
        pub fn stats(&self) -> MemoryStoreStats {
            self.store.stats()
        }

        /// Frees the memory of idle keys. New keys do this bit by bit; call it when traffic has ended. O(keys).
        pub fn sweep(&self) {
            self.store.sweep();
        }
    };
}
pub(crate) use counting_calls;

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: u64 = 200;
    const CHECKS: u64 = 2_000;

    /// More threads than lines, which start and end, and a reader that resets all the time.
    #[test]
    fn every_check_is_counted_once_whatever_threads_and_resets_there_are() {
        let _alone = thread_slot::ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = Counters::new();
        let mut counted = Metrics::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| (0..CHECKS).for_each(|n| counters.count(n % 4 != 0))))
                .collect();
            let mut running = true;
            while running {
                running = threads.iter().any(|thread| !thread.is_finished());
                let part = counters.reset();
                counted.allowed += part.allowed;
                counted.denied += part.denied;
            }
            // Joining also waits for the threads' destructors, which return their numbers.
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let rest = counters.reset();
        let denied = THREADS * CHECKS / 4;
        assert_eq!(counted.denied + rest.denied, denied);
        assert_eq!(counted.allowed + rest.allowed, THREADS * CHECKS - denied);
        assert_eq!(counters.metrics(), Metrics::default());
    }

    #[test]
    fn the_deny_rate_is_the_share_of_denials() {
        for (allowed, denied, rate) in [(0, 0, 0.0), (3, 1, 0.25), (0, 5, 1.0), (7, 0, 0.0)] {
            let found = Metrics { allowed, denied }.deny_rate();
            assert!((found - rate).abs() < f64::EPSILON, "{allowed} {denied}: {found}");
        }
    }
}
