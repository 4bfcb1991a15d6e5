//! Chooses which decisions are sampled when there are too many.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::Timestamp;

/// The length of a time slot.
const SLOT_NS: u64 = 100_000_000;
const SLOTS_PER_SECOND: u64 = 10;

/// Takes every decision while there are few; otherwise every n-th, where n depends on the rate in the previous time
/// slot.
///
/// Relaxed throughout: each number is independent, and threads that meet at the edge of a slot only take a few
/// decisions more or less.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    slot: AtomicU64,
    seen_in_slot: AtomicU64,
    /// One of this many is taken; 0 before the first slot.
    stride: AtomicU64,
    /// The decisions skipped since the last one that was taken.
    passed_by: AtomicU64,
}

impl Sampler {
    /// The most decisions taken in a second.
    pub(super) const PER_SECOND: u64 = 1_000;
    const PER_SLOT: u64 = Self::PER_SECOND / SLOTS_PER_SECOND;

    /// Whether to sample the decision made `now`, and if so how many decisions it represents.
    #[inline]
    pub(super) fn take(&self, now: Timestamp) -> Option<u64> {
        let slot = now.as_ns() / SLOT_NS;
        if self.slot.load(Ordering::Relaxed) != slot
            && self.slot.swap(slot, Ordering::Relaxed) != slot
        {
            let seen = self.seen_in_slot.swap(0, Ordering::Relaxed);
            self.stride.store(seen.div_ceil(Self::PER_SLOT).max(1), Ordering::Relaxed);
        }
        let nth = self.seen_in_slot.fetch_add(1, Ordering::Relaxed);
        let stride = self.stride.load(Ordering::Relaxed).max(1);
        if !nth.is_multiple_of(stride) || nth / stride >= Self::PER_SLOT {
            self.passed_by.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(1 + self.passed_by.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decisions at an even rate for a second; returns how many were taken, and how many they represent.
    fn second(sampler: &Sampler, from_s: u64, per_second: u64) -> (u64, u64) {
        let at =
            |n: u64| Timestamp::from_ns(from_s * 1_000_000_000 + n * 1_000_000_000 / per_second);
        let weights: Vec<_> = (0..per_second).filter_map(|n| sampler.take(at(n))).collect();
        (weights.len() as u64, weights.iter().sum())
    }

    #[test]
    fn few_decisions_are_all_taken_and_many_are_thinned_out() {
        let sampler = Sampler::default();
        assert_eq!(second(&sampler, 1, 900), (900, 900));
        let (taken, stood_for) = second(&sampler, 2, 100_000);
        assert!(taken <= Sampler::PER_SECOND, "{taken}");
        assert!((90_000..=100_000).contains(&stood_for), "{stood_for}");
        // The decisions skipped at the end count for the next one that is taken, so none is lost.
        let (_, rest) = second(&sampler, 3, 10);
        assert_eq!(stood_for + rest, 100_010);
    }

    #[test]
    fn a_burst_out_of_nothing_is_bounded() {
        let sampler = Sampler::default();
        let now = Timestamp::from_ns(5);
        let taken = (0..1_000_000).filter(|_| sampler.take(now).is_some()).count();
        assert_eq!(taken as u64, Sampler::PER_SLOT);
    }
}
