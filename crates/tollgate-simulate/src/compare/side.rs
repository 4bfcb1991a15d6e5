//! One of the two sets of policies, with its usage and the sums of its decisions.

use std::collections::HashMap;

use tollgate_core::{Check, Decision, Plan, PolicyId, Reason, Timestamp};

use super::report::Pair;
use crate::tally::Tally;
use crate::trace::TraceCheck;
use crate::{Replay, SimulateError, Source};

/// What a side decided.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// Of a denial, the policy that is its headline, if one is.
    pub(super) policy_id: Option<PolicyId>,
    pub(super) reason: Option<Reason>,
}

impl Verdict {
    fn of(decision: &Decision) -> Self {
        let denied = !decision.allowed();
        let headline = decision.headline().filter(|_| denied);
        Self {
            allowed: !denied,
            policy_id: headline.map(|status| status.limit.policy_id().clone()),
            reason: decision.reason(),
        }
    }
}

/// A set of policies that decides.
pub(super) struct Side<'s> {
    pub(super) source: &'s Source,
    replay: Replay<'s>,
    pub(super) tally: Tally<'s>,
}

impl<'s> Side<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        let policies = source.snapshot.policies();
        Self { source, replay: Replay::new(policies), tally: Tally::new(policies) }
    }

    /// Decides `traced`; also returns what `look` makes of the check as the limits see it.
    pub(super) fn decide<T>(
        &mut self,
        traced: &TraceCheck,
        look: impl FnOnce(&Check<'_>) -> T,
    ) -> Result<(Verdict, T), SimulateError> {
        let now = self.replay.advance_to(traced.at);
        let check = traced.check();
        if traced.is_complete() {
            return Ok(self.decide_complete(now, &check, None, look));
        }
        let source = self.source;
        source.complete(&check, |check, refused| self.decide_complete(now, check, refused, look))
    }

    fn decide_complete<T>(
        &mut self,
        now: Timestamp,
        check: &Check<'_>,
        refused: Option<Reason>,
        look: impl FnOnce(&Check<'_>) -> T,
    ) -> (Verdict, T) {
        let (plan, decision) = match refused {
            Some(reason) => (Plan::new(), Decision::refused(reason)),
            None => self.replay.decide(check),
        };
        self.tally.add(now, &plan, &decision);
        (Verdict::of(&decision), look(check))
    }

    pub(super) fn evicted(&self) -> u64 {
        self.replay.store_stats().evicted
    }
}

/// Both sides.
pub(super) struct Sides<'s> {
    pub(super) old: Side<'s>,
    pub(super) new: Side<'s>,
    /// How many checks were lost by the denials of a policy of the new set, and gained because one of the old set is gone or
    /// denies less.
    pub(super) blamed: HashMap<PolicyId, (u64, u64)>,
}

impl<'s> Sides<'s> {
    pub(super) fn new(old: &'s Source, new: &'s Source) -> Self {
        Self { old: Side::new(old), new: Side::new(new), blamed: HashMap::new() }
    }

    /// Counts a check that only one side allowed for the policy that denied it on the other.
    pub(super) fn blame(&mut self, old: &Verdict, new: &Verdict) {
        if let Some(policy_id) = &new.policy_id {
            self.blamed.entry(policy_id.clone()).or_default().0 += 1;
        }
        if let Some(policy_id) = &old.policy_id {
            self.blamed.entry(policy_id.clone()).or_default().1 += 1;
        }
    }

    pub(super) fn evicted(&self) -> Pair<u64> {
        Pair { old: self.old.evicted(), new: self.new.evicted() }
    }
}
