//! Explains why each policy applies to a check or not (R4). Checks do not use it.

use super::PolicySet;
use super::precedence::{may_override, windows_meet};
use crate::matching::Precision;
use crate::{Attribute, Check, Policy, PolicyId, Subject};

/// Why a policy applies to a check, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consideration {
    /// It is disabled.
    Disabled,
    /// It counts per an attribute that the subject does not have.
    Lacks(Attribute),
    /// A condition does not hold: the subject has a value of the attribute that it does not accept, or none.
    Differs(Attribute),
    /// This policy overrides it.
    OverriddenBy(PolicyId, Precedence),
    /// It applies, and exempts.
    Exempts,
    /// It applies, and limits.
    Applies,
    /// It applies, and limits, although this policy with the same `per` and `unit` is more specific: that one is over
    /// another window, so both apply.
    AppliesBeside(PolicyId),
}

/// Why one policy overrides another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// It names it in `overrides`.
    Named,
    /// It exempts from every limit.
    ExemptsAll,
    /// It has more conditions.
    MoreConditions,
    /// It has as many, and describes the value of this attribute more precisely.
    MorePrecise(Attribute),
}

/// A policy that matches the subject.
#[derive(Clone, Copy)]
struct Matching<'a> {
    policy: &'a Policy,
    subject: &'a Subject<'a>,
}

impl PolicySet {
    /// The consideration of each policy for `check`, in their order. O(policies²) in the worst case.
    pub fn explain(&self, check: &Check<'_>) -> Vec<(&Policy, Consideration)> {
        let policies = self.policies();
        let subject = &check.subject;
        let matching = policies.iter().filter(|policy| obstacle(policy, subject).is_none());
        let matching: Vec<_> = matching.map(|policy| Matching { policy, subject }).collect();
        // What is named in `overrides` counts as not there.
        let is_named = |one: &&Matching<'_>| naming(&matching, one.policy).is_none();
        let remaining: Vec<_> = matching.iter().filter(is_named).copied().collect();
        let consider = |policy| {
            obstacle(policy, subject)
                .unwrap_or_else(|| consider(&matching, &remaining, Matching { policy, subject }))
        };
        policies.iter().map(|policy| (policy, consider(policy))).collect()
    }
}

fn naming<'a>(matching: &[Matching<'a>], policy: &Policy) -> Option<&'a Policy> {
    let mut others = matching.iter().map(|one| one.policy);
    others
        .find(|other| other.overrides.contains(&policy.id) && may_override(other.mode, policy.mode))
}

fn consider(
    matching: &[Matching<'_>],
    remaining: &[Matching<'_>],
    one: Matching<'_>,
) -> Consideration {
    let overridden = |by: &Policy, why| Consideration::OverriddenBy(by.id.clone(), why);
    if let Some(other) = naming(matching, one.policy) {
        return overridden(other, Precedence::Named);
    }
    let policy = one.policy;
    let others = || remaining.iter().filter(|other| may_override(other.policy.mode, policy.mode));
    if !policy.exempts_all()
        && let Some(other) = others().find(|other| other.policy.exempts_all())
    {
        return overridden(other.policy, Precedence::ExemptsAll);
    }
    let more_specific = || {
        let rivals = others().filter(|other| {
            other.policy.per == policy.per
                && other.policy.unit == policy.unit
                && !(other.policy.exempts_all() || policy.exempts_all())
        });
        rivals.filter_map(|other| Some((other.policy, other.more_specific_than(one)?)))
    };
    let meets = |other: &Policy| windows_meet(other.own_window(), policy.own_window());
    let by_conditions = |(other, _): &(&Policy, Precedence)| other.conditions.len();
    let overriding = more_specific().filter(|(other, _)| meets(other)).max_by_key(by_conditions);
    if let Some((other, why)) = overriding {
        return overridden(other, why);
    }
    let beside = more_specific().max_by_key(by_conditions);
    match (policy.limit, beside) {
        (None, _) => Consideration::Exempts,
        (Some(_), None) => Consideration::Applies,
        (Some(_), Some((other, _))) => Consideration::AppliesBeside(other.id.clone()),
    }
}

impl Matching<'_> {
    /// Why this policy is more specific than `other`; `None` if it is not.
    fn more_specific_than(self, other: Matching<'_>) -> Option<Precedence> {
        let (policy, other_policy) = (self.policy, other.policy);
        if policy.conditions.len() != other_policy.conditions.len() {
            let has_more = policy.conditions.len() > other_policy.conditions.len();
            return has_more.then_some(Precedence::MoreConditions);
        }
        let mut more_precise = None;
        for condition in &policy.conditions {
            let attribute = &condition.attribute;
            let (own, others) = (self.precision(attribute)?, other.precision(attribute)?);
            if own < others {
                return None;
            }
            if own > others && more_precise.is_none() {
                more_precise = Some(Precedence::MorePrecise(attribute.clone()));
            }
        }
        more_precise
    }

    /// How precisely its condition on `attribute` describes the subject; `None` if it has no such condition.
    fn precision(self, attribute: &Attribute) -> Option<Precision> {
        let condition = self.policy.conditions.iter().find(|one| one.attribute == *attribute)?;
        condition.precision(self.subject, self.policy.ignore_case)
    }
}

/// Why `policy` does not match `subject`, regardless of other policies.
fn obstacle(policy: &Policy, subject: &Subject<'_>) -> Option<Consideration> {
    if !policy.enabled {
        return Some(Consideration::Disabled);
    }
    let attribute = *policy.unmet(subject).first()?;
    let is_lacking =
        policy.per.attributes().contains(attribute) && subject.get(attribute).is_none();
    let reason = if is_lacking { Consideration::Lacks } else { Consideration::Differs };
    Some(reason(attribute.clone()))
}
