//! What surrounds a store that may fail (R11): decorators of [`Store`], each usable by itself.
//!
//! ```text
//! Fallback          an error becomes verdicts by the failure mode of each limit
//! └ DenialCache     denials that are already known are answered here
//!   └ Breaker       a store that fails is left alone, and probed
//!     └ Deadline    one deadline over all that a call does
//!       └ a store
//! ```
//!
//! [`Resilient::around`] puts all of them around a store, in this order. A decorator must not know which store
//! it surrounds, nor log: what happens it tells a [`StoreObserver`].

mod breaker;
#[cfg(test)]
mod breaker_model;
mod deadline;
mod denial_cache;
mod fallback;
mod known_limit;
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

/// A store with everything around it that it needs to fail without harm.
pub type Resilient<S, C = MonotonicClock> = Fallback<DenialCache<Breaker<Deadline<S>, C>, C>, C>;

/// How a store that may fail is surrounded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResilienceOptions {
    /// The most time that a decision takes, whatever the store does; `None` if the store keeps to its
    /// [part of it](store_timeout) by itself, and so can tell a slow connection from a call that was given up.
    pub timeout: Option<Duration>,
    /// What a limit says without its store, unless its policy says otherwise.
    pub on_store_error: FailureMode,
    /// How many nodes share each limit: a limit decided locally has 1/nodes of its amount.
    pub nodes: NonZeroU32,
    /// The most keys whose denials are remembered.
    pub max_denied_keys: usize,
    /// When the store is left alone.
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
    /// `store` with all the decorators around it. `clock` is this node's own.
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
        Self::new(denials, clock, options.on_store_error, options.nodes, observer)
    }
}

impl<S: Store, C: Clock + 'static> Resilient<S, C> {
    /// Where the store in the middle tells what makes known denials untrue.
    pub fn invalidations(&self) -> Invalidations {
        self.inner().invalidations()
    }

    /// Looks after the breaker ([`Breaker::tend`]). To be called several times a second.
    pub async fn tend(&self) {
        self.inner().inner().tend().await;
    }

    /// How the breaker stands.
    pub fn breaker_state(&self) -> BreakerState {
        self.inner().inner().state()
    }

    /// The store in the middle.
    pub fn store(&self) -> &S {
        self.inner().inner().inner().inner()
    }
}

/// Is told what happens around a store, on the path of the checks: it should only count, or log seldom.
pub trait StoreObserver: fmt::Debug + Send + Sync + 'static {
    /// The breaker of `domain` went over; what opened it, if it opened. A domain that the store uses no more
    /// closes. Must not call the breaker.
    fn breaker_changed(
        &self,
        domain: FaultDomain,
        from: BreakerState,
        to: BreakerState,
        cause: Option<&StoreError>,
    ) {
        _ = (domain, from, to, cause);
    }

    /// No decision was possible by the store. Also while the breaker is open, since each check fails then.
    fn failed(&self, error: &StoreError) {
        _ = error;
    }

    /// A check was decided without the store, some limit of it by `mode`. Once a check for each mode.
    fn degraded(&self, mode: FailureMode) {
        _ = mode;
    }

    /// A check was denied by what this node knows already; the store was not asked.
    fn denied_locally(&self) {}

    /// A charge stays in the store although its check was not admitted; it leaves with its window.
    fn charge_left(&self, why: ChargeLeft) {
        _ = why;
    }
}

impl StoreObserver for () {}
