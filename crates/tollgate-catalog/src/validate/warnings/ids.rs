//! The ids that records have, and those that look like patterns.

use std::collections::{BTreeSet, HashMap};

use tollgate_core::Attribute;

use super::CatalogWarning;
use super::places::{field, id_of, items_of};
use crate::directory::{DEFAULT_TIER, Kind, Records};
use crate::document::{Node, Value};
use crate::problem::{DocumentProblem, Position, Problems};

/// The kinds whose ids conditions name by patterns.
const NAMED_BY_PATTERNS: [Kind; 5] =
    [Kind::Tier, Kind::ModelTier, Kind::Model, Kind::Tenant, Kind::User];

/// The ids in the lists of `document` that look like patterns. At most [`Problems::MAX_KEPT`] are found. O(its records).
pub fn ids_like_patterns(document: &Node) -> Vec<CatalogWarning> {
    let ids = NAMED_BY_PATTERNS.into_iter().flat_map(|kind| {
        let entries = items_of(document, kind).iter().filter_map(|item| field(item, "id"));
        entries.filter_map(move |entry| match &entry.node.value {
            Value::String(id) => like_a_pattern(kind, id, entry.node.position),
            _ => None,
        })
    });
    ids.take(Problems::MAX_KEPT).collect()
}

/// The same of the tiers, model tiers and models in `records`, which are from no document.
#[cfg(feature = "database")]
pub(crate) fn stored_ids_like_patterns(records: &Records) -> Vec<CatalogWarning> {
    let tiers = records.tiers.iter().map(|tier| (Kind::Tier, &tier.id));
    let model_tiers = records.model_tiers.iter().map(|tier| (Kind::ModelTier, &tier.id));
    let models = records.models.iter().map(|model| (Kind::Model, &model.id));
    let ids = tiers.chain(model_tiers).chain(models);
    ids.filter_map(|(kind, id)| like_a_pattern(kind, id.as_str(), None))
        .take(Problems::MAX_KEPT)
        .collect()
}

/// That a `*` in the id of a record stands for itself.
fn like_a_pattern(kind: Kind, id: &str, position: Option<Position>) -> Option<CatalogWarning> {
    if !id.contains('*') {
        return None;
    }
    let message = format!(
        "has a `*`, which stands for itself here: only `match` in a policy takes patterns, so this is one {kind} with that id"
    );
    let accepted = format!("the whole id of a {kind}");
    let problem = DocumentProblem { position, path: "id".to_owned(), message, accepted };
    Some(CatalogWarning { kind, id: id.to_owned(), problem })
}

/// The ids that a catalog declares, of the kinds that conditions name.
#[derive(Debug, Default)]
pub struct DeclaredIds {
    ids: HashMap<Kind, BTreeSet<String>>,
    /// The kinds of which only some ids are here: all those that exact conditions name, and some more.
    partial: BTreeSet<Kind>,
    /// Whether an API key is known by its id. In a file it is not: there, a key's text or its hash names it.
    pub knows_api_keys: bool,
}

impl DeclaredIds {
    /// Those of the records in a document.
    pub fn of_records(records: &Records) -> Self {
        let mut declared = Self::default();
        let tiers = records.tiers.iter().map(|tier| (Kind::Tier, tier.id.as_str()));
        let model_tiers =
            records.model_tiers.iter().map(|tier| (Kind::ModelTier, tier.id.as_str()));
        let tenants = records.tenants.iter().map(|tenant| (Kind::Tenant, tenant.id.as_str()));
        let users = records.users.iter().map(|user| (Kind::User, user.id.as_str()));
        for (kind, id) in tiers.chain(model_tiers).chain(tenants).chain(users) {
            declared.add(kind, id);
        }
        declared
    }

    /// Adds what the lists of `document` give as ids, of whichever form.
    pub(crate) fn add_written(&mut self, document: &Node) {
        for kind in [Kind::Tier, Kind::ModelTier, Kind::Tenant, Kind::User] {
            for id in items_of(document, kind).iter().filter_map(id_of) {
                self.add(kind, id);
            }
        }
    }

    /// Forgets the records of `kind`, so that no condition is compared with them.
    pub(crate) fn forget(&mut self, kind: Kind) {
        self.ids.remove(&kind);
    }

    /// Adds the id of a record of `kind`.
    pub fn add(&mut self, kind: Kind, id: &str) {
        self.ids.entry(kind).or_default().insert(id.to_owned());
    }

    pub(super) fn is_partial(&self, kind: Kind) -> bool {
        self.partial.contains(&kind)
    }

    /// Notes that the catalog has more records of `kind` than were added, none of which an exact condition names.
    pub fn has_more(&mut self, kind: Kind) {
        self.partial.insert(kind);
    }

    /// The kind of the records that `attribute` names, and their ids; `None` if the catalog declares none of its own.
    pub(super) fn of(&self, attribute: &Attribute) -> Option<(Kind, &BTreeSet<String>)> {
        let kind = match attribute {
            Attribute::Tier => Kind::Tier,
            Attribute::ModelTier => Kind::ModelTier,
            Attribute::Tenant => Kind::Tenant,
            Attribute::User => Kind::User,
            _ => return None,
        };
        let ids = self.ids.get(&kind)?;
        // The tier `default` is in every catalog.
        ids.iter().any(|id| kind != Kind::Tier || id != DEFAULT_TIER).then_some((kind, ids))
    }
}
