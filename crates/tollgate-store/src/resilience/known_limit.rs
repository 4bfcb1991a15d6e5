//! What one node knows about one limit's key from the store's last answer.

use std::num::NonZeroU32;

use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Amount, Charge, Counting, Limit, Timestamp};

use crate::FaultDomain;

/// The most costs of one key whose denials are remembered; a new one replaces the oldest.
const MAX_DENIALS: usize = 4;

/// What is known about a limit's key.
#[derive(Debug)]
pub(super) struct KnownLimit {
    amount: Amount,
    counting: Counting,
    usage: u64,
    resets_at: Timestamp,
    /// How long the period of a calendar lasts.
    period_s: Option<NonZeroU32>,
    /// Until when its usage may be shown in a denial.
    usable_until: Timestamp,
    denials: SmallVec<[Denial; 1]>,
    /// The fault domain of the usage.
    domain: FaultDomain,
}

/// A denied cost.
#[derive(Clone, Copy, Debug)]
struct Denial {
    /// The room that the cost needs.
    needed: u64,
    /// Until when the denial is known; a little before the store can admit.
    until: Timestamp,
    /// When the cost is certainly admitted if no other check arrives; `None` if never.
    admits_at: Option<Timestamp>,
}

/// A cost of 0 needs room for 1 (R1).
fn needed(cost: Amount) -> u64 {
    cost.get().max(1)
}

impl KnownLimit {
    /// What `verdict`, received at this time, says about `limit`.
    pub(super) fn new(
        limit: &Limit,
        verdict: &Verdict,
        usable_until: Timestamp,
        received: Timestamp,
        domain: FaultDomain,
    ) -> Self {
        Self {
            amount: limit.amount(),
            counting: limit.counting(),
            usage: verdict.usage,
            resets_at: later(received, verdict.reset_after_ns),
            period_s: verdict.period_s,
            usable_until,
            denials: SmallVec::new(),
            domain,
        }
    }

    /// The fault domain of the usage.
    pub(super) fn domain(&self) -> FaultDomain {
        self.domain
    }

    /// Keeps what `before` knew about other costs, if nothing was used in between.
    pub(super) fn keep_denials_of(&mut self, before: &Self, now: Timestamp) {
        let same_limit = (self.amount, self.counting) == (before.amount, before.counting);
        if same_limit && self.usage == before.usage {
            self.denials = before.denials.iter().copied().filter(|d| now < d.until).collect();
            self.usable_until = self.usable_until.max(before.usable_until);
        }
    }

    /// Records that `cost` is denied `until` this time, and how long it would have to wait from `received`.
    pub(super) fn deny(&mut self, cost: Amount, wait: Wait, until: Timestamp, received: Timestamp) {
        let admits_at = match wait {
            Wait::Ns(ns) => Some(later(received, ns)),
            _ => None,
        };
        self.denials.retain(|denial| denial.needed != needed(cost));
        if self.denials.len() == MAX_DENIALS {
            self.denials.remove(0);
        }
        self.denials.push(Denial { needed: needed(cost), until, admits_at });
    }

    /// Records an admission: more is used, so the known waits are too short, and costs must be asked again.
    pub(super) fn update(&mut self, limit: &Limit, verdict: &Verdict, received: Timestamp) {
        *self = Self::new(limit, verdict, self.usable_until, received, self.domain);
    }

    /// The verdict on `charge` at `now`; `None` if only the store knows.
    pub(super) fn verdict(&self, charge: &Charge<'_>, now: Timestamp) -> Option<Verdict> {
        let limit = charge.limit;
        let is_same = (limit.amount(), limit.counting()) == (self.amount, self.counting);
        if !is_same || now >= self.usable_until {
            return None;
        }
        let needed = needed(charge.cost);
        let reset_after_ns = self.resets_at.as_ns().saturating_sub(now.as_ns());
        let (usage, amount, period_s) = (self.usage, self.amount.get(), self.period_s);
        if let Some(denial) = self.denials.iter().find(|denial| denial.needed == needed) {
            if now >= denial.until {
                return None;
            }
            let wait = denial
                .admits_at
                .map_or(Wait::Never, |at| Wait::Ns(at.as_ns().saturating_sub(now.as_ns()).max(1)));
            return Some(Verdict { period_s, ..Verdict::new(false, usage, wait, reset_after_ns) });
        }
        let fits = usage.checked_add(needed).is_some_and(|total| total <= amount);
        fits.then_some(Verdict {
            period_s,
            ..Verdict::new(true, usage, Wait::None, reset_after_ns)
        })
    }
}

fn later(from: Timestamp, ns: u64) -> Timestamp {
    from.after(std::time::Duration::from_nanos(ns))
}
