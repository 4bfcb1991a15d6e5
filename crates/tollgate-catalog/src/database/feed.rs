//! Follows the changes of the database, so that a change by any node applies here (P11).
//!
//! It asks for the version of the catalog periodically, which alone is enough. A change in this process or a
//! notification of PostgreSQL only makes it ask at once. Invalid data never replaces valid data.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::postgres::PgListener;
use tokio::sync::Mutex;
use tollgate_core::{Accepted, Attribute, Pattern, PolicySet, PolicySetError};

use super::cache;
use super::failure::{DriverError, Failure, unavailable};
use super::rows::{self, signed};
use super::session::{Connection, Pool};
use super::{Core, statements};
use crate::directory::{Kind, Records, Unavailable};
use crate::error::CatalogError;
use crate::file_catalog::{CatalogEvent, Observer};
use crate::problem::{DocumentProblem, Problems};
use crate::snapshot::{Loaded, Publisher, SnapshotReader};
use crate::validate::{self, DeclaredIds, NO_CIRCLE, Places};

/// The most changes that are followed one by one; after more, every cached entry is loaded again.
const MAX_FOLLOWED: usize = 1_000;

/// The versions in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// Of everything.
    pub(super) version: u64,
    /// The version of the data in the snapshot.
    pub(super) snapshot_version: u64,
}

/// What this node knows about the database.
pub(super) struct Feed {
    followed: Mutex<Followed>,
    reader: SnapshotReader,
}

struct Followed {
    /// The last change that the caches have recorded.
    version: u64,
    publisher: Publisher,
    /// The snapshot version that was refused.
    refused: Option<u64>,
    observer: Box<dyn Observer>,
    is_away: bool,
}

impl Feed {
    /// Loads the current policies.
    pub(super) async fn start(
        pool: &Pool,
        observer: Box<dyn Observer>,
    ) -> Result<Self, CatalogError> {
        let (versions, loaded) = load(pool).await.map_err(CatalogError::from)?;
        let publisher = Publisher::new(versions.snapshot_version, loaded);
        let reader = publisher.reader();
        let version = versions.version;
        let followed = Followed { version, publisher, refused: None, observer, is_away: false };
        Ok(Self { followed: Mutex::new(followed), reader })
    }

    pub(super) fn reader(&self) -> SnapshotReader {
        self.reader.clone()
    }

    /// Tells the observer that there are no notifications.
    async fn tell_polling_only(&self, error: sqlx::Error) {
        let followed = self.followed.lock().await;
        followed.observer.observe(&CatalogEvent::PollingOnly(&DriverError(error)));
    }

    /// Catches up with the database. If that fails, the next call tries again.
    pub(super) async fn follow(&self, core: &Core) {
        let mut followed = self.followed.lock().await;
        let catching_up = catch_up(&mut followed, core);
        let caught_up = tokio::time::timeout(core.options.call_timeout, catching_up).await;
        match caught_up.unwrap_or_else(|_| Err(too_late())) {
            Ok(()) => {
                core.subjects.gate().succeeded();
                if std::mem::take(&mut followed.is_away) {
                    followed.observer.observe(&CatalogEvent::Available);
                }
            }
            Err(error) => {
                core.subjects.gate().failed(core.options.clock.now());
                if !std::mem::replace(&mut followed.is_away, true) {
                    followed.observer.observe(&CatalogEvent::Unavailable(&error));
                }
            }
        }
    }
}

fn too_late() -> Unavailable {
    Unavailable::new("the database did not answer in time; try again", None)
}

async fn catch_up(followed: &mut Followed, core: &Core) -> Result<(), Unavailable> {
    core.location.check()?;
    // A hanging database is noticed here, before anything that may legitimately take long.
    let asking = core.pool.row(statements::VERSIONS, &[]);
    let asked = tokio::time::timeout(core.options.lock_timeout, asking).await;
    let versions = versions_of(asked.map_err(|_| too_late())?)?;
    let now = core.options.clock.now();
    if versions.version < followed.version {
        // The database was replaced by a backup.
        core.subjects.invalidate_all();
    } else if versions.version > followed.version {
        let arguments = [signed(followed.version).into(), signed(MAX_FOLLOWED as u64 + 1).into()];
        let mut transaction = core.pool.begin_reading().await.map_err(unavailable)?;
        let rows = transaction.connection().rows(statements::CHANGED_SINCE, &arguments).await;
        let rows = rows.map_err(unavailable)?;
        drop(transaction);
        if rows.len() > MAX_FOLLOWED {
            core.subjects.invalidate_all();
        } else {
            let changed: Result<Vec<_>, _> = rows.iter().map(cache::changed).collect();
            let changed = changed.map_err(unavailable)?;
            core.subjects.changed(&changed, now).await.map_err(unavailable)?;
        }
    }
    if versions.snapshot_version != followed.publisher.version() {
        publish(followed, &core.pool, versions.snapshot_version).await?;
    } else if followed.refused.take().is_some() {
        followed.observer.observe(&CatalogEvent::Restored);
    }
    followed.version = versions.version;
    Ok(())
}

/// Publishes what is in the database, unless it is invalid; then the observer is told once for each version.
async fn publish(
    followed: &mut Followed,
    pool: &Pool,
    snapshot_version: u64,
) -> Result<(), Unavailable> {
    if followed.refused == Some(snapshot_version) {
        return Ok(());
    }
    match load(pool).await {
        Ok((versions, loaded)) => {
            let snapshot = followed.publisher.publish(versions.snapshot_version, loaded);
            followed.refused = None;
            followed.observer.observe(&CatalogEvent::Published(&snapshot));
            Ok(())
        }
        Err(Failure::Invalid(problems)) => {
            followed.refused = Some(snapshot_version);
            let error = CatalogError::Invalid(problems);
            followed.observer.observe(&CatalogEvent::Refused(&error));
            Ok(())
        }
        Err(Failure::Database(error)) => Err(error),
    }
}

/// Everything that the snapshot holds, read in one transaction, and its version.
async fn load(pool: &Pool) -> Result<(Versions, Loaded), Failure> {
    let mut transaction = pool.begin_reading().await.map_err(unavailable)?;
    let mut connection = transaction.connection();
    let versions = versions_of(connection.row(statements::VERSIONS, &[]).await)?;
    let mut records = Records::default();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_in_snapshot()) {
        read_all(&mut connection, kind, &mut records).await?;
    }
    let declared = declared(&mut connection, &records).await?;
    let mut warnings = validate::warnings(&records.policies, &declared, &Places::default());
    warnings.extend(validate::stored_ids_like_patterns(&records));
    warnings.truncate(Problems::MAX_KEPT);
    let policies = policy_set(&mut records)?;
    Ok((versions, Loaded { policies, listed: records.into(), warnings }))
}

/// The most tenants, and the most users, that conditions of policies are compared with.
pub(super) const MAX_DECLARED: usize = 1_000;

/// The tiers and model tiers of `records`, and the tenants and users that conditions of its policies name, with some more.
pub(super) async fn declared(
    connection: &mut Connection<'_>,
    records: &Records,
) -> Result<DeclaredIds, Failure> {
    let mut declared = DeclaredIds::of_records(records);
    declared.knows_api_keys = true;
    for (kind, attribute) in [(Kind::Tenant, Attribute::Tenant), (Kind::User, Attribute::User)] {
        let conditions = records.policies.iter().flat_map(|policy| &policy.conditions);
        let patterns = conditions.filter(|one| one.attribute == attribute).filter_map(|one| {
            match &one.accepted {
                Accepted::AnyOf(patterns) => Some(patterns),
                Accepted::Present | Accepted::Absent => None,
            }
        });
        let named: BTreeSet<&str> = patterns
            .flatten()
            .filter_map(|pattern| match pattern {
                Pattern::Exact(id) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        if named.is_empty() || named.len() > MAX_DECLARED {
            continue;
        }
        let first = [signed(FIRST_DECLARED as u64).into()];
        let rows =
            connection.rows(statements::first_ids(kind), &first).await.map_err(unavailable)?;
        if rows.len() >= FIRST_DECLARED {
            declared.has_more(kind);
        }
        for row in rows {
            declared.add(kind, &row.text(0).map_err(unavailable)?);
        }
        for id in named {
            let found = connection.rows(statements::get(kind), &[id.into()]).await;
            if !found.map_err(unavailable)?.is_empty() {
                declared.add(kind, id);
            }
        }
    }
    Ok(declared)
}

/// How many ids of a kind are read to suggest one of them.
pub(super) const FIRST_DECLARED: usize = 100;

/// Adds all records of `kind` to `records`, and a problem for each invalid row.
pub(super) async fn read_all(
    connection: &mut Connection<'_>,
    kind: Kind,
    records: &mut Records,
) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for row in connection.rows(statements::all(kind), &[]).await.map_err(unavailable)? {
        match rows::stored(kind, &row) {
            Ok(stored) => records.add(stored.record),
            Err(error) => problems.extend(row_problems(kind, &row, &error)),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems::of("", problems, 0).into()) }
}

/// The problems of a row, with the record's id in front of each path.
fn row_problems(
    kind: Kind,
    row: &super::session::Row,
    error: &sqlx::Error,
) -> Vec<DocumentProblem> {
    let id = row.text(0).unwrap_or_default();
    let place = format!("{}[{id:?}]", kind.list_name());
    let inner = match error {
        sqlx::Error::Decode(source) => source.downcast_ref::<Problems>(),
        _ => None,
    };
    match inner {
        Some(problems) => problems
            .iter()
            .map(|problem| {
                let dot = if problem.path.is_empty() { "" } else { "." };
                let path = format!("{place}{dot}{}", problem.path);
                DocumentProblem { path, position: None, ..problem.clone() }
            })
            .collect(),
        None => vec![DocumentProblem {
            position: None,
            path: place,
            message: format!("cannot be read: {error}"),
            accepted: "only rows that Tollgate has written".to_owned(),
        }],
    }
}

/// The policies of `records`, compiled.
pub(super) fn policy_set(records: &mut Records) -> Result<PolicySet, Problems> {
    PolicySet::exactly(std::mem::take(&mut records.policies)).map_err(|error| {
        let (path, accepted) = match &error {
            PolicySetError::UnknownOverride { .. } => ("overrides", "the id of a policy"),
            PolicySetError::OverrideCycle(_) => ("overrides", NO_CIRCLE),
            _ => ("", ""),
        };
        let problem = DocumentProblem::of_text(None, error.to_string(), accepted);
        Problems::of("", vec![DocumentProblem { path: path.to_owned(), ..problem }], 0)
    })
}

pub(super) fn versions_of(
    row: sqlx::Result<Option<super::session::Row>>,
) -> Result<Versions, Unavailable> {
    let read = |row: super::session::Row| {
        let (version, snapshot_version) = (rows::unsigned(&row, 0)?, rows::unsigned(&row, 1)?);
        Ok(Versions { version, snapshot_version })
    };
    row.and_then(|row| row.ok_or(sqlx::Error::RowNotFound)).and_then(read).map_err(unavailable)
}

/// Asks at each notification of PostgreSQL. Never returns. Polling continues whatever happens to the connection.
pub(super) async fn listen(core: Arc<Core>, pool: sqlx::PgPool) {
    let mut is_told = false;
    loop {
        match listener(&pool).await {
            Ok(mut listener) => {
                is_told = false;
                // Changes that were announced before it listened are found now.
                core.feed.follow(&core).await;
                // `None` means that the connection was lost and made again; a notification may have been missed.
                while listener.try_recv().await.is_ok() {
                    core.feed.follow(&core).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    core.feed.tell_polling_only(error).await;
                }
            }
        }
        tokio::time::sleep(core.options.retry_every).await;
    }
}

async fn listener(pool: &sqlx::PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(statements::CHANNEL).await?;
    Ok(listener)
}
