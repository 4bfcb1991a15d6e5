//! Opens a database by its URL.

use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::place::Place;
use super::session::Pool;
use super::{DatabaseOptions, migrations, unavailable};
use crate::directory::Unavailable;
use crate::error::CatalogError;

/// Connections to the database at `url`, whose schema is up to date.
pub(super) async fn pool(
    url: &str,
    options: &DatabaseOptions,
) -> Result<(Pool, Place), CatalogError> {
    let (pool, path) = if url.starts_with("sqlite:") {
        let (pool, path) = sqlite(url, options).await?;
        (pool, Some(path))
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        (postgres(url, options).await?, None)
    } else {
        return Err(CatalogError::DatabaseUrl);
    };
    migrations::run(&pool).await.map_err(|error| {
        let what = "the schema of the database cannot be brought up to date";
        CatalogError::Database(Unavailable::new(what, Some(Box::new(error))))
    })?;
    Ok((pool, path.map_or(Place::Server, Place::of_file)))
}

async fn sqlite(
    url: &str,
    options: &DatabaseOptions,
) -> Result<(Pool, std::path::PathBuf), CatalogError> {
    // Each connection would have a database of its own.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(CatalogError::DatabaseUrl);
    }
    let connect = SqliteConnectOptions::from_str(url)
        .map_err(|_| CatalogError::DatabaseUrl)?
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode the database stays whole either way; a change that was answered must outlive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.lock_timeout)
        .disable_statement_logging();
    let path = connect.get_filename().to_owned();
    let pool = SqlitePoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.lock_timeout)
        .connect_with(connect.clone().create_if_missing(true))
        .await
        .map_err(unavailable)?;
    // A file that is deleted later must not come back empty.
    pool.set_connect_options(connect.create_if_missing(false));
    Ok((Pool::Sqlite(pool), path))
}

async fn postgres(url: &str, options: &DatabaseOptions) -> Result<Pool, CatalogError> {
    let lock_timeout_ms = options.lock_timeout.as_millis().to_string();
    let connect = PgConnectOptions::from_str(url)
        .map_err(|_| CatalogError::DatabaseUrl)?
        .application_name("tollgate")
        .options([("lock_timeout", lock_timeout_ms)])
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.lock_timeout)
        .connect_with(connect)
        .await
        .map_err(unavailable)?;
    Ok(Pool::Postgres(pool))
}
