//! From a document to policies, or to the list of everything that is wrong with it.
//!
//! Works on [`Node`]s with or without positions, so that a policy file and the body of a call are judged
//! alike. A map field given twice, an unknown field and a value out of range are all refused; nothing is
//! guessed or rounded.

mod attributes;
mod number;
mod policy;
mod report;

use tollgate_core::{Policy, PolicySet};

use self::policy::PolicyValidator;
use self::report::{At, Report};
use crate::document::{Node, Value};
use crate::problem::Problems;

/// The only field of a policy document.
const POLICIES: &str = "policies";

/// The policies of a document called `name`: a map with the list `policies`. None at all without a value,
/// without the list, or where the list is empty; then the built-in default policy holds.
pub fn policies(name: &str, document: Option<&Node>) -> Result<Vec<Policy>, Problems> {
    let mut validator = PolicyValidator::new();
    let policies = match document {
        Some(document) => list_of_policies(document, &mut validator),
        None => Vec::new(),
    };
    validator.report.into_result(name, policies)
}

/// One policy by itself, called `name` in problems.
pub fn policy(name: &str, policy: &Node) -> Result<Policy, Problems> {
    let mut validator = PolicyValidator::new();
    let at = At::root(policy.position);
    match validator.policy(&at, 0, policy) {
        Some(policy) => validator.report.into_result(name, policy),
        None => Err(validator.report.into_problems(name)),
    }
}

fn list_of_policies(document: &Node, validator: &mut PolicyValidator) -> Vec<Policy> {
    let root = At::root(document.position);
    let Value::Map(entries) = &document.value else {
        validator.report.mismatch(&root, &document.value, "a map with the list `policies`");
        return Vec::new();
    };
    let fields = validator.report.fields(&root, entries, &[POLICIES]);
    let Some(list) = fields.get(POLICIES) else { return Vec::new() };
    let at = root.field(list);
    let Value::List(items) = &list.node.value else {
        validator.report.mismatch(&at, &list.node.value, "a list of policies, `[]` for none");
        return Vec::new();
    };
    if let Some(first_beyond) = items.get(PolicySet::MAX_POLICIES) {
        report_too_many(&mut validator.report, &at, items.len(), first_beyond);
    }
    let items = items.iter().take(PolicySet::MAX_POLICIES).enumerate();
    items.filter_map(|(index, item)| validator.policy(&at.item(index, item), index, item)).collect()
}

fn report_too_many(report: &mut Report, at: &At<'_>, count: usize, first_beyond: &Node) {
    let place = at.item(PolicySet::MAX_POLICIES, first_beyond);
    let accepted = format!("at most {} policies", PolicySet::MAX_POLICIES);
    report.problem(&place, format!("is one of {count} policies"), accepted);
}
