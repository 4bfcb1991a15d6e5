//! References between records: which there are, and whether their targets exist.

use std::collections::HashSet;

use super::report::{At, Fields, Report, did_you_mean, shown};
use crate::directory::{DEFAULT_TIER, Kind};
use crate::document::{Entry, Node, Value};
#[cfg(feature = "database")]
use crate::problem::{DocumentProblem, Position};

/// The nearest id is only suggested if there are at most this many.
const MAX_COMPARED_IDS: usize = 100;

/// A field that refers to a record, as it is written.
#[cfg(feature = "database")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'n> {
    position: Option<Position>,
    path: String,
    /// The kind of the record that it names.
    pub(crate) to: Kind,
    /// The id to which it refers.
    pub(crate) id: &'n str,
}

#[cfg(feature = "database")]
impl Reference<'_> {
    /// The problem of a reference to a record that does not exist.
    pub(crate) fn unknown(&self) -> DocumentProblem {
        self.problem(format!("there is no {} {}", self.to, self.shown()))
    }

    /// The problem of a reference by an API key to a user of another tenant.
    pub(crate) fn of_another_tenant(&self) -> DocumentProblem {
        self.problem(format!("{} is a user of another tenant", self.shown()))
    }

    fn shown(&self) -> String {
        shown(&Value::String(self.id.to_owned()))
    }

    fn problem(&self, message: String) -> DocumentProblem {
        DocumentProblem {
            position: self.position,
            path: self.path.clone(),
            message,
            accepted: format!("the id of a {}", self.to),
        }
    }
}

/// The fields of records of `kind` that refer to others, and the kinds to which they refer.
pub(crate) const fn reference_fields(kind: Kind) -> &'static [(&'static str, Kind)] {
    match kind {
        Kind::Tier | Kind::ModelTier | Kind::Policy => &[],
        Kind::Model => &[("modelTier", Kind::ModelTier)],
        Kind::Tenant => &[("tier", Kind::Tier)],
        Kind::User => &[("tenantId", Kind::Tenant), ("tier", Kind::Tier)],
        Kind::ApiKey => &[("tenantId", Kind::Tenant), ("userId", Kind::User), ("tier", Kind::Tier)],
    }
}

/// The list of references in a policy.
const OVERRIDES: &str = "overrides";

/// The references in `body`, a record of `kind`.
#[cfg(feature = "database")]
pub(crate) fn references(kind: Kind, body: &Node) -> impl Iterator<Item = Reference<'_>> {
    let single = reference_fields(kind).iter().filter_map(move |(field, to)| {
        let position = entry_of(body, field)?.node.position;
        let id = text_of(body, field)?;
        Some(Reference { position, path: (*field).to_owned(), to: *to, id })
    });
    let overridden = overridden(kind, body).into_iter().flat_map(|(_, items)| items.iter());
    let overridden = overridden.enumerate().filter_map(|(index, item)| match &item.value {
        Value::String(id) => {
            let path = format!("{OVERRIDES}[{index}]");
            Some(Reference { position: item.position, path, to: Kind::Policy, id })
        }
        _ => None,
    });
    single.chain(overridden)
}

/// The field `overrides` of `body`, if that is a policy, and its items.
fn overridden(kind: Kind, body: &Node) -> Option<(&Entry, &[Node])> {
    let entry = entry_of(body, OVERRIDES).filter(|_| kind == Kind::Policy)?;
    match &entry.node.value {
        Value::List(items) => Some((entry, items)),
        _ => None,
    }
}

/// The references in the lists of `document` whose targets are not in it.
#[cfg(feature = "database")]
pub(crate) fn references_beyond(document: &Node) -> Vec<Reference<'_>> {
    let Value::Map(lists) = &document.value else { return Vec::new() };
    let items = |kind: Kind| match lists.iter().find(|list| list.key == kind.list_name()) {
        Some(Entry { node: Node { value: Value::List(items), .. }, .. }) => items.as_slice(),
        _ => &[],
    };
    let listed = Kind::ALL.map(|kind| {
        items(kind).iter().filter_map(|item| text_of(item, "id")).collect::<HashSet<_>>()
    });
    let is_listed =
        |kind, id| Kind::ALL.iter().zip(&listed).any(|(of, ids)| *of == kind && ids.contains(id));
    let mut beyond = Vec::new();
    for kind in Kind::ALL {
        for (index, item) in items(kind).iter().enumerate() {
            for reference in references(kind, item) {
                if !is_listed(reference.to, reference.id) {
                    let path = format!("{}[{index}].{}", kind.list_name(), reference.path);
                    beyond.push(Reference { path, ..reference });
                }
            }
        }
    }
    beyond
}

/// Reports the references in the lists of a document whose targets are not in it.
///
/// A target counts even if it has problems of its own, so a reference to it is not reported.
pub(super) fn within(root: &At<'_>, fields: Fields<'_>, report: &mut Report) {
    let known = [Kind::Tier, Kind::ModelTier, Kind::Tenant, Kind::Policy].map(|kind| {
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
                unknown(report, &list_at.item(index, item).field(entry), *to, id, ids);
            }
            let Some((entry, named)) = overridden(kind, item) else { continue };
            let Some(ids) = ids(Kind::Policy) else { continue };
            let item_at = list_at.item(index, item);
            let field_at = item_at.field(entry);
            for (place, named) in named.iter().enumerate() {
                if let Value::String(id) = &named.value
                    && !ids.contains(id.as_str())
                {
                    unknown(report, &field_at.item(place, named), Kind::Policy, id, ids);
                }
            }
        }
    }
}

/// Reports that no record of the kind `to` has the `id` at `at`.
fn unknown(report: &mut Report, at: &At<'_>, to: Kind, id: &str, ids: &HashSet<&str>) {
    let message =
        format!("there is no {to} {}{}", shown(&Value::String(id.to_owned())), near(id, ids));
    report.problem(at, message, format!("the id of one of `{}`", to.list_name()));
}

/// A suggestion of the nearest id, if there are few enough to compare.
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
