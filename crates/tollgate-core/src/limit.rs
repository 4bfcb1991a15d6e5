//! Limits: compiled policies, and what one check charges them.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Amount, Attribute, Cost, Counting, FailureMode, Ipv6Prefix, Mode, OnExpire, OverLimit, Per,
    Policy, PolicyId, PriorityClass, ReserveRule, ReserveRules, Share, Split, Subject, Totals,
    Unit, Visibility, Weights,
};

/// A compiled policy that limits: everything that a store needs for a decision except the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    policy_id: PolicyId,
    policy_tag: u128,
    per: Per,
    ipv6_prefix: Ipv6Prefix,
    scope: Box<str>,
    unit: Unit,
    weights: Weights,
    counting: Counting,
    split: Option<Split>,
    mode: Mode,
    if_denied: OverLimit,
    on_expire: OnExpire,
    visibility: Visibility,
    on_store_error: Option<FailureMode>,
    reserve: ReserveRules,
    amount: Amount,
    class_share: Option<ClassShare>,
}

/// The share of a policy's limit that a priority class may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassShare {
    /// The class.
    pub class: PriorityClass,
    /// Its part.
    pub share: Share,
    /// The whole limit of the policy.
    pub whole: Amount,
}

impl Limit {
    /// The limit that `policy` sets; `None` if it exempts.
    pub fn of(policy: &Policy) -> Option<Self> {
        Some(Self {
            policy_id: policy.id.clone(),
            policy_tag: u128::from(tag(&policy.id, 0)) << 64 | u128::from(tag(&policy.id, 1)),
            per: policy.per.clone(),
            ipv6_prefix: policy.ipv6_prefix,
            scope: policy.per.scope().into(),
            unit: policy.unit.clone(),
            weights: policy.weights,
            counting: policy.counting,
            split: policy.split,
            mode: policy.mode,
            if_denied: policy.over_limit,
            on_expire: policy.on_expire,
            visibility: policy.visibility,
            on_store_error: policy.on_store_error,
            reserve: policy.reserve.clone(),
            amount: policy.limit?,
            class_share: None,
        })
    }

    /// The limits that `policy` sets to each priority class, by [`PriorityClass::index`]; `None` if it exempts.
    ///
    /// They differ in the amount only and share one usage (R8), so the usage of one class counts for all.
    pub fn of_classes(policy: &Policy) -> Option<[Arc<Self>; PriorityClass::ALL.len()]> {
        let whole = Arc::new(Self::of(policy)?);
        Some(PriorityClass::ALL.map(|class| {
            let share = policy.shares.of(class);
            if share == Share::WHOLE {
                return Arc::clone(&whole);
            }
            let class_share = Some(ClassShare { class, share, whole: whole.amount });
            Arc::new(Self { class_share, ..whole.with_amount(share.of(whole.amount)) })
        }))
    }

    /// The policy it comes from.
    pub fn policy_id(&self) -> &PolicyId {
        &self.policy_id
    }

    /// 128 bits that stand for the policy id in this process: a hash, so that a store in memory need not hash
    /// the id for every check. Policy ids are the operator's, not a client's.
    #[inline]
    pub fn policy_tag(&self) -> u128 {
        self.policy_tag
    }

    /// The attributes whose values make its key.
    #[inline]
    pub fn per(&self) -> &Per {
        &self.per
    }

    /// The attributes and values that, in this order and each with its length, make the key of `subject` within the
    /// policy (R8): those of `per`, where an attribute that `subject` lacks has an empty value, and the tenant of a user
    /// that has one, because the same user id in two tenants is two users. An IPv6 address stands for its network (R21).
    ///
    /// Allocates only for an IPv6 address.
    #[inline]
    pub fn key_parts<'s>(
        &'s self,
        subject: &'s Subject<'_>,
    ) -> impl Iterator<Item = (&'s Attribute, Cow<'s, str>)> {
        let values = self.per.attributes().iter().map(move |attribute| {
            let value = subject.get(attribute).unwrap_or_default();
            let value = match attribute {
                Attribute::Ip => self.ipv6_prefix.group(value),
                _ => Cow::Borrowed(value),
            };
            (attribute, value)
        });
        let tenant =
            if self.per.is_per_user_of_any_tenant() { subject.user_tenant() } else { None };
        values.chain(tenant.map(|tenant| (&Attribute::Tenant, Cow::Borrowed(tenant))))
    }

    /// The short name of `per` ([`Per::scope`]).
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What it counts.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How much a token of some kind counts.
    #[inline]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What it counts of `cost`.
    #[inline]
    pub fn cost_of(&self, cost: &Cost) -> Amount {
        self.weights.of_cost(&self.unit, cost)
    }

    /// What it counts of `totals`; `None` if they do not name its unit.
    pub fn total_of(&self, totals: &Totals) -> Option<Amount> {
        self.weights.of_totals(&self.unit, totals)
    }

    /// How it counts, and over which window.
    #[inline]
    pub fn counting(&self) -> Counting {
        self.counting
    }

    /// How nodes take parts of it ahead of time, in stores that can (R22).
    #[inline]
    pub fn split(&self) -> Option<Split> {
        self.split
    }

    /// The limit as a store counts it whose nodes take parts ahead of time: every admission counts for
    /// [a life longer](Split::counted). `None` if it is not split.
    pub fn counted_longer(&self) -> Option<Self> {
        let (Some(_), Counting::Log { window }) = (self.split, self.counting) else { return None };
        let counting = Counting::Log { window: Split::counted(window)? };
        Some(Self { split: None, counting, ..self.clone() })
    }

    /// Whether it denies.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it records of a check that is denied (R19).
    #[inline]
    pub fn over_limit(&self) -> OverLimit {
        self.if_denied
    }

    /// Whether what a lease holds in it is given back when the lease expires (R15).
    #[inline]
    pub fn refunds_expired(&self) -> bool {
        self.on_expire == OnExpire::Refund && self.counting != Counting::Concurrency
    }

    /// How much a lease reserves that does not say, by unit.
    #[inline]
    pub fn reserve(&self) -> &[(Unit, ReserveRule)] {
        &self.reserve
    }

    /// The most that its usage may be after the cost of a denied check was recorded (R19): [`Amount::MAX`], or for a token
    /// bucket less, so that it is full again before any store forgets it. A cost for which there is no room below this is
    /// not recorded.
    pub fn most_recorded(&self) -> Amount {
        self.counting.most_recorded()
    }

    /// Whether callers see it.
    #[inline]
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// Its failure mode; `None` for the setting of the server (R11).
    #[inline]
    pub fn on_store_error(&self) -> Option<FailureMode> {
        self.on_store_error
    }

    /// For how long an admission may count. A token bucket that has recorded denied costs (R19) takes longer.
    pub fn longest_life(&self) -> Duration {
        self.counting.longest_life(self.amount)
    }

    /// The same limit with another amount: its usage is the same (R8).
    #[must_use]
    pub fn with_amount(&self, amount: Amount) -> Self {
        Self { amount, ..self.clone() }
    }

    /// The part of the limit that `share` gives to one of several nodes: of the refill of a bucket too, unlike
    /// [`Limit::with_amount`].
    #[must_use]
    pub fn part(&self, share: impl Fn(Amount) -> Amount) -> Self {
        let counting = match self.counting {
            Counting::Bucket { window, refill } => {
                Counting::Bucket { window, refill: share(refill) }
            }
            other => other,
        };
        Self { amount: share(self.amount), counting, ..self.clone() }
    }

    /// Which part of the policy's limit it is; `None` if it is all of it.
    pub fn class_share(&self) -> Option<ClassShare> {
        self.class_share
    }

    /// The most of its unit in a window; for a token bucket, its capacity.
    #[inline]
    pub fn amount(&self) -> Amount {
        self.amount
    }
}

fn tag(id: &PolicyId, half: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    half.hash(&mut hasher);
    id.hash(&mut hasher);
    hasher.finish()
}

/// What one check charges one limit.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The limit charged.
    pub limit: &'a Arc<Limit>,
    /// The subject, which has every attribute of the limit's `per`.
    pub subject: &'a Subject<'a>,
    /// How much, in the limit's unit.
    pub cost: Amount,
}

impl<'a> Charge<'a> {
    /// Whether its cost is recorded even if the check is denied (R19).
    #[inline]
    pub fn is_recorded_if_denied(&self) -> bool {
        self.limit.over_limit() == OverLimit::Charge && self.cost != Amount::ZERO
    }

    /// The values of [`Limit::key_parts`].
    #[inline]
    pub fn key_values(&self) -> impl Iterator<Item = Cow<'a, str>> {
        self.limit.key_parts(self.subject).map(|(_, value)| value)
    }
}
