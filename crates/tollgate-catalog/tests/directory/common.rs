//! New databases, and helpers for tests.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use sqlx::Connection as _;
use tempfile::TempDir;
use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{
    Actor, ChangeFilter, Created, Kind, PageRequest, Record, Stored, Version,
};
use tollgate_catalog::document;
use tollgate_catalog::{
    Asked, CatalogEvent, DatabaseCatalog, DatabaseOptions, Directory, DirectoryError, Format,
    Resolution,
};
use tollgate_core::{ManualClock, Timestamp};
use tollgate_testkit::postgres::PostgresServer;

/// Far longer than anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One database server, or one folder.
pub(crate) enum Databases {
    Sqlite { folder: Rc<TempDir>, made: Cell<u32> },
    Postgres(Rc<PostgresServer>),
}

impl Databases {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite { folder: Rc::new(tempfile::tempdir().unwrap()), made: Cell::new(0) }
    }

    pub(crate) fn postgresql() -> Self {
        Self::Postgres(Rc::new(PostgresServer::start()))
    }

    /// An empty database.
    pub(crate) fn new_database(&self) -> Database {
        match self {
            Self::Sqlite { folder, made } => {
                made.set(made.get() + 1);
                let path = folder.path().join(format!("{}.db", made.get()));
                Database {
                    url: format!("sqlite:{}", path.display()),
                    path: Some(path),
                    server: None,
                    _folder: Some(Rc::clone(folder)),
                }
            }
            Self::Postgres(server) => Database {
                url: server.new_database(),
                path: None,
                server: Some(Rc::clone(server)),
                _folder: None,
            },
        }
    }
}

/// A database.
pub(crate) struct Database {
    pub(crate) url: String,
    /// The file of SQLite.
    pub(crate) path: Option<PathBuf>,
    pub(crate) server: Option<Rc<PostgresServer>>,
    _folder: Option<Rc<TempDir>>,
}

impl Database {
    /// A node on it that finds changes of other nodes only when it polls, which it never does during a test.
    pub(crate) async fn open(&self) -> Node {
        self.open_with(|_| {}).await
    }

    pub(crate) async fn open_with(&self, set: impl FnOnce(&mut DatabaseOptions)) -> Node {
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)));
        let wall_clock = Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)));
        let mut options = DatabaseOptions {
            poll_every: Duration::from_hours(1),
            record_uses_every: Duration::from_hours(1),
            notifications: false,
            connections: 4,
            // A busy machine must not look like a failing database.
            load_timeout: DEADLINE,
            lock_timeout: DEADLINE,
            clock: Arc::clone(&clock) as _,
            wall_clock: Arc::clone(&wall_clock) as _,
            ..DatabaseOptions::default()
        };
        set(&mut options);
        let (sender, told) = channel();
        let hasher = KeyHasher::new(b"0123456789abcdef0123456789abcdef");
        let observer = move |event: &CatalogEvent<'_>| tell(&sender, event);
        let catalog = DatabaseCatalog::open(&self.url, hasher, options, observer).await.unwrap();
        Node { catalog, clock, wall_clock, told }
    }

    /// Runs a statement directly, without the catalog.
    pub(crate) async fn sql(&self, statement: &str) {
        if let Some(server) = &self.server {
            server.sql(&self.url, statement);
            return;
        }
        let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement);
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// The time at which tests begin: in 2023.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// The events that an observer received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Published(u64),
    Refused(String),
    Restored,
    Unavailable(String),
    Available,
    PollingOnly,
}

fn tell(sender: &Sender<Told>, event: &CatalogEvent<'_>) {
    let told = match event {
        CatalogEvent::Published(snapshot) => Told::Published(snapshot.version()),
        CatalogEvent::Refused(error) => Told::Refused(error.to_string()),
        CatalogEvent::Restored => Told::Restored,
        CatalogEvent::Unavailable(error) => Told::Unavailable(error.to_string()),
        CatalogEvent::Available => Told::Available,
        CatalogEvent::PollingOnly(_) => Told::PollingOnly,
        other => panic!("unexpected: {other:?}"),
    };
    // The test may have ended.
    _ = sender.send(told);
}

/// A node on a database.
pub(crate) struct Node {
    pub(crate) catalog: DatabaseCatalog,
    /// The clock for durations.
    pub(crate) clock: Arc<ManualClock>,
    /// The system's clock.
    pub(crate) wall_clock: Arc<ManualClock>,
    pub(crate) told: Receiver<Told>,
}

pub(crate) fn actor() -> Actor {
    Actor::new("tester").unwrap()
}

/// A body, as JSON.
pub(crate) fn body(json: &str) -> document::Node {
    document::read(json, Format::Json).unwrap().unwrap()
}

impl Node {
    pub(crate) async fn try_create(
        &self,
        kind: Kind,
        json: &str,
    ) -> Result<Created, DirectoryError> {
        self.catalog.create(&actor(), kind, &body(json)).await
    }

    pub(crate) async fn create(&self, kind: Kind, json: &str) -> Created {
        self.try_create(kind, json).await.unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    /// Creates records of several kinds.
    pub(crate) async fn create_all(&self, records: &[(Kind, &str)]) {
        for (kind, json) in records {
            self.create(*kind, json).await;
        }
    }

    pub(crate) async fn get(&self, kind: Kind, id: &str) -> Stored {
        self.catalog.get(kind, id).await.unwrap_or_else(|error| panic!("{kind} {id}: {error}"))
    }

    pub(crate) async fn patch(&self, kind: Kind, id: &str, json: &str) -> Stored {
        let patched = self.catalog.patch(&actor(), kind, id, None, &body(json)).await;
        patched.unwrap_or_else(|error| panic!("{kind} {id} {json}: {error}"))
    }

    pub(crate) async fn delete(&self, kind: Kind, id: &str) {
        self.catalog.delete(&actor(), kind, id, None).await.unwrap();
    }

    /// The version of the snapshot in force.
    pub(crate) fn version(&self) -> u64 {
        self.catalog.reader().current().version()
    }

    pub(crate) async fn resolve(&self, asked: Asked<'_>) -> Resolution {
        let snapshot = self.catalog.reader().snapshot();
        self.catalog.resolver().resolve(&snapshot, &asked).await
    }

    /// The next event of the observer.
    pub(crate) async fn next_told(&self) -> Told {
        let told = async {
            loop {
                if let Ok(told) = self.told.try_recv() {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, told).await.expect("told before the deadline")
    }

    /// The number of changes so far.
    pub(crate) async fn last_change(&self) -> u64 {
        let page =
            self.catalog.changes(&ChangeFilter::default(), &PageRequest::default()).await.unwrap();
        page.items.first().map_or(1, |change| change.id)
    }
}

/// The JSON of a record.
pub(crate) fn json(record: &Record) -> String {
    document::to_json(&record.to_node())
}

/// The problems of a refusal, as texts; any other result fails the test.
#[track_caller]
pub(crate) fn problems<T: std::fmt::Debug>(result: Result<T, DirectoryError>) -> Vec<String> {
    match result {
        Err(DirectoryError::Invalid(problems)) => problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect(),
        other => panic!("{other:?} instead of a list of problems"),
    }
}

pub(crate) fn next(version: Version) -> Version {
    Version(version.0 + 1)
}
