//! Converts a document into policies, or into a list of all its problems.
//!
//! It works on [`Node`]s with or without positions, so that a policy file and the body of a call are validated alike. A
//! map field that is given twice, an unknown field and a value out of range are all refused; nothing is guessed or
//! rounded.

mod attributes;
mod conditions;
mod counting;
mod duration;
mod leases;
mod number;
mod overrides;
mod place;
mod policy;
mod record;
mod references;
mod report;
mod reserve;
mod shares;
mod split;
mod values;
mod warnings;
mod weights;

use tollgate_core::{Policy, PolicySet};

use self::policy::PolicyValidator;
use self::record::RecordValidator;
use crate::directory::{Kind, Record, Records};
use crate::document::{Node, Value};
use crate::problem::Problems;

pub use self::counting::NOT_OF_CONCURRENCY;
pub use self::leases::{document_needs_leases, needs_leases};
#[cfg(feature = "database")]
pub(crate) use self::overrides::NO_CIRCLE;
pub(crate) use self::place::Place;
pub(crate) use self::policy::EXEMPT_FROM_ALL;
#[cfg(feature = "database")]
pub(crate) use self::references::{Reference, reference_fields, references, references_beyond};
pub use self::report::{At, Fields, Names, Report};
pub(crate) use self::report::{push_field, shown, shown_text};
#[cfg(feature = "database")]
pub(crate) use self::warnings::stored_ids_like_patterns;
pub use self::warnings::{CatalogWarning, DeclaredIds, Places, ids_like_patterns, warnings};

/// What the list of policies in a file may be.
const ACCEPTED_POLICY_LISTS: &str = "a list of policies; `[]` is the built-in policy alone, and one policy with `enabled: false` \
     alone limits nothing";

/// The kinds that a document may list. API keys are not among them: no document contains their secrets, without which
/// they would be useless.
const LISTED: [Kind; 6] =
    [Kind::Tier, Kind::ModelTier, Kind::Model, Kind::Tenant, Kind::User, Kind::Policy];

/// Whether a document's field called `key` is for its author alone: `x-` fields are ignored, and can hold anchors.
pub(crate) fn is_private(key: &str) -> bool {
    key.starts_with("x-")
}

/// The most records of one list, except policies. The document's length is the tighter bound.
const MAX_RECORDS: usize = 1_000_000;

/// Where the references in a document may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only to records of the same document.
    Document,
    /// Anywhere: the caller looks them up.
    Anywhere,
}

/// The records of a document called `name`: a map of lists, such as `policies` and `tiers`. There are none if the
/// document has no value or no lists, or if the lists are empty. Fields of the map that start with `x-` are ignored.
pub fn records(name: &str, document: Option<&Node>, scope: Scope) -> Result<Records, Problems> {
    match valid_records(name, document, scope) {
        (records, None) => Ok(records),
        (_, Some(problems)) => Err(problems),
    }
}

/// The same with the valid ones of the records also if there are problems.
pub(crate) fn valid_records(
    name: &str,
    document: Option<&Node>,
    scope: Scope,
) -> (Records, Option<Problems>) {
    let mut report = Report::default();
    let records = document.map(|document| lists(document, scope, &mut report)).unwrap_or_default();
    (records, report.into_result(name, ()).err())
}

/// The policies of a document called `name`; its other lists are validated too. Without a policy, the built-in default
/// policy applies.
pub fn policies(name: &str, document: Option<&Node>) -> Result<Vec<Policy>, Problems> {
    records(name, document, Scope::Document).map(|records| records.policies)
}

/// A single policy, called `name` in problems.
pub fn policy(name: &str, policy: &Node) -> Result<Policy, Problems> {
    let mut validator = PolicyValidator::new();
    let at = At::root(policy.position);
    match validator.policy(&at, 0, policy) {
        Some(policy) => validator.report.into_result(name, policy),
        None => Err(validator.report.into_problems(name)),
    }
}

/// A single record of `kind`, called `name` in problems. References are not looked up.
pub fn record(name: &str, kind: Kind, record: &Node) -> Result<Record, Problems> {
    if kind == Kind::Policy {
        return policy(name, record).map(Record::Policy);
    }
    let mut report = Report::default();
    let at = At::root(record.position);
    match RecordValidator::new(kind, &mut report).record(&at, 0, record) {
        Some(record) => report.into_result(name, record),
        None => Err(report.into_problems(name)),
    }
}

fn lists(document: &Node, scope: Scope, report: &mut Report) -> Records {
    let root = At::root(document.position);
    let mut records = Records::default();
    let Value::Map(entries) = &document.value else {
        let accepted = "a map of lists, such as `policies`";
        report.mismatch(&root, &document.value, accepted);
        return records;
    };
    let fields = report.fields_beside(&root, entries, &LISTED.map(Kind::list_name), is_private);
    for kind in LISTED {
        list(&root, fields, kind, scope, report, &mut records);
    }
    if scope == Scope::Document {
        references::within(&root, fields, report);
    }
    records
}

/// Validates the list of `kind`, and adds the valid records to `records`.
fn list(
    root: &At<'_>,
    fields: Fields<'_>,
    kind: Kind,
    scope: Scope,
    report: &mut Report,
    records: &mut Records,
) {
    let Some(list) = fields.get(kind.list_name()) else { return };
    let at = root.field(list);
    let Value::List(items) = &list.node.value else {
        let accepted = match (kind, scope) {
            (Kind::Policy, Scope::Document) => ACCEPTED_POLICY_LISTS.to_owned(),
            _ => format!("a list of {}, `[]` for none", kind.list_name()),
        };
        report.mismatch(&at, &list.node.value, accepted);
        return;
    };
    let most = if kind == Kind::Policy { PolicySet::MAX_POLICIES } else { MAX_RECORDS };
    if let Some(first_beyond) = items.get(most) {
        let message = format!("is one of {} {}", items.len(), kind.list_name());
        let accepted = format!("at most {most} {}", kind.list_name());
        report.problem(&at.item(most, first_beyond), message, accepted);
    }
    let nodes = items;
    let items = items.iter().take(most).enumerate();
    if kind == Kind::Policy {
        let mut validator = PolicyValidator::reporting_to(std::mem::take(report));
        records.policies.extend(
            items.filter_map(|(index, item)| validator.policy(&at.item(index, item), index, item)),
        );
        *report = validator.report;
        overrides::circles(report, &at, nodes, &records.policies);
    } else {
        let mut validator = RecordValidator::new(kind, report);
        items
            .filter_map(|(index, item)| validator.record(&at.item(index, item), index, item))
            .for_each(|record| records.add(record));
    }
}
