//! References between records: which there are, and whether they lead somewhere.

use std::collections::HashSet;

use super::report::{At, Fields, Report, did_you_mean, shown};
use crate::directory::{DEFAULT_TIER, Kind};
#[cfg(feature = "database")]
use crate::directory::{Id, Record};
use crate::document::{Entry, Node, Value};
#[cfg(feature = "database")]
use crate::problem::Problem;

/// The most ids among which the nearest to a wrong one is looked for.
const MAX_COMPARED_IDS: usize = 100;

/// A field of one record that names another.
#[cfg(feature = "database")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The field.
    pub(crate) field: &'static str,
    /// The kind of the other.
    pub(crate) to: Kind,
    /// The id of the other.
    pub(crate) id: &'a Id,
}

/// The fields of records of `kind` that name others, and of which kind those are.
pub(crate) const fn reference_fields(kind: Kind) -> &'static [(&'static str, Kind)] {
    match kind {
        Kind::Tier | Kind::ModelTier | Kind::Policy => &[],
        Kind::Model => &[("modelTier", Kind::ModelTier)],
        Kind::Tenant => &[("tier", Kind::Tier)],
        Kind::User => &[("tenantId", Kind::Tenant), ("tier", Kind::Tier)],
        Kind::ApiKey => &[("tenantId", Kind::Tenant), ("userId", Kind::User), ("tier", Kind::Tier)],
    }
}

/// The references of `record`.
#[cfg(feature = "database")]
pub(crate) fn references(record: &Record) -> impl Iterator<Item = Reference<'_>> {
    let id = move |field| match (record, field) {
        (Record::Model(model), "modelTier") => Some(&model.model_tier),
        (Record::Tenant(tenant), "tier") => tenant.tier.as_ref(),
        (Record::User(user), "tenantId") => Some(&user.tenant_id),
        (Record::User(user), "tier") => user.tier.as_ref(),
        (Record::ApiKey(api_key), "tenantId") => Some(&api_key.tenant_id),
        (Record::ApiKey(api_key), "userId") => api_key.user_id.as_ref(),
        (Record::ApiKey(api_key), "tier") => api_key.tier.as_ref(),
        _ => None,
    };
    reference_fields(record.kind())
        .iter()
        .filter_map(move |(field, to)| Some(Reference { field, to: *to, id: id(*field)? }))
}

/// The problem that the record in `body` names in `reference` what it must not: `why`.
#[cfg(feature = "database")]
pub(crate) fn unknown_reference(body: &Node, reference: Reference<'_>, why: &str) -> Problem {
    let position = entry_of(body, reference.field).and_then(|entry| entry.node.position);
    Problem {
        position,
        path: reference.field.to_owned(),
        message: format!("{} {why}", shown(&Value::String(reference.id.as_str().to_owned()))),
        accepted: format!("the id of a {}", reference.to),
    }
}

/// Reports the references in the lists of a document that lead to nothing in it.
///
/// Judges what is written: a record that has a problem is there all the same, and what refers to it is right.
pub(super) fn within(root: &At<'_>, fields: Fields<'_>, report: &mut Report) {
    let known = [Kind::Tier, Kind::ModelTier, Kind::Tenant].map(|kind| {
        let default = (kind == Kind::Tier).then_some(DEFAULT_TIER);
        let written = items(fields, kind).iter().filter_map(|item| text_of(item, "id"));
        (kind, written.chain(default).collect::<HashSet<_>>())
    });
    let ids = |kind| known.iter().find(|(known, _)| *known == kind).map(|(_, ids)| ids);
    for kind in Kind::ALL {
        let Some(list) = fields.get(kind.list_name()) else { continue };
        let list_at = root.field(list);
        for (index, item) in items(fields, kind).iter().enumerate() {
            for (field, to) in reference_fields(kind) {
                let (Some(entry), Some(id)) = (entry_of(item, field), text_of(item, field)) else {
                    continue;
                };
                let Some(ids) = ids(*to).filter(|ids| !ids.contains(id)) else { continue };
                let message = format!("{} is no {to}{}", shown(&entry.node.value), near(id, ids));
                let accepted = format!("the id of one of `{}`", to.list_name());
                report.problem(&list_at.item(index, item).field(entry), message, accepted);
            }
        }
    }
}

/// A question for the id that is nearest, where there are few enough to look at all.
fn near(id: &str, ids: &HashSet<&str>) -> String {
    if ids.len() > MAX_COMPARED_IDS {
        return String::new();
    }
    let mut ids: Vec<_> = ids.iter().copied().collect();
    ids.sort_unstable();
    did_you_mean(id, &ids)
}

/// The items of the list of `kind`.
fn items(fields: Fields<'_>, kind: Kind) -> &[Node] {
    match fields.get(kind.list_name()).map(|list| &list.node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn entry_of<'n>(item: &'n Node, field: &str) -> Option<&'n Entry> {
    let Value::Map(entries) = &item.value else { return None };
    entries.iter().find(|entry| entry.key == field)
}

fn text_of<'n>(item: &'n Node, field: &str) -> Option<&'n str> {
    match &entry_of(item, field)?.node.value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
