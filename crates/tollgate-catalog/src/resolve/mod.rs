//! Finds the tenant, the tier and the model tier of a check in the catalog.
//!
//! An unknown subject is not an error: it keeps its ids and has the tier `default`.

mod resolver;

use tollgate_core::Timestamp;

use crate::directory::{Id, PriorityClass};

pub use self::resolver::Resolver;
#[cfg(feature = "database")]
pub(crate) use self::resolver::{Facts, KeyFacts, SubjectLookup, TenantFacts, UserFacts};

/// The subject of a check, as the check gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The API key in clear text.
    pub api_key: Option<&'a str>,
    /// The user.
    pub user: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
}

/// What the catalog adds to it or replaces. Cheap to create: ids are shared, not copied.
///
/// If the API key is known, it decides: its tenant and its user replace those in the check. A user is one of the tenant of
/// the key, or of the tenant in the check. If neither names a tenant, a user that only one tenant has gets its tier, but no
/// limit of that tenant applies: a check never spends the limit of a tenant that it did not name and that its key does not
/// belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The API key; `None` if the check has none.
    pub api_key: Option<ResolvedKey>,
    /// The user of the API key; `None`: the user in the check.
    pub user: Option<Id>,
    /// The tenant of the API key; `None`: the tenant in the check.
    pub tenant: Option<Id>,
    /// The tenant of the user, if neither the key nor the check names one. It is only a part of the user's key.
    pub user_tenant: Option<Id>,
    /// The tier: that of the key, else of the user, else of the tenant, else `default`.
    pub tier: Id,
    /// Whether the key, the user or the tenant has this tier in the catalog. If not, it is `default` because the catalog
    /// says nothing, and a caller may know better.
    pub is_tier_known: bool,
    /// Whether the catalog has the user of the check; `None` if it was not looked up, or the database did not answer.
    pub is_user_known: Option<bool>,
    /// The same for its tenant; also `None` if the check has none.
    pub is_tenant_known: Option<bool>,
    /// The priority class of the tier.
    pub priority: PriorityClass,
    /// The model tier of the model; `None` if the model is not known.
    pub model_tier: Option<Id>,
    /// Whether the database did not answer for some of it, so that the last known answer was used, or none.
    pub is_degraded: bool,
}

/// What is known about an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedKey {
    /// The id under which limits per API key count: the id of a known key, the keyed hash of any other.
    pub counted_as: Id,
    /// Whether it is valid.
    pub standing: Standing,
}

/// Whether an API key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is valid.
    Active,
    /// There is no such key.
    Unknown,
    /// The database did not answer, and the key is not cached.
    Unanswered,
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
}

impl Standing {
    /// The state of a known key at `now`, in civil time.
    pub(crate) fn of(revoked: bool, expires_at: Option<Timestamp>, now: Timestamp) -> Self {
        if revoked {
            Self::Revoked
        } else if expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else {
            Self::Active
        }
    }
}
