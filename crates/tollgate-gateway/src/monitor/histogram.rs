//! A histogram of atomics.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of the buckets of durations, in nanoseconds: 10 ms to 82 s, as `OpenTelemetry`'s conventions for generative AI
/// give them.
pub(super) const DURATION_ENDS_NS: [u64; ENDS] = doubling(10_000_000, 2);

/// The upper bounds of the buckets of tokens: 1 to 67,108,864, as the same conventions give them.
pub(super) const TOKEN_ENDS: [u64; ENDS] = doubling(1, 4);

const ENDS: usize = 14;
const BUCKETS: usize = ENDS + 1;

const fn doubling(first: u64, factor: u64) -> [u64; ENDS] {
    let (mut ends, mut index, mut end) = ([0; ENDS], 0, first);
    while index < ENDS {
        ends[index] = end;
        end *= factor;
        index += 1;
    }
    ends
}

/// Counts values by their size.
#[derive(Debug)]
pub(super) struct Histogram {
    ends: &'static [u64; ENDS],
    /// The last bucket has no upper bound.
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn of_durations() -> Self {
        Self::new(&DURATION_ENDS_NS)
    }

    pub(super) fn of_tokens() -> Self {
        Self::new(&TOKEN_ENDS)
    }

    fn new(ends: &'static [u64; ENDS]) -> Self {
        Self { ends, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Counts `value`. Takes no lock.
    #[inline]
    pub(super) fn observe(&self, value: u64) {
        let bucket = self.ends.iter().take_while(|end| value > **end).count();
        // Relaxed: each count is independent; a reader may see one of the two first.
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Distribution {
        Distribution {
            ends: self.ends,
            // Relaxed: see `observe`.
            counts: self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// How many values were how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    ends: &'static [u64; ENDS],
    counts: [u64; BUCKETS],
    /// The sum of the values: nanoseconds or tokens.
    pub sum: u64,
}

impl Distribution {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of each bucket, and how many values it has. The last one has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let ends = self.ends.iter().copied().map(Some).chain([None]);
        ends.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_that_it_fits_into() {
        assert_eq!((DURATION_ENDS_NS[13], TOKEN_ENDS[13]), (81_920_000_000, 67_108_864));
        let histogram = Histogram::of_tokens();
        for value in [0, 1, 2, 4, 67_108_864, 67_108_865] {
            histogram.observe(value);
        }
        let read = histogram.read();
        let filled: Vec<_> = read.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(1), 2), (Some(4), 2), (Some(67_108_864), 1), (None, 1)]);
        assert_eq!((read.count(), read.sum), (6, 134_217_736));
    }
}
