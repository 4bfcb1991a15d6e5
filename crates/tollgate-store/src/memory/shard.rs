//! One shard: a table and the latest time it has seen, behind a lock on a separate cache line.
//!
//! The lock spins. It is held for some tens of nanoseconds (except when a table grows), and releasing it is a plain
//! store. A lock that can park its waiters needs a second atomic exchange, which costs a third of a check on a hot key.
//! A waiter that does not get it soon yields its processor, so that a preempted holder can continue.

use std::hint::spin_loop;
use std::thread::yield_now;

use spin::mutex::{SpinMutex, SpinMutexGuard};
use tollgate_core::Timestamp;

use super::table::Table;

/// How often a waiter tries before it yields: about the time for which a check holds the lock.
const SPINS: u32 = 64;

/// The data behind the lock of a shard.
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
                // Reading without writing leaves the cache line shared among the waiters.
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
