//! A database that is locked, read-only, deleted or unavailable: the error is clear, nothing is half-written, and
//! checks continue.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Row as _};
use tollgate_catalog::directory::Kind;
use tollgate_catalog::{Asked, Directory as _, DirectoryError, Standing};
use tollgate_core::Timestamp;

use crate::common::{Database, Databases, NOW_MS, Node, Told, actor, body};

const TENANT: &str = r#"{"id":"a","tier":"gold"}"#;
const USER: &str = r#"{"id":"u","tenantId":"a"}"#;

async fn prepared(database: &Database) -> Node {
    let set = |options: &mut tollgate_catalog::DatabaseOptions| {
        // Long enough for a busy machine to get a connection; locks are held for longer.
        options.lock_timeout = Duration::from_secs(1);
        options.load_timeout = Duration::from_secs(5);
        options.poll_every = Duration::from_millis(20);
    };
    let node = database.open_with(set).await;
    node.create(Kind::Tier, r#"{"id":"gold"}"#).await;
    node.create(Kind::Tenant, TENANT).await;
    node.create(Kind::User, USER).await;
    let resolved = node.resolve(user("u")).await;
    assert_eq!((resolved.tier.as_str(), resolved.is_degraded), ("gold", false));
    node
}

fn user(user: &str) -> Asked<'_> {
    Asked { user: Some(user), ..Asked::default() }
}

/// Asserts that no kind of change succeeds, and that each fails because the database is unavailable.
async fn assert_no_change_is_possible(node: &Node, why: &str) {
    let (catalog, actor) = (&node.catalog, actor());
    let document = body(r#"{"tenants":[{"id":"x"},{"id":"y"}]}"#);
    let results = [
        catalog.create(&actor, Kind::Tenant, &body(r#"{"id":"x"}"#)).await.map(drop),
        catalog.patch(&actor, Kind::Tenant, "a", None, &body(r#"{"name":"x"}"#)).await.map(drop),
        catalog.delete(&actor, Kind::User, "u", None).await,
        catalog.import(&actor, &document).await.map(drop),
    ];
    for result in results {
        let Err(DirectoryError::Unavailable(error)) = &result else { panic!("{result:?}") };
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Asserts that the database is as [`prepared`] left it.
async fn assert_nothing_was_written(node: &Node) {
    assert_eq!(node.last_change().await, 4);
    assert_eq!(node.get(Kind::Tenant, "a").await.version.0, 3);
    node.get(Kind::User, "u").await;
    for id in ["x", "y"] {
        let missing = node.catalog.get(Kind::Tenant, id).await;
        assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
    }
}

/// Asserts that known subjects are still resolved, and others are unknown.
async fn assert_checks_go_on(node: &Node) {
    let known = node.resolve(user("u")).await;
    assert_eq!(known.tier.as_str(), "gold");
    let unknown = node.resolve(user("never seen")).await;
    assert_eq!((unknown.tier.as_str(), unknown.is_degraded), ("default", true));
    assert!(!node.catalog.is_reachable());
    // It is not certain that there is no such key, so a server that denies unknown keys does not deny this one.
    let key = node.resolve(Asked { api_key: Some("never seen"), ..Asked::default() }).await;
    assert_eq!(key.api_key.unwrap().standing, Standing::Unanswered);
    // Long after an answer would have been refreshed, the last known one is used.
    node.clock.set(Timestamp::from_ms(NOW_MS + 10_000_000));
    assert_eq!(node.resolve(user("u")).await.tier.as_str(), "gold");
}

#[tokio::test]
async fn a_locked_sqlite_file_refuses_changes_and_answers_checks() {
    let database = Databases::sqlite().new_database();
    let node = prepared(&database).await;
    let mut other = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_no_change_is_possible(&node, "locked").await;
    let known = node.resolve(user("u")).await;
    assert_eq!((known.tier.as_str(), known.is_degraded), ("gold", false));
    // Readers do not wait for writers.
    assert!(!node.resolve(user("never seen")).await.is_degraded);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_nothing_was_written(&node).await;
    node.patch(Kind::Tenant, "a", r#"{"name":"later"}"#).await;
}

/// Only the owner may read the data, and after a clean end all of it is in one file.
#[tokio::test]
async fn a_sqlite_file_is_private_and_whole_after_the_end() {
    let database = Databases::sqlite().new_database();
    let path = database.path.clone().unwrap();
    let node = prepared(&database).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.catalog.close().await;
    let wal = path.with_extension("db-wal");
    assert!(!wal.exists(), "{wal:?}");
    let url = format!("sqlite:{}?mode=ro&immutable=true", path.display());
    let mut reader = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SELECT tier FROM tenants WHERE id = 'a'").fetch_one(&mut reader).await;
    assert_eq!(row.unwrap().get::<String, _>(0), "gold");
}

/// A change that arrives while others wait does not wait longer than they do.
#[tokio::test]
async fn changes_that_wait_for_a_locked_file_do_not_add_up() {
    let database = Databases::sqlite().new_database();
    let node = prepared(&database).await;
    let mut other = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let mut changes = tokio::task::JoinSet::new();
    let catalog = Arc::new(node.catalog);
    for _ in 0..20 {
        let catalog = Arc::clone(&catalog);
        changes.spawn(async move {
            catalog.create(&actor(), Kind::Tenant, &body(r#"{"id":"x"}"#)).await.unwrap_err()
        });
    }
    let refused: Vec<_> = changes.join_all().await.iter().map(ToString::to_string).collect();
    let waited = refused.iter().filter(|why| why.contains("other changes are waiting")).count();
    // The first has its turn, and one more may get it just before its timeout.
    assert!(waited >= 18, "{refused:#?}");
}

#[tokio::test]
async fn a_locked_table_of_postgresql_refuses_changes() {
    let database = Databases::postgresql().new_database();
    let node = prepared(&database).await;
    let mut other = sqlx::PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE catalog_state IN EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    assert_no_change_is_possible(&node, "locked").await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_nothing_was_written(&node).await;
}

#[tokio::test]
async fn a_read_only_postgresql_refuses_changes() {
    let database = Databases::postgresql().new_database();
    let node = prepared(&database).await;
    let name = database.url.rsplit('/').next().unwrap();
    database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    // New connections are read-only.
    database
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'tollgate'",
        )
        .await;
    assert_no_change_is_possible(&node, "read-only").await;
    assert_nothing_was_written(&node).await;
}

#[tokio::test]
async fn a_read_only_sqlite_file_refuses_changes() {
    let mut database = Databases::sqlite().new_database();
    drop(prepared(&database).await);
    database.url += "?mode=ro";
    let node = database.open().await;
    assert_no_change_is_possible(&node, "read-only").await;
    assert_nothing_was_written(&node).await;
}

#[tokio::test]
async fn a_deleted_sqlite_file_takes_no_change_and_does_not_come_back_empty() {
    let database = Databases::sqlite().new_database();
    let path = database.path.clone().unwrap();
    let node = prepared(&database).await;
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    assert_no_change_is_possible(&node, "deleted, moved or replaced").await;
    while !matches!(node.next_told().await, Told::Unavailable(_)) {}
    assert!(!node.catalog.is_reachable());
    assert_eq!(node.resolve(user("u")).await.tier.as_str(), "gold");
    assert!(!path.exists());
    // When it is put back, it is the same database.
    std::fs::rename(&away, &path).unwrap();
    while node.next_told().await != Told::Available {}
    assert_nothing_was_written(&node).await;
    node.patch(Kind::Tenant, "a", r#"{"name":"later"}"#).await;
}

#[tokio::test]
async fn a_killed_postgresql_server_leaves_the_last_known_answers() {
    let databases = Databases::postgresql();
    let database = databases.new_database();
    let node = prepared(&database).await;
    database.server.as_ref().unwrap().kill();
    while !matches!(node.next_told().await, Told::Unavailable(_)) {}
    assert_checks_go_on(&node).await;
    assert_no_change_is_possible(&node, "the database").await;
}
