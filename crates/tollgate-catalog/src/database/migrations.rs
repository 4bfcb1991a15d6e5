//! The schema, brought up to date at start. Files are never changed once released; a new one is added.
//!
//! They are listed here and not by `sqlx::migrate!`, whose macros would build both drivers a second time.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::session::Pool;

/// The files, by their numbers.
const FILES: [(i64, &str, &str); 2] = [
    (1, "directory", include_str!("../../migrations/0001_directory.sql")),
    (2, "api_key_check", include_str!("../../migrations/0002_api_key_check.sql")),
];

/// Applies what is missing, each file in a transaction. A database that a later version has changed is refused.
pub(super) async fn run(pool: &Pool) -> Result<(), MigrateError> {
    let migrations = FILES.into_iter().map(|(version, name, text)| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    match pool {
        Pool::Sqlite(pool) => migrator.run(pool).await,
        Pool::Postgres(pool) => migrator.run(pool).await,
    }
}
