//! Charges that can be given back by their request id.
//!
//! A window that is exact cannot give back "three hits": which ones decides when the room comes. So a charge that may be given back
//! is kept as a lease, which the subject and the request id name (R12), and giving back settles it for less (R14).

use std::fmt::Write as _;
use std::sync::Arc;

use tollgate_core::{
    Amount, Check, Cost, LeaseUpdate, Limit, OverLimit, PolicyId, Quality, Totals, Ttl, Unit,
};
use tollgate_store::{Effect, LeaseId, LeaseState, Store, StoreError};

use crate::leases::Reservation;
use crate::rate_limit::RateLimitService;
use crate::together::{Part, Together, Uncovered};

/// How long a charge can be given back, and how long it holds slots at most. Longer than any answer takes.
const KEPT: Ttl = Ttl::MAX;
/// The time to live of a lease that only looks for another. It differs from [`KEPT`].
const LOOKING: Ttl = Ttl::MIN;
/// How often giving back tries again if somebody else gives back too.
const MAX_TRIES: usize = 16;

const _: () = assert!(KEPT.as_ms() != LOOKING.as_ms());

/// What became of an attempt to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// What was charged for it was given back, apart from what had left its window.
    Done,
    /// The request id names no charge: it was denied, it is of another subject, or it was made too long ago.
    NotFound,
    /// This limit records costs that have happened (R19), or gives back what leases that expire hold; its charges are not kept.
    NotKept(PolicyId),
    /// The charge has nothing of this unit, so nothing was given back.
    NotCharged(Unit),
    /// The store keeps no leases.
    NoLeases,
}

impl<S: Store> RateLimitService<S> {
    /// The same as [`RateLimitService::check_together`] for one `check` with a request id, whose charge can be
    /// [given back](RateLimitService::give_back) for an hour. Until then, it also takes a slot of each limit of concurrency.
    ///
    /// Under limits that record denied costs (R19) or give back what expired leases hold, and in stores without leases, it is a check
    /// like any other, and nothing is given back.
    pub async fn check_kept(
        &self,
        check: &Check<'_>,
        uncovered: Uncovered,
    ) -> Result<Together, StoreError> {
        let charges_nothing = check.cost.amounts().all(|(_, amount)| amount == Amount::ZERO);
        let plain = charges_nothing || !self.store().capabilities().leases;
        let looked = self.look(check).await;
        if plain || looked.not_kept.is_some() || !looked.meets_limits {
            return self.check_together(std::slice::from_ref(check), uncovered).await;
        }
        let (name, check) = (name_of(check), check.clone().at_cost(self.exactly(&check.cost)));
        let reserved = self.reserve_named(&check, KEPT, 0, name.as_deref()).await?;
        let Reservation { decision, .. } = reserved;
        let allowed = decision.allowed();
        let part = Part { decision: decision.clone(), is_covered: true };
        Ok(Together { allowed, decision, parts: [part].into_iter().collect() })
    }

    /// Gives the cost of `check` back to the charge of the same subject that its request id names
    /// ([`RateLimitService::check_kept`]), at most what was charged, and frees its slots. Each call gives back.
    pub async fn give_back(&self, check: &Check<'_>) -> Result<GivenBack, StoreError> {
        if !self.store().capabilities().leases {
            return Ok(GivenBack::NoLeases);
        }
        if let Some(policy) = self.look(check).await.not_kept {
            return Ok(GivenBack::NotKept(policy));
        }
        // The cost is no part of what a request id names, so this finds the lease and charges nothing if there is none.
        let nothing = self.exactly(&Cost::one_request().with(Unit::Requests, Amount::ZERO));
        let (name, asked) = (name_of(check), check.clone().at_cost(nothing));
        let looked = self.reserve_named(&asked, LOOKING, 0, name.as_deref()).await?;
        let Some(lease) = looked.lease else {
            return Ok(GivenBack::NotFound);
        };
        if lease.ttl == LOOKING {
            self.update_lease(&lease.id, &LeaseUpdate::Release).await?;
            return Ok(GivenBack::NotFound);
        }
        self.settle_for_less(&lease.id, &check.cost).await
    }

    /// Settles a lease for `less` than it is charged.
    async fn settle_for_less(&self, id: &LeaseId, less: &Cost) -> Result<GivenBack, StoreError> {
        // The first update of every lease; sent again, it only asks for the state.
        let ask = LeaseUpdate::Extend {
            seq: Amount::ONE,
            ttl: None,
            observed: Totals::none(),
            wanted: Totals::none(),
        };
        for _ in 0..MAX_TRIES {
            let Some(state) = self.update_lease(id, &ask).await? else {
                return Ok(GivenBack::NotFound);
            };
            if let Some(unit) = not_charged(&state, less) {
                return Ok(GivenBack::NotCharged(unit));
            }
            let Some(seq) = Amount::new(state.seq.get().saturating_add(1)) else { break };
            let usage = what_remains(&state, less);
            let settle = LeaseUpdate::Settle { seq, usage, quality: Quality::Exact };
            match self.update_lease(id, &settle).await? {
                Some(state) if state.effect == Effect::Repeated => {}
                Some(state) if state.effect == Effect::Changed => return Ok(GivenBack::Done),
                _ => return Ok(GivenBack::NotFound),
            }
        }
        Ok(GivenBack::NotFound)
    }

    /// `cost`, and 0 of every unit of which leases reserve what they do not name.
    fn exactly(&self, cost: &Cost) -> Cost {
        let mut cost = cost.clone();
        for unit in self.policies().current().policies().reserved_units() {
            if !cost.names(unit) {
                cost.set(unit.clone(), Amount::ZERO);
            }
        }
        cost
    }

    /// What the limits of `check` say about giving back.
    async fn look(&self, check: &Check<'_>) -> Looked {
        let snapshot = self.policies().current();
        let known = match self.directory() {
            Some(directory) => Some(directory.resolve(&snapshot, check).await),
            None => None,
        };
        let known = known.as_ref().map(|known| known.complete(check, &snapshot));
        let plan = snapshot.policies().plan(known.as_ref().unwrap_or(check));
        let mut limits = plan.iter().map(|charge| charge.limit);
        let keeps_nothing = |limit: &&Arc<Limit>| {
            limit.over_limit() == OverLimit::Charge || limit.refunds_expired()
        };
        let not_kept = limits.find(keeps_nothing);
        Looked {
            not_kept: not_kept.map(|limit| limit.policy_id().clone()),
            meets_limits: !plan.is_empty(),
        }
    }
}

struct Looked {
    /// A limit under which a lease is not the same as a charge.
    not_kept: Option<PolicyId>,
    meets_limits: bool,
}

/// The name of what `check` is charged: its subject and its request id. The id alone would name the charge of another subject, if no
/// limit counts by what tells the two apart.
fn name_of(check: &Check<'_>) -> Option<String> {
    let request_id = check.request_id?;
    let mut attributes: Vec<_> = check.subject.attributes().collect();
    attributes.sort_unstable();
    let texts = attributes.into_iter().flat_map(|(attribute, value)| [attribute, value]);
    let mut name = String::new();
    for text in texts.chain([request_id]) {
        // Writing to a `String` cannot fail. With the lengths, no two lists of texts have the same name.
        _ = write!(name, "{}:{text}", text.len());
    }
    Some(name)
}

/// A unit of `less` of which the lease holds nothing, if it holds nothing of the others either, and no slots.
fn not_charged(state: &LeaseState, less: &Cost) -> Option<Unit> {
    let holds = |unit: &Unit| state.holds.iter().any(|hold| hold.unit == *unit);
    let asked = || less.amounts().filter(|(_, amount)| *amount > Amount::ZERO);
    let (unit, _) = asked().next()?;
    let is_held = asked().any(|(unit, _)| holds(unit)) || holds(&Unit::Concurrency);
    (!is_held).then(|| unit.clone())
}

/// What a lease is charged of each unit in `less`, without that.
fn what_remains(state: &LeaseState, less: &Cost) -> Totals {
    let mut remains = Totals::none();
    for (unit, amount) in less.amounts().filter(|(_, amount)| *amount > Amount::ZERO) {
        let holds = state.holds.iter().filter(|hold| hold.unit == *unit);
        if let Some(charged) = holds.map(|hold| hold.charged).max() {
            let remaining = charged.saturating_sub(amount.get());
            remains.set(unit.clone(), Amount::new(remaining).unwrap_or(Amount::MAX));
        }
    }
    remains
}

#[cfg(test)]
#[path = "give_back_tests.rs"]
mod tests;
