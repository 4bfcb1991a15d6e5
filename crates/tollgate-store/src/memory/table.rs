//! The keys of one shard: open addressing with linear probing over 40-byte slots, so that a check mostly waits for
//! memory once: the rest of a slot, and the next one, are fetched together with its beginning.
//!
//! Whenever a key is added, a few slots are examined and idle keys removed; before the table grows, all idle keys are
//! removed. So idle keys never make the table larger.

#[cfg(feature = "snapshots")]
use std::ops::ControlFlow;

use tollgate_core::Timestamp;

use super::usage::Usage;

/// A key and its usage; the key 0 marks an empty slot.
#[derive(Debug)]
#[repr(C)]
struct Slot {
    fingerprint: u64,
    usage: Usage,
}

const _: () = assert!(size_of::<Slot>() == 40);

const EMPTY: Slot = Slot { fingerprint: 0, usage: Usage::NONE };

/// The slots of a table when it gets its first key. Later it grows by a quarter at a time: a table that is at least two
/// thirds full takes less memory than one that doubles, so more of it stays in the processor's cache.
const FIRST_CAPACITY: usize = 8;
/// How many slots are examined for idle keys whenever a key is added: more than a table gains, so that a round ends.
const SWEEP_STEP: usize = 2;
/// How many slots are examined to find the key to evict at the cap.
const EVICTION_SAMPLE: usize = 16;

/// The keys of one shard.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    len: usize,
    /// Where the next sweep continues.
    cursor: usize,
    /// Keys evicted before they were idle.
    evicted: u64,
}

impl Table {
    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of keys evicted so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The first slot that may hold `fingerprint`, in a table with slots. The slots divide the range of fingerprints
    /// evenly and in order, so that a table of any length is filled evenly and a rehash moves through memory once.
    #[inline]
    fn home(&self, fingerprint: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it is below the number of slots")]
        let place = ((u128::from(fingerprint) * self.slots.len() as u128) >> 64) as usize;
        place
    }

    /// The slot after `place`, around the end.
    #[inline]
    fn after(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() { 0 } else { place + 1 }
    }

    /// The number of slots from `from` to `to`, around the end.
    #[inline]
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    #[inline]
    fn position(&self, fingerprint: u64) -> Option<usize> {
        // This is not a loop: the processor predicts that the first slot is the right one and fetches its usage
        // together with its fingerprint.
        let first = self.home(fingerprint);
        let found = self.slots.get(first)?.fingerprint;
        if found == fingerprint {
            return Some(first);
        }
        if found == 0 {
            return None;
        }
        self.position_after(first, fingerprint)
    }

    /// Continues a search after slot `place`.
    fn position_after(&self, mut place: usize, fingerprint: u64) -> Option<usize> {
        // It ends, because at least a fifth of the slots is empty.
        loop {
            place = self.after(place);
            let found = self.slots[place].fingerprint;
            if found == fingerprint {
                return Some(place);
            }
            if found == 0 {
                return None;
            }
        }
    }

    /// Visits each key whose fingerprint lies from `first` to `last`, until `visit` says so. O(slots of that range).
    #[cfg(feature = "snapshots")]
    pub(super) fn visit(
        &self,
        first: u64,
        last: u64,
        mut visit: impl FnMut(u64, &Usage) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.slots.is_empty() {
            return ControlFlow::Continue(());
        }
        let (start, end) = (self.home(first), self.home(last));
        // No key is before its home slot, and none is after the first empty slot behind it.
        for step in 0..self.slots.len() {
            let place = (start + step) % self.slots.len();
            let Slot { fingerprint, usage } = &self.slots[place];
            if *fingerprint == 0 && start + step >= end {
                break;
            }
            if *fingerprint != 0 && (first..=last).contains(fingerprint) {
                visit(*fingerprint, usage)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// How many slots it has.
    #[cfg(feature = "snapshots")]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Gives an empty table `slots` slots, or as many as `max_keys` need.
    #[cfg(feature = "snapshots")]
    pub(super) fn begin_with(&mut self, slots: usize, max_keys: usize) {
        if self.slots.is_empty() && slots > 0 {
            self.rehash(slots.min(capacity_for(max_keys)).max(FIRST_CAPACITY));
        }
    }

    /// The usage of a key, if it has any.
    #[inline]
    pub(super) fn get(&mut self, fingerprint: u64) -> Option<&mut Usage> {
        let place = self.position(fingerprint)?;
        self.slots.get_mut(place).map(|slot| &mut slot.usage)
    }

    /// The usage of a key; a new key starts without usage. At `max_keys`, a new key evicts another.
    #[inline]
    pub(super) fn get_or_insert(
        &mut self,
        fingerprint: u64,
        now: Timestamp,
        max_keys: usize,
    ) -> &mut Usage {
        let place = match self.position(fingerprint) {
            Some(place) => place,
            None => self.insert(fingerprint, now, max_keys),
        };
        &mut self.slots[place].usage
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, fingerprint: u64) {
        if let Some(place) = self.position(fingerprint) {
            self.remove_at(place);
        }
    }

    /// Removes every idle key, and returns memory that is no longer needed. O(slots).
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let mut place = 0;
        // A removal shifts later keys back; a key that wraps around is seen in the next sweep.
        while place < self.slots.len() {
            if !self.remove_if_idle(place, now) {
                place += 1;
            }
        }
        let needed = capacity_for(self.len);
        if needed * 4 <= self.slots.len() {
            self.rehash(needed * 2);
        }
    }

    fn insert(&mut self, fingerprint: u64, now: Timestamp, max_keys: usize) -> usize {
        self.sweep_some(now);
        if self.len >= max_keys {
            self.evict(fingerprint, now);
        }
        if self.len >= most_keys(self.slots.len()) {
            self.sweep(now);
            // Not if that has made enough room, so that sweeps stay rare.
            if self.len >= most_keys(self.slots.len()) / 4 * 3 {
                self.rehash(self.slots.len() + self.slots.len() / 4 + FIRST_CAPACITY);
            }
        }
        self.len += 1;
        let place = self.free_place(fingerprint);
        self.slots[place].fingerprint = fingerprint;
        place
    }

    /// The empty slot for `fingerprint`, which is not in the table.
    #[inline]
    fn free_place(&self, fingerprint: u64) -> usize {
        let mut place = self.home(fingerprint);
        while self.slots[place].fingerprint != 0 {
            place = self.after(place);
        }
        place
    }

    #[inline]
    fn sweep_some(&mut self, now: Timestamp) {
        for _ in 0..SWEEP_STEP.min(self.slots.len()) {
            // The table may have become smaller.
            let place = if self.cursor < self.slots.len() { self.cursor } else { 0 };
            if !self.remove_if_idle(place, now) {
                self.cursor = self.after(place);
            }
        }
    }

    #[inline]
    fn remove_if_idle(&mut self, place: usize, now: Timestamp) -> bool {
        let slot = &self.slots[place];
        let idle = slot.fingerprint != 0 && slot.usage.is_idle(now);
        if idle {
            self.remove_at(place);
        }
        idle
    }

    /// Evicts an idle key of a sample, or else the key with the smallest share of its limit in use: a flood of new ids
    /// evicts its own keys before it evicts a client near its limit.
    #[cold]
    fn evict(&mut self, fingerprint: u64, now: Timestamp) {
        let start = self.home(fingerprint);
        let places = (start..self.slots.len()).chain(0..start);
        let held = places.filter(|place| self.slots[*place].fingerprint != 0);
        let least = held.take(EVICTION_SAMPLE).min_by_key(|place| {
            let usage = &self.slots[*place].usage;
            if usage.is_idle(now) { (0, 0) } else { usage.weight() }
        });
        if let Some(place) = least {
            self.evicted += u64::from(!self.slots[place].usage.is_idle(now));
            self.remove_at(place);
        }
    }

    /// Empties a slot and moves later keys of the same run back, so that no search ends too soon.
    fn remove_at(&mut self, mut hole: usize) {
        self.slots[hole] = EMPTY;
        self.len -= 1;
        let mut place = self.after(hole);
        while self.slots[place].fingerprint != 0 {
            let wanted = self.home(self.slots[place].fingerprint);
            // The key may move to the hole if the hole is not before its home slot.
            if self.distance(wanted, place) >= self.distance(hole, place) {
                self.slots.swap(hole, place);
                hole = place;
            }
            place = self.after(place);
        }
    }

    #[cold]
    fn rehash(&mut self, capacity: usize) {
        let slots = (0..capacity).map(|_| EMPTY).collect();
        let old = std::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| slot.fingerprint != 0) {
            let place = self.free_place(slot.fingerprint);
            self.slots[place] = slot;
        }
    }
}

/// The most keys of a table with `capacity` slots: four fifths.
#[inline]
fn most_keys(capacity: usize) -> usize {
    capacity / 5 * 4 + capacity % 5 * 4 / 5
}

/// The least capacity that holds `keys`; 0 for none.
fn capacity_for(keys: usize) -> usize {
    if keys == 0 { 0 } else { (keys + keys.div_ceil(4)).max(FIRST_CAPACITY) }
}

#[cfg(test)]
mod tests {
    use super::super::usage::RoughLimit;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NEVER: Timestamp = Timestamp::from_ns(0);

    fn busy() -> Usage {
        Usage::Short {
            exponent: 0,
            len: 1,
            limit: RoughLimit::default(),
            idle_at_s: 10,
            ticks: [0; 6],
        }
    }

    proptest! {
        /// Fingerprints from a small range often collide at their home slots.
        #[test]
        fn a_table_holds_what_was_added_and_not_removed(
            steps in prop::collection::vec((any::<bool>(), 0..60_u64, 0..3_u64), 0..400),
        ) {
            let (mut table, mut model) = (Table::default(), HashSet::new());
            for (add, low, high) in steps {
                // The high bits choose the home slot.
                let fingerprint = low << 58 | high | 1 << 40;
                if add {
                    *table.get_or_insert(fingerprint, NEVER, usize::MAX) = busy();
                    model.insert(fingerprint);
                } else {
                    table.remove(fingerprint);
                    model.remove(&fingerprint);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for low in 0..60 {
                for high in 0..3_u64 {
                    let fingerprint = low << 58 | high | 1 << 40;
                    prop_assert_eq!(table.get(fingerprint).is_some(), model.contains(&fingerprint));
                }
            }
        }
    }

    #[cfg(feature = "snapshots")]
    proptest! {
        /// Whatever the parts into which the fingerprints are divided, and wherever the table wraps around.
        #[test]
        fn a_visit_of_all_parts_sees_each_key_once(
            keys in prop::collection::hash_set((0..60_u64, 0..3_u64), 0..120),
            mut cuts in prop::collection::vec(any::<u64>(), 0..5),
        ) {
            let mut table = Table::default();
            // The highest home slots are the most crowded.
            let of = |(low, high): &(u64, u64)| u64::MAX - (low << 54 | high | 1 << 40);
            for key in &keys {
                *table.get_or_insert(of(key), NEVER, usize::MAX) = busy();
            }
            cuts.sort_unstable();
            cuts.dedup();
            let mut seen = Vec::new();
            let mut first = 0;
            for last in cuts.into_iter().chain([u64::MAX]).filter(|last| *last > 0) {
                let visited = table.visit(first, last, |fingerprint, _| {
                    seen.push(fingerprint);
                    ControlFlow::Continue(())
                });
                prop_assert!(visited.is_continue());
                first = last.wrapping_add(1);
            }
            let mut expected: Vec<u64> = keys.iter().map(of).collect();
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_sweep_removes_what_is_idle_and_gives_back_memory() {
        let mut table = Table::default();
        for fingerprint in 1..=10_000 {
            *table.get_or_insert(fingerprint, NEVER, usize::MAX) = busy();
        }
        table.sweep(Timestamp::from_ms(9_999));
        assert_eq!(table.len(), 10_000);
        // A run that wraps around the end may need a second sweep.
        table.sweep(Timestamp::from_ms(10_000));
        table.sweep(Timestamp::from_ms(10_000));
        assert_eq!((table.len(), table.slots.len()), (0, 0));
    }

    #[test]
    fn at_the_cap_the_key_with_the_smallest_share_is_evicted() {
        let mut table = Table::default();
        for fingerprint in 1..=15 {
            *table.get_or_insert(fingerprint, NEVER, 15) = busy();
        }
        let Some(Usage::Short { len, .. }) = table.get(3) else { panic!("not held") };
        *len = 0;
        *table.get_or_insert(16, NEVER, 15) = busy();
        assert_eq!((table.len(), table.evicted()), (15, 1));
        assert!(table.get(3).is_none());
    }
}
