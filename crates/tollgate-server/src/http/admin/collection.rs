//! The lists of records below `/admin`: what they are called in a path, and what can be asked of them.
//!
//! One table for the handlers and for the OpenAPI document, so that neither has a list that the other lacks.

use tollgate_catalog::directory::{Id, Kind};

/// The records of one kind.
#[derive(Debug)]
pub(super) struct Collection {
    /// What they are.
    pub(super) kind: Kind,
    /// Their name in a path: `api-keys`.
    pub(super) segment: &'static str,
    /// The parameters of a query that choose among them.
    pub(super) filters: &'static [&'static str],
}

impl Collection {
    /// Every list, in the order of the document: what decides first, then whom it is about.
    pub(super) const ALL: [Self; 7] = [
        Self { kind: Kind::Policy, segment: "policies", filters: &[] },
        Self { kind: Kind::Tenant, segment: "tenants", filters: &["tier"] },
        Self { kind: Kind::User, segment: "users", filters: &["tenantId", "tier"] },
        Self { kind: Kind::ApiKey, segment: "api-keys", filters: &["tenantId", "userId", "tier"] },
        Self { kind: Kind::Tier, segment: "tiers", filters: &[] },
        Self { kind: Kind::Model, segment: "models", filters: &["modelTier"] },
        Self { kind: Kind::ModelTier, segment: "model-tiers", filters: &[] },
    ];

    /// The list called `segment` in a path.
    pub(super) fn at(segment: &str) -> Option<&'static Self> {
        const { &Self::ALL }.iter().find(|collection| collection.segment == segment)
    }

    /// The cursor of the page behind the record `id`. It names its list, so that it is refused in another.
    pub(super) fn cursor(&self, id: &str) -> String {
        format!("{}.{id}", self.segment)
    }

    /// The id that such a cursor has; `None` if it is none of this list.
    pub(super) fn id_in(&self, cursor: &str) -> Option<String> {
        let id = cursor.strip_prefix(self.segment)?.strip_prefix('.')?;
        Id::new(id).is_ok().then(|| id.to_owned())
    }
}
