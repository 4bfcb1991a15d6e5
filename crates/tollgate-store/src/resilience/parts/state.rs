//! What one node holds of one limit, and how much of it the node should take next. Pure: no store, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Amount, Attribute, Charge, Limit, Split, Subject, Timestamp};

use crate::{Part, Taken};

/// The part of its life that a part lives less here, because the clocks of two machines may run at different speeds: 1/1024 is
/// twice the most that NTP corrects (500 parts in a million).
const DRIFT_DIVISOR: u64 = 1_024;
/// The most parts in hand of which some are spent: the oldest ones are forgotten, because a check that is denied elsewhere
/// seldom gives back what it spent from them.
const MAX_SPENT_PARTS: usize = 4;

/// What was spent from which parts, by their numbers.
pub(super) type Sources = SmallVec<[(u64, u64); 2]>;

/// A part, and what of it is to be given back.
#[derive(Debug)]
pub(super) struct Unspent {
    pub(super) part: Part,
    pub(super) units: Amount,
}

/// An admission from parts in hand.
#[derive(Debug)]
pub(super) struct Spent {
    /// After the admission.
    pub(super) verdict: Verdict,
    pub(super) cost: u64,
    pub(super) sources: Sources,
}

impl Spent {
    /// The verdict before the admission.
    pub(super) fn before(&self) -> Verdict {
        Verdict { usage: self.verdict.usage.saturating_sub(self.cost), ..self.verdict }
    }
}

/// A part to take.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) limit: Arc<Limit>,
    pub(super) holder: Arc<Holder>,
    pub(super) size: Amount,
    /// How often the limit had been reset on this node.
    pub(super) resets: u64,
}

/// The part of a subject that makes the key of a limit.
#[derive(Debug)]
pub(super) struct Holder {
    values: Vec<(Attribute, String)>,
    user_tenant: Option<String>,
}

impl Holder {
    fn of(limit: &Limit, subject: &Subject<'_>) -> Self {
        let attributes = limit.per().attributes().iter();
        let values = attributes
            .filter_map(|attribute| Some((attribute.clone(), subject.get(attribute)?.to_owned())));
        Self { values: values.collect(), user_tenant: subject.user_tenant().map(str::to_owned) }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let mut subject = Subject::empty();
        for (attribute, value) in &self.values {
            subject.set(attribute, value);
        }
        if let Some(tenant) = &self.user_tenant {
            subject.set_user_tenant(tenant);
        }
        subject
    }
}

/// What was admitted in this life of a part and in the one before.
#[derive(Debug, Default)]
struct Demand {
    life: u64,
    units: u64,
    before: u64,
}

impl Demand {
    fn at(&mut self, life: u64) -> &mut Self {
        if life != self.life {
            self.before = if life == self.life + 1 { self.units } else { 0 };
            (self.life, self.units) = (life, 0);
        }
        self
    }

    fn recent(&self) -> u64 {
        self.units.saturating_add(self.before)
    }
}

#[derive(Debug)]
struct Held {
    number: u64,
    part: Part,
    left: u64,
    ends: Timestamp,
}

/// What this node holds of one limit, and what it knows about it.
#[derive(Debug)]
pub(super) struct State {
    /// As the policies say.
    limit: Arc<Limit>,
    /// As the store counts it.
    counted: Arc<Limit>,
    holder: Arc<Holder>,
    split: Split,
    life_ns: u64,
    /// The most units in hand.
    most: u64,
    /// The latest time, so that a clock that steps back is clamped.
    latest: Timestamp,
    demand: Demand,
    latest_cost: u64,
    /// As the store said last.
    usage: u64,
    resets_at: Timestamp,
    /// The oldest first.
    held: VecDeque<Held>,
    next_number: u64,
    is_taking: bool,
    /// Nothing is taken before this time, because the store has just failed.
    rests_until: Timestamp,
    resets: u64,
}

impl State {
    /// That of a limit that is split, of which nothing is held yet.
    pub(super) fn new(charge: &Charge<'_>, counted: Arc<Limit>) -> Option<Self> {
        let (limit, split) = (charge.limit, charge.limit.split()?);
        let life = limit.counting().window().map(Split::life)?;
        Some(Self {
            limit: Arc::clone(limit),
            counted,
            holder: Arc::new(Holder::of(limit, charge.subject)),
            split,
            life_ns: u64::try_from(life.as_nanos()).unwrap_or(u64::MAX).max(1),
            most: split.part_of(limit.amount().get()),
            latest: Timestamp::default(),
            demand: Demand::default(),
            latest_cost: 1,
            usage: limit.amount().get(),
            resets_at: Timestamp::default(),
            held: VecDeque::new(),
            next_number: 0,
            is_taking: false,
            rests_until: Timestamp::default(),
            resets: 0,
        })
    }

    /// Whether it is that of `limit`: the policies may have changed, and the priority classes of a policy have limits of their own.
    #[inline]
    pub(super) fn is_of(&self, limit: &Arc<Limit>) -> bool {
        let terms = |limit: &Limit| (limit.amount(), limit.counting(), limit.split());
        Arc::ptr_eq(&self.limit, limit) || terms(&self.limit) == terms(limit)
    }

    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// The units that may be spent at `now`.
    fn in_hand(&self, now: Timestamp) -> u64 {
        self.held.iter().filter(|held| now < held.ends).map(|held| held.left).sum()
    }

    /// Admits `cost` from the parts in hand; `None` if they do not have it.
    pub(super) fn spend(&mut self, cost: Amount, now: Timestamp) -> Option<Spent> {
        let now = self.advance(now);
        let in_hand = self.in_hand(now);
        let cost = cost.get();
        if in_hand < cost.max(1) {
            return None;
        }
        let mut sources = Sources::new();
        let mut missing = cost;
        for held in self.held.iter_mut().filter(|held| now < held.ends && held.left > 0) {
            let units = held.left.min(missing);
            held.left -= units;
            missing -= units;
            sources.push((held.number, units));
            if missing == 0 {
                break;
            }
        }
        self.forget_spent();
        self.admitted(cost, now);
        Some(Spent { verdict: self.verdict(in_hand - cost, now), cost, sources })
    }

    fn forget_spent(&mut self) {
        while self.held.len() > MAX_SPENT_PARTS
            && self.held.front().is_some_and(|one| one.left == 0)
        {
            self.held.pop_front();
        }
    }

    /// An estimate: the usage as the store said last, without what this node still holds.
    fn verdict(&self, in_hand: u64, now: Timestamp) -> Verdict {
        let usage = self.usage.saturating_sub(in_hand);
        Verdict::new(true, usage, Wait::None, self.resets_at.ns_since(now))
    }

    /// The verdict before a charge of `cost` that [`State::spend`] would admit.
    pub(super) fn would_spend(&mut self, cost: Amount, now: Timestamp) -> Option<(Verdict, u64)> {
        let now = self.advance(now);
        let in_hand = self.in_hand(now);
        (in_hand >= cost.get().max(1)).then(|| (self.verdict(in_hand, now), in_hand))
    }

    fn admitted(&mut self, cost: u64, now: Timestamp) {
        let demand = self.demand.at(now.as_ns() / self.life_ns);
        demand.units = demand.units.saturating_add(cost);
        self.latest_cost = cost.max(1);
    }

    /// Takes an admission back: its check was denied elsewhere. Returns the units that are held again; what came from a part
    /// that is forgotten stays charged.
    pub(super) fn put_back(&mut self, spent: &Spent) -> u64 {
        let mut held_again = 0;
        for (number, units) in &spent.sources {
            if let Some(held) = self.held.iter_mut().find(|held| held.number == *number) {
                held.left += units;
                held_again += units;
            }
        }
        self.demand.units = self.demand.units.saturating_sub(spent.cost);
        held_again
    }

    /// Learns from the store's answer to a check that it was asked about, received at `now`.
    pub(super) fn learn(&mut self, verdict: &Verdict, admitted: Option<Amount>, now: Timestamp) {
        let now = self.advance(now);
        self.usage = verdict.usage;
        self.resets_at = now.after(Duration::from_nanos(verdict.reset_after_ns));
        if let Some(cost) = admitted {
            self.admitted(cost.get(), now);
        }
    }

    /// The part to take now, if one is worth it: what was admitted lately, but at most the share of what is left of the limit,
    /// less what is in hand. The caller must take it and call [`State::taken`].
    pub(super) fn order(&mut self) -> Option<Order> {
        let now = self.latest;
        if self.is_taking || now < self.rests_until {
            return None;
        }
        let recent = self.demand.at(now.as_ns() / self.life_ns).recent().min(self.most);
        if self.in_hand(now) >= recent.div_ceil(2) {
            return None;
        }
        let room = self.limit.amount().get().saturating_sub(self.usage);
        // Also what has ended and is not given back yet.
        let kept: u64 = self.held.iter().map(|held| held.left).sum();
        let size = recent.min(self.split.part_of(room)).saturating_sub(kept);
        if size < self.latest_cost.saturating_mul(Split::LEAST_CHECKS) {
            return None;
        }
        self.is_taking = true;
        let (limit, holder) = (Arc::clone(&self.counted), Arc::clone(&self.holder));
        Some(Order { limit, holder, size: Amount::new(size)?, resets: self.resets })
    }

    /// Ends an order that was `sent` and answered at `now`, with `None` if the store failed. Returns what must be given back at once.
    pub(super) fn taken(
        &mut self,
        order: &Order,
        answer: Option<Taken>,
        (sent, now): (Timestamp, Timestamp),
    ) -> Option<Unspent> {
        self.is_taking = false;
        let now = self.advance(now);
        let Some(Taken { verdict, part }) = answer else {
            self.rests_until = now.after(Duration::from_nanos(self.life_ns));
            return None;
        };
        self.learn(&verdict, None, now);
        let part = part?;
        if order.resets != self.resets {
            return Some(Unspent { units: part.size, part });
        }
        // Measured from before the part was asked for, so that it ends here before its life ends in the store.
        let life_ns = self.life_ns - self.life_ns / DRIFT_DIVISOR;
        let ends = sent.after(Duration::from_nanos(life_ns));
        let number = self.next_number;
        self.next_number += 1;
        self.held.push_back(Held { number, left: part.size.get(), part, ends });
        None
    }

    /// Removes the parts that have ended at `now`, and returns what they have left.
    pub(super) fn ended(&mut self, now: Timestamp) -> Vec<Unspent> {
        let now = self.advance(now);
        self.removed(|held| held.ends <= now)
    }

    /// Removes all parts, and returns what they have left.
    pub(super) fn clear(&mut self) -> Vec<Unspent> {
        self.removed(|_| true)
    }

    /// The same because the limit was reset: what is being taken now is not spent either.
    pub(super) fn reset(&mut self) -> Vec<Unspent> {
        self.resets += 1;
        self.usage = self.limit.amount().get();
        self.clear()
    }

    fn removed(&mut self, is_removed: impl Fn(&Held) -> bool) -> Vec<Unspent> {
        let (removed, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.held).into_iter().partition(is_removed);
        self.held = kept;
        let unspent = removed.into_iter().filter(|held| held.left > 0);
        unspent
            .filter_map(|held| Some(Unspent { units: Amount::new(held.left)?, part: held.part }))
            .collect()
    }

    /// Whether it holds nothing, and nothing was admitted lately.
    pub(super) fn is_idle(&mut self) -> bool {
        let life = self.latest.as_ns() / self.life_ns;
        self.held.is_empty() && !self.is_taking && self.demand.at(life).recent() == 0
    }
}
