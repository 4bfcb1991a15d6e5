//! The kinds of records.

use std::fmt;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A subscription class.
    Tier,
    /// A class of models.
    ModelTier,
    /// A model.
    Model,
    /// A tenant.
    Tenant,
    /// A user of a tenant.
    User,
    /// An API key of a tenant.
    ApiKey,
    /// A policy.
    Policy,
}

impl Kind {
    /// Every kind; each comes after those that it refers to.
    pub const ALL: [Self; 7] = [
        Self::Tier,
        Self::ModelTier,
        Self::Model,
        Self::Tenant,
        Self::User,
        Self::ApiKey,
        Self::Policy,
    ];

    /// The kind called `name`, the inverse of [`Kind::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name of one such record, as in the audit log: `modelTier`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tier => "tier",
            Self::ModelTier => "modelTier",
            Self::Model => "model",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::ApiKey => "apiKey",
            Self::Policy => "policy",
        }
    }

    /// The name of their list, as in a policy file: `modelTiers`.
    pub const fn list_name(self) -> &'static str {
        match self {
            Self::Tier => "tiers",
            Self::ModelTier => "modelTiers",
            Self::Model => "models",
            Self::Tenant => "tenants",
            Self::User => "users",
            Self::ApiKey => "apiKeys",
            Self::Policy => "policies",
        }
    }

    /// The name in a sentence: `model tier`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ModelTier => "model tier",
            Self::ApiKey => "API key",
            _ => self.name(),
        }
    }

    /// Whether all records of this kind are in memory on every node, in the snapshot.
    pub const fn is_in_snapshot(self) -> bool {
        matches!(self, Self::Tier | Self::ModelTier | Self::Model | Self::Policy)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
