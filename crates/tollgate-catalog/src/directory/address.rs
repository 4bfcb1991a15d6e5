//! Where a record is found: by its id, and a user by its tenant too.

use super::Record;

/// Separates the tenant from the id in the address of a user. No id contains a control character.
const SEPARATOR: char = '\u{1f}';

/// The address of a record, as the calls of a [`Directory`](super::Directory) take it in place of an id: its id, or for a
/// user of a certain tenant, what [`user_address`] makes. The id of a user alone is an address while only one tenant has
/// such a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The tenant of a user.
    pub tenant: Option<&'a str>,
    /// The id.
    pub id: &'a str,
}

impl<'a> Address<'a> {
    /// The address that `text` writes.
    pub fn parse(text: &'a str) -> Self {
        match text.rsplit_once(SEPARATOR) {
            Some((tenant, id)) => Self { tenant: Some(tenant), id },
            None => Self { tenant: None, id: text },
        }
    }

    /// The tenants of a user that has moved from one to another, as [`CachedAs`](super::Change) names them.
    #[cfg(feature = "database")]
    pub(crate) fn tenants(self) -> impl Iterator<Item = &'a str> {
        self.tenant.into_iter().flat_map(|tenants| tenants.split(SEPARATOR))
    }

    /// The address of `record`, whichever others there are.
    pub fn of(record: &'a Record) -> Self {
        let tenant = match record {
            Record::User(user) => Some(user.tenant_id.as_str()),
            _ => None,
        };
        Self { tenant, id: record.id() }
    }
}

impl std::fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(tenant) = self.tenant {
            write!(f, "{tenant}{SEPARATOR}")?;
        }
        f.write_str(self.id)
    }
}

/// The address of the user `id` of `tenant`.
pub fn user_address(tenant: &str, id: &str) -> String {
    Address { tenant: Some(tenant), id }.to_string()
}
