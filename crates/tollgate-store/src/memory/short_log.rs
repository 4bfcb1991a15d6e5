//! The log of a key that fits into its slot: the low timestamps of a few admissions of cost 1, oldest first.

use tollgate_core::counting::log::{Log, LogTime};

use super::ring;

/// The admissions of a log that fit into the slot.
pub(super) const SHORT: usize = 6;

/// A log in the slot, read at a given time.
pub(super) struct ShortLog<'a> {
    ticks: &'a [u32],
    stamp: u64,
}

impl<'a> ShortLog<'a> {
    /// A log without admissions.
    pub(super) const NONE: Self = Self { ticks: &[], stamp: 0 };

    /// The log of the first `len` of `ticks`, read at `time`.
    #[inline]
    pub(super) fn of(len: u8, ticks: &'a [u32; SHORT], time: &LogTime) -> Self {
        Self { ticks: &ticks[..usize::from(len)], stamp: time.stamp() }
    }
}

impl ShortLog<'_> {
    /// The log without its `oldest` admissions.
    pub(super) fn without(self, oldest: usize) -> Self {
        Self { ticks: &self.ticks[oldest..], ..self }
    }
}

impl Log for ShortLog<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.ticks.len()
    }

    #[inline]
    fn tick(&self, index: usize) -> u64 {
        ring::recall(self.stamp, self.ticks[index])
    }

    #[inline]
    fn usage(&self) -> u64 {
        self.ticks.len() as u64
    }

    #[inline]
    fn index_freeing(&self, amount: u64) -> usize {
        usize::try_from(amount - 1).unwrap_or(usize::MAX)
    }
}

/// Removes the admissions that have left the window.
pub(super) fn expire(len: &mut u8, ticks: &mut [u32; SHORT], time: &LogTime) {
    let log = ShortLog::of(*len, ticks, time);
    let expired = (0..log.len()).take_while(|index| time.has_left(log.tick(*index))).count();
    ticks.copy_within(expired.., 0);
    *len -= u8::try_from(expired).unwrap_or(*len);
}

/// Appends an admission to a log that is not full.
#[inline]
pub(super) fn push(len: &mut u8, ticks: &mut [u32; SHORT], time: &LogTime) {
    ticks[usize::from(*len)] = ring::truncate(time.stamp());
    *len += 1;
}

/// Removes an admission that was stamped `tick`; false if there is none.
pub(super) fn remove(len: &mut u8, ticks: &mut [u32; SHORT], time: &LogTime, tick: u64) -> bool {
    let log = ShortLog::of(*len, ticks, time);
    let Some(index) = (0..log.len()).find(|index| log.tick(*index) == tick) else { return false };
    ticks.copy_within(index + 1.., index);
    *len -= 1;
    true
}
