//! One shard: a table and the latest time it has seen, behind a lock in a cache line of its own.
//!
//! The lock spins: it is held for some tens of nanoseconds (a grown table aside), and to release it is a plain
//! store, where a lock that can park its waiters pays a second atomic exchange, a third of a check on a hot key.
//! A waiter that does not get it soon yields its processor, so a holder that was preempted can go on.

use std::hint::spin_loop;
use std::thread::yield_now;

use spin::mutex::{SpinMutex, SpinMutexGuard};
use tollgate_core::Timestamp;

use super::table::Table;

/// Tries before a waiter yields: about the time that a check holds the lock.
const SPINS: u32 = 64;

/// What the lock of a shard guards.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) table: Table,
    latest: Timestamp,
}

impl State {
    /// `now`, or the latest time seen if that is later (R7): time in a shard never steps back.
    #[inline]
    pub(super) fn clamp(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// A locked shard.
pub(super) type Guard<'a> = SpinMutexGuard<'a, State>;

/// A shard. Its alignment keeps shards out of each other's cache lines.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Shard(SpinMutex<State>);

impl Shard {
    /// Locks the shard.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_> {
        match self.0.try_lock() {
            Some(guard) => guard,
            None => self.wait(),
        }
    }

    #[cold]
    fn wait(&self) -> Guard<'_> {
        loop {
            for _ in 0..SPINS {
                spin_loop();
                // Reading alone leaves the line shared among the waiters.
                if !self.0.is_locked()
                    && let Some(guard) = self.0.try_lock()
                {
                    return guard;
                }
            }
            yield_now();
        }
    }
}

const _: () = assert!(size_of::<Shard>() == 64);
