//! Ids that no path can hold.
//!
//! A path segment `.` or `..` means another path (RFC 3986, 5.2.4), for many clients even percent-encoded (the URL
//! standard of browsers). A record with such an id could be created but then neither read nor changed, so the admin
//! calls refuse to create one. A policy file that is read from disk may contain them.

use tollgate_catalog::directory::Kind;
use tollgate_catalog::document::{Node, Value};
use tollgate_catalog::{Problems, validate};

use super::super::problem::{FieldProblem, Problem};
use super::bodies::field_problem;

const DOTS: [&str; 2] = [".", ".."];
const ACCEPTED: &str = "any other id; in a path, `.` and `..` mean another path";

/// Refuses the new record of `kind` in `body` if its id cannot be in a path; the problem also lists all others in it.
pub(super) fn record(kind: Kind, body: &Node) -> Result<(), Problem> {
    match dots(body, "") {
        Some(found) => Err(refused(vec![found], validate::record("", kind, body).err())),
        None => Ok(()),
    }
}

/// Refuses the policy file in `document` if a record in it has such an id; the problem also lists all others in it.
pub(super) fn document(document: &Node) -> Result<(), Problem> {
    let Value::Map(lists) = &document.value else { return Ok(()) };
    let mut found = Vec::new();
    for list in lists {
        let Value::List(records) = &list.node.value else { continue };
        let records = records.iter().enumerate();
        found.extend(records.filter_map(|(index, record)| {
            let place = format!("{}[{index}].", list.key);
            dots(record, &place)
        }));
    }
    if found.is_empty() {
        return Ok(());
    }
    let others = validate::records("", Some(document), validate::Scope::Anywhere);
    Err(refused(found, others.err()))
}

/// The problem of the id of `record`, which is at `place`, if it is one of [`DOTS`].
fn dots(record: &Node, place: &str) -> Option<FieldProblem> {
    let Value::Map(fields) = &record.value else { return None };
    let id = &fields.iter().find(|field| field.key == "id")?.node;
    let Value::String(text) = &id.value else { return None };
    DOTS.contains(&&**text).then(|| {
        let problem = format!("{text:?} cannot be in a path");
        FieldProblem::new(format!("{place}id"), problem, ACCEPTED).placed(id.position)
    })
}

fn refused(mut found: Vec<FieldProblem>, others: Option<Problems>) -> Problem {
    let mut omitted = found.len().saturating_sub(Problems::MAX_KEPT);
    found.truncate(Problems::MAX_KEPT);
    if let Some(others) = others {
        found.extend(others.iter().map(field_problem));
        omitted += others.omitted();
    }
    Problem::invalid_fields(found, omitted)
}
