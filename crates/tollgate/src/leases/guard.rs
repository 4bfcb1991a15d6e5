//! The guard of a lease in memory.

use std::fmt;
use std::ops::Deref;

use tollgate_core::{Amount, LeaseUpdate, Quality, Totals, Ttl, Unit};
use tollgate_store::{LeaseId, LeaseState, LeaseStatus, NewLease};

use super::Progress;

pub(crate) mod sealed {
    use super::{LeaseId, LeaseState, LeaseUpdate};

    /// A limiter that keeps leases in memory.
    pub trait KeepsLeases {
        /// Extends, settles or releases a lease; `None` if there is none with this id.
        fn update_lease(&self, id: &LeaseId, update: &LeaseUpdate) -> Option<LeaseState>;
    }
}
use sealed::KeepsLeases;

/// A reference to a limiter that keeps leases: a `&PolicyLimiter` or an `Arc` of one.
pub trait Keeper: Deref<Target: KeepsLeases> {}

impl<L: Deref<Target: KeepsLeases>> Keeper for L {}

/// A lease in memory. It settles when it is dropped, as a lower bound with what was [observed](Lease::observe).
///
/// `L` refers to the limiter: a `&PolicyLimiter`, or an `Arc` of one if the guard must outlive the borrow. An update takes a lock for the lease and one for each of its limits.
pub struct Lease<L: Keeper> {
    limiter: L,
    id: LeaseId,
    ttl: Ttl,
    status: LeaseStatus,
    progress: Progress,
    is_open: bool,
}

impl<L: Keeper> Lease<L> {
    pub(crate) fn new(limiter: L, lease: NewLease) -> Self {
        let NewLease { id, ttl, status, .. } = lease;
        Self { limiter, id, ttl, status, progress: Progress::new(), is_open: true }
    }

    /// Its name, valid in this limiter: whoever knows it can settle the lease.
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// What it was when this guard was made: live, unless the same request id reserved it before and it has ended since. A lease
    /// that has ended allows no new work.
    pub fn status_at_reservation(&self) -> LeaseStatus {
        self.status
    }

    /// How long it lives from its reservation or its last extension.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Remembers that so much of `unit` was used in all so far, in place of what was remembered before. The limits hear of it
    /// with the next extension, or when the guard is dropped.
    pub fn observe(&mut self, unit: Unit, total: Amount) {
        self.progress.observed.set(unit, total);
    }

    /// Lets it live for `ttl` from now, or as long again as before, and asks for `wanted` in all.
    ///
    /// What was observed above the reservation is charged at once. What is wanted above that is admitted like a check, all of it
    /// or nothing: [`LeaseState::proceed`] says whether it was. If the lease has expired meanwhile, it needs a free slot to live
    /// again. `None` if the limiter does not know the lease any more, at least a minute after it ended; nothing has changed
    /// then.
    pub fn extend(&mut self, ttl: Option<Ttl>, wanted: Totals) -> Option<LeaseState> {
        let update = self.progress.extension(ttl, wanted);
        let state = self.update(update)?;
        self.ttl = state.ttl;
        Some(state)
    }

    /// Settles it with `usage`, all that was used: what it reserved above that comes back at once, and what is missing is charged
    /// now, whether or not there is room (R14). A unit that is not named stays as reserved. Frees its slots.
    ///
    /// `None` if the limiter does not know the lease any more.
    pub fn settle(mut self, usage: Totals) -> Option<LeaseState> {
        self.is_open = false;
        let update = self.progress.settlement(usage, Quality::Exact);
        self.update(update)
    }

    /// Gives everything back, as if the check had not been made: for work that did not begin.
    ///
    /// `None` if the limiter does not know the lease any more.
    pub fn release(mut self) -> Option<LeaseState> {
        self.is_open = false;
        self.update(LeaseUpdate::Release)
    }

    fn update(&mut self, update: LeaseUpdate) -> Option<LeaseState> {
        let state = self.limiter.update_lease(&self.id, &update)?;
        // The same request id has reserved it before, and the guard that it got then has updated it.
        match self.progress.renumbered(update, &state) {
            Some(update) => self.limiter.update_lease(&self.id, &update),
            None => Some(state),
        }
    }
}

impl<L: Keeper> Drop for Lease<L> {
    fn drop(&mut self) {
        if self.is_open {
            let update = self.progress.lower_bound();
            self.update(update);
        }
    }
}

impl<L: Keeper> fmt::Debug for Lease<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ttl, progress, .. } = self;
        f.debug_struct("Lease")
            .field("id", id)
            .field("ttl", ttl)
            .field("progress", progress)
            .finish_non_exhaustive()
    }
}
