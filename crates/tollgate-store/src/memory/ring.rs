//! The log of a key that has outgrown its slot: a ring of entries in one allocation.
//!
//! An entry is its timestamp modulo 2^32 and, in a weighted log, the running sum of costs (modulo 2^64) after it. With
//! sums, both expiry and the retry time are binary searches. The bounds of the ring are in the slot, so that an
//! admission reads the slot, the oldest entry and the place of the newest, the last two in parallel.

use tollgate_core::Amount;
use tollgate_core::counting::log::{self, Log, LogTime};
use tollgate_core::counting::{Verdict, Wait};

/// Words of an entry of cost 1.
pub(super) const UNIT: usize = 1;
/// Words of an entry of any cost.
pub(super) const WEIGHTED: usize = 3;

/// Words of the running sum before the oldest entry of a weighted log.
const BASE: usize = 2;

/// The most entries of a ring. A log with this many entries admits nothing until its oldest entry leaves.
const MAX_ENTRIES: usize = 1 << 31;
/// A ring with at most this many places is not shrunk.
const SMALL: usize = 32;

/// Entries of `WIDTH` words, oldest first.
#[derive(Debug)]
pub(super) struct Ring<const WIDTH: usize> {
    /// The entries. A weighted ring has two more words for the running sum before the oldest entry.
    words: Box<[u32]>,
    /// The index of the oldest entry.
    head: u32,
    len: u32,
}

impl<const WIDTH: usize> Ring<WIDTH> {
    /// A ring with these low timestamps and costs, and room for as many more.
    pub(super) fn from_entries(entries: impl ExactSizeIterator<Item = (u32, u64)>) -> Self {
        let len = entries.len();
        let mut words = allocate::<WIDTH>(2 * len + 4);
        let mut sum = 0_u64;
        for (entry, (low, cost)) in words.chunks_exact_mut(WIDTH).zip(entries) {
            sum = sum.wrapping_add(cost);
            write(entry, low, sum);
        }
        Self { words, head: 0, len: narrow(len) }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The ring as a log, read at a time at which an admission would get `stamp`.
    #[inline]
    fn at(&self, stamp: u64) -> RingLog<'_, WIDTH> {
        RingLog { ring: self, stamp }
    }

    /// The verdict of `limit` on `cost` over this log.
    #[inline]
    pub(super) fn evaluate(&self, limit: Amount, time: &LogTime, cost: Amount) -> Verdict {
        let log = self.at(time.stamp());
        let verdict = log::evaluate(&log, limit, time, cost);
        if self.len() < MAX_ENTRIES || !verdict.allowed {
            return verdict;
        }
        // It is full until its oldest entry leaves.
        let wait = Wait::Ns(time.leaves_at_ns(log.tick(0)) - time.now_ns());
        Verdict { allowed: false, wait, ..verdict }
    }

    /// The entries, oldest first: low timestamp and cost.
    pub(super) fn low_entries(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..self.len()).map(|index| {
            let before = if index == 0 { 0 } else { self.sum_to(index - 1) };
            (self.words[self.place(index)], self.sum_to(index).wrapping_sub(before))
        })
    }

    #[inline]
    fn capacity(&self) -> usize {
        // The sum before the oldest entry takes fewer words than an entry.
        self.words.len() / WIDTH
    }

    /// The running sum before the oldest entry.
    #[inline]
    fn base(&self) -> u64 {
        match *self.words {
            [.., low, high] if WIDTH == WEIGHTED => u64::from(low) | u64::from(high) << 32,
            _ => 0,
        }
    }

    fn set_base(&mut self, base: u64) {
        if let [.., low, high] = &mut *self.words {
            (*low, *high) = (truncate(base), truncate(base >> 32));
        }
    }

    /// The first word of entry `index`; index `len` is the place of the next entry, if there is room.
    #[inline]
    fn place(&self, index: usize) -> usize {
        let (place, capacity) = (self.head as usize + index, self.capacity());
        let wrapped = if place >= capacity { place - capacity } else { place };
        wrapped * WIDTH
    }

    /// The running sum from the oldest entry to entry `index`.
    #[inline]
    fn sum_to(&self, index: usize) -> u64 {
        if WIDTH == UNIT {
            return index as u64 + 1;
        }
        let place = self.place(index);
        let sum = u64::from(self.words[place + 1]) | u64::from(self.words[place + 2]) << 32;
        sum.wrapping_sub(self.base())
    }

    /// The sum of the costs.
    #[inline]
    pub(super) fn usage(&self) -> u64 {
        match self.len() {
            0 => 0,
            len => self.sum_to(len - 1),
        }
    }

    /// The low timestamp of the oldest entry.
    #[inline]
    pub(super) fn oldest(&self) -> Option<&u32> {
        // An entry at the head never wraps around the end.
        self.words.get(self.head as usize * WIDTH).filter(|_| self.len > 0)
    }

    /// Removes the entries that have left the window, and returns memory if most of the ring is empty.
    pub(super) fn expire(&mut self, time: &LogTime) {
        let log = self.at(time.stamp());
        if self.len == 0 || !time.has_left(log.tick(0)) {
            return;
        }
        let expired = partition_point(1, self.len(), |index| time.has_left(log.tick(index)));
        self.forget(expired);
    }

    /// Removes the oldest `expired` entries, at least one.
    fn forget(&mut self, expired: usize) {
        if WIDTH == WEIGHTED {
            self.set_base(self.base().wrapping_add(self.sum_to(expired - 1)));
        }
        let capacity = self.capacity();
        self.head = narrow((self.head as usize + expired) % capacity);
        self.len -= narrow(expired);
        if capacity > SMALL && self.len() * 4 < capacity {
            self.resize(capacity / 2);
        }
    }

    /// Appends an entry of `cost` with the current timestamp; a full ring grows, but to no more than `most` entries.
    #[inline]
    pub(super) fn push(&mut self, time: &LogTime, cost: u64, most: u64) {
        let len = self.len();
        if len == self.capacity() {
            let most = usize::try_from(most).unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
            self.resize((len * 2).min(most.max(len + 1)));
        }
        let sum = if WIDTH == UNIT { 0 } else { self.base().wrapping_add(self.usage() + cost) };
        let place = self.place(len);
        write(&mut self.words[place..place + WIDTH], truncate(time.stamp()), sum);
        self.len += 1;
    }

    /// Moves the entries, at most `capacity`, to a ring with that capacity.
    #[cold]
    fn resize(&mut self, capacity: usize) {
        let mut words = allocate::<WIDTH>(capacity);
        let until_end = self.capacity() * WIDTH - self.place(0);
        let used = self.len() * WIDTH;
        let first = used.min(until_end);
        let start = self.place(0);
        words[..first].copy_from_slice(&self.words[start..start + first]);
        words[first..used].copy_from_slice(&self.words[..used - first]);
        let base = self.base();
        self.words = words;
        self.head = 0;
        if WIDTH == WEIGHTED {
            self.set_base(base);
        }
    }
}

/// A ring read at one moment.
#[derive(Clone, Copy)]
struct RingLog<'a, const WIDTH: usize> {
    ring: &'a Ring<WIDTH>,
    /// The timestamp of an admission now: no entry is newer.
    stamp: u64,
}

impl<const WIDTH: usize> Log for RingLog<'_, WIDTH> {
    #[inline]
    fn len(&self) -> usize {
        self.ring.len()
    }

    #[inline]
    fn tick(&self, index: usize) -> u64 {
        recall(self.stamp, self.ring.words[self.ring.place(index)])
    }

    #[inline]
    fn usage(&self) -> u64 {
        self.ring.usage()
    }

    #[inline]
    fn index_freeing(&self, amount: u64) -> usize {
        if WIDTH == UNIT {
            return usize::try_from(amount - 1).unwrap_or(MAX_ENTRIES);
        }
        partition_point(0, self.len() - 1, |index| self.ring.sum_to(index) < amount)
    }
}

fn allocate<const WIDTH: usize>(capacity: usize) -> Box<[u32]> {
    let base = if WIDTH == WEIGHTED { BASE } else { 0 };
    vec![0; capacity * WIDTH + base].into_boxed_slice()
}

/// Writes an entry: its low timestamp, and if it is weighted the running sum after it.
#[inline]
fn write(entry: &mut [u32], low: u32, sum: u64) {
    entry[0] = low;
    if let [_, sum_low, sum_high] = entry {
        (*sum_low, *sum_high) = (truncate(sum), truncate(sum >> 32));
    }
}

/// The timestamp whose low 32 bits are `low`: the newest that is not after `now`.
#[inline]
pub(super) fn recall(now: u64, low: u32) -> u64 {
    now - u64::from(truncate(now).wrapping_sub(low))
}

/// The low 32 bits of a timestamp, which are all that a log stores.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "`recall` restores what is cut off")]
pub(super) fn truncate(stamp: u64) -> u32 {
    stamp as u32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "indices are at most MAX_ENTRIES")]
fn narrow(index: usize) -> u32 {
    debug_assert!(index <= MAX_ENTRIES);
    index as u32
}

/// The first index in `from..to` for which `holds` is false, or `to`; after it, `holds` must stay false.
#[inline]
fn partition_point(mut from: usize, mut to: usize, holds: impl Fn(usize) -> bool) -> usize {
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
