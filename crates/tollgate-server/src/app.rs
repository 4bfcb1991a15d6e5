//! What every call works on.

use std::sync::Arc;

use tollgate_core::{Clock, MonotonicClock};
use tollgate_service::RateLimitService;
use tollgate_store::memory::MemoryStoreStats;
use tollgate_store::resilience::Resilient;
use tollgate_store::{MemoryStore, Store};

use crate::administered::Administered;
use crate::config::HttpLimits;
use crate::health::Health;
use crate::http::{BodyBounds, Guard};
use crate::metrics::Metrics;
use crate::net::RequestMemory;

/// A store that the server runs: besides deciding, it says what it holds in this process's memory and can be told
/// to clean up.
pub(crate) trait Backend: Store {
    /// What it holds in memory, and did.
    fn stats(&self) -> MemoryStoreStats;

    /// How many keys have usage; `None` if another process holds them.
    fn keys(&self) -> Option<u64>;

    /// Removes what counts no more. May take a while; not for a thread that serves.
    fn sweep(&self);

    /// Finds out what no check does, such as that it is back. To be called several times a second.
    fn tend_store(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl<C: Clock + 'static> Backend for MemoryStore<C> {
    fn stats(&self) -> MemoryStoreStats {
        self.stats()
    }

    fn keys(&self) -> Option<u64> {
        Some(self.stats().keys)
    }

    fn sweep(&self) {
        self.sweep();
    }
}

/// A store over the network holds in this process only what was decided without it.
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

/// What the calls below `/admin` work on.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Lets in who bears a token.
    pub(crate) guard: Guard,
    /// The records.
    pub(crate) directory: Administered,
}

/// What every call works on.
#[derive(Debug)]
pub(crate) struct App<S> {
    /// The directory, and who may use it.
    pub(crate) admin: Admin,
    /// The use cases.
    pub(crate) service: RateLimitService<S>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What is told to those who ask whether the server is well.
    pub(crate) health: Arc<Health>,
    /// The bounds of requests.
    pub(crate) limits: HttpLimits,
    /// What unfinished requests hold in memory.
    pub(crate) memory: RequestMemory,
    /// Takes the time of calls, and only that: decisions go by the store's clock (R7).
    pub(crate) clock: MonotonicClock,
}

impl<S> App<S> {
    /// The bounds of a body of at most `max_bytes`.
    pub(crate) fn bodies(&self, max_bytes: usize) -> BodyBounds<'_> {
        BodyBounds { max_bytes, timeout: self.limits.body_timeout, memory: &self.memory }
    }
}
