//! A compiled, immutable set of policies, and which limits a check meets in it (R4).

mod explain;
mod index;
mod overrides;
mod precedence;
mod rule;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

pub use self::explain::{Consideration, Precedence};
use self::index::Index;
pub use self::overrides::override_cycle;
use self::rule::{Rule, RuleIndex};
use crate::{Charge, Check, Counting, Limit, Policy, PolicyId, Subject, Unit};

/// What a check charges: one charge for each limit that it meets, in the order of the policies.
pub type Plan<'a> = SmallVec<[Charge<'a>; 4]>;

/// Policies compiled for lookup. Immutable: a change makes a new set.
///
/// Each policy is indexed by one of its conditions, so that a check only evaluates policies that may apply.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<Policy>,
    /// Whether it was made from no policies, so that the default one holds.
    is_default: bool,
    rules: Vec<Rule>,
    index: Index,
    /// Whether a policy names others that it overrides.
    has_overrides: bool,
    /// Whether a policy exempts from every limit.
    has_exemptions_from_all: bool,
    /// The units of which policies say how much a lease reserves, each once.
    reserved_units: Box<[Unit]>,
}

/// Why policies cannot form a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySetError {
    /// Two policies have this id.
    DuplicateId(PolicyId),
    /// There are this many policies, more than [`PolicySet::MAX_POLICIES`].
    TooMany(usize),
    /// This policy has one of [`Unit::Concurrency`] and [`Counting::Concurrency`] without the other.
    Concurrency(PolicyId),
    /// A policy overrides one that does not exist.
    UnknownOverride {
        /// The policy.
        policy: PolicyId,
        /// The id that no policy has.
        overrides: PolicyId,
    },
    /// Each of these policies overrides the next, and the last one the first.
    OverrideCycle(Vec<PolicyId>),
}

impl fmt::Display for PolicySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId(id) => write!(f, "two policies have the id {:?}", id.as_str()),
            Self::TooMany(count) => {
                write!(f, "{count} policies; accepted: at most {}", PolicySet::MAX_POLICIES)
            }
            Self::Concurrency(id) => write!(
                f,
                "policy {:?} has one of the unit and the counting of concurrency; accepted: both or none",
                id.as_str()
            ),
            Self::UnknownOverride { policy, overrides } => write!(
                f,
                "policy {:?} overrides {:?}, which is no policy",
                policy.as_str(),
                overrides.as_str()
            ),
            Self::OverrideCycle(ids) => {
                let shown = |id: &PolicyId| format!("{:?}", id.as_str());
                let circle = ids.iter().chain(ids.first()).map(shown);
                let circle: Vec<_> = circle.collect();
                write!(f, "policies override one another in a circle: {}", circle.join(" → "))
            }
        }
    }
}

impl std::error::Error for PolicySetError {}

impl PolicySet {
    /// The most policies of one set.
    pub const MAX_POLICIES: usize = 100_000;

    /// Compiles `policies`. With none at all, [`Policy::default_policy`] holds.
    ///
    /// O(n log n) in the policies with their patterns.
    pub fn new(mut policies: Vec<Policy>) -> Result<Self, PolicySetError> {
        let is_default = policies.is_empty();
        if is_default {
            policies.push(Policy::default_policy());
        }
        Ok(Self { is_default, ..Self::exactly(policies)? })
    }

    /// Compiles `policies`. With none at all, nothing is limited.
    ///
    /// O(n log n) in the policies with their patterns.
    pub fn exactly(policies: Vec<Policy>) -> Result<Self, PolicySetError> {
        if policies.len() > Self::MAX_POLICIES {
            return Err(PolicySetError::TooMany(policies.len()));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = policies.iter().find(|policy| !ids.insert(&policy.id)) {
            return Err(PolicySetError::DuplicateId(twice.id.clone()));
        }
        let is_half = |policy: &&Policy| {
            (policy.unit == Unit::Concurrency) != (policy.counting == Counting::Concurrency)
        };
        if let Some(half) = policies.iter().find(is_half) {
            return Err(PolicySetError::Concurrency(half.id.clone()));
        }
        overrides::check(&policies, &ids)?;
        let rules = rule::compile(&policies);
        let index = Index::of(&rules, &policies);
        let has_overrides = rules.iter().any(|rule| !rule.overrides.is_empty());
        let has_exemptions_from_all = rules.iter().any(|rule| rule.exempts_all);
        let mut reserved_units = Vec::new();
        let enabled = policies.iter().filter(|policy| policy.enabled);
        for (unit, _) in enabled.flat_map(|policy| &policy.reserve) {
            if !reserved_units.contains(unit) {
                reserved_units.push(unit.clone());
            }
        }
        let reserved_units = reserved_units.into();
        Ok(Self {
            policies,
            is_default: false,
            rules,
            index,
            has_overrides,
            has_exemptions_from_all,
            reserved_units,
        })
    }

    /// Whether it was made from no policies, so that [`Policy::default_policy`] holds. A set with a policy that equals the
    /// default one is not such a set.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The units of which policies say how much a lease reserves that does not say so itself.
    pub fn reserved_units(&self) -> &[Unit] {
        &self.reserved_units
    }

    /// The policies it was made from.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The limits of its enabled policies, as the most important priority class has them.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.rules.iter().filter_map(|rule| rule.limits.as_ref()?.last())
    }

    /// The limits of its enabled policies, those of one policy by [`PriorityClass::index`](crate::PriorityClass::index).
    pub fn limits_of_classes(&self) -> impl Iterator<Item = &[Arc<Limit>]> {
        self.rules.iter().filter_map(|rule| Some(rule.limits.as_ref()?.as_slice()))
    }

    /// The limits that `check` meets, and what it charges them (R4).
    ///
    /// Those of the policies that match and that no other one overrides. A shadow policy overrides no enforced one:
    /// trying a policy must not lift the one that protects now. O(policies that may match).
    #[inline]
    pub fn plan<'a>(&'a self, check: &'a Check<'_>) -> Plan<'a> {
        if let Some(rule) = self.index.only_unconditional() {
            let rule = &self.rules[rule as usize];
            return rule
                .counts_per_attributes_of(&check.subject)
                .then(|| charge(rule, check))
                .flatten()
                .into_iter()
                .collect();
        }
        let mut matching = self.index.matching(&self.rules, &check.subject);
        self.retain_applying(&mut matching);
        matching.rules().filter_map(|rule| charge(&self.rules[rule as usize], check)).collect()
    }

    /// Whether any enabled policy matches `subject`, and be it one that exempts. O(policies that may match).
    pub fn covers(&self, subject: &Subject<'_>) -> bool {
        self.index.matching(&self.rules, subject).rules().next().is_some()
    }
}

#[inline]
fn charge<'a>(rule: &'a Rule, check: &'a Check<'_>) -> Option<Charge<'a>> {
    let limit = &rule.limits.as_ref()?[check.priority.index()];
    Some(Charge { limit, subject: &check.subject, cost: limit.cost_of(&check.cost) })
}

const _: () = assert!(PolicySet::MAX_POLICIES <= RuleIndex::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Per;

    #[test]
    fn the_unit_and_the_counting_of_concurrency_belong_together() {
        let id = PolicyId::new("slots").unwrap();
        let per = Per::from_scope("USER").unwrap();
        let slots = Policy::of_concurrency(id.clone(), per, Some(crate::Amount::ONE));
        assert!(PolicySet::new(vec![slots.clone()]).is_ok());
        let halves = [
            Policy { unit: Unit::Requests, ..slots.clone() },
            Policy { counting: Policy::default_policy().counting, ..slots },
        ];
        for half in halves {
            let error = PolicySet::new(vec![half]).unwrap_err();
            assert_eq!(error, PolicySetError::Concurrency(id.clone()));
            assert!(error.to_string().contains("accepted: both or none"), "{error}");
        }
    }
}
