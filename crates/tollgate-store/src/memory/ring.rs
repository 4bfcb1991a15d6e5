//! The log of a key that has outgrown its slot: a ring of entries in one allocation.
//!
//! An entry is its timestamp modulo 2^32 and, in a weighted log, its cost. A weighted ring also has the sum of all costs, and the
//! sum of each block of 64 places. So a cost changes in O(1) once its entry is found, by a binary search; a retry time skips
//! whole blocks; and expiry is O(1) for each entry that leaves. The bounds of the ring are in the slot, so that an admission
//! reads the slot, the oldest entry and the place of the newest, the last two in parallel.

use tollgate_core::Amount;
use tollgate_core::counting::log::{self, Log, LogTime};
use tollgate_core::counting::{Verdict, Wait};

/// Words of an entry of cost 1.
pub(super) const UNIT: usize = 1;
/// Words of an entry of any cost.
pub(super) const WEIGHTED: usize = 3;

/// Words of a sum.
const SUM: usize = 2;
/// How many places of a weighted ring have a sum of their own.
const BLOCK: usize = 64;
/// Words of a block of places and its sum.
const BLOCK_WORDS: usize = BLOCK * WEIGHTED + SUM;

/// The most entries of a ring. A log with this many entries admits nothing until its oldest entry leaves.
const MAX_ENTRIES: usize = 1 << 31;
/// A ring with at most this many places is not shrunk.
const SMALL: usize = 32;

/// Entries of `WIDTH` words, oldest first.
#[derive(Debug)]
pub(super) struct Ring<const WIDTH: usize> {
    /// The entries; of a weighted ring then the sum of all costs, and that of each block of places.
    words: Box<[u32]>,
    /// The index of the oldest entry.
    head: u32,
    len: u32,
}

impl<const WIDTH: usize> Ring<WIDTH> {
    /// A ring with these low timestamps and costs, and room for as many more.
    pub(super) fn from_entries(entries: impl ExactSizeIterator<Item = (u32, u64)>) -> Self {
        let mut ring = Self::with_capacity(2 * entries.len() + 4);
        for (low, cost) in entries {
            ring.append(low, cost);
        }
        ring
    }

    fn with_capacity(capacity: usize) -> Self {
        let sums = if WIDTH == WEIGHTED { 1 + capacity.div_ceil(BLOCK) } else { 0 };
        let words = vec![0; capacity * WIDTH + sums * SUM].into_boxed_slice();
        Self { words, head: 0, len: 0 }
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
        self.unless_full(log::evaluate(&log, limit, time, cost), time)
    }

    /// [`Ring::evaluate`] in a window that may be shorter than that of the ring: entries that have left it stay and do not count.
    /// O(log n), and O(1) for each of them.
    pub(super) fn look(&self, limit: Amount, time: &LogTime, cost: Amount) -> Verdict {
        let log = self.at(time.stamp());
        let gone = partition_point(0, self.len(), |index| time.has_left(log.tick(index)));
        if gone == 0 {
            return self.evaluate(limit, time, cost);
        }
        let used = (0..gone).map(|index| self.cost(index)).sum();
        let verdict = log::evaluate(&Newer { log, gone, used }, limit, time, cost);
        self.unless_full(verdict, time)
    }

    #[inline]
    fn unless_full(&self, verdict: Verdict, time: &LogTime) -> Verdict {
        if self.len() < MAX_ENTRIES || !verdict.allowed {
            return verdict;
        }
        // It is full until its oldest entry leaves.
        let leaves_at_ns = time.leaves_at_ns(self.at(time.stamp()).tick(0));
        let wait = Wait::Ns(leaves_at_ns.saturating_sub(time.now_ns()).max(1));
        Verdict { allowed: false, wait, ..verdict }
    }

    /// The low timestamp of the newest entry.
    pub(super) fn newest(&self) -> Option<u32> {
        let last = self.len().checked_sub(1)?;
        Some(self.words[self.place(last) * WIDTH])
    }

    /// The entries, oldest first: low timestamp and cost.
    pub(super) fn low_entries(&self) -> impl ExactSizeIterator<Item = (u32, u64)> {
        (0..self.len()).map(|index| (self.words[self.place(index) * WIDTH], self.cost(index)))
    }

    /// How many places there are.
    #[inline]
    fn capacity(&self) -> usize {
        if WIDTH == UNIT {
            return self.words.len();
        }
        let words = self.words.len() - SUM;
        let (blocks, rest) = (words / BLOCK_WORDS, words % BLOCK_WORDS);
        blocks * BLOCK + rest.saturating_sub(SUM) / WIDTH
    }

    /// The place of entry `index`; index `len` is that of the next entry, if there is room.
    #[inline]
    fn place(&self, index: usize) -> usize {
        let (place, capacity) = (self.head as usize + index, self.capacity());
        if place >= capacity { place - capacity } else { place }
    }

    #[inline]
    fn cost(&self, index: usize) -> u64 {
        if WIDTH == UNIT {
            return 1;
        }
        self.number(self.place(index) * WIDTH + 1)
    }

    #[inline]
    fn number(&self, word: usize) -> u64 {
        u64::from(self.words[word]) | u64::from(self.words[word + 1]) << 32
    }

    #[inline]
    fn set_number(&mut self, word: usize, number: u64) {
        (self.words[word], self.words[word + 1]) = (truncate(number), truncate(number >> 32));
    }

    /// The word of the sum of all costs, in a weighted ring.
    #[inline]
    fn total_word(&self) -> usize {
        self.capacity() * WIDTH
    }

    /// The word of the sum of the block that `place` is in.
    #[inline]
    fn block_word(&self, place: usize) -> usize {
        self.total_word() + (1 + place / BLOCK) * SUM
    }

    /// Adds `new - old` to the sums of the entry at `place` of a weighted ring.
    #[inline]
    fn add_to_sums(&mut self, place: usize, old: u64, new: u64) {
        for word in [self.total_word(), self.block_word(place)] {
            self.set_number(word, (self.number(word) - old) + new);
        }
    }

    /// The sum of the costs.
    #[inline]
    pub(super) fn usage(&self) -> u64 {
        if WIDTH == UNIT { u64::from(self.len) } else { self.number(self.total_word()) }
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
        let mut expired = partition_point(1, self.len(), |index| time.has_left(log.tick(index)));
        // The oldest entry counts.
        while expired < self.len() && self.cost(expired) == 0 {
            expired += 1;
        }
        self.forget(expired);
    }

    /// Removes the oldest `expired` entries, at least one.
    fn forget(&mut self, expired: usize) {
        if WIDTH == WEIGHTED {
            for index in 0..expired {
                self.add_to_sums(self.place(index), self.cost(index), 0);
            }
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
        self.append(truncate(time.stamp()), cost);
    }

    #[inline]
    fn append(&mut self, low: u32, cost: u64) {
        let place = self.place(self.len());
        self.words[place * WIDTH] = low;
        if WIDTH == WEIGHTED {
            self.set_number(place * WIDTH + 1, cost);
            self.add_to_sums(place, 0, cost);
        }
        self.len += 1;
    }

    /// Moves the entries, at most `capacity`, to a ring with that capacity.
    #[cold]
    fn resize(&mut self, capacity: usize) {
        let mut ring = Self::with_capacity(capacity);
        for (low, cost) in self.low_entries() {
            ring.append(low, cost);
        }
        *self = ring;
    }
}

impl Ring<WEIGHTED> {
    /// Changes the cost of an entry of `old` that was stamped `tick` to `new`; false if there is none. `stamp` is that of an
    /// admission now. O(log n), and O(1) for each entry of the same tick.
    pub(super) fn change(&mut self, stamp: u64, tick: u64, old: u64, new: u64) -> bool {
        let log = self.at(stamp);
        let first = partition_point(0, self.len(), |index| log.tick(index) < tick);
        let mut same = (first..self.len()).take_while(|index| log.tick(*index) == tick);
        let Some(index) = same.find(|index| self.cost(*index) == old) else { return false };
        let place = self.place(index);
        self.set_number(place * WEIGHTED + 1, new);
        self.add_to_sums(place, old, new);
        // The newest entry and the oldest one count.
        while self.len > 0 && self.cost(self.len() - 1) == 0 {
            self.len -= 1;
        }
        let gone = (0..self.len()).take_while(|index| self.cost(*index) == 0).count();
        if gone > 0 {
            self.forget(gone);
        }
        true
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
        recall(self.stamp, self.ring.words[self.ring.place(index) * WIDTH])
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
        let ring = self.ring;
        let (mut left, mut index, last) = (amount, 0, self.len() - 1);
        while index < last {
            let place = ring.place(index);
            // A whole block of entries, which does not reach the newest one.
            if place.is_multiple_of(BLOCK)
                && place + BLOCK <= ring.capacity()
                && index + BLOCK <= last
            {
                let sum = ring.number(ring.block_word(place));
                if sum < left {
                    (left, index) = (left - sum, index + BLOCK);
                    continue;
                }
            }
            let cost = ring.cost(index);
            if cost >= left {
                break;
            }
            (left, index) = (left - cost, index + 1);
        }
        index
    }
}

/// A log without its oldest entries.
struct Newer<L> {
    log: L,
    /// How many they are.
    gone: usize,
    /// What they cost.
    used: u64,
}

impl<L: Log> Log for Newer<L> {
    fn len(&self) -> usize {
        self.log.len() - self.gone
    }

    fn tick(&self, index: usize) -> u64 {
        self.log.tick(index + self.gone)
    }

    fn usage(&self) -> u64 {
        self.log.usage() - self.used
    }

    fn index_freeing(&self, amount: u64) -> usize {
        self.log.index_freeing(amount + self.used) - self.gone
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
