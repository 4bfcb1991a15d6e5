//! Checks whether the API keys of a database are hashed with the secret that this node has.
//!
//! With another secret, none of them would be recognized, and even the holder of a revoked key would count as unknown.

use super::session::Pool;
use super::{statements, unavailable};
use crate::api_key::KeyHasher;
use crate::error::CatalogError;

/// The text that is hashed; no API key begins like this.
const CONSTANT: &str = "tollgate: the same secret as before?";

/// Fails if there are API keys that `hasher` would not recognize. If there are none yet, stores the hash.
pub(super) async fn check(pool: &Pool, hasher: &KeyHasher) -> Result<(), CatalogError> {
    let ours = hasher.hash(CONSTANT).to_hex();
    let row = pool.row(statements::API_KEY_CHECK, &[]).await.map_err(unavailable)?;
    let row = row.ok_or(sqlx::Error::RowNotFound).map_err(unavailable)?;
    let theirs = row.optional_text(0).map_err(unavailable)?;
    let has_keys = row.integer(1).map_err(unavailable)? > 0;
    match theirs {
        Some(theirs) if theirs == ours => Ok(()),
        Some(_) if has_keys => Err(CatalogError::OtherApiKeySecret),
        _ => {
            // If the database accepts no writes, it creates no API keys either.
            _ = note(pool, &ours).await;
            Ok(())
        }
    }
}

async fn note(pool: &Pool, ours: &str) -> sqlx::Result<()> {
    let mut transaction = pool.begin_writing().await?;
    let arguments = [ours.into()];
    transaction.connection().execute(statements::SET_API_KEY_CHECK, &arguments).await?;
    transaction.commit().await
}
