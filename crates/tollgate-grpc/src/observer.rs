//! What the server is told about the calls, for its metrics.

use std::fmt;

use tollgate_core::{Decision, LeaseUpdate};
use tollgate_service::{Reservation, Unsettled};
use tollgate_store::LeaseState;

/// The measured calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCall {
    /// `ShouldRateLimit` of Envoy.
    ShouldRateLimit,
    /// `Check` of `tollgate.v1`.
    Check,
    /// `Peek`.
    Peek,
    /// `CheckBatch`.
    CheckBatch,
    /// `Reserve`.
    Reserve,
    /// `Extend`, `Settle` or `Release`.
    UpdateLease,
    /// `SettleBatch`.
    SettleBatch,
}

/// Sees what is decided. It is called while the caller waits, so it must not block.
pub trait GrpcObserver: fmt::Debug + Send + Sync + 'static {
    /// A decision was made; peeks are not told.
    fn decided(&self, decision: &Decision);

    /// No policy covers a descriptor.
    fn unmatched(&self);

    /// A call could not be decided, because the store failed.
    fn store_failed(&self);

    /// A reservation was decided.
    fn reserved(&self, reservation: &Reservation);

    /// A lease was updated; `None` if there is no such lease.
    fn updated(&self, update: &LeaseUpdate, state: Option<&LeaseState>);

    /// The store did not answer a settlement.
    fn unsettled(&self, unsettled: &Unsettled);

    /// A call was answered, after `ns`.
    fn took(&self, call: GrpcCall, ns: u64);
}
