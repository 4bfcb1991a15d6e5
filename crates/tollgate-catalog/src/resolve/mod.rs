//! What the catalog knows of the subject of a check: its tenant, its tier, its model tier (issue 4, resolution).
//!
//! What is not known is no error: it resolves to itself, with the tier `default`.

mod resolver;

use tollgate_core::Timestamp;

use crate::directory::{Id, PriorityClass};

pub use self::resolver::Resolver;
#[cfg(feature = "database")]
pub(crate) use self::resolver::{Answer, Facts, KeyFacts, TenantFacts, UserFacts};

/// What a check says of its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The API key in clear.
    pub api_key: Option<&'a str>,
    /// The user.
    pub user: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
}

/// What the catalog adds to it, or puts in its place. Cheap to make: ids are shared, not copied.
///
/// Where an API key is known, it decides: its tenant and its user stand, whatever the check says; and the tier of the
/// user that the check names counts only if that user is of the key's tenant. Otherwise who holds a key could
/// take the tier of a stranger by naming him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The API key; `None` if the check has none.
    pub api_key: Option<ResolvedKey>,
    /// The user that the API key belongs to; `None`: the one that the check names.
    pub user: Option<Id>,
    /// The tenant of the API key, else of the user; `None`: the one that the check names.
    pub tenant: Option<Id>,
    /// The tier: the key's, else the user's, else the tenant's, else `default`.
    pub tier: Id,
    /// Whether the key, the user or the tenant has this tier in the catalog. If not, it is `default` because the catalog
    /// says nothing, and a caller may know better.
    pub is_tier_known: bool,
    /// Whether the catalog has the user of the check; `None` if nobody needed to look, or the database did not answer.
    pub is_user_known: Option<bool>,
    /// The same of its tenant; `None` too if the check has none.
    pub is_tenant_known: Option<bool>,
    /// The priority class of the tier.
    pub priority: PriorityClass,
    /// The model tier of the model; `None` if the model is not known.
    pub model_tier: Option<Id>,
    /// Whether the database did not answer for some of it, so that the last known answer stands, or none.
    pub is_degraded: bool,
}

/// What is known of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedKey {
    /// What limits per API key count under: the id of a known key, the keyed hash of any other.
    pub counted_as: Id,
    /// Whether it is good.
    pub standing: Standing,
}

/// Whether an API key is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is.
    Active,
    /// There is no such key.
    Unknown,
    /// The database did not say, and this node has not met it before.
    Unanswered,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Expired,
}

impl Standing {
    /// The standing at `now`, in civil time, of a key that is known.
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
