//! Updates the schema at start. A released file is never changed; changes are new files.
//!
//! The files are listed here and not by `sqlx::migrate!`, whose macros would build both drivers a second time.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::session::Pool;

/// The files, by their numbers.
const FILES: [(i64, &str, &str); 4] = [
    (1, "directory", include_str!("../../migrations/0001_directory.sql")),
    (2, "api_key_check", include_str!("../../migrations/0002_api_key_check.sql")),
    (3, "users_of_tenants", include_str!("../../migrations/0003_users_of_tenants.sql")),
    (4, "built_in_policy", include_str!("../../migrations/0004_built_in_policy.sql")),
];

/// Applies the missing files, each in a transaction. Refuses a database that a later version has changed.
pub(super) async fn run(pool: &Pool) -> Result<(), MigrateError> {
    run_first(pool, FILES.len()).await
}

/// The same with the first `count` files only.
pub(super) async fn run_first(pool: &Pool, count: usize) -> Result<(), MigrateError> {
    let migrations = FILES.into_iter().take(count).map(|(version, name, text)| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    match pool {
        Pool::Sqlite(pool) => migrator.run(pool).await,
        Pool::Postgres(pool) => migrator.run(pool).await,
    }
}
