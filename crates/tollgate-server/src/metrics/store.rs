//! What happens around a store that may fail.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_core::FailureMode;
use tollgate_store::resilience::BreakerState;

type Label = [(&'static str, &'static str); 1];

/// What happens around the store. Every series is made at once, so counting takes no lock.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    degraded: Family<Label, Counter>,
    degraded_by_mode: [Counter; FailureMode::ALL.len()],
    breaker: Family<Label, Gauge>,
    breaker_in_state: [Gauge; BreakerState::ALL.len()],
    /// Checks that were denied by what this node knew, without the store.
    pub(crate) denied_locally: Counter,
    /// Keys that Redis has dropped for want of memory since this node looks.
    pub(crate) redis_evicted: Counter,
    /// Whether it has lately.
    pub(crate) redis_evicts: Gauge,
}

impl StoreMetrics {
    pub(super) fn new() -> Self {
        let (degraded, breaker) = (Family::default(), Family::default());
        let by_mode =
            |mode: FailureMode| Counter::clone(&degraded.get_or_create(&[("mode", mode.name())]));
        let in_state =
            |state: BreakerState| Gauge::clone(&breaker.get_or_create(&[("state", state.name())]));
        let (degraded_by_mode, breaker_in_state) =
            (FailureMode::ALL.map(by_mode), BreakerState::ALL.map(in_state));
        let metrics = Self {
            degraded,
            degraded_by_mode,
            breaker,
            breaker_in_state,
            denied_locally: Counter::default(),
            redis_evicted: Counter::default(),
            redis_evicts: Gauge::default(),
        };
        metrics.breaker_is(BreakerState::Closed);
        metrics
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let degraded = "Checks decided without the store, by the failure mode of their limits";
        to.register("degraded_decisions", degraded, self.degraded.clone());
        let breaker = "1 for how the breaker of the store stands: open while the store fails";
        to.register("store_breaker", breaker, self.breaker.clone());
        let locally = "Checks denied by what this node knew of the store's denials";
        to.register("local_denials", locally, self.denied_locally.clone());
        let evicted =
            "Keys that Redis has evicted for want of memory, by this node's look every few seconds";
        to.register("redis_evicted_keys", evicted, self.redis_evicted.clone());
        let evicts = "1 while Redis evicts keys and for a minute after: limits lose their usage";
        to.register("redis_evicts", evicts, self.redis_evicts.clone());
    }

    /// Counts a check that some limit decided without the store, by `mode`.
    pub(crate) fn degraded(&self, mode: FailureMode) {
        for (counter, _) in
            self.degraded_by_mode.iter().zip(FailureMode::ALL).filter(|(_, known)| *known == mode)
        {
            counter.inc();
        }
    }

    /// The decisions of all modes; one that limits of several modes took part in is in each.
    pub(super) fn degraded_total(&self) -> u64 {
        self.degraded_by_mode.iter().map(Counter::get).sum()
    }

    /// Shows how the breaker stands.
    pub(crate) fn breaker_is(&self, state: BreakerState) {
        for (gauge, known) in self.breaker_in_state.iter().zip(BreakerState::ALL) {
            gauge.set(i64::from(known == state));
        }
    }
}
