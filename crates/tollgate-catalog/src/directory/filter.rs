//! What to list, and how much of it at once.

use super::Id;

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
