//! A million users and 100,000 API keys in SQLite and in PostgreSQL: how long it takes to start, to look up a user who
//! is not cached, and to look up a cached one. `cargo bench -p tollgate-catalog --features database`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark: it prints, takes the time, and what fails ends it"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{Actor, Kind};
use tollgate_catalog::{
    Asked, CatalogEvent, DatabaseCatalog, DatabaseOptions, Directory as _, Format, document,
};
use tollgate_testkit::postgres::PostgresServer;

const USERS: u64 = 1_000_000;
const COLD: usize = 10_000;
const WARM: u32 = 1_000_000;
const START_GOAL: Duration = Duration::from_secs(2);
const COLD_GOAL: Duration = Duration::from_millis(10);

/// Fills the tables as the catalog would, but a thousand times as fast.
const FILL: [&str; 3] = [
    "INSERT INTO tenants (id, name, version) WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
     SELECT 't' || i, 't', 1 FROM n",
    "INSERT INTO users (id, tenant_id, name, version) \
     WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999) \
     SELECT 'user' || i, 't' || (i % 1000), 'u', 1 FROM n",
    "INSERT INTO api_keys (id, name, tenant_id, revoked, prefix, hash, version) \
     WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) \
     SELECT 'k' || i, 'k', 't' || (i % 1000), 0, 'p', LAST_64_OF_I, 1 FROM n",
];
const IN_SQLITE: &str =
    "substr('0000000000000000000000000000000000000000000000000000000000000000' || i, -64)";
const IN_POSTGRESQL: &str = "lpad(i::text, 64, '0')";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("| database | start | goal | cold p50 | cold p99 | goal | warm user | warm key |");
    println!("|---|---|---|---|---|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/catalog.db", folder.path().display());
    runtime.block_on(measure("SQLite", &url, async || {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        for statement in FILL {
            let statement = statement.replace("LAST_64_OF_I", IN_SQLITE);
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
    }));
    let server = PostgresServer::start();
    let url = server.new_database();
    runtime.block_on(measure("PostgreSQL", &url, async || {
        for statement in FILL {
            server.sql(&url, &statement.replace("LAST_64_OF_I", IN_POSTGRESQL));
        }
        server.sql(&url, "ANALYZE");
    }));
}

async fn open(url: &str) -> DatabaseCatalog {
    let hasher = KeyHasher::new(b"a secret of a benchmark, 32 byte");
    let nobody = |_: &CatalogEvent<'_>| {};
    DatabaseCatalog::open(url, hasher, DatabaseOptions::default(), nobody).await.unwrap()
}

async fn measure(name: &str, url: &str, fill: impl AsyncFnOnce()) {
    // Opening the database for the first time creates the tables.
    drop(open(url).await);
    fill().await;
    let started = Instant::now();
    let catalog = open(url).await;
    let start = started.elapsed();
    let (resolver, snapshot) = (catalog.resolver(), catalog.reader().snapshot());
    let mut cold = Vec::with_capacity(COLD);
    for index in 0..COLD as u64 {
        // A prime, so that no two of them are neighbours in a page.
        let id = format!("user{}", index * 7_919 % USERS);
        let asked = Asked { user: Some(&id), model: Some("m"), ..Asked::default() };
        let started = Instant::now();
        let resolution = resolver.resolve(&snapshot, &asked).await;
        cold.push(started.elapsed());
        assert!(!resolution.is_degraded && resolution.tenant.is_some());
    }
    cold.sort_unstable();
    let key = document::read(r#"{"tenantId":"t1","userId":"user1"}"#, Format::Json).unwrap();
    let actor = Actor::new("benchmark").unwrap();
    let made = catalog.create(&actor, Kind::ApiKey, &key.unwrap()).await.unwrap();
    let secret = made.secret.unwrap().reveal().to_owned();
    let user = Asked { user: Some("user0"), model: Some("m"), ..Asked::default() };
    let [by_user, by_key] = [user, Asked { api_key: Some(&secret), ..user }];
    let mut warm = Vec::new();
    for asked in [by_user, by_key] {
        resolver.resolve(&snapshot, &asked).await;
        let started = Instant::now();
        for _ in 0..WARM {
            black_box(resolver.resolve(&snapshot, &asked).await);
        }
        warm.push(started.elapsed() / WARM);
    }
    let (p50, p99) = (cold[COLD / 2], cold[COLD * 99 / 100]);
    println!(
        "| {name} | {start:.1?} | {} | {p50:.0?} | {p99:.0?} | {} | {:?} | {:?} |",
        judged(start, START_GOAL),
        judged(p99, COLD_GOAL),
        warm[0],
        warm[1]
    );
}

fn judged(measured: Duration, goal: Duration) -> String {
    format!("≤ {goal:?}: {}", if measured <= goal { "yes" } else { "**no**" })
}
