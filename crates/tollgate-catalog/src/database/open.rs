//! Opens a database by its URL.

use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use url::Url;

use super::failure::DriverError;
use super::location::Location;
use super::session::Pool;
use super::{DatabaseOptions, migrations, unavailable};
use crate::directory::Unavailable;
use crate::error::CatalogError;

/// Opens connections to the database at `url` and updates its schema.
pub(super) async fn pool(
    url: &str,
    options: &DatabaseOptions,
) -> Result<(Pool, Location), CatalogError> {
    let (pool, path) = if url.starts_with("sqlite:") {
        let (pool, path) = sqlite(url, options).await?;
        (pool, Some(path))
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        (postgres(url, options).await?, None)
    } else {
        return Err(CatalogError::DatabaseUrl);
    };
    migrations::run(&pool).await.map_err(|error| {
        let what = "the schema of the database cannot be updated";
        CatalogError::Database(Unavailable::new(what, Some(Box::new(DriverError(error)))))
    })?;
    Ok((pool, path.map_or(Location::Server, Location::of_file)))
}

/// The file of the SQLite database at `url`, percent-decoded; `None` for PostgreSQL. Fails if no SQLite database can be
/// kept there.
pub fn database_file(url: &str) -> Result<Option<PathBuf>, CatalogError> {
    if !url.starts_with("sqlite:") {
        return Ok(None);
    }
    Ok(Some(sqlite_options(url)?.get_filename().to_owned()))
}

fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, CatalogError> {
    // Each connection would have a separate database.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(CatalogError::DatabaseInMemory);
    }
    SqliteConnectOptions::from_str(url).map_err(|_| CatalogError::DatabaseUrl)
}

async fn sqlite(url: &str, options: &DatabaseOptions) -> Result<(Pool, PathBuf), CatalogError> {
    let connect = sqlite_options(url)?
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode the database stays consistent either way, but a change that was answered must survive a power
        // failure.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.lock_timeout)
        .disable_statement_logging();
    let path = connect.get_filename().to_owned();
    if !url.contains("mode=ro") {
        make_private(&path);
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.lock_timeout)
        // If the disk is full or fails, SQLite rolls back the transaction. The driver then cannot roll it back, keeps
        // counting it, and begins no other. Such a connection is closed. The ping waits until the driver has processed
        // its commands.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(connect.clone().create_if_missing(true))
        .await
        .map_err(unavailable)?;
    // A file that is deleted later must not be created again, empty.
    pool.set_connect_options(connect.create_if_missing(false));
    Ok((Pool::Sqlite(pool), path))
}

/// Creates the file at `path`, if it is missing, with access only for its owner. SQLite gives the files beside it the
/// same permissions.
#[cfg(unix)]
fn make_private(path: &std::path::Path) {
    use std::os::unix::fs::OpenOptionsExt as _;
    // If it exists or cannot be created, SQLite reports that better.
    _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// On other systems, files inherit the permissions of the folder.
#[cfg(not(unix))]
fn make_private(_: &std::path::Path) {}

/// The options of a PostgreSQL URL that the driver reads. It ignores others, and logs them with their values.
const POSTGRES_OPTIONS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Refuses options that the driver does not know. The name of one may be a part of a password, so no error shows it.
fn known_options(url: &str) -> Result<(), CatalogError> {
    let url = Url::parse(url).map_err(|_| CatalogError::DatabaseUrl)?;
    let is_known = |name: &str| POSTGRES_OPTIONS.contains(&name) || name.starts_with("options[");
    let all_known = url.query_pairs().all(|(name, _)| is_known(&name));
    if all_known { Ok(()) } else { Err(CatalogError::DatabaseOption) }
}

async fn postgres(url: &str, options: &DatabaseOptions) -> Result<Pool, CatalogError> {
    known_options(url)?;
    let lock_timeout_ms = options.lock_timeout.as_millis().to_string();
    let connect = PgConnectOptions::from_str(url)
        .map_err(|_| CatalogError::DatabaseUrl)?
        .application_name("tollgate")
        .options([("lock_timeout", lock_timeout_ms)])
        .disable_statement_logging();
    // The driver leaves the brackets of a URL around an IPv6 address.
    let host = connect.get_host().to_owned();
    let connect = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => connect.host(address),
        None => connect,
    };
    let failed = |error| CatalogError::DatabaseServer {
        at: format!("{host}:{}", connect.get_port()),
        source: unavailable(error),
    };
    let pool = PgPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.lock_timeout)
        .connect_with(connect.clone())
        .await;
    match pool {
        Ok(pool) => Ok(Pool::Postgres(pool)),
        // The pool has retried several times, and does not return the reason.
        Err(sqlx::Error::PoolTimedOut) => {
            let connecting = PgConnection::connect_with(&connect);
            let error = match tokio::time::timeout(options.lock_timeout, connecting).await {
                Ok(Err(error)) => error,
                Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
            };
            Err(failed(error))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_driver_would_log_is_refused_without_its_value() {
        for known in
            ["", "?sslmode=require&ssl-ca=/ca.pem", "?options[geqo]=off", "?host=/run/postgresql"]
        {
            assert!(known_options(&format!("postgres://h/x{known}")).is_ok(), "{known}");
        }
        for unknown in ["?pasword=canary", "?sslmode=require&PASSWORD=canary", "?canary"] {
            let error = known_options(&format!("postgres://h/x{unknown}")).unwrap_err();
            assert!(matches!(error, CatalogError::DatabaseOption), "{unknown}");
            assert!(!error.to_string().contains("canary"), "{error}");
            assert!(error.to_string().contains("accepted: sslmode"), "{error}");
        }
    }
}
