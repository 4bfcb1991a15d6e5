//! R13–R16: leases, in the model.

use super::{
    Admission, Key, LimitView, Model, ModelDecision, allowed, as_i128, as_u64, decision, total_of,
};
use crate::lease::ledger::{Ending, KEPT_FOR, MAX_PARTS};
use crate::{
    Amount, Check, Counting, LeaseUpdate, Limit, Mode, OnExpire, Policy, PolicyId, Quality,
    Timestamp, Ttl, Unit,
};

/// A lease, as the model keeps it.
#[derive(Clone, Debug)]
pub(super) struct ModelLease {
    ending: Ending,
    seq: Amount,
    proceed: bool,
    ttl: Ttl,
    expires_ns: u128,
    kept_until_ns: u128,
    /// Whether it has expired since its last extension, and what it held was given back where policies say so.
    is_refunded: bool,
    /// The limits that it met, as they were.
    limits: Vec<(Policy, u128, Key)>,
    /// For each limit, what it holds there: when, how much, and the usage right after.
    parts: Vec<Vec<(u128, u128, u128)>>,
}

/// What the model says of a lease after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLeaseState {
    /// Whether the update counted.
    pub counted: bool,
    /// Whether the lease is alive.
    pub is_live: bool,
    /// What became of it.
    pub ending: Ending,
    /// The sequence number of the last update that counted.
    pub seq: Amount,
    /// What the last extension was told.
    pub proceed: bool,
    /// What it holds, in the order of its limits.
    pub holds: Vec<ModelHold>,
}

/// What a lease holds in one limit, in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHold {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// The usage of the limit, by everybody.
    pub usage: u64,
    /// What this lease is charged.
    pub charged: u64,
}

impl Model {
    /// Decides `check` at `now` like [`Model::check`], and makes a lease of it (R13). The second is the number of the lease, if
    /// it was admitted.
    pub fn reserve(
        &mut self,
        now: Timestamp,
        check: &Check<'_>,
        ttl: Ttl,
    ) -> (ModelDecision, Option<usize>) {
        let now_ns = self.clamped_ns(now);
        self.latest_ns = now_ns;
        self.refund_expired(now_ns);
        let mut looks = self.looks(now_ns, check);
        if !allowed(&looks) {
            return (decision(now_ns, &looks), None);
        }
        let number = self.leases.len();
        let expires_ns = now_ns + ttl.as_duration().as_nanos();
        let mut parts = Vec::new();
        for look in &mut looks {
            let is_slot = look.policy.counting == Counting::Concurrency;
            let cost = if is_slot { 1 } else { look.cost };
            let mut held = Vec::new();
            if look.admits && cost > 0 {
                let lease = Some(number);
                let cost_now = as_i128(cost);
                let taken = Admission { at_ns: now_ns, cost: cost_now, lease, expires_ns };
                look.admissions.push(taken);
                held.push((now_ns, cost, look.usage(now_ns)));
            }
            parts.push(held);
        }
        let decision = decision(now_ns, &looks);
        let limits = looks.iter().map(|look| (look.policy.clone(), look.limit, look.key.clone()));
        let mut lease = ModelLease {
            ending: Ending::Open,
            seq: Amount::ZERO,
            proceed: true,
            ttl,
            expires_ns,
            kept_until_ns: 0,
            is_refunded: false,
            limits: limits.collect(),
            parts,
        };
        lease.keep_open();
        let after: Vec<_> = looks.into_iter().map(|look| (look.key, look.admissions)).collect();
        self.admissions.extend(after);
        self.leases.push(lease);
        (decision, Some(number))
    }

    /// What `update` does to lease `number` at `now` (R14, R15); `None` if the lease is no longer known.
    pub fn update_lease(
        &mut self,
        now: Timestamp,
        number: usize,
        update: &LeaseUpdate,
    ) -> Option<ModelLeaseState> {
        let now_ns = self.clamped_ns(now);
        self.refund_expired(now_ns);
        let mut lease = self.leases.get(number)?.clone();
        if now_ns >= lease.kept_until_ns {
            return None;
        }
        self.latest_ns = now_ns;
        let counted = match update {
            LeaseUpdate::Release => lease.ending == Ending::Open,
            LeaseUpdate::Extend { seq, .. } => lease.ending == Ending::Open && *seq > lease.seq,
            LeaseUpdate::Settle { seq, .. } => lease.ending != Ending::Released && *seq > lease.seq,
        };
        if counted {
            match update {
                LeaseUpdate::Release => {
                    self.end(number, &mut lease, now_ns, Ending::Released, |_, _| 0);
                }
                LeaseUpdate::Settle { seq, usage, quality } => {
                    lease.seq = *seq;
                    self.end(number, &mut lease, now_ns, Ending::Settled, |policy, held| {
                        let said = total_of(policy, usage).unwrap_or(held);
                        if *quality == Quality::Exact { said } else { said.max(held) }
                    });
                }
                LeaseUpdate::Extend { seq, ttl, observed, wanted } => {
                    lease.seq = *seq;
                    for place in 0..lease.limits.len() {
                        let policy = &lease.limits[place].0;
                        if policy.unit == Unit::Concurrency {
                            continue;
                        }
                        let said = total_of(policy, observed).unwrap_or(0);
                        let total = lease.held(place).max(said);
                        self.settle_part(&mut lease, number, place, now_ns, total);
                    }
                    self.extend(number, &mut lease, now_ns, *ttl, wanted);
                }
            }
        }
        self.leases[number] = lease;
        Some(self.lease_state(number, now_ns, counted))
    }

    /// The same model after every lease has expired that does until `now`, and that time.
    pub(super) fn expired(&self, now: Timestamp) -> (Self, u128) {
        let (mut model, now_ns) = (self.clone(), self.clamped_ns(now));
        model.refund_expired(now_ns);
        (model, now_ns)
    }

    /// R15: what leases that have expired until `now_ns` hold is given back where the policy says so, at the moment at which each
    /// has expired.
    pub(super) fn refund_expired(&mut self, now_ns: u128) {
        let is_due = |lease: &ModelLease| {
            lease.ending == Ending::Open && lease.expires_ns <= now_ns && !lease.is_refunded
        };
        let mut due: Vec<usize> =
            (0..self.leases.len()).filter(|number| is_due(&self.leases[*number])).collect();
        due.sort_by_key(|number| self.leases[*number].expires_ns);
        for number in due {
            let mut lease = self.leases[number].clone();
            for place in 0..lease.limits.len() {
                let policy = &lease.limits[place].0;
                if policy.on_expire == OnExpire::Refund && policy.unit != Unit::Concurrency {
                    let expires_ns = lease.expires_ns;
                    self.settle_part(&mut lease, number, place, expires_ns, 0);
                }
            }
            lease.is_refunded = true;
            self.leases[number] = lease;
        }
    }

    fn lease_state(&self, number: usize, now_ns: u128, counted: bool) -> ModelLeaseState {
        let lease = &self.leases[number];
        let is_live = lease.ending == Ending::Open && now_ns < lease.expires_ns;
        let hold = |(place, (policy, _, _)): (usize, &(Policy, u128, Key))| ModelHold {
            policy_id: policy.id.clone(),
            usage: as_u64(self.view(lease, place, now_ns, 0).usage(now_ns)),
            charged: match policy.counting {
                Counting::Concurrency => u64::from(is_live && lease.held(place) > 0),
                _ => as_u64(lease.held(place)),
            },
        };
        ModelLeaseState {
            counted,
            is_live,
            ending: lease.ending,
            seq: lease.seq,
            proceed: lease.proceed,
            holds: lease.limits.iter().enumerate().map(hold).collect(),
        }
    }

    /// The limit at `place` of `lease`, for a cost of `cost`.
    fn view<'a>(
        &'a self,
        lease: &'a ModelLease,
        place: usize,
        now_ns: u128,
        cost: u128,
    ) -> LimitView<'a> {
        let (policy, limit, key) = &lease.limits[place];
        self.look(policy, *limit, cost, key.clone(), now_ns)
    }

    /// R14: the lease comes to `total` under the limit at `place`.
    fn settle_part(
        &mut self,
        lease: &mut ModelLease,
        number: usize,
        place: usize,
        now_ns: u128,
        total: u128,
    ) {
        let held = lease.held(place);
        if total > held {
            let most = most_charged(&lease.limits[place].0);
            let usage = self.view(lease, place, now_ns, 0).usage(now_ns);
            let cost = (total - held).min(most.saturating_sub(usage));
            if cost > 0 {
                self.charge(lease, number, place, now_ns, cost);
            }
            return;
        }
        let (policy, _, key) = &lease.limits[place];
        let mut left = total;
        for (at_ns, cost, usage_then) in &mut lease.parts[place] {
            let kept = left.min(*cost);
            left -= kept;
            let gone = *cost - kept;
            if gone == 0 {
                continue;
            }
            let admissions = self.admissions.entry(key.clone()).or_default();
            if let Counting::Bucket { window, refill } = policy.counting {
                // What is produced into a full bucket is lost, so only what is certainly still missing is given back.
                let produced =
                    |at_ns: u128| at_ns * u128::from(refill.get()) / u128::from(window.as_ns());
                let certain = usage_then.saturating_sub(produced(now_ns) - produced(*at_ns));
                let usage =
                    super::usage::bucket_usage(window, refill.get().into(), admissions, now_ns);
                let back = gone.min(certain).min(usage);
                let cost = -as_i128(back);
                admissions.push(Admission { at_ns: now_ns, cost, lease: None, expires_ns: 0 });
            } else if let Some(admission) = admissions.iter_mut().find(|admission| {
                admission.lease == Some(number)
                    && admission.at_ns == *at_ns
                    && admission.cost == as_i128(*cost)
            }) {
                admission.cost = as_i128(kept);
            }
            *cost = kept;
        }
        lease.parts[place].retain(|(_, cost, _)| *cost > 0);
    }

    fn charge(
        &mut self,
        lease: &mut ModelLease,
        number: usize,
        place: usize,
        now_ns: u128,
        cost: u128,
    ) {
        let key = lease.limits[place].2.clone();
        self.admissions.entry(key).or_default().push(Admission {
            at_ns: now_ns,
            cost: as_i128(cost),
            lease: Some(number),
            expires_ns: 0,
        });
        let usage = self.view(lease, place, now_ns, 0).usage(now_ns);
        lease.parts[place].push((now_ns, cost, usage));
    }

    /// R15: asks for more, and keeps the lease alive if its slots are its own or free.
    fn extend(
        &mut self,
        number: usize,
        lease: &mut ModelLease,
        now_ns: u128,
        ttl: Option<Ttl>,
        wanted: &crate::Totals,
    ) {
        let is_live = now_ns < lease.expires_ns;
        let enforces = |policy: &Policy| policy.mode == Mode::Enforce;
        let slots = |lease: &ModelLease| -> Vec<usize> {
            let all = 0..lease.limits.len();
            let holds_slot = |place: &usize| {
                lease.limits[*place].0.unit == Unit::Concurrency && lease.held(*place) > 0
            };
            all.filter(holds_slot).collect()
        };
        let has_room = slots(lease).into_iter().all(|place| {
            !enforces(&lease.limits[place].0) || self.view(lease, place, now_ns, 0).admits
        });
        let revives = is_live || has_room;
        let more: Vec<(usize, u128)> = (0..lease.limits.len())
            .filter(|place| lease.limits[*place].0.unit != Unit::Concurrency)
            .filter_map(|place| {
                let total = total_of(&lease.limits[place].0, wanted)?;
                let more = u128::checked_sub(total, lease.held(place))?;
                (more > 0).then_some((place, more))
            })
            .collect();
        let admits = |(place, more): &(usize, u128)| self.view(lease, *place, now_ns, *more).admits;
        let granted = revives
            && more.iter().all(|one| !enforces(&lease.limits[one.0].0) || admits(one))
            && more.iter().all(|(place, _)| lease.parts[*place].len() < MAX_PARTS);
        let charged: Vec<_> = more.iter().filter(|one| granted && admits(one)).copied().collect();
        lease.proceed = granted;
        for (place, more) in charged {
            self.charge(lease, number, place, now_ns, more);
        }
        if !revives {
            return;
        }
        lease.ttl = ttl.unwrap_or(lease.ttl);
        lease.expires_ns = now_ns + lease.ttl.as_duration().as_nanos();
        lease.is_refunded = false;
        lease.keep_open();
        for place in slots(lease) {
            let admits = is_live || self.view(lease, place, now_ns, 0).admits;
            let admissions = self.admissions.entry(lease.limits[place].2.clone()).or_default();
            admissions.retain(|slot| slot.lease != Some(number));
            if admits {
                let expires_ns = lease.expires_ns;
                let lease = Some(number);
                admissions.push(Admission { at_ns: now_ns, cost: 1, lease, expires_ns });
            } else {
                lease.parts[place].clear();
            }
        }
    }

    fn end(
        &mut self,
        number: usize,
        lease: &mut ModelLease,
        now_ns: u128,
        ending: Ending,
        total: impl Fn(&Policy, u128) -> u128,
    ) {
        for place in 0..lease.limits.len() {
            let policy = &lease.limits[place].0;
            if policy.unit == Unit::Concurrency {
                let slots = self.admissions.entry(lease.limits[place].2.clone()).or_default();
                slots.retain(|slot| slot.lease != Some(number));
                continue;
            }
            let total = total(policy, lease.held(place));
            self.settle_part(lease, number, place, now_ns, total);
        }
        lease.ending = ending;
        lease.kept_until_ns = now_ns + KEPT_FOR.as_nanos();
    }
}

impl ModelLease {
    fn held(&self, place: usize) -> u128 {
        self.parts[place].iter().map(|(_, cost, _)| cost).sum()
    }

    /// While it is open, it is known for a minute after it has expired, and as long as anything of it counts.
    fn keep_open(&mut self) {
        let lives = self.limits.iter().filter(|(policy, _, _)| policy.unit != Unit::Concurrency);
        let lives = lives.filter_map(|(policy, _, _)| Some(Limit::of(policy)?.longest_life()));
        let longest = lives.fold(KEPT_FOR, Ord::max);
        self.kept_until_ns = self.expires_ns + longest.as_nanos();
    }
}

/// The most that the usage may be after more was charged than there was room for, as for a denied cost that is recorded (R19).
fn most_charged(policy: &Policy) -> u128 {
    Limit::of(policy).map_or(0, |limit| limit.most_recorded().get().into())
}
