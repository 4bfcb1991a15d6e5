//! The memory held by unfinished requests, over all connections: counted as their bytes arrive, bounded, and released
//! when they end, however they end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Stored bytes are held in blocks of this size.
const BLOCK_BYTES: usize = 16 << 10;
/// A request is small while it holds at most this: a body of a few KiB that arrives in two pieces, in its first block.
const SMALL_REQUEST_BYTES: u64 = 2 * BLOCK_BYTES as u64;
/// This part of the memory is only for small requests, so that large bodies that are never finished do not keep checks out.
const RESERVED_PART: u64 = 16;

/// The memory held by all unfinished requests of a server. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_bytes: u64,
    held_bytes: Gauge<u64, AtomicU64>,
    refused: Counter,
    /// Released blocks, kept while others are held. The next request reuses them on any thread: the system's allocator
    /// would keep free blocks separately for each thread, and so grow beyond the bound.
    free: Mutex<Vec<Vec<u8>>>,
}

/// The bound would be exceeded.
#[derive(Debug)]
pub(crate) struct MemoryFull;

impl RequestMemory {
    /// Holds at most `max_bytes`, of which 1/16 is only for small requests, unless a request has the memory to itself. The
    /// metrics show the held bytes and how often there was no room.
    pub(crate) fn new(
        max_bytes: usize,
        held_bytes: Gauge<u64, AtomicU64>,
        refused: Counter,
    ) -> Self {
        let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        Self(Arc::new(Shared { max_bytes, held_bytes, refused, free: Mutex::default() }))
    }

    /// The part of one request, which holds nothing yet.
    pub(crate) fn part(&self) -> HeldMemory {
        HeldMemory { memory: Arc::clone(&self.0), bytes: 0, blocks: Vec::new() }
    }
}

impl Shared {
    // Relaxed throughout: the sum is independent, and no other memory depends on it.
    /// Holds `bytes` more for a request that holds `own` already.
    fn hold(&self, own: u64, bytes: u64) -> Result<(), MemoryFull> {
        let is_small = own.saturating_add(bytes) <= SMALL_REQUEST_BYTES;
        let for_large = self.max_bytes - self.max_bytes / RESERVED_PART;
        let add = |held: u64| {
            let max = if is_small || held == own { self.max_bytes } else { for_large };
            held.checked_add(bytes).filter(|sum| *sum <= max)
        };
        let held = self.held_bytes.inner();
        let held = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        held.map(drop).map_err(|_| {
            self.refused.inc();
            MemoryFull
        })
    }

    /// An empty block, for memory that is already counted.
    fn block(&self) -> Vec<u8> {
        let free = self.free.lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES))
    }

    /// Takes back released blocks; when nothing is held, all memory is returned to the system.
    fn give_back(&self, bytes: u64, blocks: &mut Vec<Vec<u8>>) {
        let before = self.held_bytes.dec_by(bytes);
        if before == bytes {
            blocks.clear();
        }
        // A poisoned list only loses the blocks.
        let Ok(mut free) = self.free.lock() else { return };
        if before == bytes {
            *free = Vec::new();
        }
        for mut block in blocks.drain(..) {
            block.clear();
            free.push(block);
        }
    }
}

/// The memory held by one request; released when it is dropped.
#[derive(Debug)]
pub(crate) struct HeldMemory {
    memory: Arc<Shared>,
    bytes: u64,
    /// The stored bytes. All blocks except the last are full.
    blocks: Vec<Vec<u8>>,
}

impl HeldMemory {
    /// Holds `bytes` in total, if there is room for the additional ones.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), MemoryFull> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes > self.bytes {
            self.memory.hold(self.bytes, bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Appends a copy of `bytes` to the stored bytes, if there is room.
    pub(crate) fn keep(&mut self, mut bytes: &[u8]) -> Result<(), MemoryFull> {
        while !bytes.is_empty() {
            let last = self.blocks.last_mut().filter(|block| block.len() < BLOCK_BYTES);
            let Some(block) = last else {
                let size = BLOCK_BYTES as u64;
                self.memory.hold(self.bytes, size)?;
                self.bytes += size;
                self.blocks.push(self.memory.block());
                continue;
            };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
            block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// The stored bytes in one piece; `None` if there are none. The memory stays counted.
    pub(crate) fn take_kept(&mut self) -> Option<Bytes> {
        // Meanwhile they are in memory twice: for at most as many bodies as there are threads.
        let kept = (!self.blocks.is_empty()).then(|| self.blocks.concat().into());
        self.blocks = Vec::new();
        kept
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes, &mut self.blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_bound_and_all_of_it_is_given_back() {
        let (held, refused) = (Gauge::default(), Counter::default());
        let memory = RequestMemory::new(100, held.clone(), refused.clone());
        let (mut first, mut second) = (memory.part(), memory.part());
        assert!(first.grow_to(60).is_ok() && second.grow_to(40).is_ok());
        assert!(first.grow_to(50).is_ok(), "it holds that already");
        assert!(second.grow_to(41).is_err() && second.grow_to(usize::MAX).is_err());
        assert_eq!((held.get(), refused.get()), (100, 2));
        drop(first);
        assert!(second.grow_to(41).is_ok());
        assert_eq!(held.get(), 41);
        drop(second);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn small_requests_have_room_when_large_ones_have_none() {
        let small = usize::try_from(SMALL_REQUEST_BYTES).unwrap();
        let (max, held) = (64 * small, Gauge::default());
        let memory = RequestMemory::new(max, held.clone(), Counter::default());
        let mut alone = memory.part();
        assert!(alone.grow_to(max).is_ok(), "nobody else needs the memory");
        drop(alone);
        let mut large = [memory.part(), memory.part()];
        assert!(large[0].grow_to(30 * small).is_ok());
        assert!(large[1].grow_to(31 * small).is_err(), "the rest is for small requests");
        assert!(large[1].grow_to(30 * small).is_ok());
        let mut others: Vec<_> = (0..5).map(|_| memory.part()).collect();
        let fit = others.iter_mut().filter_map(|part| part.grow_to(small).ok()).count();
        assert_eq!((fit, held.get()), (4, max as u64));
    }

    #[test]
    fn what_is_kept_comes_back_whole_and_its_blocks_serve_others() {
        let held = Gauge::default();
        let memory = RequestMemory::new(4 * BLOCK_BYTES, held.clone(), Counter::default());
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * BLOCK_BYTES + 5).collect();
        let mut part = memory.part();
        assert_eq!(part.take_kept(), None);
        for piece in bytes.chunks(777) {
            part.keep(piece).unwrap();
        }
        assert_eq!(held.get(), 3 * BLOCK_BYTES as u64, "by what is kept, in whole blocks");
        let mut other = memory.part();
        other.keep(&[1]).unwrap();
        assert!(other.keep(&[1; BLOCK_BYTES]).is_err(), "the fifth block");
        let free = || memory.0.free.lock().unwrap().len();
        drop(other);
        assert_eq!((held.get(), free()), (3 * BLOCK_BYTES as u64, 1));
        assert_eq!(part.take_kept().as_deref(), Some(&*bytes));
        assert_eq!(held.get(), 3 * BLOCK_BYTES as u64, "it is still there");
        memory.part().keep(&[1]).unwrap();
        assert_eq!(free(), 1, "taken and given back");
        drop(part);
        assert_eq!((held.get(), free()), (0, 0));
    }
}
