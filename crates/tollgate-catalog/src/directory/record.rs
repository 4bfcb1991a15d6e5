//! The records of a directory, as types.

use std::borrow::Borrow;
use std::fmt;

use smol_str::SmolStr;
use tollgate_core::subject::{IdProblem, check_id};
use tollgate_core::{Policy, Timestamp};

use super::{Kind, PriorityClass};

/// The id of a record: 1 to 256 bytes of UTF-8 without control characters. Cheap to clone.
///
/// Up to 23 bytes are stored inline, so that looking up a subject finds its id and that of its tenant in the entry
/// itself, without another access to memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(SmolStr);

impl Id {
    /// The id `id`, if it is valid.
    pub fn new(id: &str) -> Result<Self, IdProblem> {
        check_id(id).map(|()| Self(id.into()))
    }

    /// An id that is known to be valid, because it comes from a checked record or was generated here.
    pub(crate) fn checked(id: impl Into<SmolStr>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Maps with ids as keys are looked up with a `&str`; both have the same hash.
impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The version of a record: the number of the [`Change`](super::Change) that wrote it. No two versions of an id have
/// the same number, even if the record was deleted and created again in between. (Over HTTP it is the `ETag`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A record, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// Its version.
    pub version: Version,
}

/// A record of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A subscription class.
    Tier(Tier),
    /// A class of models.
    ModelTier(ModelTier),
    /// A model.
    Model(Model),
    /// A tenant.
    Tenant(Tenant),
    /// A user.
    User(User),
    /// An API key.
    ApiKey(ApiKey),
    /// A policy.
    Policy(Policy),
}

impl Record {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Tier(_) => Kind::Tier,
            Self::ModelTier(_) => Kind::ModelTier,
            Self::Model(_) => Kind::Model,
            Self::Tenant(_) => Kind::Tenant,
            Self::User(_) => Kind::User,
            Self::ApiKey(_) => Kind::ApiKey,
            Self::Policy(_) => Kind::Policy,
        }
    }

    /// Its id, unique among the records of its kind.
    pub fn id(&self) -> &str {
        match self {
            Self::Tier(tier) => tier.id.as_str(),
            Self::ModelTier(model_tier) => model_tier.id.as_str(),
            Self::Model(model) => model.id.as_str(),
            Self::Tenant(tenant) => tenant.id.as_str(),
            Self::User(user) => user.id.as_str(),
            Self::ApiKey(api_key) => api_key.id.as_str(),
            Self::Policy(policy) => policy.id.as_str(),
        }
    }
}

/// A subscription class of API keys, users and tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its id, which policies match as `tier`.
    pub id: Id,
    /// Its display name; by default the id.
    pub name: String,
    /// Its priority class if not all checks can be admitted; `standard` by default.
    pub priority: PriorityClass,
}

/// A class of models by price or size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTier {
    /// Its id, which policies match as `modelTier`.
    pub id: Id,
    /// Its display name; by default the id.
    pub name: String,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its id, which checks give as `modelId`.
    pub id: Id,
    /// Its display name; by default the id.
    pub name: String,
    /// The class it belongs to.
    pub model_tier: Id,
}

/// A customer or an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: Id,
    /// Its display name; by default the id.
    pub name: String,
    /// The tier of its users and keys that have none of their own.
    pub tier: Option<Id>,
}

/// A user of a tenant. Users of other tenants may have the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id, which checks give as `userId`.
    pub id: Id,
    /// The tenant it belongs to.
    pub tenant_id: Id,
    /// Its display name; by default the id.
    pub name: String,
    /// Its own tier, which comes before that of the tenant.
    pub tier: Option<Id>,
}

/// An API key without its secret, which is stored only as a keyed hash and shown once, when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id; limits per API key count under it.
    pub id: Id,
    /// Its display name; by default the id.
    pub name: String,
    /// The tenant it belongs to.
    pub tenant_id: Id,
    /// The user it belongs to, of the same tenant.
    pub user_id: Option<Id>,
    /// Its own tier, which comes before those of the user and the tenant.
    pub tier: Option<Id>,
    /// When it expires, to the millisecond; from then on it is denied.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// The first characters of the secret, to tell keys apart. The directory sets it.
    pub prefix: String,
    /// Approximately when it was last used, written in batches. It does not affect the record's version.
    pub last_used_at: Option<Timestamp>,
}
