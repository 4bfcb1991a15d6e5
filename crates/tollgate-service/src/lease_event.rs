//! What happens to leases, in words that metrics and subscribers share.

use tollgate_core::LeaseUpdate;
use tollgate_store::{Effect, LeaseState, LeaseStatus};

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// It was reserved.
    Reserved,
    /// The reservation was denied.
    Denied,
    /// It was extended.
    Extended,
    /// It was extended, but did not get what it wanted.
    Stopped,
    /// It was settled.
    Settled,
    /// It was settled after it had expired.
    SettledLate,
    /// It was settled again.
    Corrected,
    /// It was released.
    Released,
    /// Its time to live passed before it was settled or released.
    Expired,
    /// The reservation came before with the same request id; or the update did, or one with a higher sequence number.
    Repeated,
    /// The lease has ended.
    Refused,
    /// There is no such lease, or not any more.
    NotFound,
}

impl LeaseEvent {
    /// Every event.
    pub const ALL: [Self; 12] = [
        Self::Reserved,
        Self::Denied,
        Self::Extended,
        Self::Stopped,
        Self::Settled,
        Self::SettledLate,
        Self::Corrected,
        Self::Released,
        Self::Expired,
        Self::Repeated,
        Self::Refused,
        Self::NotFound,
    ];

    /// The name, as metrics and events write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Denied => "denied",
            Self::Extended => "extended",
            Self::Stopped => "stopped",
            Self::Settled => "settled",
            Self::SettledLate => "settled_late",
            Self::Corrected => "corrected",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
        }
    }

    /// What `update` did, to judge by the state after it; `None` if there is no such lease.
    pub fn of(update: &LeaseUpdate, state: Option<&LeaseState>) -> Self {
        let Some(state) = state else { return Self::NotFound };
        match (state.effect, update) {
            (Effect::Repeated, _) => Self::Repeated,
            (Effect::Refused, _) => Self::Refused,
            (Effect::Changed, LeaseUpdate::Extend { .. }) if state.proceed => Self::Extended,
            (Effect::Changed, LeaseUpdate::Extend { .. }) => Self::Stopped,
            (Effect::Changed, LeaseUpdate::Release) => Self::Released,
            (Effect::Changed, LeaseUpdate::Settle { .. }) => match state.was {
                LeaseStatus::Live => Self::Settled,
                LeaseStatus::Expired => Self::SettledLate,
                LeaseStatus::Settled | LeaseStatus::Released => Self::Corrected,
            },
        }
    }
}
