//! The lists of records below `/admin`: their names in paths, and their filters.
//!
//! One table for the handlers and for the OpenAPI document, so that neither has a list that the other lacks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tollgate_catalog::directory::{Address, Id, Kind};

/// The records of one kind.
#[derive(Debug)]
pub(super) struct Collection {
    /// The kind of its records.
    pub(super) kind: Kind,
    /// Their name in a path: `api-keys`.
    pub(super) segment: &'static str,
    /// The query parameters that filter the list.
    pub(super) filters: &'static [&'static str],
}

impl Collection {
    /// Every list, in the order of the document: policies first, then the records that they apply to.
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

    /// The cursor of the page after the record at the address `id`. It names its list, so that other lists refuse it.
    pub(super) fn cursor(&self, id: &str) -> String {
        // The address of a user has a separator that is not for the eye.
        match self.kind {
            Kind::User => format!("{}.{}", self.segment, URL_SAFE_NO_PAD.encode(id)),
            _ => format!("{}.{id}", self.segment),
        }
    }

    /// The address in such a cursor; `None` if it is not a cursor of this list.
    pub(super) fn id_in(&self, cursor: &str) -> Option<String> {
        let id = cursor.strip_prefix(self.segment)?.strip_prefix('.')?;
        if self.kind != Kind::User {
            return Id::new(id).is_ok().then(|| id.to_owned());
        }
        let address = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        let Address { tenant, id } = Address::parse(&address);
        let is_one = Id::new(id).is_ok() && tenant.is_some_and(|tenant| Id::new(tenant).is_ok());
        is_one.then_some(address)
    }
}
