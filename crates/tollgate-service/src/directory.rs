//! Completes the subject of a check from the catalog, before the policies are applied.

use tollgate_catalog::{Asked, Resolution, Resolver, Snapshot, Standing};
use tollgate_core::{Attribute, Check, Reason};

/// How checks with an API key that the catalog does not know are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownApiKeys {
    /// It counts under the key's own hash.
    #[default]
    Count,
    /// It is denied. If the database does not answer, so that it is not certain that the key is unknown, the key counts
    /// under its hash nevertheless: a database that is down denies no check.
    Deny,
}

/// The source of a check's tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierSource {
    /// The catalog: the tier of the API key, the user or the tenant.
    Catalog,
    /// The check itself, because the catalog has none.
    Check,
    /// Neither has one, so it is `default`.
    Default,
}

/// Which parts of a check's subject are in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origins {
    /// Whether it has the user; `None` if it was not looked up, or the database did not answer.
    pub is_user_known: Option<bool>,
    /// The same for the tenant; also `None` if the check has none.
    pub is_tenant_known: Option<bool>,
    /// The source of the tier.
    pub tier: TierSource,
}

impl Origins {
    /// What the catalog knows about the user, the tenant and the tier of `check`.
    pub(crate) fn of(check: &Check<'_>, resolution: Option<&Resolution>) -> Self {
        let tier = if resolution.is_some_and(|resolution| resolution.is_tier_known) {
            TierSource::Catalog
        } else if check.subject.get(&Attribute::Tier).is_some() {
            TierSource::Check
        } else {
            TierSource::Default
        };
        Self {
            is_user_known: resolution.and_then(|resolution| resolution.is_user_known),
            is_tenant_known: resolution.and_then(|resolution| resolution.is_tenant_known),
            tier,
        }
    }
}

/// What is known about a check.
#[derive(Clone, Debug)]
pub struct Known {
    pub(crate) resolution: Resolution,
    /// Why it is denied without evaluating a limit, if it is.
    pub(crate) refused: Option<Reason>,
}

impl Known {
    /// `check` with what the catalog knows, as its limits see it; `snapshot` is the one with which it was resolved.
    pub fn complete<'a>(&'a self, check: &Check<'a>, snapshot: &Snapshot) -> Check<'a> {
        resolved(check, &self.resolution, snapshot)
    }

    /// Whether the database did not answer, so that something may be missing.
    pub fn is_degraded(&self) -> bool {
        self.resolution.is_degraded
    }

    /// Why the check is denied without evaluating a limit, if it is.
    pub fn refused(&self) -> Option<Reason> {
        self.refused
    }
}

/// Resolves the subjects of checks in a catalog.
#[derive(Clone, Debug)]
pub struct DirectoryLookup {
    resolver: Resolver,
    unknown_api_keys: UnknownApiKeys,
}

impl DirectoryLookup {
    /// A lookup in the catalog of `resolver`.
    pub fn new(resolver: Resolver, unknown_api_keys: UnknownApiKeys) -> Self {
        Self { resolver, unknown_api_keys }
    }

    /// What looks subjects up.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// What is known about `check`. Waits only for records of a database that are not cached.
    pub async fn resolve(&self, snapshot: &Snapshot, check: &Check<'_>) -> Known {
        let subject = &check.subject;
        let asked = Asked {
            api_key: subject.get(&Attribute::ApiKey),
            user: subject.get(&Attribute::User),
            tenant: subject.get(&Attribute::Tenant),
            model: subject.get(&Attribute::Model),
        };
        let resolution = self.resolver.resolve(snapshot, &asked).await;
        let standing = resolution.api_key.as_ref().map(|key| key.standing);
        let refused = match (standing, self.unknown_api_keys) {
            (Some(Standing::Revoked), _) => Some(Reason::ApiKeyRevoked),
            (Some(Standing::Expired), _) => Some(Reason::ApiKeyExpired),
            (Some(Standing::Unknown), UnknownApiKeys::Deny) => Some(Reason::ApiKeyUnknown),
            _ => None,
        };
        Known { resolution, refused }
    }
}

/// Completes `check` with `resolution`, which also replaces values of the caller. An API key in clear text is always
/// replaced, even if the check is denied, because subscribers see the subject.
///
/// The caller's tier is used only if the catalog knows none: for subjects that are not in the catalog, only the caller
/// can know the tier. A record's tier `default` is a tier like any other. The priority class is always that of the
/// tier.
pub(crate) fn resolved<'a>(
    check: &Check<'a>,
    resolution: &'a Resolution,
    snapshot: &Snapshot,
) -> Check<'a> {
    let mut check = check.clone();
    let subject = &mut check.subject;
    if let Some(key) = &resolution.api_key {
        subject.set(&Attribute::ApiKey, key.counted_as.as_str());
    }
    if let Some(user) = &resolution.user {
        subject.set(&Attribute::User, user.as_str());
    }
    if let Some(tenant) = &resolution.tenant {
        subject.set(&Attribute::Tenant, tenant.as_str());
    }
    if let Some(tenant) = &resolution.user_tenant {
        subject.set_user_tenant(tenant.as_str());
    }
    if let Some(model_tier) = &resolution.model_tier {
        subject.set(&Attribute::ModelTier, model_tier.as_str());
    }
    let may_be_given = !resolution.is_tier_known;
    if let Some(given) = subject.get(&Attribute::Tier).filter(|_| may_be_given) {
        check.priority = snapshot.listed().priority(given);
    } else {
        subject.set(&Attribute::Tier, resolution.tier.as_str());
        check.priority = resolution.priority;
    }
    check
}
