//! Blocks of values that are disjoint or contain one another, such as prefixes, and the blocks that contain a value.

use std::collections::BTreeMap;

/// A block of values. Any two are disjoint, or one contains the other.
///
/// Their order is by the first value, the wider block first; so the blocks that contain a value are not after it.
pub(super) trait Block: Ord {
    /// What it contains.
    type Value: ?Sized;
    /// Where its first value is among all values, roughly: a smaller key is before, an equal one may be either.
    fn key(&self) -> u128;
    /// The same of a value.
    fn key_of(value: &Self::Value) -> u128;
    /// Whether its first value is `value`, or before it.
    fn starts_by(&self, value: &Self::Value) -> bool;
    /// Whether it contains `value`.
    fn contains(&self, value: &Self::Value) -> bool;
    /// Whether it contains every value of `other`.
    fn contains_block(&self, other: &Self) -> bool;
}

/// What is held for each of many blocks.
#[derive(Debug)]
pub(super) struct NestedBlocks<B, T> {
    /// The keys of the blocks. They are searched first, because they are next to each other in memory.
    keys: Vec<u128>,
    /// In the order of the blocks.
    entries: Vec<Entry<B, T>>,
}

#[derive(Debug)]
struct Entry<B, T> {
    block: B,
    held: T,
    /// The narrowest other block that contains this one.
    outer: Option<u32>,
}

impl<B: Block, T> NestedBlocks<B, T> {
    /// O(blocks).
    pub(super) fn new(blocks: BTreeMap<B, T>) -> Self {
        let keys = blocks.keys().map(Block::key).collect();
        let mut entries: Vec<Entry<B, T>> = Vec::with_capacity(blocks.len());
        for (block, held) in blocks {
            let mut outer = entries.len().checked_sub(1).and_then(|last| u32::try_from(last).ok());
            while let Some(index) = outer {
                let entry = &entries[index as usize];
                if entry.block.contains_block(&block) {
                    break;
                }
                outer = entry.outer;
            }
            entries.push(Entry { block, held, outer });
        }
        Self { keys, entries }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The blocks that contain `value`, the narrowest first. O(log(blocks) + how deep they are nested).
    #[inline]
    pub(super) fn containing<'t>(
        &'t self,
        value: &B::Value,
    ) -> impl Iterator<Item = (&'t B, &'t T)> {
        // The last block that starts at or before the value has all that contain the value around it: a block that
        // contains the value and starts earlier cannot end before this one starts.
        let key = B::key_of(value);
        let before = self.keys.partition_point(|one| *one < key);
        let equal = self.keys[before..].partition_point(|one| *one == key);
        let equal = &self.entries[before..before + equal];
        let starting = before + equal.partition_point(|entry| entry.block.starts_by(value));
        let mut narrowest = starting.checked_sub(1).and_then(|last| u32::try_from(last).ok());
        while let Some(index) = narrowest {
            let entry = &self.entries[index as usize];
            if entry.block.contains(value) {
                break;
            }
            narrowest = entry.outer;
        }
        std::iter::successors(narrowest, |index| self.entries[*index as usize].outer).map(|index| {
            let entry = &self.entries[index as usize];
            (&entry.block, &entry.held)
        })
    }
}
