//! Leases: admitted checks that hold what they reserved until it is known what they used (R13–R16).
//!
//! A check is charged once, before the work. A lease reserves what the work may need, and is *settled* with what it used: the rest
//! comes back at once, and what is above the reservation is charged (R14). While it is alive it also holds one slot of each limit
//! of concurrency ([`Policy::of_concurrency`](crate::Policy::of_concurrency)), which a check never does.
//!
//! | guard | from | updates |
//! |---|---|---|
//! | `Lease` | `PolicyLimiter::reserve`, feature `policies` | at once, in memory |
//! | `StoreLease` | `leases::reserve`, feature `async-leases` | in any [`Store`](tollgate_store::Store), such as one in Redis |
//!
//! A guard that is dropped settles as a [lower bound](crate::Quality::LowerBound) with what was observed: the slot is free, what was
//! used above the reservation is charged, and nothing is given back. So no path through the code forgets a lease. If the process
//! ends before that, the lease expires after its [`Ttl`]: its slots are free, and what it reserved stays charged until it
//! has left its windows (R15).

#[cfg(feature = "policies")]
pub(crate) mod guard;
#[cfg(feature = "async-leases")]
mod store_lease;

use tollgate_core::{Amount, Decision, LeaseUpdate, Quality, Totals, Ttl};

#[cfg(feature = "policies")]
pub use guard::{Keeper, Lease};
#[cfg(feature = "async-leases")]
pub use store_lease::{StoreLease, reserve};
pub use tollgate_core::lease::ledger::Ending;
pub use tollgate_store::{Effect, HoldState, LeaseId, LeaseState, LeaseStatus};

/// The answer to a reservation: the decision, and the lease if the check was admitted.
#[derive(Debug)]
pub struct Reservation<L> {
    /// The decision, as for a check. Of a limit of concurrency, it counts the slot of this lease.
    pub decision: Decision,
    /// The lease; `None` if the check was denied, which holds nothing anywhere (R13).
    ///
    /// It settles when it is dropped, so keep it for as long as the work takes.
    pub lease: Option<L>,
}

/// What a guard knows of its lease: the last sequence number that it used, and what was observed.
#[derive(Debug)]
struct Progress {
    seq: Amount,
    observed: Totals,
}

impl Progress {
    fn new() -> Self {
        Self { seq: Amount::ZERO, observed: Totals::none() }
    }

    /// The next sequence number.
    fn next_seq(&mut self) -> Amount {
        // An amount has 53 bits, so the numbers do not run out.
        self.seq = Amount::new(self.seq.get() + 1).unwrap_or(Amount::MAX);
        self.seq
    }

    fn extension(&mut self, ttl: Option<Ttl>, wanted: Totals) -> LeaseUpdate {
        let observed = self.observed.clone();
        LeaseUpdate::Extend { seq: self.next_seq(), ttl, observed, wanted }
    }

    fn settlement(&mut self, usage: Totals, quality: Quality) -> LeaseUpdate {
        LeaseUpdate::Settle { seq: self.next_seq(), usage, quality }
    }

    /// What a guard does when it is dropped.
    fn lower_bound(&mut self) -> LeaseUpdate {
        let observed = std::mem::take(&mut self.observed);
        self.settlement(observed, Quality::LowerBound)
    }

    /// `update` with a sequence number above that of `state`, if another guard of the same lease had used its number.
    fn renumbered(&mut self, update: LeaseUpdate, state: &LeaseState) -> Option<LeaseUpdate> {
        if state.effect != Effect::Repeated {
            return None;
        }
        self.seq = state.seq;
        match update {
            LeaseUpdate::Extend { ttl, observed, wanted, .. } => {
                Some(LeaseUpdate::Extend { seq: self.next_seq(), ttl, observed, wanted })
            }
            LeaseUpdate::Settle { usage, quality, .. } => Some(self.settlement(usage, quality)),
            LeaseUpdate::Release => None,
        }
    }
}
