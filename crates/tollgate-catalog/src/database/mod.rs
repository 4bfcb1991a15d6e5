//! The catalog in SQLite or PostgreSQL.
//!
//! Policies, tiers and models are loaded completely and published as a [`Snapshot`](crate::Snapshot). Users, tenants
//! and API keys, of which there may be millions, are loaded when needed and cached. The version of the database, a
//! number that every change raises, tells all nodes when something has changed.
//!
//! This module must not know HTTP or a check's limits. It is the only module that uses sqlx.

mod body;
mod cache;
mod cached_record;
mod failure;
mod feed;
mod find;
mod location;
mod migrations;
mod open;
mod read;
mod retry_gate;
mod rows;
mod secret;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tollgate_core::{Clock, MonotonicClock, SystemWallClock, WallClock};

pub(crate) use self::cache::{Entry, SubjectCache};
use self::failure::{Failure, unavailable};
use self::feed::Feed;
use self::location::Location;
pub use self::open::database_file;
use self::session::Pool;
use crate::api_key::KeyHasher;
use crate::directory::DirectoryError;
use crate::error::CatalogError;
use crate::file_catalog::Observer;
use crate::resolve::Resolver;
use crate::snapshot::SnapshotReader;

/// The settings of a database. Every bound has a name here.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// The most connections of this node.
    pub connections: u32,
    /// How often to ask for changes. Together with the time for loading, it bounds how late a change applies on a node
    /// that no notification reaches.
    pub poll_every: Duration,
    /// Whether to listen to the notifications of PostgreSQL; otherwise changes are found by polling only.
    pub notifications: bool,
    /// The most cached users, the most cached tenants and the most cached API keys.
    pub cached_subjects: u64,
    /// The age from which an answer is reloaded in the background while it is used. Changes do not wait for this.
    pub refresh_after: Duration,
    /// The same for the answer that there is no such subject.
    pub refresh_unknown_after: Duration,
    /// How long a check may wait for a subject that is not cached.
    pub load_timeout: Duration,
    /// How often to try again when the database does not answer. In between, no check waits for it.
    pub retry_every: Duration,
    /// How long a change waits for other changes.
    pub lock_timeout: Duration,
    /// How long a call of the directory may take. An import is one call.
    pub call_timeout: Duration,
    /// How often to write when API keys were last used.
    pub record_uses_every: Duration,
    /// The most of these times that are written in one transaction.
    pub uses_per_batch: usize,
    /// The clock for the age of answers and for retries.
    pub clock: Arc<dyn Clock>,
    /// Civil time: for the expiry and last use of API keys, and the time of changes.
    pub wall_clock: Arc<dyn WallClock>,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            poll_every: Duration::from_secs(1),
            notifications: true,
            cached_subjects: 100_000,
            refresh_after: Duration::from_mins(1),
            refresh_unknown_after: Duration::from_secs(10),
            load_timeout: Duration::from_millis(100),
            retry_every: Duration::from_secs(1),
            lock_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_mins(1),
            record_uses_every: Duration::from_secs(30),
            uses_per_batch: 500,
            clock: Arc::new(MonotonicClock::new()),
            wall_clock: Arc::new(SystemWallClock),
        }
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseOptions")
            .field("connections", &self.connections)
            .field("cached_subjects", &self.cached_subjects)
            .finish_non_exhaustive()
    }
}

/// A catalog in a database. When it is dropped, it stops following changes, and readers keep the last snapshot.
pub struct DatabaseCatalog {
    core: Arc<Core>,
    /// Tasks that follow changes and record uses; aborted on drop.
    _tasks: JoinSet<()>,
}

/// Shared by the calls and the tasks of one catalog.
struct Core {
    pool: Pool,
    location: Location,
    subjects: Arc<SubjectCache>,
    feed: Feed,
    hasher: KeyHasher,
    options: DatabaseOptions,
    /// The changes of this node wait for each other here, in order, instead of in the database.
    writing: Mutex<()>,
}

impl DatabaseCatalog {
    /// Opens the database at `url` (`sqlite:FILE`, created if it is missing, or `postgres://…`), updates its schema,
    /// loads the current policies and follows changes.
    ///
    /// `hasher` hashes API keys: its key must be the same on every node, and for the whole life of the API keys. A task
    /// of the runtime calls `observer` with events; it must not block.
    pub async fn open(
        url: &str,
        hasher: KeyHasher,
        options: DatabaseOptions,
        observer: impl Observer,
    ) -> Result<Self, CatalogError> {
        let (pool, location) = open::pool(url, &options).await?;
        secret::check(&pool, &hasher).await?;
        let subjects = Arc::new(SubjectCache::new(pool.clone(), &options));
        let feed = Feed::start(&pool, Box::new(observer)).await?;
        subjects.ask_whether_empty().await.map_err(unavailable).map_err(Failure::from)?;
        let writing = Mutex::new(());
        let core = Arc::new(Core { pool, location, subjects, feed, hasher, options, writing });
        let mut tasks = JoinSet::new();
        tasks.spawn(poll(Arc::clone(&core)));
        tasks.spawn(record_uses(Arc::clone(&core)));
        if let Pool::Postgres(pool) = &core.pool
            && core.options.notifications
        {
            tasks.spawn(feed::listen(Arc::clone(&core), pool.clone()));
        }
        Ok(Self { core, _tasks: tasks })
    }

    /// A reader of the snapshots of this catalog.
    pub fn reader(&self) -> SnapshotReader {
        self.core.feed.reader()
    }

    /// Resolves the subjects of checks.
    pub fn resolver(&self) -> Resolver {
        let subjects = Arc::clone(&self.core.subjects);
        let clock = Arc::clone(&self.core.options.clock);
        Resolver::of_database(subjects, self.core.hasher.clone(), clock)
    }

    /// Whether the database answered the last time it was asked. If not, the last known answers are used.
    pub fn is_reachable(&self) -> bool {
        self.core.subjects.gate().is_open()
    }

    /// How often the database was asked for a user, a tenant or an API key since the start.
    pub fn subject_loads(&self) -> u64 {
        self.core.subjects.loads()
    }

    /// Writes now when API keys were last used; otherwise this happens periodically.
    pub async fn record_uses(&self) -> Result<(), DirectoryError> {
        Ok(self.core.subjects.record_uses().await?)
    }

    /// Writes pending data and closes every connection; SQLite then moves all data into its one file. Later calls fail.
    pub async fn close(&self) {
        // Uses that cannot be written are lost; the times are only informative.
        _ = self.core.subjects.record_uses().await;
        self.core.pool.close().await;
    }
}

impl fmt::Debug for DatabaseCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseCatalog").field("pool", &self.core.pool).finish_non_exhaustive()
    }
}

async fn poll(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.options.poll_every).await;
        core.feed.follow(&core).await;
    }
}

async fn record_uses(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.options.record_uses_every).await;
        // If it cannot be written now, it is written next time.
        _ = core.subjects.record_uses().await;
    }
}
