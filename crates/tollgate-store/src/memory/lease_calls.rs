//! What a reservation and an update do to the keys of a store in memory: the lease's shard is locked, then those of all its
//! limits, and the time is read once.

use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, slots};
use tollgate_core::lease::ledger::{self, Ending, MAX_PARTS, Step};
use tollgate_core::{
    Amount, Charge, Clock, Counting, LeaseUpdate, Limit, Mode, OverLimit, Timestamp, Ttl,
};

use super::MemoryStore;
use super::leases::{Held, Hold, Lease, LeaseKey, Part};
use super::once;
use super::refunds::Refund;
use super::shard::Guard;
use super::slots::SlotHolder;
use super::usage::{LeaseCharge, Usage};
use crate::{
    Effect, ExpiredLease, HoldState, LeaseId, LeaseRequest, LeaseState, LeaseStatus, LiveLeases,
    NewLease, Reserved, Verdicts, admits,
};

/// The locked shards of some keys, at one time.
struct Locked<'a> {
    guards: SmallVec<[(usize, Guard<'a>); 4]>,
    now: Timestamp,
    max_keys_per_shard: usize,
}

impl<C: Clock> MemoryStore<C> {
    /// [`Store::reserve`](crate::Store::reserve), without async. Takes a lock for the lease and one for each limit.
    pub fn reserve(&self, request: &LeaseRequest<'_>) -> Reserved {
        match request.request_id {
            None => self.reserve_new(request, None),
            Some(request_id) => self.once.reserve(
                request,
                request_id,
                &self.clock,
                |lease| self.known(lease),
                |digest| self.reserve_new(request, Some(digest)),
            ),
        }
    }

    /// The current state of a lease that was reserved before.
    fn known(&self, lease: &NewLease) -> NewLease {
        let now = self.clock.now();
        let key = LeaseKey::of(&lease.id);
        let head = key.and_then(|key| Some(self.leases.shard(key.holder()).get(key, now)?.head));
        lease.clone().reserved_before(head, now)
    }

    /// [`Store::live_leases`](crate::Store::live_leases), without async. O(leases), a part of them locked at a time.
    pub fn live_leases(&self, most: usize) -> LiveLeases {
        self.leases.live(self.clock.now(), most)
    }

    /// [`Store::expired_leases`](crate::Store::expired_leases).
    pub fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.leases.note_expired(self.clock.now(), most)
    }

    fn reserve_new(&self, request: &LeaseRequest<'_>, named: Option<once::Digest>) -> Reserved {
        let LeaseRequest { charges, ttl, .. } = *request;
        let digests: SmallVec<[_; 4]> =
            charges.iter().map(|charge| self.hasher.digest(charge.limit, charge.subject)).collect();
        let secret = self.leases.draw();
        let mut table = self.leases.shard(secret);
        let shards = digests.iter().map(|digest| self.shard_index(*digest)).collect();
        let mut locked = self.locked(shards, self.clock.now());
        let now = locked.now;
        let place = |index: usize| (self.shard_index(digests[index]), digests[index].fingerprint);
        // A rate limit that is alone is decided and charged at once.
        let is_charged = matches!(charges, [one] if one.limit.counting() != Counting::Concurrency);
        let mut verdicts = Verdicts::new();
        for (index, charge) in charges.iter().enumerate() {
            verdicts.push(if is_charged {
                locked.decide(place(index), charge.limit, charge.cost)
            } else {
                locked.verdict(place(index), charge.limit, charge.cost)
            });
        }
        if !admits(charges, &verdicts) {
            return Reserved { verdicts, lease: None, degraded: false };
        }
        let expires_at = now.after(ttl.as_duration());
        let mut holds: SmallVec<[Hold; 1]> = SmallVec::with_capacity(charges.len());
        for (index, (charge, verdict)) in charges.iter().zip(&mut verdicts).enumerate() {
            let Charge { limit, cost, .. } = *charge;
            let is_slot = limit.counting() == Counting::Concurrency;
            let held = if is_slot {
                if verdict.allowed {
                    locked.usage(place(index)).take_slot(limit, secret, expires_at);
                    *verdict = slots::taken(*verdict, expires_at, now);
                }
                Held::Slot(verdict.allowed)
            } else if verdict.allowed && cost != Amount::ZERO {
                if !is_charged {
                    *verdict = locked.usage(place(index)).decide(limit, now, cost, true);
                }
                let part = Part { at: now, used_then: verdict.usage, cost: cost.get() };
                Held::Parts(SmallVec::from_buf([part]))
            } else {
                Held::Parts(SmallVec::new())
            };
            holds.push(Hold { limit: limit.clone(), digest: digests[index], held });
            locked.refund_later(&holds[index], secret, expires_at, place(index));
        }
        drop(locked);
        let lease = Lease { named, ..Lease::new(ttl, now, holds, request.note) };
        let (key, evicted) = self.leases.add(&mut table, secret, lease, now);
        if let Some((holder, lease)) = evicted {
            self.keep_holds(&lease, holder);
        }
        Reserved { verdicts, lease: Some(NewLease::new(key.id(), ttl)), degraded: false }
    }

    /// What a lease holds stays as reserved, because it was forgotten at the cap.
    fn keep_holds(&self, lease: &Lease, holder: SlotHolder) {
        for hold in lease.holds.iter().filter(|hold| hold.limit.refunds_expired()) {
            let key = (lease.head.expires_at, holder, hold.digest.fingerprint);
            self.shard(hold.digest).lock().keep_hold(&key);
        }
    }

    /// [`Store::update_lease`](crate::Store::update_lease), without async. Takes a lock for the lease and one for each limit.
    pub fn update_lease(&self, id: &LeaseId, update: &LeaseUpdate) -> Option<LeaseState> {
        let key = LeaseKey::of(id)?;
        // A settlement does not change what the request id of the lease names.
        let mut named = match update {
            LeaseUpdate::Settle { .. } => None,
            LeaseUpdate::Extend { .. } | LeaseUpdate::Release => {
                let lease = self.leases.shard(key.holder()).get(key, self.clock.now())?.named;
                lease.map(|digest| self.once.named(digest))
            }
        };
        let mut table = self.leases.shard(key.holder());
        let now = self.clock.now();
        let lease = table.get(key, now)?;
        let shards = lease.holds.iter().map(|hold| self.shard_index(hold.digest)).collect();
        let mut locked = self.locked(shards, now);
        if locked.now >= lease.kept_until {
            return None;
        }
        lease.expire(locked.now);
        let was_open = lease.head.ending == Ending::Open;
        let place = |hold: &Hold| (self.shard_index(hold.digest), hold.digest.fingerprint);
        let before = Before::of(lease, locked.now);
        let expired_at = lease.head.expires_at;
        let effect = match lease.head.step(update) {
            Step::Nothing => Effect::Repeated,
            Step::Refused => Effect::Refused,
            Step::Extend(ttl) => {
                locked.extend(lease, key.holder(), update, ttl, &place);
                if let LeaseUpdate::Extend { observed, .. } = update {
                    lease.observed = Some(Box::new(observed.clone()));
                }
                Effect::Changed
            }
            Step::End(ending) => {
                locked.end(lease, key.holder(), update, ending, &place);
                Effect::Changed
            }
        };
        if let (
            Effect::Changed,
            LeaseUpdate::Extend { seq, .. } | LeaseUpdate::Settle { seq, .. },
        ) = (effect, update)
        {
            lease.head.seq = *seq;
        }
        if effect == Effect::Changed {
            locked.move_refunds(lease, key.holder(), expired_at, &place);
        }
        let state = locked.state(lease, effect, &before, &place);
        drop(locked);
        match (&mut named, update) {
            (Some(named), LeaseUpdate::Extend { .. }) => named.prolong(id, lease.head.expires_at),
            (Some(named), LeaseUpdate::Release) if effect == Effect::Changed => named.forget(id),
            _ => {}
        }
        let lease_over = lease.kept_until;
        if before.status == LeaseStatus::Expired && effect == Effect::Changed {
            table.count_expiry(key, state.is_live());
        }
        if was_open && state.ending != Ending::Open {
            self.leases.ended(&mut table, key, lease_over);
        }
        Some(state)
    }

    /// Locks these shards at `now`, or at a later time that one of them has seen.
    fn locked(&self, shards: SmallVec<[usize; 4]>, now: Timestamp) -> Locked<'_> {
        let mut guards = self.lock_all(shards);
        // One time for all: the latest that any of the shards has seen.
        let now = guards.iter_mut().fold(now, |now, (_, guard)| guard.clamp(now));
        for (_, guard) in &mut guards {
            guard.clamp(now);
        }
        Locked { guards, now, max_keys_per_shard: self.max_keys_per_shard }
    }
}

/// What a lease was before an update.
struct Before {
    status: LeaseStatus,
    /// What was charged in each hold.
    charged: SmallVec<[u64; 4]>,
}

impl Before {
    fn of(lease: &Lease, now: Timestamp) -> Self {
        let is_live = lease.head.is_live(now);
        let charged = lease.holds.iter().map(|hold| hold.charged(is_live)).collect();
        Self { status: LeaseStatus::of(lease.head.ending, is_live), charged }
    }
}

impl Hold {
    /// What the lease is charged; of concurrency, 1 while it is alive.
    pub(super) fn charged(&self, is_live: bool) -> u64 {
        match &self.held {
            Held::Parts(parts) => total_of(parts),
            Held::Slot(taken) => u64::from(is_live && *taken),
        }
    }
}

/// The shard of a key, and its fingerprint there.
type Place = (usize, u64);

impl Locked<'_> {
    fn verdict(&mut self, (shard, fingerprint): Place, limit: &Limit, cost: Amount) -> Verdict {
        let now = self.now;
        match super::find(&mut self.guards, shard).and_then(|guard| guard.table.get(fingerprint)) {
            Some(usage) => usage.decide(limit, now, cost, false),
            None => Usage::evaluate_none(limit, now, cost),
        }
    }

    /// The same, and charges what is admitted.
    fn decide(&mut self, (shard, fingerprint): Place, limit: &Limit, cost: Amount) -> Verdict {
        let (now, max_keys) = (self.now, self.max_keys_per_shard);
        let Some(guard) = super::find(&mut self.guards, shard) else {
            return Usage::evaluate_none(limit, now, cost);
        };
        if let Some(usage) = guard.table.get(fingerprint) {
            return usage.decide(limit, now, cost, true);
        }
        let verdict = Usage::evaluate_none(limit, now, cost);
        if !verdict.allowed || cost == Amount::ZERO {
            return verdict;
        }
        guard.table.get_or_insert(fingerprint, now, max_keys).decide(limit, now, cost, true)
    }

    /// What a lease of `limit` finds: changes nothing.
    fn look(&mut self, (shard, fingerprint): Place, limit: &Limit, cost: Amount) -> Verdict {
        let now = self.now;
        match super::find(&mut self.guards, shard).and_then(|guard| guard.table.get(fingerprint)) {
            Some(usage) => usage.look(limit, now, cost),
            None => Usage::evaluate_none(limit, now, cost),
        }
    }

    /// The usage of a key, which begins now if it has none.
    fn usage(&mut self, (shard, fingerprint): Place) -> &mut Usage {
        let (now, max_keys) = (self.now, self.max_keys_per_shard);
        let index = self.guards.iter().position(|(index, _)| *index == shard).unwrap_or_default();
        self.guards[index].1.table.get_or_insert(fingerprint, now, max_keys)
    }

    /// Notes what is to be given back when the lease of `hold` expires.
    fn refund_later(
        &mut self,
        hold: &Hold,
        holder: SlotHolder,
        expires_at: Timestamp,
        (shard, fingerprint): Place,
    ) {
        let Held::Parts(parts) = &hold.held else { return };
        if hold.limit.refunds_expired()
            && !parts.is_empty()
            && let Some(guard) = super::find(&mut self.guards, shard)
        {
            let refund = Refund { limit: hold.limit.clone(), parts: parts.clone() };
            guard.refund_later((expires_at, holder, fingerprint), refund);
        }
    }

    /// The same for all holds of a lease that would have expired at `expired_at` before it was updated.
    fn move_refunds(
        &mut self,
        lease: &Lease,
        holder: SlotHolder,
        expired_at: Timestamp,
        place: &impl Fn(&Hold) -> Place,
    ) {
        for hold in lease.holds.iter().filter(|hold| hold.limit.refunds_expired()) {
            let (shard, fingerprint) = place(hold);
            if let Some(guard) = super::find(&mut self.guards, shard) {
                guard.keep_hold(&(expired_at, holder, fingerprint));
            }
            if lease.head.is_live(self.now) {
                self.refund_later(hold, holder, lease.head.expires_at, (shard, fingerprint));
            }
        }
    }

    /// Brings what a hold is charged to `total`, by reducing it or by charging the rest now.
    fn bring_to(
        &mut self,
        place: Place,
        limit: &Limit,
        parts: &mut SmallVec<[Part; 1]>,
        total: u64,
    ) {
        let held = total_of(parts);
        if total > held {
            let Some(cost) = Amount::new(total - held) else { return };
            self.charge(place, limit, parts, cost, OverLimit::Charge);
            return;
        }
        let now = self.now;
        let costs = ledger::reduced(parts.iter().map(|part| part.cost), total);
        for (part, cost) in parts.iter_mut().zip(costs) {
            let amounts = (Amount::new(part.cost), Amount::new(cost));
            if cost < part.cost
                && let (Some(old), Some(new)) = amounts
                && let Some(guard) = super::find(&mut self.guards, place.0)
                && let Some(usage) = guard.table.get(place.1)
            {
                usage.change(limit, now, (part.at, part.used_then), old, new);
            }
            part.cost = cost;
        }
        parts.retain(|part| part.cost > 0);
    }

    /// Charges `cost` now, whether or not there is room if `over_limit` says so: then as much of it as the usage can hold.
    fn charge(
        &mut self,
        place: Place,
        limit: &Limit,
        parts: &mut SmallVec<[Part; 1]>,
        cost: Amount,
        over_limit: OverLimit,
    ) {
        let (now, mut cost) = (self.now, cost);
        let mut charged = self.usage(place).charge_lease(limit, now, cost, over_limit);
        if charged == LeaseCharge::NoRoom && over_limit == OverLimit::Charge {
            let usage = self.look(place, limit, Amount::ZERO).usage;
            let room = limit.most_recorded().get().saturating_sub(usage);
            let Some(rest) = Amount::new(room).filter(|room| *room > Amount::ZERO) else { return };
            cost = cost.min(rest);
            charged = self.usage(place).charge_lease(limit, now, cost, over_limit);
        }
        let used_then = match charged {
            LeaseCharge::Charged(usage) => usage,
            // As if it had been charged before the policy changed: its usage of then is forgotten.
            LeaseCharge::CountedOtherwise => 0,
            LeaseCharge::NoRoom => return,
        };
        parts.push(Part { at: now, used_then, cost: cost.get() });
    }

    fn extend(
        &mut self,
        lease: &mut Lease,
        holder: SlotHolder,
        update: &LeaseUpdate,
        ttl: Ttl,
        place: &impl Fn(&Hold) -> Place,
    ) {
        // What is missing from each hold to what is wanted.
        let mut wanted: SmallVec<[(usize, Amount); 2]> = SmallVec::new();
        for (index, hold) in lease.holds.iter_mut().enumerate() {
            let at = place(hold);
            let Held::Parts(parts) = &mut hold.held else { continue };
            let change = ledger::change(update, &hold.limit, total_of(parts));
            self.bring_to(at, &hold.limit, parts, change.total);
            let more = (change.total + change.wanted).saturating_sub(total_of(parts));
            if change.wanted > 0
                && let Some(more) = Amount::new(more)
            {
                wanted.push((index, more));
            }
        }
        let is_live = lease.head.is_live(self.now);
        let mut may_pass = |hold: &Hold, cost: Amount| {
            let verdict = self.look(place(hold), &hold.limit, cost);
            (verdict.allowed, verdict.allowed || hold.limit.mode() != Mode::Enforce)
        };
        let mut slots = lease.holds.iter().filter(|hold| matches!(hold.held, Held::Slot(true)));
        let revives = is_live || slots.all(|hold| may_pass(hold, Amount::ZERO).1);
        let has_parts = |hold: &Hold| match &hold.held {
            Held::Parts(parts) => parts.len() < MAX_PARTS,
            Held::Slot(_) => false,
        };
        let mut granted = revives;
        let mut charged: SmallVec<[(usize, Amount); 2]> = SmallVec::new();
        for (index, more) in wanted {
            let hold = &lease.holds[index];
            let (has_room, passes) = may_pass(hold, more);
            granted &= passes && has_parts(hold);
            if has_room {
                charged.push((index, more));
            }
        }
        lease.head.proceed = granted;
        for (index, more) in charged.into_iter().filter(|_| granted) {
            let hold = &mut lease.holds[index];
            let at = place(hold);
            if let Held::Parts(parts) = &mut hold.held {
                self.charge(at, &hold.limit, parts, more, OverLimit::Deny);
            }
        }
        if !revives {
            return;
        }
        let expired_at = lease.head.expires_at;
        lease.has_expired = false;
        lease.head.ttl = ttl;
        lease.head.expires_at = self.now.after(ttl.as_duration());
        lease.kept_until = lease.head.kept_until(lease.longest_life);
        for hold in &mut lease.holds {
            let at = place(hold);
            let Held::Slot(taken @ true) = &mut hold.held else { continue };
            *taken = is_live || self.look(at, &hold.limit, Amount::ZERO).allowed;
            if *taken {
                let (now, times) = (self.now, (expired_at, lease.head.expires_at));
                self.usage(at).keep_slot(&hold.limit, holder, now, times);
            }
        }
    }

    fn end(
        &mut self,
        lease: &mut Lease,
        holder: SlotHolder,
        update: &LeaseUpdate,
        ending: Ending,
        place: &impl Fn(&Hold) -> Place,
    ) {
        for hold in &mut lease.holds {
            let at = place(hold);
            match &mut hold.held {
                Held::Parts(parts) => {
                    let change = ledger::change(update, &hold.limit, total_of(parts));
                    self.bring_to(at, &hold.limit, parts, change.total);
                }
                Held::Slot(taken) => {
                    if *taken
                        && let Some(guard) = super::find(&mut self.guards, at.0)
                        && let Some(usage) = guard.table.get(at.1)
                    {
                        usage.free_slot(holder, lease.head.expires_at);
                    }
                    *taken = false;
                }
            }
        }
        lease.head.ending = ending;
        lease.kept_until = self.now.after(ledger::KEPT_FOR);
    }

    fn state(
        &mut self,
        lease: &Lease,
        effect: Effect,
        before: &Before,
        place: &impl Fn(&Hold) -> Place,
    ) -> LeaseState {
        let is_live = lease.head.is_live(self.now);
        let hold_state = |(hold, charged_before): (&Hold, &u64)| HoldState {
            policy_id: hold.limit.policy_id().clone(),
            unit: hold.limit.unit().clone(),
            weights: *hold.limit.weights(),
            limit: hold.limit.amount(),
            usage: self.look(place(hold), &hold.limit, Amount::ZERO).usage,
            charged: hold.charged(is_live),
            charged_before: *charged_before,
            key: Box::default(),
        };
        let holds = lease.holds.iter().zip(&before.charged).map(hold_state).collect();
        let head = &lease.head;
        LeaseState {
            effect,
            was: before.status,
            ending: head.ending,
            seq: head.seq,
            proceed: head.proceed,
            ttl: head.ttl,
            lives_for: if is_live { head.expires_at.since(self.now) } else { Duration::ZERO },
            holds,
            note: lease.note.clone(),
        }
    }
}

fn total_of(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.cost).sum()
}
