//! Warnings about a policy beside others.

use std::collections::{BTreeSet, HashMap};

use tollgate_core::{Accepted, Condition, Mode, Pattern, Policy, PolicyId};

use super::super::report::shown;
use super::Warnings;
use crate::document::Value;
use crate::problem::Problems;

/// The most policies with `exempt: all` that are compared with all others.
const MAX_COMPARED_EXEMPTIONS: usize = 100;
/// Policies with more conditions are not compared with those that have fewer.
const MAX_COMPARED_CONDITIONS: usize = 4;
/// The most policies that a warning names.
const MAX_NAMED: usize = 3;

impl Warnings<'_> {
    /// A policy that another one overrides whenever it matches.
    pub(super) fn always_overridden(&mut self) {
        let policies = self.policies;
        // More conditions, each of which holds for whoever the policy counts.
        let always: HashMap<_, _> = policies
            .iter()
            .filter(|policy| {
                policy.enabled
                    && policy.mode == Mode::Enforce
                    && !policy.conditions.is_empty()
                    && policy.conditions.iter().all(|one| always_holds(policy, one))
            })
            .map(|policy| ((&policy.per, &policy.unit, policy.own_window()), &policy.id))
            .collect();
        for (index, policy) in policies.iter().enumerate() {
            let over = always.get(&(&policy.per, &policy.unit, policy.own_window()));
            if let Some(id) = over.filter(|_| policy.enabled && policy.conditions.is_empty()) {
                let id = shown(&Value::String(id.as_str().to_owned()));
                let message = format!(
                    "{id} has conditions that always hold and overrides it, so it has no effect"
                );
                self.add(index, &[], message, "one policy for each limit".to_owned());
            }
        }
        let mut exempting = 0;
        let places: HashMap<_, _> =
            policies.iter().enumerate().map(|(index, policy)| (&policy.id, index)).collect();
        for policy in
            policies.iter().filter(|policy| policy.enabled && policy.mode == Mode::Enforce)
        {
            let id = shown(&Value::String(policy.id.as_str().to_owned()));
            for index in policy.overrides.iter().filter_map(|id| places.get(id).copied()) {
                if policies[index].enabled && matches_whenever(policy, &policies[index]) {
                    let message =
                        format!("{id} overrides it whenever it matches, so it has no effect");
                    self.add(index, &[], message, "a policy that applies to somebody".to_owned());
                }
            }
            if !policy.exempts_all() || exempting == MAX_COMPARED_EXEMPTIONS {
                continue;
            }
            exempting += 1;
            for (index, other) in policies.iter().enumerate() {
                let stands =
                    other.exempts_all() || !other.enabled || other.overrides.contains(&policy.id);
                if !stands && matches_whenever(policy, other) {
                    let message =
                        format!("{id} exempts from it whenever it matches, so it has no effect");
                    self.add(index, &[], message, "a policy that applies to somebody".to_owned());
                }
            }
        }
    }

    /// Two policies that limit the same of the same subjects.
    pub(super) fn duplicates(&mut self) {
        let policies = self.policies;
        let mut firsts = HashMap::new();
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.enabled) {
            if self.found.len() >= Problems::MAX_KEPT {
                return;
            }
            let conditions = sorted(&policy.conditions);
            let counted = (&policy.per, &policy.unit, policy.own_window(), policy.counting.name());
            let same = (counted, conditions, policy.mode, policy.ignore_case, policy.exempts_all());
            match firsts.get(&same) {
                None => _ = firsts.insert(same, &policy.id),
                // One of the two does not apply, which is told elsewhere.
                Some(&first) if overrides(policies, &policy.id, first) => {}
                Some(first) => {
                    let first = shown(&Value::String(first.as_str().to_owned()));
                    let message = format!(
                        "limits the same as {first}, with the same conditions, so both apply and the lower limit decides"
                    );
                    self.add(index, &[], message, "one policy for each limit".to_owned());
                }
            }
        }
    }

    /// A policy that is more specific than others, which apply beside it because they are over other windows.
    pub(super) fn beside_other_windows(&mut self) {
        let policies = self.policies;
        let is_counted = |policy: &&Policy| {
            policy.enabled && policy.mode == Mode::Enforce && policy.limit.is_some()
        };
        // The windows of the policies that count the same under the same conditions, each with one of them.
        let mut windows: HashMap<_, HashMap<_, &PolicyId>> = HashMap::new();
        for policy in policies.iter().filter(is_counted) {
            let kind = (&policy.per, &policy.unit, sorted(&policy.conditions));
            windows.entry(kind).or_default().entry(policy.own_window()).or_insert(&policy.id);
        }
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| is_counted(policy))
        {
            let conditions = sorted(&policy.conditions);
            if policy.own_window().is_none() || conditions.len() > MAX_COMPARED_CONDITIONS {
                continue;
            }
            let mut ids = BTreeSet::new();
            for subset in 0..(1_usize << conditions.len()).saturating_sub(1) {
                let chosen = conditions.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| subset & (1 << place) != 0);
                let chosen: Vec<_> = chosen.map(|(_, condition)| *condition).collect();
                let Some(others) = windows.get(&(&policy.per, &policy.unit, chosen)) else {
                    continue;
                };
                // Only of what it overrides over its own window might one think that it overrides it altogether.
                if !others.contains_key(&policy.own_window()) {
                    continue;
                }
                let beside = others.iter().filter(|(window, id)| {
                    window.is_some()
                        && **window != policy.own_window()
                        && !policy.overrides.contains(id)
                });
                ids.extend(beside.map(|(_, id)| id.as_str()).take(MAX_NAMED));
            }
            if !ids.is_empty() {
                let ids = ids.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "overrides only limits over its own window; what it matches also meets {ids}"
                );
                let accepted = format!("that, or `overrides: [{ids}]` to replace it");
                self.add(index, &[], message, accepted);
            }
        }
    }
}

fn sorted(conditions: &[Condition]) -> Vec<&Condition> {
    let mut sorted: Vec<_> = conditions.iter().collect();
    sorted.sort_by(|a, b| a.attribute.cmp(&b.attribute));
    sorted
}

/// Whether `condition` holds for every subject that `policy` counts.
fn always_holds(policy: &Policy, condition: &Condition) -> bool {
    let is_any = match &condition.accepted {
        Accepted::Present => true,
        Accepted::Absent => false,
        Accepted::AnyOf(patterns) => {
            patterns.iter().any(|one| matches!(one, Pattern::Prefix(prefix) if prefix.is_empty()))
        }
    };
    is_any && policy.per.attributes().contains(&condition.attribute)
}

/// Whether one of two policies names the other in `overrides`.
fn overrides(policies: &[Policy], one: &PolicyId, other: &PolicyId) -> bool {
    policies.iter().any(|policy| {
        (policy.id == *one && policy.overrides.contains(other))
            || (policy.id == *other && policy.overrides.contains(one))
    })
}

/// Whether `policy` matches every subject that `other` matches, as far as equal conditions tell.
fn matches_whenever(policy: &Policy, other: &Policy) -> bool {
    let counted = other.per.attributes();
    policy.per.attributes().iter().all(|attribute| counted.contains(attribute))
        && policy.ignore_case == other.ignore_case
        && policy.conditions.iter().all(|condition| other.conditions.contains(condition))
}

#[cfg(test)]
mod tests {
    use super::super::{DeclaredIds, Places, warnings};
    use super::*;
    use crate::document::Format;
    use crate::policy_file;

    /// The ids of the policies among `items`, written as in YAML, about which there is a warning that contains `says`.
    fn warned(items: &[String], says: &str) -> Vec<String> {
        let text = format!("policies:\n{}", items.concat());
        let policies = policy_file::parse("p", &text, Format::Yaml).unwrap();
        let warnings = warnings(&policies, &DeclaredIds::default(), &Places::default());
        let of_it = warnings.into_iter().filter(|one| one.problem.message.contains(says));
        of_it.map(|one| one.id).collect()
    }

    #[test]
    fn exemptions_are_compared_with_all_policies_up_to_a_bound() {
        let numbers = 0..=MAX_COMPARED_EXEMPTIONS;
        let items: Vec<_> = numbers
            .flat_map(|number| {
                [
                    format!("  - {{id: e{number}, exempt: all, match: {{team: t{number}}}}}\n"),
                    format!("  - {{id: p{number}, per: [user], match: {{team: t{number}}}, limit: 1, window: 1m}}\n"),
                ]
            })
            .collect();
        let expected: Vec<_> =
            (0..MAX_COMPARED_EXEMPTIONS).map(|number| format!("p{number}")).collect();
        assert_eq!(warned(&items, "exempts from it whenever it matches"), expected);
    }

    #[test]
    fn policies_with_few_conditions_are_compared_with_those_that_have_fewer() {
        for (count, is_compared) in
            [(1, true), (MAX_COMPARED_CONDITIONS, true), (MAX_COMPARED_CONDITIONS + 1, false)]
        {
            let conditions: Vec<_> = (0..count).map(|number| format!("a{number}: x")).collect();
            let items = [
                "  - {id: day, scope: USER, limit: 9, window: 1d}\n".to_owned(),
                "  - {id: minute, scope: USER, limit: 5, window: 1m}\n".to_owned(),
                format!(
                    "  - {{id: special, scope: USER, limit: 7, window: 1m, match: {{{}}}}}\n",
                    conditions.join(", ")
                ),
            ];
            let found = warned(&items, "what it matches also meets day");
            assert_eq!(found.contains(&"special".to_owned()), is_compared, "{count}: {found:?}");
        }
    }
}
