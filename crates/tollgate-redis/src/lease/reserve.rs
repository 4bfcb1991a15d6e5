//! Reservations: one script call per slot, all or none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;
use tollgate_core::counting::{Counting, slots};
use tollgate_core::lease::ledger::KEPT_FOR;
use tollgate_core::{Subject, Timestamp, Ttl};
use tollgate_store::compensation::{ChargeObserver, ChargedLimit, GroupedCheck, charge_groups};
use tollgate_store::{LeaseId, LeaseRequest, NewLease, Reserved, StoreError};

use super::id::{draw, random_tag};
use super::record::{NewHold, rest};
use super::requests::{Reservation, ReserveReply, once_rest};
use crate::call::{Invocation, Progress};
use crate::check::{Group, GroupReply, Part, Plan, late, unreadable_keys};
use crate::key::{due_key, request_digest, tag_of};
use crate::link::Link;
use crate::script::{RESERVE, RESERVE_AND_REFUND};
use crate::store::RedisStore;
use crate::wire::{self, Ask, IfDenied, LONGEST_BUCKET_LIFE_MS, NS_PER_MS, TICK_NS};

/// A check that is to become a lease.
pub(crate) struct LeasePlan {
    plan: Arc<Plan>,
    /// The hash tag of each group; empty if the store is no Cluster.
    tags: Vec<String>,
    ttl: Ttl,
    /// For how long the lease is known after it has expired.
    life_ms: u64,
    note: Box<[u8]>,
}

/// What one slot answered to a reservation.
pub(crate) struct GroupReserved {
    said: GroupReply,
    /// The lease, if it was admitted.
    lease: Option<NewLease>,
}

/// A reservation over several slots.
struct SpreadLease {
    store: RedisStore,
    plan: LeasePlan,
    /// The lease: that of an earlier reservation with the same request id, if the first slot has one.
    lease: Mutex<NewLease>,
}

impl RedisStore {
    /// `charges` with everything that is needed to reserve them.
    pub(crate) fn reservation(&self, request: &LeaseRequest<'_>) -> Result<LeasePlan, StoreError> {
        let LeaseRequest { charges, request_id, ttl, note } = *request;
        let mut plan = self.lease_plan(charges, request_id);
        let mut tags: Vec<String> = Vec::with_capacity(plan.groups.len());
        tags.extend(plan.groups.iter().map(|group| tag_of_group(group).to_owned()));
        if plan.groups.is_empty() {
            // A lease that holds nothing lies anywhere.
            let tag = if self.keys.tagged { random_tag()? } else { String::new() };
            plan.groups.push(Group::empty(&tag));
            tags.push(tag);
        }
        let rates = charges.iter().map(|charge| charge.limit);
        let rates = rates.filter(|limit| limit.counting() != Counting::Concurrency);
        let longest = rates.map(|limit| limit.longest_life()).fold(KEPT_FOR, Ord::max);
        let life_ms = longest.as_nanos().div_ceil(u128::from(NS_PER_MS));
        let life_ms = u64::try_from(life_ms).unwrap_or(u64::MAX).min(LONGEST_BUCKET_LIFE_MS);
        Ok(LeasePlan { plan: Arc::new(plan), tags, ttl, life_ms, note: note.into() })
    }

    /// Reserves all of `plan` or nothing. If a slot denies or fails, what was reserved in others is given back, even if the caller
    /// has gone.
    pub(crate) async fn reserve_plan(
        &self,
        plan: LeasePlan,
        observer: ChargeObserver,
    ) -> Result<Reserved, StoreError> {
        let lease = NewLease::new(draw(&plan.tags.iter().map(String::as_str).collect())?, plan.ttl);
        let shared = Arc::clone(&plan.plan);
        if shared.groups.len() > 1 {
            let check = SpreadLease { store: self.clone(), plan, lease: Mutex::new(lease) };
            let charged = charge_groups(Arc::new(check), &self.background, observer).await?;
            return Ok(reserved(&shared, charged.answers, charged.denied));
        }
        let deadline = Instant::now() + self.deadline;
        let progress = Arc::<Progress>::default();
        let call = self.reserve_group(&plan, 0, &lease, deadline, &progress);
        let said = self.until(deadline, &progress, true, call).await?;
        let denied = said.lease.is_none();
        Ok(reserved(&shared, vec![said], denied))
    }

    /// Asks the script about one group. Nothing is sent or charged after `deadline`.
    async fn reserve_group(
        &self,
        plan: &LeasePlan,
        group: usize,
        lease: &NewLease,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<GroupReserved, StoreError> {
        let (LeasePlan { plan: check, tags, life_ms, note, .. }, nobody) =
            (plan, Subject::new("", ""));
        let (tag, group_of) = (&tags[group], &check.groups[group]);
        let lease_key = self.keys.of_lease(lease.id.as_str(), tag);
        let (due, due_holds) = due_holds(&group_of.parts);
        let mut keys: SmallVec<[&str; 6]> = group_of.keys().collect();
        keys.push(&lease_key);
        keys.extend(group_of.once_key.as_deref());
        keys.extend(due.iter().map(String::as_str));
        let charges: SmallVec<[_; 4]> =
            group_of.parts.iter().map(|part| part.charge(&nobody)).collect();
        let window = check.longest.map_or(Duration::ZERO, tollgate_core::Window::as_duration);
        let reservation = Reservation {
            ttl: lease.ttl,
            life_ms: *life_ms,
            once_us: u64::try_from(window.max(lease.ttl.as_duration()).as_micros())
                .unwrap_or(u64::MAX),
            is_first: group == 0,
        };
        let holds = group_of.parts.iter().map(|part| NewHold {
            place: part.place,
            limit: &part.limit,
            tag: if tag.is_empty() { "" } else { tag_of(&part.key) },
            name: &part.name,
        });
        let once = group_of.once_key.is_some().then(|| once_rest(&charges, lease));
        let named = group_of.once_key.as_deref().map(request_digest).unwrap_or_default();
        // One record is enough.
        let note = if group == 0 { note } else { &[][..] };
        let rest = rest(holds, note, named, &lease.id);
        let mut arguments = vec![reservation.packed(), rest, once.unwrap_or_default(), due_holds];
        if !due.is_empty() {
            arguments.push(due.len().to_string().into_bytes());
        }
        let request = |link: &Link, told| {
            let times = self.times(link, told);
            let ask = Ask {
                charges: &charges,
                come_again: &[],
                charging: true,
                over_limit: IfDenied::Nothing,
                of_lease: false,
                once: None,
                not_after: times.test.map_or_else(|| link.latest_charge_time(deadline), |_| None),
            };
            wire::request(&[ask], &times)
        };
        let invocation = Invocation {
            script: Some(if due.is_empty() { &RESERVE } else { &RESERVE_AND_REFUND }),
            slot: group_of.slot,
            keys: &keys,
            operation: None,
            arguments: &arguments,
            deadline: Some(deadline),
        };
        let waiting = [Arc::clone(progress)];
        let period = |answer: &Vec<u8>| wire::time_of_other_period(answer);
        let answered =
            self.invoke_in_period::<Vec<u8>>(&invocation, &request, &waiting, period).await?;
        match ReserveReply::read(&answered.answer, &charges, lease) {
            Some(ReserveReply::Decided { said, lease: mut named, now, then }) => {
                if self.test_clock.is_none() {
                    answered.link.note_time(now, answered.sent, Instant::now());
                }
                if check.refuses(group, &said) {
                    return Ok(GroupReserved { said, lease: None });
                }
                let said = with_slots(said, &group_of.parts, named.ttl, then);
                if named.id != lease.id {
                    self.note_state(&mut named, tag, now, progress).await?;
                }
                Ok(GroupReserved { said, lease: Some(named) })
            }
            Some(ReserveReply::Late) => Err(late(&answered.link)),
            None => Err(unreadable_keys(&answered.link, &keys, true)),
        }
    }
}

impl RedisStore {
    /// What a lease that was reserved before is now, by its record in the slot of `tag`.
    async fn note_state(
        &self,
        lease: &mut NewLease,
        tag: &str,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let record = self.record(&self.place_of(&lease.id, tag), progress).await?;
        let head = record.map(|record| record.changing.head);
        *lease = lease.clone().reserved_before(head, now);
        Ok(())
    }
}

/// The keys of what the lease gives back when it expires, and what `refund.lua` keeps of its holds there.
fn due_holds(parts: &[Part]) -> (Vec<String>, Vec<u8>) {
    let (mut keys, mut holds) = (Vec::new(), Vec::new());
    for (index, part) in parts.iter().enumerate().filter(|(_, part)| part.limit.refunds_expired()) {
        keys.push(due_key(&part.key));
        wire::push_hold(&mut holds, index, &part.limit);
    }
    (keys, holds)
}

/// The hash tag of the limits of `group`; empty for none.
fn tag_of_group(group: &Group) -> &str {
    group.parts.first().map_or("", |part| tag_of(&part.key))
}

/// The verdicts after the slots were taken.
fn with_slots(mut said: GroupReply, parts: &[Part], ttl: Ttl, now: Timestamp) -> GroupReply {
    // The time of an admission is rounded up.
    let now_us = now.as_ns().div_ceil(TICK_NS);
    let expires_at = Timestamp::from_ns(now_us * TICK_NS).after(ttl.as_duration());
    let of_slots = parts.iter().map(|part| part.limit.counting() == Counting::Concurrency);
    for (one, _) in
        said.iter_mut().zip(of_slots).filter(|(one, is_slot)| *is_slot && one.before.allowed)
    {
        one.after = slots::taken(one.before, expires_at, now);
    }
    said
}

fn reserved(plan: &Plan, answers: Vec<GroupReserved>, denied: bool) -> Reserved {
    let lease = answers.first().and_then(|first| first.lease.clone()).filter(|_| !denied);
    let said: Vec<GroupReply> = answers.into_iter().map(|one| one.said).collect();
    Reserved { verdicts: plan.decided(&said, denied).verdicts(), lease, degraded: false }
}

/// One slot in which a lease is to be forgotten.
pub(crate) struct ReservedGroup {
    id: LeaseId,
    group: usize,
}

impl SpreadLease {
    /// A poisoned lock is fine: every change is a single assignment.
    fn lease(&self) -> std::sync::MutexGuard<'_, NewLease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupedCheck for SpreadLease {
    type Answer = GroupReserved;
    type Admission = ReservedGroup;
    type Progress = Progress;

    fn groups(&self) -> usize {
        self.plan.plan.groups.len()
    }

    fn has_request_id(&self) -> bool {
        self.plan.plan.groups.iter().any(|group| group.once_key.is_some())
    }

    fn longest_life(&self) -> Duration {
        let parts = self.plan.plan.groups.iter().flat_map(|group| &group.parts);
        parts.map(|part| part.limit.longest_life()).max().unwrap_or_default()
    }

    fn timeout(&self) -> Duration {
        self.store.deadline
    }

    fn denies(&self, group: usize, answer: &GroupReserved) -> bool {
        self.plan.plan.refuses(group, &answer.said)
    }

    fn records_denied(&self, _: usize) -> bool {
        false
    }

    /// The whole group: its record knows what it was charged.
    fn charged(&self, group: usize, answer: &GroupReserved) -> Vec<ChargedLimit<ReservedGroup>> {
        let Some(lease) = &answer.lease else { return Vec::new() };
        vec![ChargedLimit {
            admission: ReservedGroup { id: lease.id.clone(), group },
            life: self.longest_life(),
            may_be_repeated: true,
        }]
    }

    async fn charge(
        &self,
        group: usize,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<GroupReserved, StoreError> {
        let lease = self.lease().clone();
        let reserved =
            self.store.reserve_group(&self.plan, group, &lease, deadline, progress).await?;
        // A request id that has named a lease before: the other groups belong to that one.
        if let Some(lease) = &reserved.lease {
            self.lease().clone_from(lease);
        }
        Ok(reserved)
    }

    async fn peek(&self, group: usize, deadline: Instant) -> Result<GroupReserved, StoreError> {
        let said = self.store.peek_group(&self.plan.plan, group, deadline).await?;
        Ok(GroupReserved { said, lease: None })
    }

    fn too_late(&self, progress: &Progress) -> StoreError {
        self.store.too_late(progress, true)
    }

    async fn refund(&self, reserved: &ReservedGroup, patience: Duration) -> Result<(), StoreError> {
        let (progress, group) = (Arc::<Progress>::default(), reserved.group);
        let tag = &self.plan.tags[group];
        let call = self.store.forget(&reserved.id, tag, &progress);
        self.store.until(Instant::now() + patience, &progress, true, call).await
    }
}

impl Group {
    /// A group without limits, in the slot of `tag`.
    fn empty(tag: &str) -> Self {
        let slot = if tag.is_empty() { 0 } else { crate::key::slot(tag) };
        Self { slot, records_denied: false, parts: smallvec![], once_key: None }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.key.as_str())
    }
}
