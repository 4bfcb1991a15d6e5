//! Policies and records that are valid and yet do less than they seem to: what is worth a second look.
//!
//! Nothing here is refused, because it may be meant: a check may bring a tier that no catalog declares.

mod ids;
mod pairs;
mod places;
mod single;

use std::fmt::Write as _;

use tollgate_core::Policy;

#[cfg(feature = "database")]
pub(crate) use self::ids::stored_ids_like_patterns;
pub use self::ids::{DeclaredIds, ids_like_patterns};
pub use self::places::Places;
use self::places::Step;
use crate::directory::Kind;
use crate::problem::{DocumentProblem, Problems};

/// What about one record is worth a second look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogWarning {
    /// The kind of the record, most often a policy.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// What, where, and what to write instead. Its path starts at the record: `match.tier`.
    pub problem: DocumentProblem,
}

/// What is worth a second look in `policies`, with their `places` if they are from a document.
///
/// O(policies with their conditions), and as much for each that exempts from every limit; at most [`Problems::MAX_KEPT`] are
/// found.
pub fn warnings(
    policies: &[Policy],
    declared: &DeclaredIds,
    places: &Places<'_>,
) -> Vec<CatalogWarning> {
    let mut found = Warnings { policies, places, found: Vec::new() };
    for (index, policy) in policies.iter().enumerate() {
        for condition in &policy.conditions {
            found.undeclared(index, policy, condition, declared);
            found.api_keys(index, policy, condition, declared);
            found.tier(index, condition);
            found.resembling(index, &condition.attribute, Step::Field("match"));
        }
        for attribute in policy.per.attributes() {
            found.resembling(index, attribute, Step::Field("per"));
        }
        found.unit(index, policy);
        found.reserve(index, policy);
    }
    found.duplicates();
    found.always_overridden();
    found.beside_other_windows();
    found.found.sort_by_key(|warning| warning.problem.position);
    found.found
}

struct Warnings<'d> {
    policies: &'d [Policy],
    places: &'d Places<'d>,
    found: Vec<CatalogWarning>,
}

impl Warnings<'_> {
    fn add(&mut self, index: usize, fields: &[Step<'_>], message: String, accepted: String) {
        if self.found.len() >= Problems::MAX_KEPT {
            return;
        }
        let id = &self.policies[index].id;
        let position = self.places.position(id, fields);
        let mut path = String::new();
        for step in fields {
            // Writing to a `String` cannot fail.
            _ = match step {
                Step::Field(name) if path.is_empty() => path.write_str(name),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Item(index) => write!(path, "[{index}]"),
            };
        }
        let problem = DocumentProblem { position, path, message, accepted };
        self.found.push(CatalogWarning { kind: Kind::Policy, id: id.as_str().to_owned(), problem });
    }
}
