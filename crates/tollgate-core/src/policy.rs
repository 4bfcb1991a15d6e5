//! Policies: what is stored, before it is compiled.

use std::fmt;
use std::sync::Arc;

use crate::subject::{ACCEPTED_IDS, Attribute, IdProblem, check_id};
use crate::{
    Amount, Condition, Counting, Ipv6Prefix, ReserveRules, Shares, Span, Split, Subject, Unit,
    Weights, Window,
};

/// The name of a policy: an id (1 to 256 bytes of UTF-8 without control characters).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(Arc<str>);

impl PolicyId {
    /// `id` as a policy id, if it is valid.
    pub fn new(id: &str) -> Result<Self, IdProblem> {
        check_id(id).map(|()| Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The attributes that a policy counts per: each combination of values has its own usage. A set, in canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Per(Vec<Attribute>);

/// The short names of the most usual sets (`scope` in a policy).
const SCOPES: [(&str, &[Attribute]); 9] = [
    ("GLOBAL", &[]),
    ("TENANT", &[Attribute::Tenant]),
    ("USER", &[Attribute::User]),
    ("API_KEY", &[Attribute::ApiKey]),
    ("MODEL", &[Attribute::Model]),
    ("MODEL_TIER", &[Attribute::ModelTier]),
    ("USER_MODEL", &[Attribute::User, Attribute::Model]),
    ("SERVICE", &[Attribute::Service, Attribute::User]),
    ("IP", &[Attribute::Ip]),
];

impl Per {
    /// The most attributes of one `per`.
    pub const MAX_ATTRIBUTES: usize = 8;
    /// What [`Per::from_scope`] accepts, for messages.
    pub const ACCEPTED_SCOPES: &str =
        "GLOBAL, TENANT, USER, API_KEY, MODEL, MODEL_TIER, USER_MODEL, SERVICE, IP";

    /// The set of `attributes`; `None` if one occurs twice or there are more than [`Per::MAX_ATTRIBUTES`].
    pub fn new(mut attributes: Vec<Attribute>) -> Option<Self> {
        attributes.sort();
        let distinct = attributes.windows(2).all(|pair| pair[0] != pair[1]);
        (distinct && attributes.len() <= Self::MAX_ATTRIBUTES).then_some(Self(attributes))
    }

    /// The set with the short name `scope`.
    pub fn from_scope(scope: &str) -> Option<Self> {
        let (_, attributes) = SCOPES.iter().find(|(name, _)| *name == scope)?;
        Self::new(attributes.to_vec())
    }

    /// The attributes, in canonical order.
    #[inline]
    pub fn attributes(&self) -> &[Attribute] {
        &self.0
    }

    /// Whether it counts per user, but not per tenant.
    #[inline]
    pub(crate) fn is_per_user_of_any_tenant(&self) -> bool {
        // Both are before every other attribute, and a tenant before a user.
        self.0.first() == Some(&Attribute::User)
    }

    /// The short name where there is one, otherwise the attributes joined with `+`: `apiKey+model`.
    pub fn scope(&self) -> String {
        let known = SCOPES.iter().find(|(_, attributes)| {
            attributes.len() == self.0.len() && attributes.iter().all(|a| self.0.contains(a))
        });
        match known {
            Some((name, _)) => (*name).to_owned(),
            None => self.0.iter().map(Attribute::name).collect::<Vec<_>>().join("+"),
        }
    }
}

/// Whether a policy denies or only reports (R10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Denies.
    #[default]
    Enforce,
    /// Decides, counts and reports, but never denies.
    Shadow,
}

impl Mode {
    /// What [`Mode::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`enforce` or `shadow`";

    /// The mode called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Enforce, Self::Shadow].into_iter().find(|mode| mode.name() == name)
    }

    /// The name, as in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// Whether callers see a policy in the header fields of an answer. The body of an answer, which goes to the service that
/// asks, always names every limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// They see its id, its limit and what is left of it.
    #[default]
    Public,
    /// They do not. `Retry-After` still tells them how long to wait.
    Private,
}

impl Visibility {
    /// What [`Visibility::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`public` or `private`";

    /// The visibility called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Public, Self::Private].into_iter().find(|visibility| visibility.name() == name)
    }

    /// The name, as in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// What a policy records of a check that is denied (R19).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverLimit {
    /// Nothing (R3).
    #[default]
    Deny,
    /// Its cost, whichever limit denies: for costs that have happened already.
    Charge,
}

impl OverLimit {
    /// What [`OverLimit::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`deny` or `charge`";

    /// The value called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Deny, Self::Charge].into_iter().find(|over_limit| over_limit.name() == name)
    }

    /// The name, as in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Charge => "charge",
        }
    }
}

/// What becomes of what a lease holds in a limit over a window when the lease expires (R15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnExpire {
    /// It stays as reserved, and leaves with its window: the work may have happened.
    #[default]
    Keep,
    /// It is given back, as by a release.
    Refund,
}

impl OnExpire {
    /// What [`OnExpire::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`keep` or `refund`";

    /// The value called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Keep, Self::Refund].into_iter().find(|on_expire| on_expire.name() == name)
    }

    /// The name, as in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Refund => "refund",
        }
    }
}

/// How a limit decides while the store is unavailable (R11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Admits everything, so that an outage of the store does not become an outage of the service.
    #[default]
    Allow,
    /// Denies everything, so that nothing passes without being counted.
    Deny,
    /// Decides by this node's share of the limit, which it counts in its own memory.
    Local,
}

impl FailureMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Local];
    /// What [`FailureMode::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`allow`, `deny` or `local`";

    /// The mode called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The name, as in policies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        }
    }
}

/// How far a policy that exempts or bans reaches: which limits it stands in for. Another policy counts in its own window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Limits with its `per`, its unit and its window.
    #[default]
    OwnWindow,
    /// Limits with its `per` and its unit, over any window.
    EveryWindow,
    /// Every limit, if it exempts; a ban reaches as far as [`Reach::EveryWindow`].
    EveryLimit,
}

impl Reach {
    /// That of a policy with `limit` that gives no window.
    fn default_of(limit: Option<Amount>) -> Self {
        if counts_nothing(limit) { Self::EveryWindow } else { Self::OwnWindow }
    }
}

/// Whether `limit` exempts or bans.
fn counts_nothing(limit: Option<Amount>) -> bool {
    limit.is_none_or(|limit| limit == Amount::ZERO)
}

/// A stored rule: which subjects it matches, what it counts per, unit, limit, way of counting, mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, unique in a set. Usage belongs to it (R8).
    pub id: PolicyId,
    /// The attributes that its limits count per.
    pub per: Per,
    /// The length of the networks that IPv6 addresses in `per` stand for.
    pub ipv6_prefix: Ipv6Prefix,
    /// The conditions that must all hold; each attribute at most once.
    pub conditions: Vec<Condition>,
    /// Whether the conditions compare texts without regard to case. Usage is counted under the values as they are.
    pub ignore_case: bool,
    /// What it counts.
    pub unit: Unit,
    /// How much a token of some kind counts, if `unit` is of tokens.
    pub weights: Weights,
    /// The most of `unit` in a window, or for a token bucket its capacity: 0 bans, `None` exempts (R4).
    pub limit: Option<Amount>,
    /// The part of `limit` up to which each priority class is admitted. All classes share one usage.
    pub shares: Shares,
    /// Whether nodes take parts of it ahead of time, in stores that can (R22). Only beside a log over a window that
    /// [`Split::counted`] accepts.
    pub split: Option<Split>,
    /// How it counts, and over which window.
    pub counting: Counting,
    /// Of a policy that exempts or bans: how far that reaches.
    pub reach: Reach,
    /// The policies that it overrides besides those that R4 names.
    pub overrides: Vec<PolicyId>,
    /// Whether it denies.
    pub mode: Mode,
    /// What it records of a check that is denied.
    pub over_limit: OverLimit,
    /// What becomes of what a lease holds when it expires; without effect on slots, which are free then.
    pub on_expire: OnExpire,
    /// How much a lease reserves that does not say, by unit.
    pub reserve: ReserveRules,
    /// Whether callers see it.
    pub visibility: Visibility,
    /// Its failure mode; `None` for the setting of the server.
    pub on_store_error: Option<FailureMode>,
    /// Whether it takes part at all.
    pub enabled: bool,
}

impl Policy {
    /// The most conditions of one policy.
    pub const MAX_CONDITIONS: usize = 16;
    /// The most values of one condition.
    pub const MAX_CONDITION_VALUES: usize = 1_000;
    /// The most policies that one names in [`Policy::overrides`].
    pub const MAX_OVERRIDES: usize = 1_000;

    /// An enforced, exact policy over requests without conditions. If it exempts or bans, it does so whatever the window.
    pub fn new(id: PolicyId, per: Per, limit: Option<Amount>, window: Window) -> Self {
        Self {
            id,
            per,
            ipv6_prefix: Ipv6Prefix::default(),
            conditions: Vec::new(),
            ignore_case: false,
            unit: Unit::Requests,
            weights: Weights::default(),
            limit,
            shares: Shares::default(),
            split: None,
            counting: Counting::Log { window },
            reach: Reach::default_of(limit),
            overrides: Vec::new(),
            mode: Mode::default(),
            over_limit: OverLimit::default(),
            on_expire: OnExpire::default(),
            reserve: ReserveRules::new(),
            visibility: Visibility::default(),
            on_store_error: None,
            enabled: true,
        }
    }

    /// An enforced policy without conditions: at most `limit` leases are alive for each key (R16).
    pub fn of_concurrency(id: PolicyId, per: Per, limit: Option<Amount>) -> Self {
        Self {
            unit: Unit::Concurrency,
            counting: Counting::Concurrency,
            ..Self::new(id, per, limit, DEFAULT_WINDOW)
        }
    }

    /// Whether it is [`Policy::default_policy`], unchanged.
    pub fn is_built_in(&self) -> bool {
        *self == Self::default_policy()
    }

    /// The policy that applies if none is configured: 100 requests an hour per user and model.
    pub fn default_policy() -> Self {
        let per = Per(vec![Attribute::User, Attribute::Model]);
        Self::new(PolicyId("default".into()), per, Amount::new(100), DEFAULT_WINDOW)
    }

    /// The attributes because of which it does not match `subject`: those of `per` that the subject lacks, then those
    /// whose conditions do not hold. None if it matches (R4).
    pub fn unmet(&self, subject: &Subject<'_>) -> Vec<&Attribute> {
        let lacking = self.per.attributes().iter().filter(|one| subject.get(one).is_none());
        let lacking: Vec<_> = lacking.collect();
        let failing = self.conditions.iter();
        let failing = failing.filter(|one| one.precision(subject, self.ignore_case).is_none());
        let failing = failing.map(|one| &one.attribute).filter(|one| !lacking.contains(one));
        lacking.iter().copied().chain(failing).collect()
    }

    /// The window whose limits it overrides, or is overridden by; `None` for every window.
    pub fn own_window(&self) -> Option<Span> {
        let is_narrow = self.reach == Reach::OwnWindow || !counts_nothing(self.limit);
        is_narrow.then(|| self.counting.span())
    }

    /// Whether it exempts from every limit, whatever that counts.
    pub fn exempts_all(&self) -> bool {
        self.limit.is_none() && self.reach == Reach::EveryLimit
    }
}

pub(crate) const DEFAULT_WINDOW: Window = match Window::new(std::time::Duration::from_hours(1)) {
    Some(window) => window,
    None => panic!("an hour is a window"),
};

/// What an id of a policy is, for messages.
pub const ACCEPTED_POLICY_IDS: &str = ACCEPTED_IDS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_short_names_of_sets() {
        for (name, attributes) in SCOPES {
            let per = Per::from_scope(name).unwrap();
            assert_eq!(per.attributes().len(), attributes.len());
            assert_eq!(per.scope(), name);
        }
        let swapped = Per::new(vec![Attribute::Model, Attribute::User]).unwrap();
        assert_eq!(swapped.scope(), "USER_MODEL");
        let other = Per::new(vec![Attribute::Model, Attribute::ApiKey]).unwrap();
        assert_eq!(other.scope(), "apiKey+model");
        assert_eq!(Per::from_scope("user"), None);
        assert_eq!(Per::new(vec![Attribute::Ip, Attribute::Ip]), None);
    }
}
