//! Finds what the catalog knows of a check.

use std::sync::Arc;

use tollgate_core::{Clock, Timestamp};

use super::{Asked, Resolution, ResolvedKey, Standing};
use crate::api_key::KeyHasher;
#[cfg(feature = "database")]
use crate::database::SubjectCache;
use crate::directory::Id;
use crate::snapshot::Snapshot;

/// What the resolution needs to know of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFacts {
    pub(crate) id: Id,
    pub(crate) tenant_id: Id,
    pub(crate) user_id: Option<Id>,
    pub(crate) tier: Option<Id>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked: bool,
}

/// What it needs to know of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserFacts {
    pub(crate) tenant_id: Id,
    pub(crate) tier: Option<Id>,
}

/// What it needs to know of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantFacts {
    pub(crate) tier: Option<Id>,
}

/// Resolves the subjects of checks. Clones share what they remember.
#[derive(Clone)]
pub struct Resolver {
    subjects: Subjects,
    hasher: KeyHasher,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("subjects", &self.subjects).finish_non_exhaustive()
    }
}

/// Where users, tenants and API keys are looked up.
#[derive(Clone, Debug)]
enum Subjects {
    /// In the snapshot, which has all that there are.
    Listed,
    #[cfg(feature = "database")]
    Cached(Arc<SubjectCache>),
}

impl Resolver {
    /// A resolver for a catalog that is whole in its snapshots, such as a file. It knows no API keys; `hasher`
    /// makes what they count under.
    pub fn of_snapshot(hasher: KeyHasher, clock: Arc<dyn Clock>) -> Self {
        Self { subjects: Subjects::Listed, hasher, clock }
    }

    #[cfg(feature = "database")]
    pub(crate) fn of_database(
        subjects: Arc<SubjectCache>,
        hasher: KeyHasher,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { subjects: Subjects::Cached(subjects), hasher, clock }
    }

    /// What is known of `asked`, with the tiers and models of `snapshot`, which is to decide the check (P11).
    ///
    /// Waits only for what this node does not know yet, and for that not longer than the cache's deadline. Never
    /// fails: without an answer, what is asked for is unknown, and [`Resolution::is_degraded`] says so.
    pub async fn resolve(&self, snapshot: &Snapshot, asked: &Asked<'_>) -> Resolution {
        let mut found = Found::default();
        let key = match asked.api_key {
            Some(secret) => Some(self.key(secret, &mut found).await),
            None => None,
        };
        let facts = key.as_ref().and_then(|key| key.facts.as_deref());
        let own_user = facts.and_then(|key| key.user_id.clone());
        let mut tier = facts.and_then(|key| key.tier.clone());
        let mut tenant = facts.map(|key| key.tenant_id.clone());
        // The user also gives the tenant; once both that and the tier are known, it has nothing to add.
        if tier.is_none() || tenant.is_none() {
            let user = own_user.as_ref().map(Id::as_str).or(asked.user);
            let user = match user {
                Some(user) => self.user(snapshot, user, &mut found).await,
                None => None,
            };
            // A stranger's tier is not for the key's tenant.
            let user = user.filter(|user| tenant.as_ref().is_none_or(|own| *own == user.tenant_id));
            if let Some(user) = user {
                tier = tier.or_else(|| user.tier.clone());
                tenant = tenant.or(Some(user.tenant_id));
            }
        }
        if tier.is_none()
            && let Some(tenant) = tenant.as_ref().map(Id::as_str).or(asked.tenant)
        {
            tier = self.tenant(snapshot, tenant, &mut found).await.and_then(|tenant| tenant.tier);
        }
        let listed = snapshot.listed();
        let tier = tier.unwrap_or_else(|| listed.default_tier.clone());
        Resolution {
            api_key: key.map(|key| key.resolved),
            user: own_user,
            tenant,
            priority: listed.priority(&tier),
            tier,
            model_tier: asked.model.and_then(|model| listed.model_tier(model)).cloned(),
            is_degraded: found.is_degraded,
        }
    }

    async fn key(&self, secret: &str, found: &mut Found) -> Key {
        let hash = self.hasher.hash(secret);
        let now = self.clock.now();
        let facts: Option<Arc<KeyFacts>> = match &self.subjects {
            Subjects::Listed => None,
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => found.take(cache.key(hash, now).await),
        };
        let resolved = match facts.as_deref() {
            Some(key) => ResolvedKey {
                counted_as: key.id.clone(),
                standing: Standing::of(key.revoked, key.expires_at, now),
            },
            None => {
                ResolvedKey { counted_as: Id::checked(hash.to_hex()), standing: Standing::Unknown }
            }
        };
        Key { facts, resolved }
    }

    async fn user(&self, snapshot: &Snapshot, id: &str, found: &mut Found) -> Option<UserFacts> {
        match &self.subjects {
            Subjects::Listed => snapshot.listed().users.get(id).map(|user| UserFacts {
                tenant_id: user.tenant_id.clone(),
                tier: user.tier.clone(),
            }),
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => {
                let user = found.take(cache.user(id, self.clock.now()).await);
                user.as_deref().cloned()
            }
        }
    }

    async fn tenant(
        &self,
        snapshot: &Snapshot,
        id: &str,
        found: &mut Found,
    ) -> Option<TenantFacts> {
        match &self.subjects {
            Subjects::Listed => {
                let tenant = snapshot.listed().tenants.get(id);
                tenant.map(|tenant| TenantFacts { tier: tenant.tier.clone() })
            }
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => {
                let tenant = found.take(cache.tenant(id, self.clock.now()).await);
                tenant.as_deref().cloned()
            }
        }
    }
}

/// An API key that was looked up.
struct Key {
    facts: Option<Arc<KeyFacts>>,
    resolved: ResolvedKey,
}

/// What the answers of one resolution have in common.
#[derive(Default)]
struct Found {
    is_degraded: bool,
}

impl Found {
    #[cfg(feature = "database")]
    fn take<T>(&mut self, answer: crate::database::Answer<T>) -> Option<Arc<T>> {
        self.is_degraded |= answer.is_degraded;
        answer.facts
    }
}
