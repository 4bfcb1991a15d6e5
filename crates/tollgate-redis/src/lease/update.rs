//! Extensions, settlements and releases: the record is read, `tollgate_core::lease::ledger` says what becomes of it, and one
//! script call per slot does it if nobody else has changed the record meanwhile.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;
use tollgate_core::counting::Verdict;
use tollgate_core::lease::ledger::{self, Ending, KEPT_FOR, LeaseHead, MAX_PARTS, Step};
use tollgate_core::{Amount, Charge, LeaseUpdate, Mode, Subject, Timestamp, Ttl};
use tollgate_store::{
    Effect, HoldState, LeaseId, LeaseState, LeaseStatus, StoreError, StoreErrorKind,
};

use super::id::tags_of;
use super::record::{self, Changing, Record, ending_code};
use super::requests::{Action, Numbers, Refusal, UpdateReply};
use crate::call::{Answered, Invocation, Progress};
use crate::check::unreadable_keys;
use crate::errors;
use crate::key::{due_key, slot, tag_of};
use crate::link::Link;
use crate::script::UPDATE_LEASE;
use crate::store::RedisStore;
use crate::wire::{self, Ask, IfDenied, TICK_NS, push, push_change, push_double};

/// How often an update is tried again because others have changed the lease meanwhile.
const MAX_CONFLICTS: u32 = 64;
/// More bytes than a record has.
const MAX_RECORD_BYTES: usize = u32::MAX as usize;

/// Where the record of one slot lies.
pub(super) struct Place {
    key: String,
    slot: u16,
}

/// What an update does in one slot.
struct Plan {
    action: Action,
    seq: Amount,
    ending: Ending,
    ttl_ms: u64,
    /// [`Numbers::expires_us`]
    expires_us: u64,
    refusal: Refusal,
    /// What is charged whether or not there is room: the indices of the limits, and how much.
    forced: SmallVec<[(usize, Amount); 2]>,
    /// What is charged if all have room.
    wanted: SmallVec<[(usize, Amount); 2]>,
    /// The parts that change: their indices, and the new costs.
    changes: SmallVec<[(usize, u64); 4]>,
    /// Whether the slots of the lease take part.
    has_slots: bool,
    /// What the record ends with, if that is not what it ended with before.
    end: Option<RecordEnd>,
}

/// The end of a record.
struct RecordEnd {
    /// How many bytes of what follows the parts stay.
    kept_bytes: usize,
    /// What follows them.
    bytes: Vec<u8>,
}

/// A lease in one slot after an update.
struct Updated {
    record: Record,
    /// The head before.
    before: LeaseHead,
    /// What each limit was charged before.
    charged_before: SmallVec<[u64; 4]>,
    effect: Effect,
    /// What each limit comes to without what is wanted.
    totals: SmallVec<[u64; 4]>,
    verdicts: Vec<Verdict>,
    now: Timestamp,
}

impl RedisStore {
    /// [`Store::update_lease`](tollgate_store::Store::update_lease)
    pub(crate) async fn update_known_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        let Some(tags) = tags_of(id, self.keys.tagged) else { return Ok(None) };
        let places: SmallVec<[Place; 2]> = tags.iter().map(|tag| self.place_of(id, tag)).collect();
        let progress = Progress::default();
        let call = self.update_slots(&places, update, &progress);
        self.until(Instant::now() + self.deadline, &progress, true, call).await
    }

    pub(super) fn place_of(&self, id: &LeaseId, tag: &str) -> Place {
        let key = self.keys.of_lease(id.as_str(), tag);
        let slot = if self.topology.is_cluster() { slot(&key) } else { 0 };
        Place { key, slot }
    }

    /// One slot after the other.
    async fn update_slots(
        &self,
        places: &[Place],
        update: &LeaseUpdate,
        progress: &Progress,
    ) -> Result<Option<LeaseState>, StoreError> {
        let mut done: SmallVec<[Updated; 1]> = SmallVec::new();
        let mut refusal = Refusal::Nothing;
        for (index, place) in places.iter().enumerate() {
            let lead = done.first().map(|first| first.record.changing.head);
            let updated = self.update_slot(place, update, lead.as_ref(), refusal, progress).await?;
            let Some(updated) = updated else {
                if index == 0 {
                    return Ok(None);
                }
                continue;
            };
            if let (LeaseUpdate::Extend { .. }, Effect::Changed) = (update, updated.effect) {
                let own = updated.refusal();
                if own > refusal {
                    refusal = own;
                    for (before, place) in done.iter_mut().zip(places) {
                        self.set_back(place, before, refusal, progress).await?;
                    }
                }
            }
            done.push(updated);
        }
        Ok(Some(state(&done)))
    }

    /// Updates a lease in one slot; `None` if it is not known there. In all slots but the first, `lead` is the lease there: they
    /// do what it has done.
    async fn update_slot(
        &self,
        place: &Place,
        update: &LeaseUpdate,
        lead: Option<&LeaseHead>,
        refusal: Refusal,
        progress: &Progress,
    ) -> Result<Option<Updated>, StoreError> {
        let Some(mut record) = self.record(place, progress).await? else { return Ok(None) };
        for _ in 0..MAX_CONFLICTS {
            let before = record.changing.head;
            let step = match lead {
                Some(lead) if !has_done(lead, update) => Step::Nothing,
                _ => before.step(update),
            };
            let charged_before = record.charged();
            let (plan, totals) = Plan::of(&record, update, step, refusal);
            match self.run_plan(place, &record, &plan, progress).await? {
                UpdateReply::Gone => return Ok(None),
                UpdateReply::Changed(bytes) => record = self.read_record(place, &bytes)?,
                UpdateReply::Done { lease, verdicts, now } => {
                    record.changing = *lease;
                    let charged_before = match step {
                        // What the lease gave back when it expired was not its any more.
                        Step::Nothing | Step::Refused => record.charged(),
                        Step::Extend(_) | Step::End(_) => charged_before,
                    };
                    let effect = match step {
                        Step::Nothing => Effect::Repeated,
                        Step::Refused => Effect::Refused,
                        Step::Extend(_) | Step::End(_) => Effect::Changed,
                    };
                    return Ok(Some(Updated {
                        record,
                        before,
                        charged_before,
                        effect,
                        totals,
                        verdicts,
                        now,
                    }));
                }
            }
        }
        Err(conflicts())
    }

    /// Takes back what an extension did in one slot, because another slot has refused it.
    async fn set_back(
        &self,
        place: &Place,
        updated: &mut Updated,
        refusal: Refusal,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        if updated.effect != Effect::Changed {
            return Ok(());
        }
        let seq = updated.record.changing.head.seq;
        for _ in 0..MAX_CONFLICTS {
            let plan = Plan::setting_back(updated, refusal);
            match self.run_plan(place, &updated.record, &plan, progress).await? {
                UpdateReply::Done { lease, verdicts, now } => {
                    updated.record.changing = *lease;
                    (updated.verdicts, updated.now) = (verdicts, now);
                    return Ok(());
                }
                UpdateReply::Gone => return Ok(()),
                UpdateReply::Changed(bytes) => {
                    updated.record = self.read_record(place, &bytes)?;
                    let head = updated.record.changing.head;
                    // A later update has the last word.
                    if head.seq != seq || head.ending != Ending::Open {
                        return Ok(());
                    }
                }
            }
        }
        Err(conflicts())
    }

    /// Deletes a lease in the slot of `tag`, with the key of its request id, because its check was denied.
    pub(super) async fn forget(
        &self,
        id: &LeaseId,
        tag: &str,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let place = self.place_of(id, tag);
        let Some(mut record) = self.record(&place, progress).await? else { return Ok(()) };
        for _ in 0..MAX_CONFLICTS {
            let plan = Plan::forgetting(&record);
            match self.run_plan(&place, &record, &plan, progress).await? {
                UpdateReply::Done { .. } | UpdateReply::Gone => return Ok(()),
                UpdateReply::Changed(bytes) => record = self.read_record(&place, &bytes)?,
            }
        }
        Err(conflicts())
    }

    pub(super) async fn record(
        &self,
        place: &Place,
        progress: &Progress,
    ) -> Result<Option<Record>, StoreError> {
        let invocation = Invocation {
            script: None,
            slot: place.slot,
            keys: &[&place.key],
            operation: None,
            arguments: &[],
            deadline: None,
        };
        let answered = self.invoke::<Option<Vec<u8>>>(&invocation, &[progress]).await?;
        answered.answer.map(|bytes| self.read_record(place, &bytes)).transpose()
    }

    fn read_record(&self, place: &Place, bytes: &[u8]) -> Result<Record, StoreError> {
        Record::read(bytes, &self.keys).ok_or_else(|| {
            let context =
                format!("the key {} holds a lease that this version did not write", place.key);
            errors::with_remedy(StoreError::new(StoreErrorKind::ForeignKey, context))
        })
    }

    async fn run_plan(
        &self,
        place: &Place,
        record: &Record,
        plan: &Plan,
        progress: &Progress,
    ) -> Result<UpdateReply, StoreError> {
        let nobody = Subject::new("", "");
        let holds = &record.holds;
        let charge = |(hold, cost): (usize, Amount)| Charge {
            limit: &holds[hold].limit,
            subject: &nobody,
            cost,
        };
        let all: SmallVec<[Charge<'_>; 4]> =
            (0..holds.len()).map(|hold| charge((hold, Amount::ZERO))).collect();
        let forced: SmallVec<[Charge<'_>; 2]> = plan.forced.iter().copied().map(charge).collect();
        let wanted: SmallVec<[Charge<'_>; 2]> = plan.wanted.iter().copied().map(charge).collect();
        let charged = plan.forced.iter().chain(&plan.wanted);
        let named = record.open.as_ref().and_then(|open| open.named.as_deref());
        let once_key = named
            .filter(|_| plan.needs_request_id())
            .map(|digest| self.keys.of_lease_request(digest, tag_of(&place.key)));
        let due: SmallVec<[String; 2]> =
            record.refunding().map(|(_, hold)| due_key(&hold.key)).collect();
        let mut keys: SmallVec<[&str; 6]> = smallvec![place.key.as_str()];
        keys.extend(holds.iter().map(|hold| hold.key.as_str()));
        keys.extend(charged.map(|(hold, _)| holds[*hold].key.as_str()));
        keys.extend(once_key.as_deref());
        keys.extend(due.iter().map(String::as_str));
        let request = |link: &Link, told| {
            let ask = |charges, charging, over_limit| Ask {
                charges,
                come_again: &[],
                charging,
                over_limit,
                of_lease: true,
                once: None,
                not_after: None,
            };
            let mut asks: SmallVec<[Ask<'_>; 3]> = smallvec![ask(&all, false, IfDenied::Nothing)];
            if !forced.is_empty() {
                asks.push(ask(&forced, true, IfDenied::Everything));
            }
            if !wanted.is_empty() {
                asks.push(ask(&wanted, true, IfDenied::Nothing));
            }
            wire::request_of(&asks, true, &self.times(link, told))
        };
        let end = plan.end.as_ref().map(|end| end.bytes.clone()).unwrap_or_default();
        let mut arguments = vec![plan.packed(record), end, self.channel().into_bytes()];
        arguments.extend(
            plan.changes
                .iter()
                .map(|(part, _)| holds[record.changing.parts[*part].hold].name.clone()),
        );
        let invocation = Invocation {
            script: Some(&UPDATE_LEASE),
            slot: place.slot,
            keys: &keys,
            operation: None,
            arguments: &arguments,
            deadline: None,
        };
        let period = |answer: &Vec<u8>| wire::time_of_other_period(answer);
        let Answered { answer, link, .. } =
            self.invoke_in_period::<Vec<u8>>(&invocation, &request, &[progress], period).await?;
        UpdateReply::read(&answer, &all).ok_or_else(|| unreadable_keys(&link, &keys, true))
    }
}

fn conflicts() -> StoreError {
    let context = "others kept updating the lease until the retries were used up";
    StoreError::new(StoreErrorKind::Unavailable, context)
}

/// Whether `update` is the last one that counted for `lead`.
fn has_done(lead: &LeaseHead, update: &LeaseUpdate) -> bool {
    match update {
        LeaseUpdate::Extend { seq, .. } => lead.ending == Ending::Open && lead.seq == *seq,
        LeaseUpdate::Settle { seq, .. } => lead.ending == Ending::Settled && lead.seq == *seq,
        LeaseUpdate::Release => lead.ending == Ending::Released,
    }
}

impl Plan {
    fn new(action: Action, head: &LeaseHead) -> Self {
        Self {
            action,
            seq: head.seq,
            ending: head.ending,
            ttl_ms: head.ttl.as_ms(),
            expires_us: 0,
            refusal: Refusal::Nothing,
            forced: SmallVec::new(),
            wanted: SmallVec::new(),
            changes: SmallVec::new(),
            has_slots: action != Action::Look,
            end: None,
        }
    }

    /// What `update`, which is `step` for the lease, does to it; and what each limit comes to without what is wanted.
    fn of(
        record: &Record,
        update: &LeaseUpdate,
        step: Step,
        refusal: Refusal,
    ) -> (Self, SmallVec<[u64; 4]>) {
        let head = &record.changing.head;
        let mut plan = match step {
            Step::Nothing | Step::Refused => {
                return (Self::new(Action::Look, head), SmallVec::new());
            }
            Step::Extend(ttl) => {
                Self { ttl_ms: ttl.as_ms(), refusal, ..Self::new(Action::Extend, head) }
            }
            Step::End(ending) => {
                let ttl_ms = u64::try_from(KEPT_FOR.as_millis()).unwrap_or(u64::MAX);
                Self { ending, ttl_ms, ..Self::new(Action::End, head) }
            }
        };
        if let LeaseUpdate::Extend { seq, .. } | LeaseUpdate::Settle { seq, .. } = update {
            plan.seq = *seq;
        }
        plan.end = match (update, &record.open) {
            (LeaseUpdate::Extend { observed, .. }, Some(open)) => Some(RecordEnd {
                kept_bytes: open.bytes_before_observed,
                bytes: record::observed(observed),
            }),
            _ => Some(RecordEnd { kept_bytes: record.kept_bytes, bytes: Vec::new() }),
        };
        let mut totals = SmallVec::new();
        for (index, hold) in record.holds.iter().enumerate() {
            let charged = record.changing.charged(index);
            if hold.is_slot() {
                totals.push(charged);
                continue;
            }
            let change = ledger::change(update, &hold.limit, charged);
            totals.push(change.total);
            plan.bring_to(&record.changing, index, change.total);
            if let Some(more) = Amount::new(change.wanted).filter(|more| *more != Amount::ZERO) {
                let parts = record.changing.parts_of(index).count();
                if parts + usize::from(change.total > charged) >= MAX_PARTS {
                    plan.refusal = plan.refusal.max(Refusal::More);
                }
                plan.wanted.push((index, more));
            }
        }
        if plan.refusal != Refusal::Nothing {
            plan.wanted.clear();
        }
        (plan, totals)
    }

    /// What is wanted is given back; if `refusal` is of the life, the lease expires when it would have.
    fn setting_back(updated: &Updated, refusal: Refusal) -> Self {
        let changing = &updated.record.changing;
        let mut plan = Self::new(Action::SetBack, &changing.head);
        for (index, hold) in updated.record.holds.iter().enumerate() {
            if !hold.is_slot() && updated.totals[index] < changing.charged(index) {
                plan.bring_to(changing, index, updated.totals[index]);
            }
        }
        plan.has_slots = refusal == Refusal::Life;
        if refusal == Refusal::Life {
            plan.expires_us = updated.before.expires_at.as_ns() / TICK_NS;
        }
        plan
    }

    fn forgetting(record: &Record) -> Self {
        let mut plan = Self::new(Action::Forget, &record.changing.head);
        for (index, _) in record.holds.iter().enumerate().filter(|(_, hold)| !hold.is_slot()) {
            plan.bring_to(&record.changing, index, 0);
        }
        plan
    }

    /// Brings what the limit with this index is charged to `total`.
    fn bring_to(&mut self, lease: &Changing, index: usize, total: u64) {
        let held = lease.charged(index);
        if total > held {
            self.forced.extend(Amount::new(total - held).map(|more| (index, more)));
            return;
        }
        let costs = ledger::reduced(lease.parts_of(index).map(|(_, part)| part.cost), total);
        let parts = lease.parts_of(index).zip(costs);
        let changed = parts.filter(|((_, part), cost)| *cost < part.cost);
        self.changes.extend(changed.map(|((at, _), cost)| (at, cost)));
    }

    /// Whether the key of the request id takes part.
    fn needs_request_id(&self) -> bool {
        match self.action {
            Action::Extend | Action::Forget => true,
            Action::End => self.ending == Ending::Released,
            Action::Look | Action::SetBack => false,
        }
    }

    fn packed(&self, record: &Record) -> Vec<u8> {
        let parts = &record.changing.parts;
        let is_slot = |part: &record::Part| record.holds[part.hold].is_slot();
        let slots: SmallVec<[usize; 2]> =
            (0..parts.len()).filter(|at| self.has_slots && is_slot(&parts[*at])).collect();
        let numbers = Numbers {
            version: record.changing.version,
            action: self.action,
            seq: self.seq,
            ending: ending_code(self.ending),
            ttl_ms: self.ttl_ms,
            expires_us: self.expires_us,
            refusal: self.refusal,
            limits: record.holds.len(),
            forced: self.forced.len(),
            wanted: self.wanted.len(),
            slots: slots.len(),
            changes: self.changes.len(),
            refunds: record.refunding().count(),
            kept_bytes: self.end.as_ref().map_or(MAX_RECORD_BYTES, |end| end.kept_bytes),
        };
        let mut bytes = Vec::with_capacity(128);
        numbers.push(&mut bytes);
        for (hold, _) in self.forced.iter().chain(&self.wanted) {
            push(&mut bytes, *hold as u64, 2);
        }
        // Lua counts from 1.
        for at in slots {
            let limit = &record.holds[parts[at].hold].limit;
            push(&mut bytes, at as u64 + 1, 2);
            push(&mut bytes, parts[at].hold as u64 + 1, 2);
            push_double(&mut bytes, limit.amount().get());
            push(&mut bytes, u64::from(limit.mode() == Mode::Enforce), 1);
        }
        for (at, cost) in &self.changes {
            let part = &parts[*at];
            push(&mut bytes, *at as u64 + 1, 2);
            push(&mut bytes, part.hold as u64 + 1, 2);
            push_change(&mut bytes, part.id(&record.holds[part.hold].limit), [part.cost, *cost]);
        }
        for (index, hold) in record.refunding() {
            wire::push_hold(&mut bytes, index, &hold.limit);
        }
        bytes
    }
}

impl Updated {
    fn is_live(&self) -> bool {
        self.record.changing.head.is_live(self.now)
    }

    /// What other slots must refuse of the extension that was made here.
    fn refusal(&self) -> Refusal {
        match (self.is_live(), self.record.changing.head.proceed) {
            (false, _) => Refusal::Life,
            (true, false) => Refusal::More,
            (true, true) => Refusal::Nothing,
        }
    }
}

/// The lease over all its slots.
fn state(slots: &[Updated]) -> LeaseState {
    let is_live = slots.iter().all(Updated::is_live);
    let was_live = slots.iter().all(|one| one.before.is_live(one.now));
    let lives_for = |one: &Updated| one.record.changing.head.expires_at.since(one.now);
    let mut holds: SmallVec<[(usize, HoldState); 4]> = SmallVec::new();
    for one in slots {
        let verdicts = one.record.holds.iter().zip(&one.verdicts).enumerate();
        holds.extend(verdicts.map(|(index, (hold, verdict))| {
            let charged = one.record.changing.charged(index);
            let charged_before = one.charged_before.get(index).copied().unwrap_or_default();
            // A slot is held while the lease is alive.
            let while_live = |charged: u64, is_live: bool| {
                if hold.is_slot() { charged * u64::from(is_live) } else { charged }
            };
            let state = HoldState {
                policy_id: hold.limit.policy_id().clone(),
                unit: hold.limit.unit().clone(),
                weights: *hold.limit.weights(),
                limit: hold.limit.amount(),
                usage: verdict.usage,
                charged: while_live(charged, is_live),
                charged_before: while_live(charged_before, was_live),
                key: hold.name.clone().into_boxed_slice(),
            };
            (hold.place, state)
        }));
    }
    holds.sort_by_key(|(place, _)| *place);
    let first = slots.first().map(|one| one.record.changing.head);
    let head = first.unwrap_or_else(|| LeaseHead::new(Ttl::DEFAULT, Timestamp::default()));
    let before = slots.first().map(|one| one.before);
    let effects = || slots.iter().map(|one| one.effect);
    LeaseState {
        effect: match slots.first().map(|one| one.effect) {
            _ if effects().any(|effect| effect == Effect::Changed) => Effect::Changed,
            first => first.unwrap_or(Effect::Repeated),
        },
        was: LeaseStatus::of(before.map_or(Ending::Open, |head| head.ending), was_live),
        ending: head.ending,
        seq: head.seq,
        proceed: slots.iter().all(|one| one.record.changing.head.proceed),
        ttl: head.ttl,
        lives_for: if is_live {
            slots.iter().map(lives_for).min().unwrap_or_default()
        } else {
            Duration::ZERO
        },
        holds: holds.into_iter().map(|(_, hold)| hold).collect(),
        note: slots.first().map(|one| one.record.note.clone()).unwrap_or_default(),
    }
}
