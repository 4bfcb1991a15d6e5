//! One shard: a table, the latest time it has seen and what leases that expire give back there, behind a lock on a separate cache line.
//!
//! The lock spins. It is held for some tens of nanoseconds (except when a table grows), and releasing it is a plain
//! store. A lock that can park its waiters needs a second atomic exchange, which costs a third of a check on a hot key.
//! A waiter that does not get it soon yields its processor, so that a preempted holder can continue.

use std::hint::spin_loop;
use std::thread::yield_now;

use spin::mutex::{SpinMutex, SpinMutexGuard};
use tollgate_core::Timestamp;

use super::refunds::{Refund, RefundKey, Refunds};
use super::table::Table;

/// How often a waiter tries before it yields: about the time for which a check holds the lock.
const SPINS: u32 = 64;

/// The data behind the lock of a shard.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) table: Table,
    latest: Timestamp,
    /// `None` for no holds, so that checks of other limits need not look.
    refunds: Option<Box<Refunds>>,
}

impl State {
    /// `now`, or the latest time seen if that is later (R7): time in a shard never steps back. What leases held that have
    /// expired until then is given back, where policies say so (R15).
    #[inline]
    pub(super) fn clamp(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        if let Some(refunds) = &self.refunds
            && refunds.is_due(self.latest)
        {
            self.refund_due();
        }
        self.latest
    }

    /// The latest time seen.
    #[cfg(feature = "snapshots")]
    pub(super) fn latest(&self) -> Timestamp {
        self.latest
    }

    #[inline(never)]
    fn refund_due(&mut self) {
        let Some(refunds) = &mut self.refunds else { return };
        refunds.give_back(&mut self.table, self.latest);
        self.drop_if_empty();
    }

    /// Notes what a lease holds until it expires.
    pub(super) fn refund_later(&mut self, key: RefundKey, refund: Refund) {
        self.refunds.get_or_insert_default().add(key, refund);
    }

    #[cfg(any(test, feature = "snapshots"))]
    pub(super) fn refunds(&self) -> Option<&Refunds> {
        self.refunds.as_deref()
    }

    /// Forgets it again.
    pub(super) fn keep_hold(&mut self, key: &RefundKey) {
        if let Some(refunds) = &mut self.refunds {
            refunds.remove(key);
            self.drop_if_empty();
        }
    }

    /// Forgets the usage of a key, and what leases would give back there.
    pub(super) fn forget(&mut self, fingerprint: u64) {
        self.table.remove(fingerprint);
        if let Some(refunds) = &mut self.refunds {
            refunds.remove_key(fingerprint);
            self.drop_if_empty();
        }
    }

    fn drop_if_empty(&mut self) {
        if self.refunds.as_ref().is_some_and(|refunds| refunds.is_empty()) {
            self.refunds = None;
        }
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
