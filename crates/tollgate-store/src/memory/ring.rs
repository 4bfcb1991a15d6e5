//! The log of one key outside its slot: a ring of words in one allocation.
//!
//! Words 0 and 1 hold the index of the oldest entry and the number of entries; for weighted logs words 2 and 3
//! hold the running sum before the oldest entry. An entry is its stamp modulo 2^32 and, in a weighted log, the
//! running sum (modulo 2^64) after it: sums make both expiry and the retry time a binary search.

use tollgate_core::algorithm::sliding_window_log::{Log, LogTime};

/// Entries of cost 1: 4 bytes each.
pub(super) const UNIT: usize = 1;
/// Entries of any cost: 12 bytes each.
pub(super) const WEIGHTED: usize = 3;

/// The most entries of a ring; a log that holds so many admits no more until its oldest leaves.
pub(super) const MAX_ENTRIES: usize = 1 << 31;
/// A ring with at most this many places is not shrunk.
const SMALL: usize = 16;

const HEAD: usize = 0;
const LEN: usize = 1;
const BASE: usize = 2;

const fn header(width: usize) -> usize {
    if width == UNIT { 2 } else { 4 }
}

/// A ring with room for `capacity` entries.
pub(super) fn allocate<const WIDTH: usize>(capacity: usize) -> Box<[u32]> {
    vec![0; header(WIDTH) + capacity * WIDTH].into_boxed_slice()
}

/// Reads a ring whose entries are `WIDTH` words each.
#[derive(Clone, Copy)]
pub(super) struct Ring<'a, const WIDTH: usize> {
    words: &'a [u32],
    /// The stamp of an admission now: no entry is newer.
    stamp: u64,
}

impl<'a, const WIDTH: usize> Ring<'a, WIDTH> {
    #[inline]
    pub(super) fn new(words: &'a [u32], stamp: u64) -> Self {
        Self { words, stamp }
    }

    #[inline]
    fn capacity(&self) -> usize {
        (self.words.len() - header(WIDTH)) / WIDTH
    }

    /// The first word of entry `index`; index `len` is where the next one goes if there is room.
    #[inline]
    fn place(&self, index: usize) -> usize {
        let (place, capacity) = (self.words[HEAD] as usize + index, self.capacity());
        let wrapped = if place >= capacity { place - capacity } else { place };
        header(WIDTH) + wrapped * WIDTH
    }

    #[inline]
    fn base(&self) -> u64 {
        join(self.words[BASE], self.words[BASE + 1])
    }

    /// The running sum after entry `index`, from the oldest entry.
    #[inline]
    fn sum_to(&self, index: usize) -> u64 {
        if WIDTH == UNIT {
            return index as u64 + 1;
        }
        let place = self.place(index);
        join(self.words[place + 1], self.words[place + 2]).wrapping_sub(self.base())
    }

    /// The entries, oldest first: stamp and cost.
    pub(super) fn entries(self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.len()).map(move |index| {
            let before = if index == 0 { 0 } else { self.sum_to(index - 1) };
            (self.tick(index), self.sum_to(index) - before)
        })
    }

    /// How many of the oldest entries have left the window.
    #[inline]
    fn expired(&self, time: &LogTime) -> usize {
        let len = self.len();
        if len == 0 || !time.has_left(self.tick(0)) {
            return 0;
        }
        partition_point(1, len, |index| time.has_left(self.tick(index)))
    }
}

impl<const WIDTH: usize> Log for Ring<'_, WIDTH> {
    #[inline]
    fn len(&self) -> usize {
        self.words[LEN] as usize
    }

    #[inline]
    fn tick(&self, index: usize) -> u64 {
        recall(self.stamp, self.words[self.place(index)])
    }

    #[inline]
    fn usage(&self) -> u64 {
        match self.len() {
            0 => 0,
            len => self.sum_to(len - 1),
        }
    }

    #[inline]
    fn index_freeing(&self, amount: u64) -> usize {
        if WIDTH == UNIT {
            return usize::try_from(amount - 1).unwrap_or(MAX_ENTRIES);
        }
        partition_point(0, self.len() - 1, |index| self.sum_to(index) < amount)
    }
}

/// Forgets the entries that have left the window, and gives back memory when most of the ring is empty.
#[inline]
pub(super) fn expire<const WIDTH: usize>(words: &mut Box<[u32]>, time: &LogTime) {
    let ring = Ring::<WIDTH>::new(words, time.stamp());
    let expired = ring.expired(time);
    if expired == 0 {
        return;
    }
    let (len, capacity) = (ring.len(), ring.capacity());
    let base = if WIDTH == UNIT { 0 } else { ring.base().wrapping_add(ring.sum_to(expired - 1)) };
    let head = (ring.words[HEAD] as usize + expired) % capacity;
    words[HEAD] = narrow(head);
    words[LEN] = narrow(len - expired);
    if WIDTH == WEIGHTED {
        (words[BASE], words[BASE + 1]) = split(base);
    }
    if capacity > SMALL && (len - expired) * 4 < capacity {
        resize::<WIDTH>(words, capacity / 2);
    }
}

/// Appends an entry of `cost` stamped now; a ring that is full grows, to no more than `most` entries.
#[inline]
pub(super) fn push<const WIDTH: usize>(
    words: &mut Box<[u32]>,
    time: &LogTime,
    cost: u64,
    most: u64,
) {
    let ring = Ring::<WIDTH>::new(words, time.stamp());
    let (len, capacity) = (ring.len(), ring.capacity());
    if len == capacity {
        let most = usize::try_from(most).unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
        resize::<WIDTH>(words, (capacity * 2 + 4).min(most.max(len + 1)));
    }
    let ring = Ring::<WIDTH>::new(words, time.stamp());
    let place = ring.place(len);
    let sum = if WIDTH == UNIT { 0 } else { ring.base().wrapping_add(ring.usage() + cost) };
    words[place] = truncate(time.stamp());
    if WIDTH == WEIGHTED {
        (words[place + 1], words[place + 2]) = split(sum);
    }
    words[LEN] = narrow(len + 1);
}

/// Moves the entries, of which there are no more than `capacity`, to a ring of that capacity.
#[cold]
fn resize<const WIDTH: usize>(words: &mut Box<[u32]>, capacity: usize) {
    let old = Ring::<WIDTH>::new(words, 0);
    let mut new = allocate::<WIDTH>(capacity);
    let start = header(WIDTH);
    new[LEN] = old.words[LEN];
    new[BASE..start].copy_from_slice(&old.words[BASE..start]);
    for index in 0..old.len() {
        let (from, to) = (old.place(index), start + index * WIDTH);
        new[to..to + WIDTH].copy_from_slice(&old.words[from..from + WIDTH]);
    }
    *words = new;
}

/// The stamp of which `low` are the low 32 bits: the newest that is not after `now`.
#[inline]
pub(super) fn recall(now: u64, low: u32) -> u64 {
    now - u64::from(truncate(now).wrapping_sub(low))
}

/// The low 32 bits of a stamp: all that a log keeps of it.
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

#[inline]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[inline]
fn split(sum: u64) -> (u32, u32) {
    (truncate(sum), truncate(sum >> 32))
}

/// The first index in `from..to` for which `holds` is false, or `to`; it must hold for none after that.
#[inline]
fn partition_point(mut from: usize, mut to: usize, holds: impl Fn(usize) -> bool) -> usize {
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { from = middle + 1 } else { to = middle }
    }
    from
}

/// A ring of entries with these low stamps and costs, and room for more.
pub(super) fn weighted_from(entries: &[(u32, u64)]) -> Box<[u32]> {
    let mut words = allocate::<WEIGHTED>(entries.len() + 1);
    let mut sum = 0_u64;
    for (index, (low, cost)) in entries.iter().enumerate() {
        let place = header(WEIGHTED) + index * WEIGHTED;
        sum += cost;
        words[place] = *low;
        (words[place + 1], words[place + 2]) = split(sum);
    }
    words[LEN] = narrow(entries.len());
    words
}

/// A ring of entries of cost 1 with these low stamps, and room for more.
pub(super) fn unit_from(ticks: &[u32]) -> Box<[u32]> {
    let mut words = allocate::<UNIT>(2 * ticks.len() + 4);
    words[LEN] = narrow(ticks.len());
    words[header(UNIT)..header(UNIT) + ticks.len()].copy_from_slice(ticks);
    words
}
