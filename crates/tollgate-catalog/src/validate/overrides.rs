//! The policies that a policy overrides by name: its field `overrides`.

use tollgate_core::policy::ACCEPTED_POLICY_IDS;
use tollgate_core::policy_set::override_cycle;
use tollgate_core::{Policy, PolicyId};

use super::report::{At, Fields, Report, shown};
use crate::document::{Node, Value};

/// What the names may be, for messages.
pub(crate) const NO_CIRCLE: &str = "policies that do not override one another in a circle";

/// The ids in the field `overrides` of the policy at `at`; `None` if anything is wrong with them.
///
/// Whether there are such policies is a matter of references.
pub(super) fn overrides(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
) -> Option<Vec<PolicyId>> {
    let Some(entry) = fields.get("overrides") else { return Some(Vec::new()) };
    let at = at.field(entry);
    let Value::List(items) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, "a list of ids of policies");
        return None;
    };
    if items.len() > Policy::MAX_OVERRIDES {
        let message = format!("has {} ids", items.len());
        report.problem(&at, message, format!("at most {}", Policy::MAX_OVERRIDES));
        return None;
    }
    let mut found = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = at.item(index, item);
        let Some(text) = report.text(&at, &item.value, ACCEPTED_POLICY_IDS) else { continue };
        match PolicyId::new(text) {
            Ok(id) if found.contains(&id) => {
                report.problem(
                    &at,
                    format!("{} is given twice", shown(&item.value)),
                    "each id once",
                );
            }
            Ok(id) => found.push(id),
            Err(problem) => {
                let message = format!("{} {problem}", shown(&item.value));
                report.problem(&at, message, ACCEPTED_POLICY_IDS);
            }
        }
    }
    // If one had a problem, fewer were found.
    (found.len() == items.len()).then_some(found)
}

/// Reports a circle among `policies`, which are those of the list at `at` with `items`.
pub(super) fn circles(report: &mut Report, at: &At<'_>, items: &[Node], policies: &[Policy]) {
    let Some(cycle) = override_cycle(policies) else { return };
    let ids: Vec<_> = cycle.iter().filter_map(|index| Some(&policies.get(*index)?.id)).collect();
    let Some(first) = ids.first() else { return };
    let shown_ids = ids.iter().chain([first]).map(|id| id.as_str());
    let circle: Vec<_> = shown_ids.map(|id| shown(&Value::String(id.to_owned()))).collect();
    let message = format!("overrides itself in a circle: {}", circle.join(" → "));
    // Some of the list may be no policies, so the place is found by the id.
    let field = |node: &Node, name: &str| match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name).cloned(),
        _ => None,
    };
    let is_first = |item: &Node| {
        field(item, "id")
            .is_some_and(|id| id.node.value == Value::String(first.as_str().to_owned()))
    };
    let place = items.iter().enumerate().find(|(_, item)| is_first(item));
    let Some((index, item)) = place else { return };
    let Some(entry) = field(item, "overrides") else { return };
    report.problem(&at.item(index, item).field(&entry), message, NO_CIRCLE);
}
