//! Policies that only mean something if the store keeps leases.
//!
//! A server over a store without leases does not start with such policies, so the admin calls do not let them in: one call would
//! keep every server with this catalog from starting again.

use tollgate_catalog::directory::Kind;
use tollgate_catalog::document::Node;
use tollgate_catalog::validate::{document_needs_leases, needs_leases};
use tollgate_catalog::{DocumentProblem, Problems};

use super::super::problem::{FieldProblem, Problem};

/// Refuses the record of `kind` in `body`, or a patch of one, if it is such a policy and the store has no leases.
pub(super) fn record(has_leases: bool, kind: Kind, body: &Node) -> Result<(), Problem> {
    if has_leases || kind != Kind::Policy {
        return Ok(());
    }
    refuse(needs_leases(body, ""))
}

/// Refuses the policy file in `document` if a policy in it is one and the store has no leases.
pub(super) fn document(has_leases: bool, document: &Node) -> Result<(), Problem> {
    if has_leases {
        return Ok(());
    }
    refuse(document_needs_leases(document))
}

fn refuse(mut found: Vec<DocumentProblem>) -> Result<(), Problem> {
    if found.is_empty() {
        return Ok(());
    }
    let omitted = found.len().saturating_sub(Problems::MAX_KEPT);
    found.truncate(Problems::MAX_KEPT);
    let fields = found.into_iter().map(|DocumentProblem { position, path, message, accepted }| {
        FieldProblem::new(path, message, accepted).placed(position)
    });
    Err(Problem::invalid_fields(fields.collect(), omitted))
}
