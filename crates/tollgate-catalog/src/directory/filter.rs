//! What to list, and how much at once.

use super::{Id, Record};

/// Which records to list: those that match all given values. If a kind does not have an attribute, such as the tier of
/// a policy, none of its records match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Users and API keys of this tenant.
    pub tenant_id: Option<Id>,
    /// API keys of this user.
    pub user_id: Option<Id>,
    /// Tenants, users and API keys with this tier of their own.
    pub tier: Option<Id>,
    /// Models of this model tier.
    pub model_tier: Option<Id>,
    /// Records whose id, name or API-key prefix contains this text, ignoring case. (SQLite ignores the case of ASCII
    /// letters only, PostgreSQL that of its locale.) It uses no index: with a million records it takes part of a
    /// second.
    pub search: Option<String>,
}

impl Filter {
    /// Whether `record` matches all given values.
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

/// Which part of a list to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Where the page before ended: its [`Page::next_cursor`].
    pub cursor: Option<String>,
    /// The most items, clamped to 1 to [`PageRequest::MAX_ITEMS`].
    pub items: usize,
}

impl PageRequest {
    /// The most items of a page.
    pub const MAX_ITEMS: usize = 1_000;
    /// The default number of items of a page.
    pub const DEFAULT_ITEMS: usize = 100;

    /// The number of items to return, clamped.
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
/// Records are sorted by id, so that a record that is not deleted is returned exactly once, whatever changes while the
/// pages are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last one.
    pub next_cursor: Option<String>,
}
