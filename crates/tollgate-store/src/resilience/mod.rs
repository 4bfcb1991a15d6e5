//! Decorators of [`Store`] for a store that may fail (R11); each can be used alone.
//!
//! ```text
//! Fallback          turns an error into verdicts, by the failure mode of each limit
//! └ PartKeeper      takes parts of split limits ahead of time, and decides from them
//!   └ DenialCache   answers denials that are already known
//!     └ Breaker     sends no calls to a store that fails, and probes it
//!       └ Deadline  one deadline for everything that a call does
//!         └ a store
//! ```
//!
//! [`Resilient::around`] puts all of them around a store, in this order. A decorator must not know which store it
//! wraps, and must not log; it reports events to a [`StoreObserver`].

mod breaker;
#[cfg(test)]
mod breaker_model;
mod deadline;
mod denial_cache;
mod fallback;
mod known_limit;
mod parts;
#[cfg(test)]
mod scripted;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Clock, FailureMode, MonotonicClock};

use crate::{ChargeLeft, FaultDomain, Store, StoreError};
pub use breaker::{Breaker, BreakerOptions, BreakerState};
pub use deadline::{Deadline, store_timeout};
pub use denial_cache::{DenialCache, Invalidations};
pub use fallback::Fallback;
pub use parts::{PartEvent, PartKeeper};

/// A store with all decorators.
pub type Resilient<S, C = MonotonicClock> =
    Fallback<PartKeeper<DenialCache<Breaker<Deadline<S>, C>, C>, C>, C>;

/// The settings of the decorators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResilienceOptions {
    /// The longest time that a decision takes, whatever the store does. `None` if the store enforces its [part of
    /// it](store_timeout) itself, so that it can distinguish a slow connection from a call that was abandoned.
    pub timeout: Option<Duration>,
    /// The failure mode of limits whose policy has none.
    pub on_store_error: FailureMode,
    /// How many nodes share each limit: with the mode `local`, each node enforces 1/nodes of the amount.
    pub nodes: NonZeroU32,
    /// The most keys whose denials are remembered.
    pub max_denied_keys: usize,
    /// When the breaker opens, and for how long.
    pub breaker: BreakerOptions,
}

impl Default for ResilienceOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_millis(100)),
            on_store_error: FailureMode::default(),
            nodes: NonZeroU32::MIN,
            max_denied_keys: 65_536,
            breaker: BreakerOptions::default(),
        }
    }
}

impl<S: Store, C: Clock + Clone + 'static> Resilient<S, C> {
    /// `store` with all decorators around it. `clock` is this node's own.
    pub fn around(
        store: S,
        clock: C,
        options: &ResilienceOptions,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        let timed = Deadline::new(store, options.timeout);
        let breaker =
            Breaker::new(timed, clock.clone(), options.breaker.clone(), Arc::clone(&observer));
        let max_keys = options.max_denied_keys;
        let denials = DenialCache::new(breaker, clock.clone(), max_keys, Arc::clone(&observer));
        let parts = PartKeeper::new(denials, clock.clone(), Arc::clone(&observer));
        Self::new(parts, clock, options.on_store_error, options.nodes, observer)
    }
}

impl<S: Store, C: Clock + 'static> Resilient<S, C> {
    /// The inner store uses this to announce that known denials may be wrong.
    pub fn invalidations(&self) -> Invalidations {
        self.inner().inner().invalidations()
    }

    /// Gives ended parts back ([`PartKeeper::tend`]) and maintains the breaker ([`Breaker::tend`]). Call it several times a
    /// second.
    pub async fn tend(&self) {
        self.inner().tend();
        self.inner().inner().inner().tend().await;
    }

    /// The state of the breaker.
    pub fn breaker_state(&self) -> BreakerState {
        self.inner().inner().inner().state()
    }

    /// The inner store.
    pub fn store(&self) -> &S {
        self.inner().inner().inner().inner().inner()
    }
}

/// Receives events around a store. It is called while checks are decided, so it should only count, or log rarely.
pub trait StoreObserver: fmt::Debug + Send + Sync + 'static {
    /// The breaker of `domain` changed its state; `cause` is the error that opened it, if it opened. If the store no
    /// longer uses a domain, it closes. Must not call the breaker.
    fn breaker_changed(
        &self,
        domain: FaultDomain,
        from: BreakerState,
        to: BreakerState,
        cause: Option<&StoreError>,
    ) {
        _ = (domain, from, to, cause);
    }

    /// A call to the store failed, or was not sent because the breaker was open. Also called for a call whose caller has
    /// gone, if the store finishes such calls; not for probes.
    fn call_failed(&self, error: &StoreError) {
        _ = error;
    }

    /// The store could not answer a caller who waits. Also called while the breaker is open, because then each check fails.
    fn failed(&self, error: &StoreError) {
        _ = error;
    }

    /// A check was decided without the store, at least one limit of it by `mode`. Called once per check for each mode.
    fn degraded(&self, mode: FailureMode) {
        _ = mode;
    }

    /// A check was denied by a known denial; the store was not asked.
    fn denied_locally(&self) {}

    /// A check was admitted from parts in hand; the store was not asked.
    fn admitted_locally(&self) {}

    /// `units` of split limits were taken ahead of time, spent, given back, or left.
    fn parts_changed(&self, event: PartEvent, units: u64) {
        _ = (event, units);
    }

    /// A charge stays in the store although its check was not admitted; it leaves with its window.
    fn charge_left(&self, why: ChargeLeft) {
        _ = why;
    }
}

impl StoreObserver for () {}
