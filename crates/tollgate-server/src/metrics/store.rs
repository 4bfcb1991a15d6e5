//! Metrics of a store that may fail.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_core::FailureMode;
use tollgate_store::resilience::{BreakerState, PartEvent};
use tollgate_store::{ChargeLeft, StoreErrorKind};

type Label = [(&'static str, &'static str); 1];

/// Metrics of the store. All series are created at the start, so counting takes no lock.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    degraded: Family<Label, Counter>,
    degraded_by_mode: [Counter; FailureMode::ALL.len()],
    breaker: Family<Label, Gauge>,
    breaker_in_state: [Gauge; BreakerState::ALL.len()],
    failures: Family<Label, Counter>,
    failures_by_kind: [Counter; StoreErrorKind::ALL.len()],
    left: Family<Label, Counter>,
    left_by_reason: [Counter; ChargeLeft::ALL.len()],
    units_held: Gauge,
    /// Checks that were admitted from parts of split limits, without asking the store.
    pub(crate) admitted_locally: Counter,
    /// The parts of the store that fail.
    pub(crate) failing_parts: Gauge,
    /// Whether every limit is enforced by the store.
    pub(crate) enforcing: Gauge,
    /// Checks that were denied by a known denial, without asking the store.
    pub(crate) denied_locally: Counter,
    /// Keys that the store has evicted since this node started.
    pub(crate) evicted_keys: Counter,
    /// Whether it has evicted keys recently.
    pub(crate) evicts: Gauge,
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
        let (failures, left) = (Family::default(), Family::default());
        let of_kind = |kind: StoreErrorKind| {
            Counter::clone(&failures.get_or_create(&[("kind", kind.name())]))
        };
        let for_reason =
            |why: ChargeLeft| Counter::clone(&left.get_or_create(&[("reason", why.name())]));
        let (failures_by_kind, left_by_reason) =
            (StoreErrorKind::ALL.map(of_kind), ChargeLeft::ALL.map(for_reason));
        let metrics = Self {
            degraded,
            degraded_by_mode,
            breaker,
            breaker_in_state,
            failures,
            failures_by_kind,
            left,
            left_by_reason,
            units_held: Gauge::default(),
            admitted_locally: Counter::default(),
            failing_parts: Gauge::default(),
            enforcing: Gauge::default(),
            denied_locally: Counter::default(),
            evicted_keys: Counter::default(),
            evicts: Gauge::default(),
        };
        metrics.breaker_is(BreakerState::Closed);
        metrics
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let degraded = "Checks decided without the store, by failure mode";
        to.register("degraded_decisions", degraded, self.degraded.clone());
        let breaker =
            "1 for the worst state of any breaker: open while the store, or a part of it, fails";
        to.register("store_breaker", breaker, self.breaker.clone());
        let failures = "Calls of the store that failed, or were not sent because the breaker was open, by kind of error";
        to.register("store_failures", failures, self.failures.clone());
        let parts = "Parts of the store that fail, such as primaries of a Cluster";
        to.register("store_failing_parts", parts, self.failing_parts.clone());
        let enforcing =
            "1 while every limit is enforced by the store, 0 while checks are decided without it";
        to.register("store_enforcing", enforcing, self.enforcing.clone());
        let left = "Charges of checks that were not admitted, which may stay until they leave their window";
        to.register("store_charges_left", left, self.left.clone());
        let locally = "Checks denied from a known denial, without asking the store";
        to.register("local_denials", locally, self.denied_locally.clone());
        let admitted = "Checks admitted from parts of split limits that this node holds, without asking the store";
        to.register("local_admissions", admitted, self.admitted_locally.clone());
        let units = "Units of split limits that this node has taken ahead of time and not spent or given back yet";
        to.register("split_units_held", units, self.units_held.clone());
        let evicted =
            "Keys that the store evicted because its memory was full, checked every few seconds";
        to.register("store_evicted_keys", evicted, self.evicted_keys.clone());
        let evicts =
            "1 while the store evicts keys and for a minute after: limits lose their usage";
        to.register("store_evicts", evicts, self.evicts.clone());
    }

    /// Counts a check for which `mode` decided at least one limit.
    pub(crate) fn degraded(&self, mode: FailureMode) {
        for (counter, _) in
            self.degraded_by_mode.iter().zip(FailureMode::ALL).filter(|(_, known)| *known == mode)
        {
            counter.inc();
        }
    }

    /// Counts a call that the store did not answer.
    pub(crate) fn failed(&self, kind: StoreErrorKind) {
        let mut kinds = self.failures_by_kind.iter().zip(StoreErrorKind::ALL);
        if let Some((counter, _)) = kinds.find(|(_, known)| *known == kind) {
            counter.inc();
        }
    }

    /// Counts a charge that stays although its check was not admitted.
    pub(crate) fn charge_left(&self, why: ChargeLeft) {
        let mut reasons = self.left_by_reason.iter().zip(ChargeLeft::ALL);
        if let Some((counter, _)) = reasons.find(|(_, known)| *known == why) {
            counter.inc();
        }
    }

    /// Counts the units of split limits that this node holds.
    pub(crate) fn parts_changed(&self, event: PartEvent, units: u64) {
        // An amount is below 2^53.
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        match event {
            PartEvent::Taken | PartEvent::PutBack => self.units_held.inc_by(units),
            PartEvent::Spent | PartEvent::GivenBack | PartEvent::Left => {
                self.units_held.dec_by(units)
            }
        };
    }

    /// The degraded decisions of all modes; a decision with several modes is counted for each.
    pub(super) fn degraded_total(&self) -> u64 {
        self.degraded_by_mode.iter().map(Counter::get).sum()
    }

    /// Sets the state of the breaker.
    pub(crate) fn breaker_is(&self, state: BreakerState) {
        for (gauge, known) in self.breaker_in_state.iter().zip(BreakerState::ALL) {
            gauge.set(i64::from(known == state));
        }
    }
}
