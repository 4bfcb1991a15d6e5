//! What the catalog knows of a check, put into its subject before the policies are asked.

use tollgate_catalog::{Asked, Resolution, Resolver, Snapshot, Standing};
use tollgate_core::{Attribute, Check, Reason};

/// What happens to a check with an API key that the catalog does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownApiKeys {
    /// It counts under the key's own hash.
    #[default]
    Count,
    /// It is denied. One that the database does not tell of, because it does not answer, counts under its hash
    /// nevertheless: a database that is down stops no check.
    Deny,
}

/// Where the tier of a check is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierSource {
    /// The catalog, which has it for the API key, the user or the tenant.
    Catalog,
    /// The check itself, because the catalog has none.
    Check,
    /// Neither has one, so that it is `default`.
    Default,
}

/// Which parts of the subject of a check the catalog has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origins {
    /// Whether it has the user; `None` if nobody needed to look, or its database did not answer.
    pub is_user_known: Option<bool>,
    /// The same of the tenant; `None` too if the check has none.
    pub is_tenant_known: Option<bool>,
    /// Where the tier is from.
    pub tier: TierSource,
}

impl Origins {
    /// What the catalog knows about the user, the tenant and the tier that `check` names.
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

/// What is known of a check.
pub(crate) struct Known {
    pub(crate) resolution: Resolution,
    /// Why it is denied without asking a limit, if so.
    pub(crate) refused: Option<Reason>,
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

    /// What is known of `check`.
    pub(crate) async fn resolve(&self, snapshot: &Snapshot, check: &Check<'_>) -> Known {
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

/// `check` with what `resolution` adds or puts in the place of what the caller said: an API key in clear most of all, also
/// where it is denied, since who watches sees the subject.
///
/// The tier that the caller gave counts only where the catalog knows none: without users, tenants and keys it is the
/// caller who knows. The tier `default` of a record is as good as any other. The priority class is always that of the
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
