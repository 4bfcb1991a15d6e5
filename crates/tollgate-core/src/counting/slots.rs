//! `concurrency` (R16): at most so many leases are alive at a time.
//!
//! A lease holds one slot from its reservation until it is settled, released or expires. A check holds none: it is admitted
//! while a slot is free.

use super::{Verdict, Wait};
use crate::{Amount, Timestamp};

/// The name in answers. Policies say it with their unit.
pub const NAME: &str = "concurrency";

/// The slots of one key, read at one moment.
pub trait Slots {
    /// How many leases are alive.
    fn held(&self) -> u64;

    /// When so many of them have expired if nobody extends them, with `count` from 1 to [`Slots::held`].
    fn expire_at(&self, count: u64) -> Timestamp;
}

/// Whether a slot of `limit` is free at `now`, and if not, when one is if no lease is extended and none ends early (R6).
#[inline]
pub fn evaluate(slots: &impl Slots, limit: Amount, now: Timestamp) -> Verdict {
    let held = slots.held();
    let allowed = held < limit.get();
    let wait = if allowed {
        Wait::None
    } else if limit == Amount::ZERO {
        Wait::Never
    } else {
        Wait::Ns(slots.expire_at(held - limit.get() + 1).ns_since(now))
    };
    let reset_after_ns = if held == 0 { 0 } else { slots.expire_at(held).ns_since(now) };
    Verdict::new(allowed, held, wait, reset_after_ns)
}

/// The verdict after a lease took a slot until `expires_at`.
#[inline]
#[must_use]
pub fn taken(verdict: Verdict, expires_at: Timestamp, now: Timestamp) -> Verdict {
    let reset_after_ns = verdict.reset_after_ns.max(expires_at.ns_since(now));
    Verdict { usage: verdict.usage + 1, reset_after_ns, ..verdict }
}
