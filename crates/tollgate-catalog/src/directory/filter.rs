//! What to list, and how much of it at once.

use super::{Id, Record};

/// Which records to list: those that have all that is given. What a kind does not have, such as the tier of a
/// policy, no record of it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant: users and API keys.
    pub tenant_id: Option<Id>,
    /// Of this user: API keys.
    pub user_id: Option<Id>,
    /// With this tier as their own: tenants, users and API keys.
    pub tier: Option<Id>,
    /// Of this model tier: models.
    pub model_tier: Option<Id>,
    /// Whose id or name, or the prefix of an API key, contains this, capital letters or small ones. (SQLite takes only those of ASCII for the same,
    /// PostgreSQL those of its locale.) Not by an index: of a million records it takes part of a second.
    pub search: Option<String>,
}

impl Filter {
    /// Whether `record` has all that is given.
    pub fn matches(&self, record: &Record) -> bool {
        let (tenant_id, user_id, tier, model_tier) = match record {
            Record::Model(model) => (None, None, None, Some(&model.model_tier)),
            Record::Tenant(tenant) => (None, None, tenant.tier.as_ref(), None),
            Record::User(user) => (Some(&user.tenant_id), None, user.tier.as_ref(), None),
            Record::ApiKey(key) => {
                (Some(&key.tenant_id), key.user_id.as_ref(), key.tier.as_ref(), None)
            }
            Record::Tier(_) | Record::ModelTier(_) | Record::Policy(_) => (None, None, None, None),
        };
        let has =
            |wanted: &Option<Id>, has: Option<&Id>| wanted.is_none() || wanted.as_ref() == has;
        has(&self.tenant_id, tenant_id)
            && has(&self.user_id, user_id)
            && has(&self.tier, tier)
            && has(&self.model_tier, model_tier)
            && self.search.as_deref().is_none_or(|search| contains(record, search))
    }
}

/// Whether the id, the name or the prefix of `record` contains `search`.
fn contains(record: &Record, search: &str) -> bool {
    let search = search.to_lowercase();
    let name = match record {
        Record::Tier(tier) => Some(&tier.name),
        Record::ModelTier(model_tier) => Some(&model_tier.name),
        Record::Model(model) => Some(&model.name),
        Record::Tenant(tenant) => Some(&tenant.name),
        Record::User(user) => Some(&user.name),
        Record::ApiKey(api_key) => Some(&api_key.name),
        Record::Policy(_) => None,
    };
    let prefix = if let Record::ApiKey(api_key) = record { Some(&api_key.prefix) } else { None };
    [Some(record.id()), name.map(String::as_str), prefix.map(String::as_str)]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&search))
}

/// Which part of a list to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Where the page before ended: its [`Page::next_cursor`].
    pub cursor: Option<String>,
    /// The most items, 1 to [`PageRequest::MAX_ITEMS`]; what is outside is brought inside.
    pub items: usize,
}

impl PageRequest {
    /// The most items of a page.
    pub const MAX_ITEMS: usize = 1_000;
    /// The items of a page if nothing is said.
    pub const DEFAULT_ITEMS: usize = 100;

    /// How many items to give, within bounds.
    pub fn bounded_items(&self) -> usize {
        self.items.clamp(1, Self::MAX_ITEMS)
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { cursor: None, items: Self::DEFAULT_ITEMS }
    }
}

/// Part of a list.
///
/// Records come in the order of their ids, so that a record that stays is given exactly once, whatever changes
/// while the pages are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last one.
    pub next_cursor: Option<String>,
}
