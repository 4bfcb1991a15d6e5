//! Counts and logs what happens around the store: a line for each transition, not for each check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate_core::{Clock, FailureMode, MonotonicClock};
use tollgate_store::resilience::{BreakerState, StoreObserver};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::health::Health;
use crate::metrics::Metrics;
use crate::telemetry::Chain;

/// The least time between two lines about answers of the store that must not be.
const UNEXPECTED_EVERY: Duration = Duration::from_secs(10);

/// Counts, logs and shows in `/readyz` what happens around the store.
#[derive(Debug)]
pub(crate) struct StoreWatch {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: MonotonicClock,
    /// When the next unexpected answer may be logged, in nanoseconds.
    next_unexpected_ns: AtomicU64,
}

impl StoreWatch {
    pub(crate) fn new(metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let clock = MonotonicClock::new();
        Self { metrics, health, clock, next_unexpected_ns: AtomicU64::new(0) }
    }

    /// An answer that must not be concerns some key, not the whole store: no breaker opens, and no line of it
    /// may be missing, but a line for each check would be too many.
    #[cold]
    fn unexpected(&self, error: &StoreError) {
        let now = self.clock.now();
        let due_ns = self.next_unexpected_ns.load(Ordering::Relaxed);
        let next_ns = now.after(UNEXPECTED_EVERY).as_ns();
        // Relaxed: the exchange only elects one thread.
        let elected = now.as_ns() >= due_ns
            && self
                .next_unexpected_ns
                .compare_exchange(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if elected {
            tracing::error!(error = %Chain(error), "the store answered what it must not; decided without it");
        }
    }
}

impl StoreObserver for StoreWatch {
    fn breaker_changed(&self, from: BreakerState, to: BreakerState, cause: Option<&StoreError>) {
        self.metrics.store.breaker_is(to);
        self.health.set_store_degraded(to != BreakerState::Closed);
        let error = cause.map(|cause| tracing::field::display(Chain(cause)));
        match (from, to) {
            (BreakerState::Closed, _) => {
                tracing::warn!(error, "the store fails; checks are decided without it");
            }
            (_, BreakerState::Closed) => tracing::info!("the store decides again"),
            _ => tracing::debug!(error, from = from.name(), to = to.name(), "probing the store"),
        }
    }

    fn failed(&self, error: &StoreError) {
        self.metrics.store_errors.inc();
        if error.kind() == StoreErrorKind::Unexpected {
            self.unexpected(error);
        }
    }

    fn degraded(&self, mode: FailureMode) {
        self.metrics.store.degraded(mode);
    }

    fn denied_locally(&self) {
        self.metrics.store.denied_locally.inc();
    }
}
