//! Explains why each policy applies to a check or not (R4). Checks do not use it.

use crate::{Attribute, Check, Mode, Policy, PolicyId, PolicySet};

/// Why a policy applies to a check, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consideration {
    /// It is disabled.
    Disabled,
    /// It counts per an attribute that the subject does not have.
    Lacks(Attribute),
    /// A condition does not hold: the subject has another value of the attribute, or none.
    Differs(Attribute),
    /// This policy with the same `per` and `unit` has more conditions.
    OverriddenBy(PolicyId),
    /// It applies, and exempts.
    Exempts,
    /// It applies, and limits.
    Applies,
}

impl PolicySet {
    /// The consideration of each policy for `check`, in their order. O(policies²) in the worst case.
    pub fn explain(&self, check: &Check<'_>) -> Vec<(&Policy, Consideration)> {
        let policies = self.policies();
        policies.iter().map(|policy| (policy, consider(policies, policy, check))).collect()
    }
}

fn consider(policies: &[Policy], policy: &Policy, check: &Check<'_>) -> Consideration {
    if let Some(obstacle) = obstacle(policy, check) {
        return obstacle;
    }
    let overrides = |other: &&Policy| {
        other.conditions.len() > policy.conditions.len()
            && other.per == policy.per
            && other.unit == policy.unit
            // A shadow policy overrides no enforced one (decision 0001).
            && (other.mode == Mode::Enforce || policy.mode == Mode::Shadow)
            && obstacle(other, check).is_none()
    };
    let overriding = policies.iter().filter(overrides).max_by_key(|other| other.conditions.len());
    match (overriding, policy.limit) {
        (Some(other), _) => Consideration::OverriddenBy(other.id.clone()),
        (None, None) => Consideration::Exempts,
        (None, Some(_)) => Consideration::Applies,
    }
}

/// Why `policy` does not apply to `check`, regardless of other policies.
fn obstacle(policy: &Policy, check: &Check<'_>) -> Option<Consideration> {
    if !policy.enabled {
        return Some(Consideration::Disabled);
    }
    let subject = &check.subject;
    let lacks = policy.per.attributes().iter().find(|one| subject.get(one).is_none());
    if let Some(attribute) = lacks {
        return Some(Consideration::Lacks(attribute.clone()));
    }
    let differs = policy.conditions.iter().find(|condition| {
        let value = subject.get(&condition.attribute);
        !value.is_some_and(|value| condition.values.iter().any(|accepted| accepted == value))
    });
    differs.map(|condition| Consideration::Differs(condition.attribute.clone()))
}
