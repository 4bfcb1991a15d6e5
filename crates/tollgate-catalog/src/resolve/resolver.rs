//! Finds what the catalog knows about a check.

use std::sync::Arc;

use tollgate_core::{Clock, Policy, Timestamp};

use super::{Asked, Resolution, ResolvedKey, Standing};
use crate::api_key::KeyHasher;
#[cfg(feature = "database")]
use crate::database::{Entry, SubjectCache};
use crate::directory::Id;
use crate::policy_file;
use crate::snapshot::Snapshot;

/// What the resolution needs to know about an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFacts {
    pub(crate) id: Id,
    pub(crate) tenant_id: Id,
    pub(crate) user_id: Option<Id>,
    pub(crate) tier: Option<Id>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked: bool,
}

/// What it needs to know about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserFacts {
    pub(crate) tenant_id: Id,
    pub(crate) tier: Option<Id>,
}

/// What it needs to know about a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantFacts {
    pub(crate) tier: Option<Id>,
}

/// Resolves the subjects of checks. Clones share their cache.
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
    /// In the snapshot, which has all of them.
    Listed,
    #[cfg(feature = "database")]
    Cached(Arc<SubjectCache>),
}

impl Resolver {
    /// Makes conditions on API keys those of checks that this resolver completes: in a file, they name keys by their hashes.
    pub fn prepare(&self, policies: &mut [Policy]) {
        if matches!(self.subjects, Subjects::Listed) {
            for policy in policies {
                policy_file::hash_api_keys(policy, &self.hasher);
            }
        }
    }

    /// A resolver for a catalog whose snapshots are complete, such as a file. It knows no API keys; `hasher` makes the
    /// ids under which they count.
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

    /// What is known about `asked`, with the tiers and models of `snapshot`, which decides the check (P11).
    ///
    /// It waits only for records that are not cached, and not longer than the cache's deadline. It never fails: without
    /// an answer the subject is unknown, and [`Resolution::is_degraded`] says so.
    pub async fn resolve(&self, snapshot: &Snapshot, asked: &Asked<'_>) -> Resolution {
        let (mut key, mut resolved_key) = (SubjectLookup::default(), None);
        // One reading of the clock for all lookups: it costs as much as a lookup.
        let now = self.clock.now();
        if let Some(secret) = asked.api_key {
            let (answer, resolved) = self.key(secret, now).await;
            (key, resolved_key) = (answer, Some(resolved));
        }
        let mut is_degraded = key.is_degraded;
        let key = key.facts();
        let own_user = key.and_then(|key| key.user_id.clone());
        let mut is_user_known = own_user.is_some().then_some(true);
        let mut is_tenant_known = None;
        let mut tier = key.and_then(|key| key.tier.clone());
        let tenant = key.map(|key| key.tenant_id.clone());
        let named = tenant.as_ref().map(Id::as_str).or(asked.tenant);
        let mut user_tenant = None;
        // If both the tier and the tenant are known, the user adds nothing.
        if (tier.is_none() || named.is_none())
            && let Some(id) = own_user.as_ref().map(Id::as_str).or(asked.user)
        {
            let user = self.user(snapshot, named, id, now).await;
            is_degraded |= user.is_degraded;
            is_user_known = is_user_known.or(user.is_known());
            if let Some(user) = user.facts() {
                tier = tier.or_else(|| user.tier.clone());
                if named.is_none() {
                    user_tenant = Some(user.tenant_id.clone());
                } else {
                    is_tenant_known = Some(true);
                }
            }
        }
        if tier.is_none()
            && let Some(id) = named.or(user_tenant.as_ref().map(Id::as_str))
        {
            let found = self.tenant(snapshot, id, now).await;
            is_degraded |= found.is_degraded;
            if named.is_some() {
                is_tenant_known = is_tenant_known.or(found.is_known());
            }
            tier = found.facts().and_then(|tenant| tenant.tier.clone());
        }
        let listed = snapshot.listed();
        let is_tier_known = tier.is_some();
        let tier = tier.unwrap_or_else(|| listed.default_tier.clone());
        Resolution {
            api_key: resolved_key,
            user: own_user,
            is_user_known,
            // The tenant of a key exists as long as the key does.
            is_tenant_known: is_tenant_known.or(tenant.is_some().then_some(true)),
            tenant,
            user_tenant,
            priority: listed.priority(tier.as_str()),
            tier,
            is_tier_known,
            model_tier: asked.model.and_then(|model| listed.model_tier(model)).cloned(),
            is_degraded,
        }
    }

    #[cfg_attr(
        not(feature = "database"),
        expect(clippy::unused_async, reason = "a file is here, whole")
    )]
    async fn key(&self, secret: &str, now: Timestamp) -> (SubjectLookup<KeyFacts>, ResolvedKey) {
        let hash = self.hasher.hash(secret);
        let (answer, wall_time): (SubjectLookup<KeyFacts>, _) = match &self.subjects {
            // A file knows no keys, so none can expire.
            Subjects::Listed => (SubjectLookup::default(), now),
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => {
                let wall_time = cache.wall_time();
                (cache.key(hash, now, wall_time).await, wall_time)
            }
        };
        let resolved = match answer.facts() {
            Some(key) => ResolvedKey {
                counted_as: key.id.clone(),
                standing: Standing::of(key.revoked, key.expires_at, wall_time),
            },
            None => ResolvedKey {
                counted_as: Id::checked(hash.to_hex()),
                standing: if answer.is_degraded { Standing::Unanswered } else { Standing::Unknown },
            },
        };
        (answer, resolved)
    }

    #[cfg_attr(
        not(feature = "database"),
        expect(clippy::unused_async, unused_variables, reason = "a file is here, whole")
    )]
    async fn user(
        &self,
        snapshot: &Snapshot,
        tenant: Option<&str>,
        id: &str,
        now: Timestamp,
    ) -> SubjectLookup<UserFacts> {
        match &self.subjects {
            Subjects::Listed => {
                let user = snapshot.listed().user(tenant, id);
                SubjectLookup::known(user.map(|user| UserFacts {
                    tenant_id: user.tenant_id.clone(),
                    tier: user.tier.clone(),
                }))
            }
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => cache.user(tenant, id, now).await,
        }
    }

    #[cfg_attr(
        not(feature = "database"),
        expect(clippy::unused_async, unused_variables, reason = "a file is here, whole")
    )]
    async fn tenant(
        &self,
        snapshot: &Snapshot,
        id: &str,
        now: Timestamp,
    ) -> SubjectLookup<TenantFacts> {
        match &self.subjects {
            Subjects::Listed => {
                let tenant = snapshot.listed().tenants.get(id);
                SubjectLookup::known(tenant.map(|tenant| TenantFacts { tier: tenant.tier.clone() }))
            }
            #[cfg(feature = "database")]
            Subjects::Cached(cache) => cache.tenant(id, now).await,
        }
    }
}

/// The result of looking up a subject.
#[derive(Debug)]
pub(crate) struct SubjectLookup<T> {
    pub(crate) facts: Facts<T>,
    /// Whether the database should have been asked and did not answer.
    pub(crate) is_degraded: bool,
}

/// The facts, where they are.
#[derive(Debug)]
pub(crate) enum Facts<T> {
    /// There is no such subject, or none is known.
    None,
    /// Taken from a snapshot.
    Listed(T),
    /// In the cache.
    #[cfg(feature = "database")]
    Remembered(Arc<Entry<T>>),
}

impl<T> Default for SubjectLookup<T> {
    fn default() -> Self {
        Self::known(None)
    }
}

impl<T> SubjectLookup<T> {
    /// A reliable answer.
    pub(crate) fn known(facts: Option<T>) -> Self {
        Self { facts: facts.map_or(Facts::None, Facts::Listed), is_degraded: false }
    }

    /// The cached answer, if there is one.
    #[cfg(feature = "database")]
    pub(crate) fn remembered(entry: Option<Arc<Entry<T>>>, is_degraded: bool) -> Self {
        Self { facts: entry.map_or(Facts::None, Facts::Remembered), is_degraded }
    }

    /// Whether there is such a subject; `None` if the database did not answer.
    fn is_known(&self) -> Option<bool> {
        (self.facts().is_some() || !self.is_degraded).then_some(self.facts().is_some())
    }

    /// The facts; `None` if there is no such subject, or none is known.
    pub(crate) fn facts(&self) -> Option<&T> {
        match &self.facts {
            Facts::None => None,
            Facts::Listed(facts) => Some(facts),
            #[cfg(feature = "database")]
            Facts::Remembered(entry) => entry.facts(),
        }
    }
}
