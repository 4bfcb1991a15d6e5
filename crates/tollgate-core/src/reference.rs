//! The reference model: the decision rules R1–R6, R8, R10, R13–R19 word by word, slow and obvious.
//!
//! Tests and `simulate --verify` compare the fast code with it. So it must share nothing with that code except the data
//! types: it uses neither the modules of [`crate::counting`], [`crate::calendar`], [`crate::matching`] and [`crate::policy_set`] nor
//! [`crate::Decision`], keeps every admission as a time and a cost, finds usage by filtering and summing,
//! and waits by trying moments.
//!
//! The one concession is R7: times of a log are rounded to a tick, that of [`Window::tick_ns`] or the store's own, as a
//! store rounds them, so that answers can be compared to the millisecond.

mod applying;
mod counted;
mod leases;
mod period;
mod usage;
mod waits;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::IpAddr;

use self::applying::applying;
use self::counted::{cost_of, total_of};
use self::leases::ModelLease;
pub use self::leases::{ModelHold, ModelLeaseState};
use self::usage::{counts, usage};
use self::waits::{longest_wait_ns, reset_after_ns, wait_ns};
use crate::{
    Amount, Attribute, Check, Counting, Mode, OverLimit, Policy, PolicyId, PriorityClass, Reason,
    Subject, Timestamp, Window,
};

/// What the model answers to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelDecision {
    /// Whether the check may pass.
    pub allowed: bool,
    /// Why not; `None` if it may.
    pub reason: Option<Reason>,
    /// The policy of the binding limit (R5); `None` if no enforced limit took part.
    pub headline: Option<PolicyId>,
    /// The least wait for the same check (R6): 0 if it is admitted, `None` if it never will be.
    pub retry_after_ms: Option<u64>,
    /// Every limit that took part, in the order of the policies.
    pub limits: Vec<ModelLimit>,
}

/// What one limit of a [`ModelDecision`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLimit {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Whether the limit, by itself, admits the check.
    pub allowed: bool,
    /// Its usage after the decision.
    pub count: u64,
    /// What is left of it after the decision.
    pub remaining: u64,
    /// The least wait until it admits the same check: 0 if it does, `None` if it never will.
    pub retry_after_ms: Option<u64>,
    /// When its usage would be 0 again.
    pub reset_after_ms: u64,
}

/// Policies, and every admission under them that still counts.
#[derive(Clone, Debug)]
pub struct Model {
    policies: Vec<Policy>,
    admissions: HashMap<Key, Vec<Admission>>,
    leases: Vec<ModelLease>,
    latest_ns: u128,
    /// The tick of every log; `None` for that of its window.
    tick_ns: Option<u64>,
}

/// What usage belongs to (R8): a policy, and the values of its `per`.
type Key = (PolicyId, Vec<String>);

/// A cost admitted at a moment, or a slot taken.
#[derive(Clone, Copy, Debug)]
struct Admission {
    at_ns: u128,
    /// Negative for what a token bucket gets back. Of a slot 1.
    cost: i128,
    /// The number of the lease that holds it; `None` for that of a check.
    lease: Option<usize>,
    /// Until when a slot is taken.
    expires_ns: u128,
}

impl Admission {
    fn of_check(at_ns: u128, cost: u128) -> Self {
        Self { at_ns, cost: as_i128(cost), lease: None, expires_ns: 0 }
    }
}

/// A limit and its usage, for one check.
struct LimitView<'a> {
    policy: &'a Policy,
    limit: u128,
    cost: u128,
    tick_ns: u128,
    key: Key,
    /// The admissions under `key`, including this check after it is charged.
    admissions: Vec<Admission>,
    /// Whether it admits the check now.
    admits: bool,
    /// From now until it admits the same check; `None` for never.
    wait_ns: Option<u128>,
}

impl Model {
    /// A model of `policies`, with nothing admitted yet. With none at all,
    /// [`Policy::default_policy`] holds.
    pub fn new(policies: Vec<Policy>) -> Self {
        let mut model = Self {
            policies,
            admissions: HashMap::new(),
            leases: Vec::new(),
            latest_ns: 0,
            tick_ns: None,
        };
        if model.policies.is_empty() {
            model.policies.push(Policy::default_policy());
        }
        model
    }

    /// The same model of a store that keeps the times of every log in ticks of so many nanoseconds (R7).
    #[must_use]
    pub fn in_ticks_of(mut self, tick_ns: Option<u64>) -> Self {
        self.tick_ns = tick_ns;
        self
    }

    /// Puts `policies` in the place of the old ones. Usage stays with its policy id and key (R8), but a
    /// policy that counts in another way starts afresh.
    pub fn replace_policies(&mut self, policies: Vec<Policy>) {
        let old = std::mem::replace(&mut self.policies, Self::new(policies).policies);
        let kept = &self.policies;
        self.admissions.retain(|(id, _), _| {
            let of = |policies: &[Policy]| {
                policies.iter().find(|policy| policy.id == *id).map(|policy| policy.counting.name())
            };
            of(kept) == of(&old)
        });
    }

    /// Decides `check` at `now` and, if it is allowed, charges every limit that admits it (R3). If it is denied, it still
    /// charges those that record denied costs (R19).
    ///
    /// A `now` before the latest one of a check that met a limit counts as that (R7): a check that meets none
    /// asks no store for the time.
    pub fn check(&mut self, now: Timestamp, check: &Check<'_>) -> ModelDecision {
        let now_ns = self.clamped_ns(now);
        self.refund_expired(now_ns);
        let looks = self.charged(now_ns, check);
        let decision = decision(now_ns, &looks);
        let after: Vec<_> = looks.into_iter().map(|look| (look.key, look.admissions)).collect();
        if !after.is_empty() {
            self.latest_ns = now_ns;
        }
        self.admissions.extend(after);
        decision
    }

    /// The decision that `check` would get at `now`, its cost counted if it is admitted; changes nothing.
    pub fn peek(&self, now: Timestamp, check: &Check<'_>) -> ModelDecision {
        let (model, now_ns) = self.expired(now);
        decision(now_ns, &model.charged(now_ns, check))
    }

    /// The same decision with the usage as it is before it: no cost counted; changes nothing.
    pub fn peek_uncharged(&self, now: Timestamp, check: &Check<'_>) -> ModelDecision {
        let (model, now_ns) = self.expired(now);
        decision(now_ns, &model.looks(now_ns, check))
    }

    /// Forgets the usage of `subject` under the policy `policy_id`.
    pub fn reset(&mut self, policy_id: &PolicyId, subject: &Subject<'_>) {
        if let Some(policy) = self.policies.iter().find(|policy| policy.id == *policy_id) {
            self.admissions.remove(&key(policy, subject));
        }
    }

    /// The ids of the policies whose limits `check` meets, in the order of the policies (R4).
    pub fn met_by(&self, check: &Check<'_>) -> Vec<&PolicyId> {
        let met = applying(&self.policies, &check.subject).into_iter();
        met.filter(|policy| policy.limit.is_some()).map(|policy| &policy.id).collect()
    }

    fn clamped_ns(&self, now: Timestamp) -> u128 {
        self.latest_ns.max(u128::from(now.as_ns()))
    }

    /// The limits that `check` meets, before it is charged.
    fn looks(&self, now_ns: u128, check: &Check<'_>) -> Vec<LimitView<'_>> {
        let applying = applying(&self.policies, &check.subject).into_iter();
        let limiting = applying.filter_map(|policy| Some((policy, policy.limit?)));
        limiting
            .map(|(policy, limit)| {
                let limit = room(policy, check.priority, u128::from(limit.get()));
                let cost = cost_of(policy, &check.cost);
                self.look(policy, limit, cost, key(policy, &check.subject), now_ns)
            })
            .collect()
    }

    /// The limit of `policy` with the usage under `key`, for a check that costs `cost`.
    fn look<'a>(
        &self,
        policy: &'a Policy,
        limit: u128,
        cost: u128,
        key: Key,
        now_ns: u128,
    ) -> LimitView<'a> {
        let of_window = || policy.counting.window().map(Window::tick_ns);
        let tick_ns = u128::from(self.tick_ns.or_else(of_window).unwrap_or(1));
        let admissions = self.admissions.get(&key).into_iter().flatten().copied();
        let counting = admissions.filter(|admission| counts(policy, tick_ns, admission, now_ns));
        // A check holds no slot (R16).
        let cost = if policy.counting == Counting::Concurrency { 0 } else { cost };
        let mut look = LimitView {
            policy,
            tick_ns,
            limit,
            cost,
            admissions: counting.collect(),
            key,
            admits: false,
            wait_ns: None,
        };
        look.wait_ns = wait_ns(&look, now_ns);
        look.admits = look.wait_ns == Some(0);
        look
    }

    /// The limits that `check` meets, charged if it is allowed: each that admits it, and with a cost (R1). Those that record
    /// what is denied are charged in any case, up to a bound, and then wait for the same check (R19).
    fn charged(&self, now_ns: u128, check: &Check<'_>) -> Vec<LimitView<'_>> {
        let mut looks = self.looks(now_ns, check);
        let allowed = allowed(&looks);
        for look in looks.iter_mut().filter(|look| look.cost > 0) {
            let is_admitted = allowed && look.admits;
            if is_admitted || records_denied(look, now_ns) {
                look.admissions.push(Admission::of_check(now_ns, look.cost));
            }
            if !is_admitted {
                look.wait_ns = wait_ns(look, now_ns);
            }
        }
        looks
    }
}

/// The decision that follows from `looks`.
fn decision(now_ns: u128, looks: &[LimitView<'_>]) -> ModelDecision {
    let allowed = allowed(looks);
    let headline = headline(looks, now_ns);
    let limits = looks.iter().map(|look| {
        let count = look.usage(now_ns);
        ModelLimit {
            policy_id: look.policy.id.clone(),
            allowed: look.admits,
            count: as_u64(count),
            remaining: as_u64(look.limit.saturating_sub(count)),
            retry_after_ms: look.wait_ns.map(whole_ms),
            reset_after_ms: whole_ms(reset_after_ns(look, now_ns)),
        }
    });
    let (reason, retry_after_ms) = match headline {
        Some(look) if !allowed => (Some(reason(look)), longest_wait_ns(looks).map(whole_ms)),
        _ => (None, Some(0)),
    };
    ModelDecision {
        allowed,
        reason,
        headline: headline.map(|look| look.policy.id.clone()),
        retry_after_ms,
        limits: limits.collect(),
    }
}

impl LimitView<'_> {
    fn usage(&self, now_ns: u128) -> u128 {
        usage(self.policy, self.tick_ns, &self.admissions, now_ns)
    }

    /// A cost of 0 is admitted while the usage is below the limit, as a cost of 1 would be (R1).
    fn room_needed(&self) -> u128 {
        self.cost.max(1)
    }
}

/// The part of `limit` that checks of `class` may use: the share of the least important class that has one and is at least
/// as important as `class`, or else the whole limit.
fn room(policy: &Policy, class: PriorityClass, limit: u128) -> u128 {
    let shares = policy.shares.given().filter(|(other, _)| *other >= class);
    let millionths = shares.min_by_key(|(other, _)| *other).map(|(_, share)| share.millionths());
    millionths.map_or(limit, |millionths| (limit * u128::from(millionths)).div_ceil(1_000_000))
}

/// R8 and R21: the values of `per`, an IPv6 address as its network, and the tenant of a user.
fn key(policy: &Policy, subject: &Subject<'_>) -> Key {
    let mut values = Vec::new();
    for attribute in policy.per.attributes() {
        let Some(value) = subject.get(attribute) else { continue };
        let address = value.parse().map(|address: IpAddr| address.to_canonical());
        values.push(match (attribute, address) {
            (Attribute::Ip, Ok(IpAddr::V6(address))) => {
                let bits = policy.ipv6_prefix.bits();
                format!("{:0128b}", address.to_bits())[..usize::from(bits)].to_owned()
            }
            (Attribute::Ip, Ok(address)) => address.to_string(),
            _ => value.to_owned(),
        });
    }
    let counts_per = |attribute| policy.per.attributes().contains(&attribute);
    if counts_per(Attribute::User) && !counts_per(Attribute::Tenant) {
        values.extend(subject.user_tenant().map(str::to_owned));
    }
    (policy.id.clone(), values)
}

/// R3 and R10: every enforced limit admits.
fn allowed(looks: &[LimitView<'_>]) -> bool {
    looks.iter().all(|look| look.admits || look.policy.mode == Mode::Shadow)
}

/// R5: on a denial the enforced limit with the longest wait, otherwise the one with the smallest share left; among
/// equals, the one with the smallest policy id.
fn headline<'a, 'p>(looks: &'a [LimitView<'p>], now_ns: u128) -> Option<&'a LimitView<'p>> {
    let enforced = looks.iter().filter(|look| look.policy.mode == Mode::Enforce);
    if allowed(looks) {
        // left/limit of both over one denominator.
        let share_left = |look: &LimitView<'p>, other: &LimitView<'p>| {
            look.limit.saturating_sub(look.usage(now_ns)) * other.limit
        };
        enforced.min_by(|a, b| {
            share_left(a, b).cmp(&share_left(b, a)).then(a.policy.id.cmp(&b.policy.id))
        })
    } else {
        let frees_later = |a: &LimitView<'p>, b: &LimitView<'p>| match (a.wait_ns, b.wait_ns) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(&b),
        };
        enforced
            .filter(|look| !look.admits)
            .max_by(|a, b| frees_later(a, b).then(b.policy.id.cmp(&a.policy.id)))
    }
}

/// R19: whether the limit records the cost even if the check is denied. Its usage stays an amount, and a token bucket with its
/// debt is full again after 700 days.
fn records_denied(look: &LimitView<'_>, now_ns: u128) -> bool {
    let most = match look.policy.counting {
        Counting::Bucket { window, refill } => {
            let refill = u128::from(refill.get());
            let days_ns = 700 * 24 * 3_600 * 1_000_000_000;
            (days_ns * refill.max(1) / width_ns(window)).min(u128::from(Amount::MAX.get()) - refill)
        }
        _ => u128::from(Amount::MAX.get()),
    };
    look.policy.over_limit == OverLimit::Charge && look.usage(now_ns) + look.cost <= most
}

fn reason(look: &LimitView<'_>) -> Reason {
    if look.limit == 0 {
        Reason::Banned
    } else if look.room_needed() > look.limit {
        Reason::CostExceedsLimit
    } else {
        Reason::LimitExceeded
    }
}

fn width_ns(window: Window) -> u128 {
    u128::from(window.as_ns())
}

fn whole_ms(ns: u128) -> u64 {
    as_u64(ns.div_ceil(1_000_000))
}

fn as_i128(value: u128) -> i128 {
    i128::try_from(value).unwrap_or(i128::MAX)
}

fn as_u64(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cost, Per, Unit};
    use std::time::Duration;

    fn policy(id: &str, scope: &str, limit: u64, counting: fn(Window) -> Counting) -> Policy {
        let id = PolicyId::new(id).unwrap();
        let window = Window::new(Duration::from_secs(10)).unwrap();
        let policy = Policy::new(id, Per::from_scope(scope).unwrap(), Amount::new(limit), window);
        Policy { counting: counting(window), ..policy }
    }

    fn check_of(tokens: u64) -> Check<'static> {
        let tokens = Amount::new(tokens).unwrap();
        Check::new("alice", "gpt-4").at_cost(Cost::default().with(Unit::Tokens, tokens))
    }

    /// What is asked, and the answer worked out by hand.
    struct Step {
        at_s: u64,
        tokens: u64,
        allowed: bool,
        count: u64,
        retry_after_ms: Option<u64>,
        reset_after_ms: u64,
    }

    fn step(
        (at_s, tokens): (u64, u64),
        (allowed, count, retry_after_ms, reset_after_ms): (bool, u64, Option<u64>, u64),
    ) -> Step {
        Step { at_s, tokens, allowed, count, retry_after_ms, reset_after_ms }
    }

    const LOG: fn(Window) -> Counting = |window| Counting::Log { window };
    const COUNTER: fn(Window) -> Counting = |window| Counting::Counter { window };

    fn answers(counting: fn(Window) -> Counting, steps: &[Step]) {
        let unit = Unit::Tokens;
        let mut model = Model::new(vec![Policy { unit, ..policy("tokens", "USER", 10, counting) }]);
        for step in steps {
            let now = Timestamp::from_ms(step.at_s * 1_000);
            let decision = model.check(now, &check_of(step.tokens));
            let limit = &decision.limits[0];
            let got = (decision.allowed, limit.count, limit.retry_after_ms, limit.reset_after_ms);
            let expected = (step.allowed, step.count, step.retry_after_ms, step.reset_after_ms);
            assert_eq!(got, expected, "{} tokens at {} s", step.tokens, step.at_s);
        }
    }

    #[test]
    fn a_log_frees_each_admission_a_window_after_it() {
        answers(
            LOG,
            &[
                step((100, 4), (true, 4, Some(0), 10_000)),
                step((103, 6), (true, 10, Some(0), 10_000)),
                step((105, 4), (false, 10, Some(5_000), 8_000)),
                step((105, 5), (false, 10, Some(8_000), 8_000)),
                step((105, 0), (false, 10, Some(5_000), 8_000)),
                step((105, 11), (false, 10, None, 8_000)),
                // A clock that steps back stands still.
                step((104, 4), (false, 10, Some(5_000), 8_000)),
                step((110, 4), (true, 10, Some(0), 10_000)),
                step((120, 0), (true, 0, Some(0), 0)),
            ],
        );
    }

    #[test]
    fn a_counter_fades_the_window_before() {
        answers(
            COUNTER,
            &[
                step((105, 8), (true, 8, Some(0), 15_000)),
                step((109, 3), (false, 8, Some(2_250), 11_000)),
                step((112, 4), (false, 7, Some(500), 8_000)),
                step((115, 6), (true, 10, Some(0), 15_000)),
                step((129, 9), (true, 10, Some(0), 11_000)),
            ],
        );
    }

    #[test]
    fn the_headline_frees_last_or_has_the_smallest_share_left() {
        let shadow = Policy { mode: Mode::Shadow, ..policy("0-shadow", "GLOBAL", 0, LOG) };
        let policies = vec![
            shadow.clone(),
            policy("b", "USER", 2, LOG),
            policy("a", "MODEL", 2, LOG),
            policy("c", "USER_MODEL", 4, LOG),
        ];
        let mut model = Model::new(policies);
        let at = Timestamp::from_ms;
        let allowed = model.check(at(1_000), &check_of(0));
        assert_eq!(allowed.headline.unwrap().as_str(), "a", "equal shares: the lesser id");
        assert!(!allowed.limits[0].allowed && allowed.allowed, "a shadow limit denies nothing");
        model.check(at(2_000), &Check::new("bob", "gpt-4"));
        let denied = model.check(at(3_000), &check_of(0));
        assert_eq!(denied.headline.unwrap().as_str(), "a");
        assert_eq!(
            (denied.reason, denied.retry_after_ms),
            (Some(Reason::LimitExceeded), Some(8_000))
        );
        assert_eq!(denied.limits[1].count, 1, "a denied check charges no limit");
        let only_shadow = Model::new(vec![shadow]).check(at(0), &check_of(0));
        assert!(only_shadow.allowed && only_shadow.headline.is_none());
    }
}
