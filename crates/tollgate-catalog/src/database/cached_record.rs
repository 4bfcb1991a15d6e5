//! The kinds of cached subjects, and how each is loaded.

use std::hash::Hash;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::cache::{Entry, SubjectCache};
use super::rows;
use super::session::Pool;
use super::statements;
use crate::api_key::KeyHash;
use crate::directory::Id;
use crate::resolve::{KeyFacts, TenantFacts, UserFacts};

/// A kind of subject: how it is cached and loaded.
pub(super) trait CachedRecord: Sized + Send + Sync + 'static {
    type Key: Hash + Eq + Clone + Send + Sync + 'static;
    fn cache(subjects: &SubjectCache) -> &Cache<Self::Key, Arc<Entry<Self>>>;
    fn load(
        pool: &Pool,
        key: &Self::Key,
    ) -> impl Future<Output = sqlx::Result<Option<Self>>> + Send;
}

impl CachedRecord for KeyFacts {
    type Key = KeyHash;

    fn cache(subjects: &SubjectCache) -> &Cache<KeyHash, Arc<Entry<Self>>> {
        &subjects.keys
    }

    async fn load(pool: &Pool, hash: &KeyHash) -> sqlx::Result<Option<Self>> {
        let hash = hash.to_hex();
        let Some(row) = pool.row(statements::KEY_BY_HASH, &[hash.as_str().into()]).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: rows::id(&row, 0)?,
            tenant_id: rows::id(&row, 1)?,
            user_id: rows::optional_id(&row, 2)?,
            tier: rows::optional_id(&row, 3)?,
            expires_at: rows::moment(&row, 4)?,
            revoked: row.integer(5)? != 0,
        }))
    }
}

/// A user of a tenant, or of whichever tenant has one with this id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserKey {
    tenant: Option<Id>,
    id: Id,
}

impl UserKey {
    /// The key of the user `id` of `tenant`; `None` if one of them cannot be an id.
    pub(super) fn new(tenant: Option<&str>, id: &str) -> Option<Self> {
        Some(Self { tenant: tenant.map(Id::new).transpose().ok()?, id: Id::new(id).ok()? })
    }
}

impl CachedRecord for UserFacts {
    type Key = UserKey;

    fn cache(subjects: &SubjectCache) -> &Cache<UserKey, Arc<Entry<Self>>> {
        &subjects.users
    }

    async fn load(pool: &Pool, UserKey { tenant, id }: &UserKey) -> sqlx::Result<Option<Self>> {
        let id = id.as_str().into();
        let row = if let Some(tenant) = tenant {
            pool.row(statements::USER_FACTS, &[id, tenant.as_str().into()]).await?
        } else {
            let mut rows = pool.rows(statements::FACTS_OF_USERS, &[id]).await?;
            // If several tenants have such a user, nothing says which is meant.
            if rows.len() == 1 { rows.pop() } else { None }
        };
        row.map(|row| Ok(Self { tenant_id: rows::id(&row, 0)?, tier: rows::optional_id(&row, 1)? }))
            .transpose()
    }
}

impl CachedRecord for TenantFacts {
    type Key = Id;

    fn cache(subjects: &SubjectCache) -> &Cache<Id, Arc<Entry<Self>>> {
        &subjects.tenants
    }

    async fn load(pool: &Pool, id: &Id) -> sqlx::Result<Option<Self>> {
        let row = pool.row(statements::TENANT_FACTS, &[id.as_str().into()]).await?;
        row.map(|row| Ok(Self { tier: rows::optional_id(&row, 0)? })).transpose()
    }
}

/// Whether the database answered, but with a row that this catalog does not write.
pub(super) fn is_about_the_row(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)
    )
}
