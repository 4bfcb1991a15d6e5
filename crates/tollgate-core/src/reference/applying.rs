//! R4 word by word: which policies match a subject, and which of them apply.

use std::net::IpAddr;

use crate::{
    Accepted, Amount, Attribute, Condition, Mode, Pattern, Policy, PolicyId, Reach, Span, Subject,
};

/// The policies that apply to `subject`, exemptions too.
pub(super) fn applying<'p>(policies: &'p [Policy], subject: &Subject<'_>) -> Vec<&'p Policy> {
    let matching: Vec<&Policy> = policies.iter().filter(|one| matches(one, subject)).collect();
    let left = without(&matching, |policy, other| names(other, &policy.id));
    let left = without(&left, |policy, other| exempts_all(other) && !exempts_all(policy));
    without(&left, |policy, other| {
        !exempts_all(other)
            && !exempts_all(policy)
            && policy.per == other.per
            && policy.unit == other.unit
            && meet(window(policy), window(other))
            && is_more_specific(other, policy, subject)
    })
}

/// Those of `policies` that no other one of them overrides. A shadow policy overrides no enforced one, or it would change
/// what is denied (R10).
fn without<'p>(
    policies: &[&'p Policy],
    is_overridden_by: impl Fn(&Policy, &Policy) -> bool,
) -> Vec<&'p Policy> {
    let stays = |policy: &Policy| {
        let may = |other: &Policy| other.mode == Mode::Enforce || policy.mode == Mode::Shadow;
        !policies.iter().any(|other| may(other) && is_overridden_by(policy, other))
    };
    policies.iter().copied().filter(|policy| stays(policy)).collect()
}

fn names(policy: &Policy, id: &PolicyId) -> bool {
    policy.overrides.iter().any(|named| named == id)
}

fn exempts_all(policy: &Policy) -> bool {
    policy.limit.is_none() && policy.reach == Reach::EveryLimit
}

/// The window of the limits beside which `policy` stands; `None` for all.
fn window(policy: &Policy) -> Option<Span> {
    let may_have_none = matches!(policy.limit, None | Some(Amount::ZERO));
    let has_none = may_have_none && policy.reach != Reach::OwnWindow;
    if has_none { None } else { Some(policy.counting.span()) }
}

fn meet(one: Option<Span>, other: Option<Span>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Every condition holds, and the subject has every attribute of `per`.
fn matches(policy: &Policy, subject: &Subject<'_>) -> bool {
    policy.enabled
        && policy.per.attributes().iter().all(|attribute| subject.get(attribute).is_some())
        && policy.conditions.iter().all(|one| exactness(one, policy, subject).is_some())
}

/// More conditions, or as many on the same attributes of which none is less exact and one is more.
fn is_more_specific(policy: &Policy, other: &Policy, subject: &Subject<'_>) -> bool {
    if policy.conditions.len() != other.conditions.len() {
        return policy.conditions.len() > other.conditions.len();
    }
    let on = |policy: &Policy, attribute: &Attribute| {
        let condition = policy.conditions.iter().find(|one| one.attribute == *attribute)?;
        exactness(condition, policy, subject)
    };
    let pairs = policy.conditions.iter();
    let pairs: Vec<_> =
        pairs.map(|one| (on(policy, &one.attribute), on(other, &one.attribute))).collect();
    pairs.iter().all(|(own, others)| others.is_some() && own >= others)
        && pairs.iter().any(|(own, others)| own > others)
}

/// How exactly `condition` describes the subject: the most for an exact value, otherwise how much of it is given. `None`
/// if the condition does not hold.
fn exactness(condition: &Condition, policy: &Policy, subject: &Subject<'_>) -> Option<usize> {
    let value = subject.get(&condition.attribute);
    let patterns = match &condition.accepted {
        Accepted::Present => return value.map(|_| 0),
        Accepted::Absent => return if value.is_some() { None } else { Some(0) },
        Accepted::AnyOf(patterns) => patterns,
    };
    let lower = |text: &str| -> String {
        if policy.ignore_case {
            text.chars().flat_map(char::to_lowercase).collect()
        } else {
            text.to_owned()
        }
    };
    let value = lower(value?);
    let matching = patterns.iter().filter_map(|pattern| match pattern {
        Pattern::Exact(exact) => (lower(exact) == value).then_some(usize::MAX),
        Pattern::Prefix(prefix) => value.starts_with(&lower(prefix)).then_some(lower(prefix).len()),
        Pattern::Network(network) => {
            let written = network.to_string();
            let (first, length) = written.split_once('/')?;
            let length = length.parse().ok()?;
            let (first, value) = (first.parse().ok()?, value.parse().ok()?);
            (bits(first).get(..=length)? == bits(value).get(..=length)?).then_some(length)
        }
    });
    matching.max()
}

/// The bits of `address`, after a letter for its family.
fn bits(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("4{:032b}", v4.to_bits()),
        IpAddr::V6(v6) => format!("6{:0128b}", v6.to_bits()),
    }
}
