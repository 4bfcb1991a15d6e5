//! Policies that only mean something if the store keeps leases.

use crate::document::{Node, Value};
use crate::problem::DocumentProblem;

/// The fields, and their values that need leases.
const NEEDS_LEASES: [(&str, &str, &str); 2] = [
    ("unit", "concurrency", "another unit, or a store that keeps leases: Redis or memory"),
    ("onExpire", "refund", "no onExpire, or a store that keeps leases: Redis or memory"),
];

/// What needs leases in `policy`, a policy or a patch of one, which is at `place`, such as `policies[0].`.
pub fn needs_leases(policy: &Node, place: &str) -> Vec<DocumentProblem> {
    let Value::Map(fields) = &policy.value else { return Vec::new() };
    let found = NEEDS_LEASES.iter().filter_map(|(name, value, accepted)| {
        let field = &fields.iter().find(|field| field.key == *name)?.node;
        let is_it = matches!(&field.value, Value::String(text) if text == value);
        is_it.then(|| DocumentProblem {
            position: field.position,
            path: format!("{place}{name}"),
            message: format!(
                "is {value}, which needs leases, and the store of this server keeps none"
            ),
            accepted: (*accepted).to_owned(),
        })
    });
    found.collect()
}

/// The same for the policies in `document`: a policy file, or a list of policies.
pub fn document_needs_leases(document: &Node) -> Vec<DocumentProblem> {
    let policies = match &document.value {
        Value::Map(lists) => {
            lists.iter().find(|list| list.key == "policies").map(|list| &list.node)
        }
        _ => Some(document),
    };
    let Some(Value::List(policies)) = policies.map(|list| &list.value) else { return Vec::new() };
    let problems = policies.iter().enumerate();
    problems
        .flat_map(|(index, policy)| needs_leases(policy, &format!("policies[{index}].")))
        .collect()
}
