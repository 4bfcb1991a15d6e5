//! Tests that need access to internals: both databases accept each statement, and the schema refuses invalid data.

use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tollgate_core::Timestamp;
use tollgate_testkit::postgres::PostgresServer;

use super::session::{Connection, Pool, Statement};
use super::{DatabaseCatalog, DatabaseOptions, feed, migrations, open, rows, statements};
use crate::api_key::KeyHasher;
use crate::directory::{
    Actor, Address, ChangeFilter, Directory as _, DirectoryError, Filter, Id, Kind, PageRequest,
    Record, Records, user_address,
};
use crate::document::{self, Format};
use crate::file_catalog::CatalogEvent;
use crate::policy_file;
use crate::validate::{self, Places};

/// Every statement that both databases run.
fn all_statements() -> Vec<Statement> {
    let mut all: Vec<Statement> = [
        statements::TAKE_TURN,
        statements::SET_VERSIONS,
        statements::API_KEY_CHECK,
        statements::SET_API_KEY_CHECK,
        statements::VERSIONS,
        statements::ADD_CHANGE,
        statements::CHANGED_SINCE,
        statements::KEY_BY_HASH,
        statements::USER_FACTS,
        statements::FACTS_OF_USERS,
        statements::USER_OF_TENANT,
        statements::TENANT_FACTS,
        statements::HASH_OF_KEY,
        statements::RECORD_USE,
    ]
    .map(Statement::from)
    .into();
    for kind in Kind::ALL {
        let table = statements::table(kind);
        all.extend([table.select, table.insert, table.update, table.delete].map(Statement::from));
        all.extend([statements::get(kind), statements::all(kind)]);
        let fields = ["tenantId", "userId", "tier", "modelTier"];
        all.extend(
            fields.iter().filter_map(|field| statements::referrer(kind, field)).map(Into::into),
        );
        for asked in 0..32_u32 {
            let given = |bit: u32| (asked & bit != 0).then(|| Id::checked("x"));
            let filter = Filter {
                tenant_id: given(1),
                user_id: given(2),
                tier: given(4),
                model_tier: given(8),
                search: (asked & 16 != 0).then(|| "x".to_owned()),
            };
            all.extend(statements::list(kind, &filter));
        }
    }
    for asked in 0..8_u32 {
        let given = |bit: u32| (asked & bit != 0).then(|| Id::checked("x"));
        let kind = (asked & 4 != 0).then_some(Kind::User);
        let filter = ChangeFilter { kind, record_id: given(1), actor: given(2) };
        all.push(statements::changes(&filter));
    }
    all
}

async fn opened() -> (Vec<Pool>, TempDir, PostgresServer) {
    let (folder, server) = (tempfile::tempdir().unwrap(), PostgresServer::start());
    let file = format!("sqlite:{}", folder.path().join("t.db").display());
    let mut pools = Vec::new();
    for url in [file, server.new_database()] {
        pools.push(open::pool(&url, &DatabaseOptions::default()).await.unwrap().0);
    }
    (pools, folder, server)
}

#[tokio::test]
async fn both_databases_take_every_statement() {
    let (pools, _folder, _server) = opened().await;
    let all = all_statements();
    for pool in pools {
        let mut transaction = pool.begin_writing().await.unwrap();
        for statement in &all {
            let prepared = transaction.connection().prepare(statement.clone()).await;
            prepared.unwrap_or_else(|error| panic!("{pool:?} {statement:?}: {error}"));
        }
        if matches!(pool, Pool::Postgres(_)) {
            transaction.connection().prepare(statements::NOTIFY.into()).await.unwrap();
        }
    }
}

/// Users and API keys of a catalog of an older version are kept, with what refers to them.
#[tokio::test]
async fn an_older_catalog_keeps_its_users_and_keys() {
    let (folder, server) = (tempfile::tempdir().unwrap(), PostgresServer::start());
    let file = format!("sqlite:{}?mode=rwc", folder.path().join("old.db").display());
    let file: SqliteConnectOptions = file.parse().unwrap();
    let pools = [
        Pool::Sqlite(sqlx::SqlitePool::connect_with(file.foreign_keys(true)).await.unwrap()),
        Pool::Postgres(sqlx::PgPool::connect(&server.new_database()).await.unwrap()),
    ];
    for pool in pools {
        migrations::run_first(&pool, 2).await.unwrap();
        let mut transaction = pool.begin_writing().await.unwrap();
        for statement in [
            "INSERT INTO tenants (id, name, version) VALUES ('a', 'n', 2), ('b', 'n', 2)",
            "INSERT INTO users (id, tenant_id, name, tier, version) VALUES ('u', 'a', 'U', 'default', 3)",
            "INSERT INTO api_keys (id, name, tenant_id, user_id, revoked, prefix, hash, last_used_ms, version) \
             VALUES ('k', 'K', 'a', 'u', 1, 'p', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 7, 4)",
        ] {
            transaction.connection().execute(statement, &[]).await.unwrap();
        }
        transaction.commit().await.unwrap();
        migrations::run(&pool).await.unwrap();
        let mut transaction = pool.begin_writing().await.unwrap();
        let mut connection = transaction.connection();
        let user =
            connection.row("SELECT id, tenant_id, name, tier, version FROM users", &[]).await;
        let user = rows::stored(Kind::User, &user.unwrap().unwrap()).unwrap();
        assert_eq!(
            (Address::of(&user.record).to_string(), user.version.0),
            (user_address("a", "u"), 3)
        );
        let key = connection.row(statements::table(Kind::ApiKey).select, &[]).await;
        match rows::stored(Kind::ApiKey, &key.unwrap().unwrap()).unwrap().record {
            Record::ApiKey(key) => {
                assert_eq!((key.user_id.unwrap().as_str(), key.revoked), ("u", true));
                assert_eq!(key.last_used_at, Some(Timestamp::from_ms(7)));
            }
            other => panic!("{other:?}"),
        }
        let second = "INSERT INTO users (id, tenant_id, name, version) VALUES ('u', 'b', 'n', 5)";
        connection.execute(second, &[]).await.unwrap();
        // In PostgreSQL a failed statement ends the transaction, so it is the last one.
        connection.execute("DELETE FROM users WHERE tenant_id = 'a'", &[]).await.unwrap_err();
    }
}

/// P14: the file is where SQLite keeps it, percent-decoded, and none is in memory.
#[test]
fn the_file_of_a_url_is_the_one_that_sqlite_opens() {
    let file =
        |url| open::database_file(url).map(|file| file.map(|path| path.display().to_string()));
    let cases = [
        ("sqlite:/d/with%20pct.db", Some("/d/with pct.db")),
        ("sqlite:///d/a.db?mode=ro", Some("/d/a.db")),
        ("sqlite:a.db", Some("a.db")),
        ("postgres://u:p@h/d", None),
    ];
    for (url, expected) in cases {
        assert_eq!(file(url).unwrap().as_deref(), expected, "{url}");
    }
    for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite:a?mode=memory"] {
        let refused = file(url).unwrap_err();
        assert!(refused.to_string().contains("in memory"), "{url}: {refused}");
    }
}

/// The schema refuses what the code would not write: foreign keys and checks apply to every writer.
#[tokio::test]
async fn the_schema_refuses_what_would_break_it() {
    let (pools, _folder, _server) = opened().await;
    let (hash, other_hash) = ("a".repeat(64), "b".repeat(64));
    let key = |id: &str, user: &str, hash: &str| {
        format!(
            "INSERT INTO api_keys (id, name, tenant_id, user_id, tier, revoked, prefix, hash, version) \
             VALUES ('{id}', 'n', 'a', '{user}', NULL, 0, 'p', '{hash}', 2)"
        )
    };
    let right = [
        "INSERT INTO tenants (id, name, tier, version) VALUES ('a', 'n', 'default', 2)".to_owned(),
        "INSERT INTO tenants (id, name, version) VALUES ('b', 'n', 2)".to_owned(),
        "INSERT INTO users (id, tenant_id, name, version) VALUES ('u', 'a', 'n', 2)".to_owned(),
        key("k", "u", &hash),
    ];
    let wrong = [
        "INSERT INTO tenants (id, name, tier, version) VALUES ('c', 'n', 'gold', 2)".to_owned(),
        "INSERT INTO tenants (id, name, version) VALUES ('a', 'n', 2)".to_owned(),
        "INSERT INTO tenants (id, name, version) VALUES ('', 'n', 2)".to_owned(),
        "INSERT INTO users (id, tenant_id, name, version) VALUES ('v', 'zz', 'n', 2)".to_owned(),
        "INSERT INTO tiers (id, name, priority, version) VALUES ('t', 'n', 'vip', 2)".to_owned(),
        "INSERT INTO models (id, name, model_tier, version) VALUES ('m', 'n', 'zz', 2)".to_owned(),
        "DELETE FROM tiers WHERE id = 'default'".to_owned(),
        "DELETE FROM tenants WHERE id = 'a'".to_owned(),
        "DELETE FROM users WHERE id = 'u'".to_owned(),
        "UPDATE users SET tenant_id = 'b' WHERE id = 'u'".to_owned(),
        "INSERT INTO catalog_state (singleton, version, snapshot_version) VALUES (2, 1, 1)"
            .to_owned(),
        "UPDATE catalog_state SET snapshot_version = version + 1".to_owned(),
        key("l", "nobody", &other_hash),
        key("l", "u", &hash),
    ];
    for pool in pools {
        for statement in &right {
            run(&pool, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        for statement in &wrong {
            let error = run(&pool, statement).await.expect_err(statement);
            let sqlx::Error::Database(error) = error else { panic!("{statement}: {error}") };
            assert_ne!(error.kind(), sqlx::error::ErrorKind::Other, "{statement}: {error}");
        }
    }
}

async fn run(pool: &Pool, statement: &str) -> sqlx::Result<u64> {
    let mut transaction = pool.begin_writing().await?;
    let statement = Statement::assembled(statement.to_owned());
    let mut connection: Connection<'_> = transaction.connection();
    let rows = connection.execute(statement, &[]).await?;
    transaction.commit().await.map(|()| rows)
}

/// A full disk, as SQLite sees it: the file may not grow. A change that needs space fails as a whole, and succeeds once
/// there is space.
#[tokio::test]
async fn a_full_database_refuses_changes_whole_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("t.db").display());
    // With a single connection, a setting made on it applies to everything that the catalog does.
    let options = DatabaseOptions { connections: 1, ..DatabaseOptions::default() };
    let hasher = KeyHasher::new(b"0123456789abcdef0123456789abcdef");
    let ignore = |_: &CatalogEvent<'_>| {};
    let catalog = DatabaseCatalog::open(&url, hasher, options, ignore).await.unwrap();
    // Fewer than there are now, so it cannot grow by a page.
    catalog.core.pool.row("PRAGMA max_page_count = 1", &[]).await.unwrap();

    let actor = Actor::new("tester").unwrap();
    let tenant = |number: u32| {
        let text = format!(r#"{{"id":"t{number}","name":"{}"}}"#, "n".repeat(250));
        document::read(&text, Format::Json).unwrap().unwrap()
    };
    for number in 0..1_000 {
        let Err(error) = catalog.create(&actor, Kind::Tenant, &tenant(number)).await else {
            continue;
        };
        assert_eq!(error.to_string(), "the database is full");
        let missing = catalog.get(Kind::Tenant, &format!("t{number}")).await;
        assert!(matches!(missing, Err(DirectoryError::NotFound { .. })), "{missing:?}");
        let newest = PageRequest { cursor: None, items: 1 };
        let newest = catalog.changes(&ChangeFilter::default(), &newest).await.unwrap();
        let before = format!("t{}", number - 1);
        assert_eq!(newest.items[0].record_id.as_str(), before);
        let stored = catalog.get(Kind::Tenant, &before).await.unwrap();
        assert_eq!(stored.version.0, newest.items[0].id);

        catalog.core.pool.row("PRAGMA max_page_count = 1000000", &[]).await.unwrap();
        catalog.create(&actor, Kind::Tenant, &tenant(number)).await.unwrap();
        return;
    }
    panic!("the database never was full");
}

/// The texts of the warnings about policies that have `conditions`, in a catalog with so many `tenants`: `t0`, `t1`, …
async fn warnings_about(tenants: usize, conditions: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("t.db").display());
    let pool = open::pool(&file, &DatabaseOptions::default()).await.unwrap().0;
    let mut transaction = pool.begin_writing().await.unwrap();
    let mut connection = transaction.connection();
    for number in 0..tenants {
        let id = format!("t{number}");
        let statement = "INSERT INTO tenants (id, name, version) VALUES (?1, 'n', 2)";
        connection.execute(statement, &[id.as_str().into()]).await.unwrap();
    }
    let policies = conditions.iter().enumerate().map(|(number, values)| {
        format!("  - {{id: p{number}, scope: TENANT, limit: 1, window: 1m, match: {{tenant: {values}}}}}\n")
    });
    let text = format!("policies:\n{}", policies.collect::<String>());
    let policies = policy_file::parse("p", &text, Format::Yaml).unwrap();
    let records = Records { policies, ..Records::default() };
    let declared = feed::declared(&mut connection, &records).await.unwrap();
    let warnings = validate::warnings(&records.policies, &declared, &Places::default());
    warnings.into_iter().map(|warning| warning.problem.message).collect()
}

/// Of few tenants all are known, so that a beginning can be compared with them; of many, only those that policies name.
#[tokio::test]
async fn beginnings_are_compared_with_few_tenants_only() {
    let conditions = ["[t1, x1]".to_owned(), "x*".to_owned()];
    for (tenants, has_all) in [(feed::FIRST_DECLARED - 1, true), (feed::FIRST_DECLARED, false)] {
        let warnings = warnings_about(tenants, &conditions).await;
        assert!(warnings[0].contains("\"x1\" is no tenant"), "{tenants}: {warnings:?}");
        let is_told = warnings.iter().any(|told| told.contains("\"x*\" is the beginning of no"));
        assert_eq!((is_told, warnings.len()), (has_all, 1 + usize::from(has_all)), "{tenants}");
    }
}

#[tokio::test]
async fn conditions_on_very_many_tenants_are_not_compared() {
    for (named, is_compared) in [(feed::MAX_DECLARED, true), (feed::MAX_DECLARED + 1, false)] {
        let values: Vec<_> = (0..named).map(|number| format!("x{number}")).collect();
        // A condition has at most a thousand values.
        let conditions = values.chunks(600).map(|some| format!("[{}]", some.join(", ")));
        let warnings = warnings_about(1, &conditions.collect::<Vec<_>>()).await;
        let expected = if is_compared { named } else { 0 };
        let undeclared = warnings.iter().filter(|told| told.contains("is no tenant")).count();
        assert_eq!(undeclared, expected, "{named}");
    }
}
