//! Several checks that are one question: their limits are decided at one moment, and all are charged or none (R3).

use smallvec::SmallVec;

use tollgate_core::{Amount, Charge, Check, Decision, Plan};
use tollgate_store::{Store, StoreError, Verdicts, key_bytes};

use crate::directory::Known;
use crate::rate_limit::{RateLimitService, Verb};

/// What a check gets that no policy covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncovered {
    /// It is allowed.
    #[default]
    Allow,
    /// It is denied.
    Deny,
}

/// The answer to several checks that were decided together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Together {
    /// Whether all of them may pass. If not, none of them was charged (R3), except by limits that record denied costs (R19).
    pub allowed: bool,
    /// The decision over all their limits; if an API key was refused, that.
    pub decision: Decision,
    /// What each check by itself would have got, in their order.
    pub parts: SmallVec<[Part; 1]>,
}

/// One of several checks that were decided together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The decision of its own limits.
    pub decision: Decision,
    /// Whether any policy matches it, and be it one that exempts.
    pub is_covered: bool,
}

impl Part {
    /// Whether it may pass by itself.
    pub fn allowed(&self, uncovered: Uncovered) -> bool {
        self.decision.allowed() && (self.is_covered || uncovered == Uncovered::Allow)
    }
}

impl<S: Store> RateLimitService<S> {
    /// Decides `checks` at one moment, and charges all of them or none. A limit that several of them meet with the same key is
    /// charged for each of them. If all costs are 0, nothing is charged.
    ///
    /// The request id of a check counts only if it is the only one.
    pub async fn check_together(
        &self,
        checks: &[Check<'_>],
        uncovered: Uncovered,
    ) -> Result<Together, StoreError> {
        let traced = self.traced("check");
        let decided = self.decide_together(checks, uncovered, Verb::Charge).await;
        traced.end(decided.as_ref().map(|together| Some(&together.decision)));
        decided
    }

    /// The decision that [`RateLimitService::check_together`] would make now; changes nothing.
    pub async fn peek_together(
        &self,
        checks: &[Check<'_>],
        uncovered: Uncovered,
    ) -> Result<Together, StoreError> {
        let traced = self.traced("peek");
        let decided = self.decide_together(checks, uncovered, Verb::Peek).await;
        traced.end(decided.as_ref().map(|together| Some(&together.decision)));
        decided
    }

    async fn decide_together(
        &self,
        checks: &[Check<'_>],
        uncovered: Uncovered,
        verb: Verb,
    ) -> Result<Together, StoreError> {
        let snapshot = self.policies().current();
        let mut known = SmallVec::<[Known; 1]>::new();
        if let Some(directory) = self.directory() {
            for check in checks {
                known.push(directory.resolve(&snapshot, check).await);
            }
        }
        let completed =
            checks.iter().zip(&known).map(|(check, known)| known.complete(check, &snapshot));
        let completed: SmallVec<[Check<'_>; 1]> = completed.collect();
        let checks = if known.is_empty() { checks } else { &completed };
        let refused = |place: usize| known.get(place).and_then(Known::refused);
        let policies = snapshot.policies();
        let mut merged = Merged::default();
        let (mut is_covered, mut may_charge) = (SmallVec::<[bool; 1]>::new(), true);
        for (place, check) in checks.iter().enumerate() {
            let is_refused = refused(place).is_some();
            merged.add(if is_refused { Plan::new() } else { policies.plan(check) });
            let covered = is_refused || merged.has_last() || policies.covers(&check.subject);
            may_charge &= !is_refused && (covered || uncovered == Uncovered::Allow);
            is_covered.push(covered);
        }
        let costs_nothing = merged.charges.iter().all(|charge| charge.cost == Amount::ZERO);
        let verb = if may_charge && !costs_nothing { verb } else { Verb::Peek };
        let request_id = if let [check] = checks { check.request_id } else { None };
        let (verdicts, degraded) = self.verdicts(&merged.charges, request_id, verb).await?;
        let parts = is_covered.iter().enumerate().map(|(place, is_covered)| {
            let decision = match refused(place) {
                Some(reason) => Decision::refused(reason),
                None => merged.decision_of(place, &verdicts).with_degraded(degraded),
            };
            Part { decision, is_covered: *is_covered }
        });
        let parts: SmallVec<[Part; 1]> = parts.collect();
        let decision = match (0..checks.len()).find_map(refused) {
            Some(reason) => Decision::refused(reason),
            None => Decision::assemble(&merged.charges, &verdicts).with_degraded(degraded),
        };
        let allowed = decision.allowed() && may_charge;
        for (check, part) in checks.iter().zip(&parts) {
            // What would have passed by itself was not charged.
            if allowed || !part.decision.allowed() {
                self.decided(check, &part.decision, verb, None);
            }
        }
        Ok(Together { allowed, decision, parts })
    }

    async fn verdicts(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        verb: Verb,
    ) -> Result<(Verdicts, bool), StoreError> {
        if charges.is_empty() {
            return Ok((Verdicts::new(), false));
        }
        let answer = match verb {
            Verb::Charge => self.store().charge(charges, request_id).await?,
            Verb::Reserve | Verb::Peek => self.store().peek(charges).await?,
        };
        Ok((answer.verdicts, answer.degraded))
    }
}

/// The charges of several checks, with one charge for each limit and key.
#[derive(Debug, Default)]
struct Merged<'a> {
    charges: Plan<'a>,
    /// For each charge of each check, its place in `charges`.
    places: SmallVec<[usize; 4]>,
    /// Where the places of each check end.
    ends: SmallVec<[usize; 1]>,
}

impl<'a> Merged<'a> {
    /// Adds what the next check charges.
    fn add(&mut self, plan: Plan<'a>) {
        if self.ends.is_empty() {
            self.places.extend(0..plan.len());
            self.charges = plan;
        } else {
            for charge in plan {
                let place = self.place_of(&charge);
                self.places.push(place);
            }
        }
        self.ends.push(self.places.len());
    }

    fn place_of(&mut self, charge: &Charge<'a>) -> usize {
        let is_same = |known: &Charge<'_>| {
            known.limit.policy_id() == charge.limit.policy_id()
                && key_bytes(known.limit, known.subject) == key_bytes(charge.limit, charge.subject)
        };
        if let Some(place) = self.charges.iter().position(is_same) {
            let known = &mut self.charges[place];
            let sum = known.cost.get().saturating_add(charge.cost.get());
            known.cost = Amount::new(sum).unwrap_or(Amount::MAX);
            // Two priority classes share the usage; the smaller share binds both.
            if charge.limit.amount() < known.limit.amount() {
                known.limit = charge.limit;
            }
            return place;
        }
        self.charges.push(*charge);
        self.charges.len() - 1
    }

    /// The places of the charges of the check at `place`.
    fn places_of(&self, place: usize) -> &[usize] {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.places[begin..self.ends[place]]
    }

    /// Whether the last check charges anything.
    fn has_last(&self) -> bool {
        self.ends.len().checked_sub(1).is_some_and(|last| !self.places_of(last).is_empty())
    }

    /// The decision of the limits of the check at `place`.
    fn decision_of(&self, place: usize, verdicts: &Verdicts) -> Decision {
        let places = self.places_of(place);
        let charges: Plan<'_> = places.iter().map(|place| self.charges[*place]).collect();
        let verdicts: Verdicts = places.iter().map(|place| verdicts[*place]).collect();
        Decision::assemble(&charges, &verdicts)
    }
}

#[cfg(test)]
#[path = "together_tests.rs"]
mod tests;
