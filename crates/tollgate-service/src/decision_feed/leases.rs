//! Leases that were changed or have expired, as subscribers get them.

use std::sync::Arc;

use tollgate_core::{LeaseUpdate, PolicyId, Timestamp, Unit};
use tollgate_store::{Effect, ExpiredLease, HoldState, LeaseId, LeaseState, LeaseStatus};

use super::{DecisionFeed, Observed};
use crate::{LeaseEvent, LeaseNote};

/// A lease that was changed or has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLease {
    /// When, in civil time.
    pub at: Timestamp,
    /// How many such events it represents: 1 unless there are more than are sampled.
    pub weight: u64,
    /// What happened.
    pub event: LeaseEvent,
    /// The lease. Whoever knows its id can settle it.
    pub id: LeaseId,
    /// Whose it is.
    pub note: LeaseNote,
    /// What it was before.
    pub was: LeaseStatus,
    /// What it is now.
    pub status: LeaseStatus,
    /// What it holds in each limit, in the order of the charges.
    pub holds: Vec<ObservedHold>,
}

/// What a lease holds in one limit, before and after it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedHold {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// What the lease was charged before; of concurrency, 1 while it is alive.
    pub charged_before: u64,
    /// What it is charged now.
    pub charged: u64,
    /// By how much the usage of the limit is above it; `None` if nobody looked, because the lease expired.
    pub debt: Option<u64>,
}

impl DecisionFeed {
    /// Whether anybody would get what is published now.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.subscribers.receiver_count() > 0
    }

    /// Publishes what `update` did to a lease. Updates that changed nothing are skipped.
    #[inline]
    pub(crate) fn updated(&self, id: &LeaseId, update: &LeaseUpdate, state: &LeaseState) {
        if state.effect == Effect::Changed && self.has_subscribers() {
            self.observe_update(id, update, state);
        }
    }

    #[cold]
    fn observe_update(&self, id: &LeaseId, update: &LeaseUpdate, state: &LeaseState) {
        let Some(weight) = self.lease_sampler.take(self.clock.now()) else { return };
        self.publish(ObservedLease {
            at: self.wall_clock.wall_time(),
            weight,
            event: LeaseEvent::of(update, Some(state)),
            id: id.clone(),
            note: LeaseNote::parse(&state.note).unwrap_or_default(),
            was: state.was,
            status: state.status(),
            holds: state.holds.iter().map(ObservedHold::from).collect(),
        });
    }

    /// Publishes that `lease` has expired.
    pub(crate) fn expired(&self, lease: ExpiredLease) {
        if !self.has_subscribers() {
            return;
        }
        let Some(weight) = self.lease_sampler.take(self.clock.now()) else { return };
        let ExpiredLease { id, note, since, holds } = lease;
        let holds = holds.into_iter().map(|hold| ObservedHold {
            policy_id: hold.policy_id,
            unit: hold.unit,
            charged_before: hold.charged_before,
            charged: hold.charged,
            debt: None,
        });
        self.publish(ObservedLease {
            at: self.wall_clock.wall_time().before(since),
            weight,
            event: LeaseEvent::Expired,
            id,
            note: LeaseNote::parse(&note).unwrap_or_default(),
            was: LeaseStatus::Live,
            status: LeaseStatus::Expired,
            holds: holds.collect(),
        });
    }

    fn publish(&self, lease: ObservedLease) {
        // An error means that the last subscriber has just gone.
        _ = self.subscribers.send(Observed::Lease(Arc::new(lease)));
    }
}

impl From<&HoldState> for ObservedHold {
    fn from(hold: &HoldState) -> Self {
        Self {
            policy_id: hold.policy_id.clone(),
            unit: hold.unit.clone(),
            charged_before: hold.charged_before,
            charged: hold.charged,
            debt: Some(hold.debt()),
        }
    }
}
