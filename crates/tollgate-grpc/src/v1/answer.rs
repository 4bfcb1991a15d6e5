//! Writes decisions and leases.

use std::collections::HashMap;
use std::time::Duration;

use tollgate_core::{Decision, LimitStatus, Window};
use tollgate_service::Reservation;
use tollgate_store::{Effect, HoldState, LeaseState};

use crate::proto::tollgate::v1;

/// `decision` as a message.
pub(super) fn decision_message(decision: &Decision) -> v1::Decision {
    let headline = decision.headline();
    v1::Decision {
        allowed: decision.allowed(),
        limit: headline.map(|status| status.limit.amount().get()),
        count: headline.map_or(0, |status| status.count),
        remaining: headline.map(|status| status.remaining),
        retry_after_ms: decision.retry_after_ms(),
        reset_after_ms: headline.map_or(0, |status| status.reset_after_ms),
        policy_id: headline
            .map_or(String::new(), |status| status.limit.policy_id().as_str().into()),
        reason: decision.reason().map_or(String::new(), |reason| reason.name().into()),
        degraded: decision.degraded(),
        limits: decision.limits().iter().map(limit_message).collect(),
    }
}

fn limit_message(status: &LimitStatus) -> v1::Limit {
    let limit = &*status.limit;
    v1::Limit {
        policy_id: limit.policy_id().as_str().into(),
        scope: limit.scope().into(),
        unit: limit.unit().name().into(),
        algorithm: limit.counting().name().into(),
        mode: limit.mode().name().into(),
        allowed: status.allowed,
        limit: limit.amount().get(),
        count: status.count,
        remaining: status.remaining,
        debt: status.debt(),
        window_seconds: status.window().map_or(0.0, Window::as_seconds),
        retry_after_ms: status.retry_after_ms,
        reset_after_ms: status.reset_after_ms,
    }
}

/// The answer to a reservation.
pub(super) fn reservation_message(reservation: &Reservation) -> v1::ReserveResponse {
    let asked = reservation.asked.amounts();
    let asked = asked.map(|(unit, amount)| (unit.name().to_owned(), amount.get()));
    let asked: HashMap<_, _> = asked.collect();
    let lease = reservation.lease.as_ref().map(|lease| v1::NewLease {
        id: lease.id.as_str().into(),
        ttl_ms: lease.ttl.as_ms(),
        expires_in_ms: whole_ms(lease.lives_for),
        // A lease that was reserved before holds what was asked for then.
        reserved: if lease.repeated { HashMap::new() } else { asked.clone() },
        state: lease.status.name().into(),
        repeated: lease.repeated,
    });
    v1::ReserveResponse { decision: Some(decision_message(&reservation.decision)), lease, asked }
}

/// A lease after an update.
pub(super) fn lease_message(id: &str, state: &LeaseState) -> v1::Lease {
    v1::Lease {
        id: id.into(),
        state: state.status().name().into(),
        seq: state.seq.get(),
        repeated: state.effect == Effect::Repeated,
        proceed: state.proceed,
        ttl_ms: state.ttl.as_ms(),
        expires_in_ms: if state.is_live() { whole_ms(state.lives_for) } else { 0 },
        limits: state.holds.iter().map(hold_message).collect(),
    }
}

fn hold_message(hold: &HoldState) -> v1::Hold {
    let limit = hold.limit.get();
    v1::Hold {
        policy_id: hold.policy_id.as_str().into(),
        unit: hold.unit.name().into(),
        limit,
        count: hold.usage,
        remaining: limit.saturating_sub(hold.usage),
        debt: hold.debt(),
        charged: hold.charged,
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
