//! Policies that only mean something if the store keeps leases.
//!
//! A server over a store without leases does not start with such policies, so the admin calls do not let them in: one call would
//! keep every server with this catalog from starting again. A policy file that is changed on disk may contain them.

use tollgate_catalog::Problems;
use tollgate_catalog::directory::Kind;
use tollgate_catalog::document::{Node, Value};

use super::super::problem::{FieldProblem, Problem};

/// The fields, and their values that need leases.
const NEEDS_LEASES: [(&str, &str, &str); 2] = [
    ("unit", "concurrency", "another unit, or a store that keeps leases: Redis or memory"),
    ("onExpire", "refund", "no onExpire, or a store that keeps leases: Redis or memory"),
];

/// Refuses the record of `kind` in `body`, or a patch of one, if it is such a policy and the store has no leases.
pub(super) fn record(has_leases: bool, kind: Kind, body: &Node) -> Result<(), Problem> {
    if has_leases || kind != Kind::Policy {
        return Ok(());
    }
    refuse(problems(body, ""))
}

/// Refuses the policy file in `document` if a policy in it is one and the store has no leases.
pub(super) fn document(has_leases: bool, document: &Node) -> Result<(), Problem> {
    let policies = match &document.value {
        Value::Map(lists) => {
            lists.iter().find(|list| list.key == "policies").map(|list| &list.node)
        }
        _ => Some(document),
    };
    let Some(Value::List(policies)) = policies.map(|list| &list.value).filter(|_| !has_leases)
    else {
        return Ok(());
    };
    let policies = policies.iter().enumerate();
    refuse(
        policies
            .flat_map(|(index, policy)| problems(policy, &format!("policies[{index}].")))
            .collect(),
    )
}

/// What needs leases in `policy`, which is at `place`.
fn problems(policy: &Node, place: &str) -> Vec<FieldProblem> {
    let Value::Map(fields) = &policy.value else { return Vec::new() };
    let found = NEEDS_LEASES.iter().filter_map(|(name, value, accepted)| {
        let field = &fields.iter().find(|field| field.key == *name)?.node;
        let is_it = matches!(&field.value, Value::String(text) if text == value);
        let problem =
            format!("is {value}, which needs leases, and the store of this server keeps none");
        is_it.then(|| {
            FieldProblem::new(format!("{place}{name}"), problem, *accepted).placed(field.position)
        })
    });
    found.collect()
}

fn refuse(mut found: Vec<FieldProblem>) -> Result<(), Problem> {
    if found.is_empty() {
        return Ok(());
    }
    let omitted = found.len().saturating_sub(Problems::MAX_KEPT);
    found.truncate(Problems::MAX_KEPT);
    Err(Problem::invalid_fields(found, omitted))
}
