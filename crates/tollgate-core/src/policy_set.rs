//! A compiled, immutable set of policies, and which limits a check meets in it (R4).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    Amount, Attribute, Charge, Check, Condition, Cost, Limit, Mode, Per, Policy, PolicyId,
    PriorityClass, Subject, Unit,
};

/// What a check charges: one charge for each limit that it meets, in the order of the policies.
pub type Plan<'a> = SmallVec<[Charge<'a>; 4]>;

/// Policies compiled for lookup. Immutable: a change makes a new set.
///
/// Each policy is indexed by one of its conditions, so that a check only evaluates policies that may apply.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<Policy>,
    rules: Vec<Rule>,
    /// The rules without conditions.
    unconditional: Vec<RuleIndex>,
    /// The rules with conditions, by a value that one of their conditions asks for.
    by_value: Vec<(Attribute, HashMap<String, Vec<RuleIndex>>)>,
}

type RuleIndex = u32;

/// An enabled policy, compiled.
#[derive(Debug)]
struct Rule {
    /// The limit of each priority class; all are the same if there are no shares. `None` exempts.
    limits: Option<[Arc<Limit>; PriorityClass::ALL.len()]>,
    per: Per,
    unit: Unit,
    conditions: Vec<Condition>,
    mode: Mode,
    /// Rules of one group have the same `per` and `unit`, and override each other.
    group: u32,
}

impl Rule {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        self.per.attributes().iter().all(|attribute| subject.get(attribute).is_some())
            && self.conditions.iter().all(|condition| {
                let value = subject.get(&condition.attribute);
                value.is_some_and(|value| condition.values.iter().any(|accepted| accepted == value))
            })
    }

    fn cost(&self, cost: &Cost) -> Amount {
        cost.of(&self.unit)
    }
}

/// Why policies cannot form a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySetError {
    /// Two policies have this id.
    DuplicateId(PolicyId),
    /// There are this many policies, more than [`PolicySet::MAX_POLICIES`].
    TooMany(usize),
}

impl fmt::Display for PolicySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId(id) => write!(f, "two policies have the id {:?}", id.as_str()),
            Self::TooMany(count) => {
                write!(f, "{count} policies; accepted: at most {}", PolicySet::MAX_POLICIES)
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
    /// O(policies × their condition values).
    pub fn new(mut policies: Vec<Policy>) -> Result<Self, PolicySetError> {
        if policies.is_empty() {
            policies.push(Policy::default_policy());
        }
        if policies.len() > Self::MAX_POLICIES {
            return Err(PolicySetError::TooMany(policies.len()));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = policies.iter().find(|policy| !ids.insert(policy.id.clone())) {
            return Err(PolicySetError::DuplicateId(twice.id.clone()));
        }
        let rules = compile(&policies);
        let (unconditional, by_value) = index(&rules);
        Ok(Self { policies, rules, unconditional, by_value })
    }

    /// The policies it was made from.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The limits of its enabled policies, as the most important priority class has them.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.rules.iter().filter_map(|rule| rule.limits.as_ref()?.last())
    }

    /// The limits of its enabled policies, those of one policy by [`PriorityClass::index`].
    pub fn limits_of_classes(&self) -> impl Iterator<Item = &[Arc<Limit>]> {
        self.rules.iter().filter_map(|rule| Some(rule.limits.as_ref()?.as_slice()))
    }

    /// The limits that `check` meets, and what it charges them (R4).
    ///
    /// Among the policies of one `per` and `unit` that hold, those with the most conditions apply. A shadow
    /// policy overrides no enforced one: trying a policy must not lift the one that protects now.
    /// O(policies that may hold).
    #[inline]
    pub fn plan<'a>(&'a self, check: &'a Check<'_>) -> Plan<'a> {
        if let ([rule], []) = (self.unconditional.as_slice(), self.by_value.as_slice()) {
            let rule = &self.rules[*rule as usize];
            return rule
                .holds(&check.subject)
                .then(|| charge(rule, check))
                .flatten()
                .into_iter()
                .collect();
        }
        let mut applicable = self.holding(&check.subject);
        self.retain_most_specific(&mut applicable);
        applicable.iter().filter_map(|rule| charge(&self.rules[*rule as usize], check)).collect()
    }

    fn holding(&self, subject: &Subject<'_>) -> SmallVec<[RuleIndex; 16]> {
        let indexed = self.by_value.iter().filter_map(|(attribute, by_value)| {
            by_value.get(subject.get(attribute)?).map(Vec::as_slice)
        });
        std::iter::once(self.unconditional.as_slice())
            .chain(indexed)
            .flatten()
            .copied()
            .filter(|rule| self.rules[*rule as usize].holds(subject))
            .collect()
    }

    fn retain_most_specific(&self, applicable: &mut SmallVec<[RuleIndex; 16]>) {
        let rule = |index: RuleIndex| &self.rules[index as usize];
        applicable.sort_unstable_by_key(|&index| {
            (rule(index).group, Reverse(rule(index).conditions.len()))
        });
        let mut group = None;
        let (mut most_of_all, mut most_enforced) = (0, None);
        applicable.retain(|index| {
            let rule = rule(*index);
            let conditions = rule.conditions.len();
            if group != Some(rule.group) {
                group = Some(rule.group);
                (most_of_all, most_enforced) = (conditions, None);
            }
            match rule.mode {
                Mode::Enforce => conditions == *most_enforced.get_or_insert(conditions),
                Mode::Shadow => conditions == most_of_all,
            }
        });
        applicable.sort_unstable();
    }
}

#[inline]
fn charge<'a>(rule: &'a Rule, check: &'a Check<'_>) -> Option<Charge<'a>> {
    let limit = &rule.limits.as_ref()?[check.priority.index()];
    Some(Charge { limit, subject: &check.subject, cost: rule.cost(&check.cost) })
}

fn compile(policies: &[Policy]) -> Vec<Rule> {
    let mut groups = HashMap::new();
    let enabled = policies.iter().filter(|policy| policy.enabled);
    enabled
        .map(|policy| {
            let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            Rule {
                limits: Limit::of_classes(policy),
                per: policy.per.clone(),
                unit: policy.unit.clone(),
                conditions: policy.conditions.clone(),
                mode: policy.mode,
                group: *groups.entry((policy.per.clone(), policy.unit.clone())).or_insert(next),
            }
        })
        .collect()
}

type ByValue = Vec<(Attribute, HashMap<String, Vec<RuleIndex>>)>;

/// Indexes each rule by the one of its conditions whose values the fewest other rules use.
fn index(rules: &[Rule]) -> (Vec<RuleIndex>, ByValue) {
    let mut askers: HashMap<(&Attribute, &str), usize> = HashMap::new();
    for condition in rules.iter().flat_map(|rule| &rule.conditions) {
        for value in &condition.values {
            *askers.entry((&condition.attribute, value)).or_default() += 1;
        }
    }
    let crowd = |condition: &Condition| -> usize {
        let value_askers =
            condition.values.iter().map(|v| askers[&(&condition.attribute, v.as_str())]);
        value_askers.sum()
    };
    let (mut unconditional, mut by_attribute) = (Vec::new(), HashMap::new());
    for (rule_index, rule) in (0..).zip(rules) {
        let Some(condition) = rule.conditions.iter().min_by_key(|condition| crowd(condition))
        else {
            unconditional.push(rule_index);
            continue;
        };
        let by_value: &mut HashMap<String, Vec<RuleIndex>> =
            by_attribute.entry(condition.attribute.clone()).or_default();
        // A value that is given twice adds the rule only once.
        for value in condition.values.iter().collect::<HashSet<_>>() {
            by_value.entry(value.clone()).or_default().push(rule_index);
        }
    }
    (unconditional, by_attribute.into_iter().collect())
}
