//! Snapshots of the store in memory: read at the start, written now and then and at the end.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Clock, MonotonicClock, SystemWallClock, WallClock};
use tollgate_store::MemoryStore;
use tollgate_store::memory::{Found, MemoryStoreOptions, SnapshotFile, SnapshotTime};

use crate::app::{App, Backend};
use crate::config::SnapshotConfig;
use crate::start_error::StartError;

/// A difference of the store's clock from the system's that is worth a line: calendars start as much too early or too late.
const NOTED_DIFFERENCE: Duration = Duration::from_secs(1);

/// Where the snapshots of a store are written.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    file: Arc<SnapshotFile>,
    every: Duration,
}

impl Snapshots {
    /// Opens the directory of `config`, and makes the store of the snapshot there, or an empty one.
    pub(crate) async fn open(
        config: &SnapshotConfig,
        options: MemoryStoreOptions,
    ) -> Result<(Self, MemoryStore), StartError> {
        let dir = config.dir.clone();
        let failed = |source| StartError::Snapshots { path: config.dir.clone(), source };
        let opened = tokio::task::spawn_blocking(move || {
            let file = SnapshotFile::open(&dir)?;
            let found = file.load(&options, resumed_clock)?;
            Ok((file, found, options))
        });
        let opened = opened.await.map_err(std::io::Error::other).flatten();
        let (file, found, options) = opened.map_err(failed)?;
        let store = match found {
            Found::Store(store) => {
                let stats = store.stats();
                tracing::info!(
                    dir = %config.dir.display(),
                    keys = stats.keys,
                    leases = stats.leases,
                    "usage goes on from a snapshot"
                );
                *store
            }
            Found::Nothing => {
                tracing::info!(
                    dir = %config.dir.display(),
                    "there is no snapshot of usage yet: the store starts empty"
                );
                MemoryStore::with_clock(MonotonicClock::new(), &options)
            }
            Found::Refused(error, kept_as) => {
                tracing::error!(
                    %error,
                    kept_as = %kept_as.display(),
                    "the snapshot of usage cannot be read: the store starts empty, and limits may admit as much again"
                );
                MemoryStore::with_clock(MonotonicClock::new(), &options)
            }
        };
        Ok((Self { file: Arc::new(file), every: config.every }, store))
    }

    /// Writes the last snapshot, when nothing is decided any more; whether nothing is lost.
    pub(crate) async fn write_last<S: Backend>(&self, app: &Arc<App<S>>) -> bool {
        let is_saved = self.write(app).await;
        if !is_saved {
            tracing::error!(
                "the last snapshot of usage is missing: a restart loses what came after the one before it"
            );
        }
        is_saved
    }

    /// Writes a snapshot. Returns whether all usage is in one, or belongs to another process.
    async fn write<S: Backend>(&self, app: &Arc<App<S>>) -> bool {
        let (saved, file) = (Arc::clone(app), Arc::clone(&self.file));
        let work = move || saved.service.store().save(&file);
        let written = match tokio::task::spawn_blocking(work).await {
            Ok(None) => return true,
            Ok(Some(written)) => written,
            Err(error) => Err(std::io::Error::other(error)),
        };
        app.metrics.snapshots.wrote(written.is_ok(), app.clock.now());
        let is_saved = written.is_ok();
        let is_new = app.health.set_snapshots_fail(!is_saved);
        match written {
            Ok(bytes) if is_new => {
                tracing::info!(bytes, "snapshots of usage can be written again");
            }
            Ok(bytes) => tracing::debug!(bytes, "wrote a snapshot of usage"),
            Err(error) if is_new => tracing::error!(
                %error,
                "a snapshot of usage could not be written; the one before it stays, and a restart would lose what came after it"
            ),
            Err(error) => tracing::debug!(%error, "a snapshot of usage could not be written"),
        }
        is_saved
    }
}

/// Writes a snapshot of the store now and then, if it writes any; never returns.
pub(crate) async fn write_now_and_then<S: Backend>(app: Arc<App<S>>) {
    let Some(snapshots) = app.snapshots.clone() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(snapshots.every).await;
        snapshots.write(&app).await;
    }
}

/// The clock of a store that goes on from a snapshot.
fn resumed_clock(time: SnapshotTime) -> MonotonicClock {
    let wall = SystemWallClock.wall_time();
    let resumed = time.resumed(wall);
    let difference = resumed.since(wall).max(wall.since(resumed));
    if difference >= NOTED_DIFFERENCE {
        tracing::warn!(
            difference_s = difference.as_secs(),
            "the system's clock was set since the store first started: windows are not affected, but calendars start as much too \
             early or too late; to align them, stop the server and delete the snapshot"
        );
    }
    MonotonicClock::starting_at(resumed)
}
