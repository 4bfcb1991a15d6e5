//! The shared state of all calls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tollgate_core::{Clock, MonotonicClock, SystemWallClock, WallClock};
use tollgate_otlp::Otlp;
use tollgate_service::RateLimitService;
use tollgate_store::memory::{MemoryStoreStats, SnapshotFile};
use tollgate_store::resilience::Resilient;
use tollgate_store::{MemoryStore, Store};

use crate::admin_directory::AdminDirectory;
use crate::config::{AuthHeaders, HttpLimits, WhatIfBounds};
use crate::guard::Guard;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::net::RequestMemory;
use crate::recorder::Recorder;
use crate::snapshots::Snapshots;

/// A store that the server runs: besides deciding, it reports what it holds in this process's memory and can clean up.
pub(crate) trait Backend: Store {
    /// What it holds in memory, and its evictions.
    fn stats(&self) -> MemoryStoreStats;

    /// How many keys have usage; `None` if another process holds them.
    fn keys(&self) -> Option<u64>;

    /// Removes what no longer counts. May take a while, so do not call it on a thread that serves.
    fn sweep(&self);

    /// Writes a snapshot and returns its length; `None` if another process holds what it counts. Blocks the thread.
    fn save(&self, file: &SnapshotFile) -> Option<io::Result<u64>> {
        _ = file;
        None
    }

    /// Does what no check does, such as probing a store that fails. Call it several times a second.
    fn tend_store(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl<C: Clock + 'static> Backend for MemoryStore<C> {
    fn stats(&self) -> MemoryStoreStats {
        self.stats()
    }

    fn keys(&self) -> Option<u64> {
        Some(self.keys())
    }

    fn sweep(&self) {
        self.sweep();
    }

    fn save(&self, file: &SnapshotFile) -> Option<io::Result<u64>> {
        Some(file.save(self, SystemWallClock.wall_time()))
    }
}

/// A networked store holds only the usage of checks that were decided without it in this process.
impl<S: Store, C: Clock + 'static> Backend for Resilient<S, C> {
    fn stats(&self) -> MemoryStoreStats {
        self.local_stats()
    }

    fn keys(&self) -> Option<u64> {
        None
    }

    fn sweep(&self) {
        self.sweep();
    }

    async fn tend_store(&self) {
        self.tend().await;
    }
}

/// The shared state of the calls below `/admin`.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Checks admin tokens.
    pub(crate) guard: Guard,
    /// The records.
    pub(crate) directory: AdminDirectory,
}

/// Comparisons of policies.
#[derive(Debug)]
pub(crate) struct WhatIfs {
    /// A permit for each that may run.
    pub(crate) running: Arc<Semaphore>,
    /// Their bounds.
    pub(crate) bounds: WhatIfBounds,
}

/// The shared state of all calls.
#[derive(Debug)]
pub(crate) struct App<S> {
    /// The directory, and the guard of the admin calls.
    pub(crate) admin: Admin,
    /// The use cases.
    pub(crate) service: Arc<RateLimitService<S>>,
    /// Records the checks, if it is asked to.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// The comparisons of policies.
    pub(crate) what_if: WhatIfs,
    /// Whether settlements that the store did not answer are kept on disk.
    pub(crate) journals_to_disk: bool,
    /// The snapshots of the store, if it writes any.
    pub(crate) snapshots: Option<Snapshots>,
    /// Traces and metrics over OTLP, if they are sent.
    pub(crate) otlp: Option<Arc<Otlp>>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The state that `/readyz` reports.
    pub(crate) health: Arc<Health>,
    /// The bounds of requests.
    pub(crate) limits: HttpLimits,
    /// The headers that `/rate-limit/auth` reads.
    pub(crate) auth_headers: AuthHeaders,
    /// The memory held by unfinished requests.
    pub(crate) memory: RequestMemory,
    /// Only measures the duration of calls; decisions use the store's clock (R7).
    pub(crate) clock: MonotonicClock,
}

/// What bounds a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyBounds<'a> {
    pub(crate) max_bytes: usize,
    pub(crate) timeout: Duration,
    /// What all unfinished requests share.
    pub(crate) memory: &'a RequestMemory,
}

impl<S> App<S> {
    /// The bounds of a body of at most `max_bytes`.
    pub(crate) fn bodies(&self, max_bytes: usize) -> BodyBounds<'_> {
        BodyBounds { max_bytes, timeout: self.limits.body_timeout, memory: &self.memory }
    }
}

impl<S: Backend> App<S> {
    /// All metrics as `OpenMetrics` text.
    pub(crate) fn metrics_text(&self) -> Result<String, std::fmt::Error> {
        self.metrics.store.enforcing.set(i64::from(!self.health.store_degraded()));
        let waiting = self.service.journal().map_or(0, |journal| journal.stats().waiting);
        self.metrics.leases.set_journal_length(waiting);
        if let Some(otlp) = &self.otlp {
            self.metrics.set_otlp(otlp.stats());
        }
        self.metrics.encode(self.service.store().stats())
    }
}
