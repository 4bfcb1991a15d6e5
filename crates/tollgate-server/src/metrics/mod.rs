//! The metrics of the server, for Prometheus.
//!
//! The number of series depends on what the operator configures, never on what clients send: policy ids are
//! configuration, and if there are more than [`MAX_LABELLED_POLICIES`], the others are counted together. So are the
//! models and upstreams of a gateway. No label contains a user, a key, an address or any other value of a check (P10).
//!
//! A check only increments counters that were created when the policies were put in force.

mod catalog;
mod exposition;
mod gateway;
mod latency;
mod leases;
mod policy_counters;
mod snapshots;
mod store;
mod totals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tollgate_catalog::Snapshot;
use tollgate_core::Decision;
use tollgate_otlp::OtlpStats;
use tollgate_store::memory::MemoryStoreStats;

pub(crate) use self::exposition::Exposition;
use catalog::CatalogMetrics;
pub(crate) use gateway::GatewayMetrics;
pub(crate) use latency::Call;
use latency::Latencies;
pub(crate) use leases::LeaseMetrics;
use policy_counters::PolicyCounters;
use snapshots::SnapshotMetrics;
use store::StoreMetrics;
pub(crate) use totals::Totals;

use crate::recorder::RecordCounters;

/// Every metric of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    policy_counters: Arc<PolicyCounters>,
    latencies: Arc<Latencies>,
    policies_version: Gauge<u64, AtomicU64>,
    store_keys: Gauge<u64, AtomicU64>,
    store_evicted: Counter,
    store_leases: Gauge<u64, AtomicU64>,
    store_leases_evicted: Counter,
    /// Metrics of leases.
    pub(crate) leases: LeaseMetrics,
    /// Metrics of the gateway, if there is one.
    pub(crate) gateway: Arc<GatewayMetrics>,
    /// Changes of the policies that were applied.
    pub(crate) reloads_ok: Counter,
    /// Changes of the policies that were refused.
    pub(crate) reloads_refused: Counter,
    /// Metrics of the catalog.
    pub(crate) catalog: CatalogMetrics,
    /// Calls that the store did not answer.
    pub(crate) store_errors: Counter,
    /// Descriptors over gRPC that no policy covers.
    pub(crate) unmatched_descriptors: Counter,
    /// Metrics of the store.
    pub(crate) store: StoreMetrics,
    /// Metrics of snapshots.
    pub(crate) snapshots: SnapshotMetrics,
    /// The lines of the recording.
    pub(crate) record: RecordCounters,
    otlp_exported: Counter,
    otlp_dropped: Counter,
    /// Requests being answered.
    pub(crate) in_flight: Gauge,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Connections that could not be accepted.
    pub(crate) accept_errors: Counter,
    /// Memory held by unfinished requests.
    pub(crate) request_memory: Gauge<u64, AtomicU64>,
    /// Requests for which there was no memory.
    pub(crate) requests_without_memory: Counter,
}

impl Metrics {
    /// Metrics with the value 0, and no policies yet.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            policy_counters: Arc::default(),
            latencies: Arc::default(),
            policies_version: Gauge::default(),
            reloads_ok: Counter::default(),
            reloads_refused: Counter::default(),
            catalog: CatalogMetrics::new(),
            store_keys: Gauge::default(),
            store_evicted: Counter::default(),
            store_leases: Gauge::default(),
            store_leases_evicted: Counter::default(),
            leases: LeaseMetrics::new(),
            gateway: Arc::default(),
            store_errors: Counter::default(),
            unmatched_descriptors: Counter::default(),
            store: StoreMetrics::new(),
            snapshots: SnapshotMetrics::default(),
            record: RecordCounters::default(),
            otlp_exported: Counter::default(),
            otlp_dropped: Counter::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            accept_errors: Counter::default(),
            request_memory: Gauge::default(),
            requests_without_memory: Counter::default(),
            registry: Registry::default(),
        };
        metrics.register(registry.sub_registry_with_prefix("tollgate"));
        // Some of its names are those of a convention, without the prefix.
        registry.register_collector(Box::new(Arc::clone(&metrics.gateway)));
        Self { registry, ..metrics }
    }

    fn register(&self, to: &mut Registry) {
        to.register_collector(Box::new(Arc::clone(&self.policy_counters)));
        to.register_collector(Box::new(Arc::clone(&self.latencies)));
        let version = self.policies_version.clone();
        to.register("policies_version", "The version of the policies in force", version);
        let reloads = "Changes of the policies that were applied";
        to.register("policy_reloads", reloads, self.reloads_ok.clone());
        let refused =
            "Changes of the policies that were refused, so that the old ones stayed in force";
        to.register("policy_reloads_refused", refused, self.reloads_refused.clone());
        self.catalog.register(to);
        to.register("store_keys", "Keys held in memory", self.store_keys.clone());
        let evicted = "Keys evicted at the cap of the in-memory store before they were idle";
        to.register("store_keys_evicted", evicted, self.store_evicted.clone());
        let leases = "Leases held in memory, also those that ended a short while ago";
        to.register("store_leases", leases, self.store_leases.clone());
        let forgotten = "Leases forgotten at the cap of the in-memory store: their charges stay, and a settlement of one is 404";
        to.register("store_leases_evicted", forgotten, self.store_leases_evicted.clone());
        self.snapshots.register(to);
        self.leases.register(to);
        let errors =
            "Calls that the store did not answer, and calls not sent because the breaker was open";
        to.register("store_errors", errors, self.store_errors.clone());
        let unmatched = "Descriptors over gRPC that no policy covers";
        to.register("grpc_unmatched_descriptors", unmatched, self.unmatched_descriptors.clone());
        self.store.register(to);
        let written = "Checks written to the recording";
        to.register("record_lines_written", written, self.record.written.clone());
        let dropped = "Checks that were not recorded, because the file or the queue was full";
        to.register("record_lines_dropped", dropped, self.record.dropped.clone());
        let exported = "Spans that the collector of telemetry has accepted";
        to.register("otlp_spans_exported", exported, self.otlp_exported.clone());
        let lost = "Spans that were dropped, because too many waited or the collector of telemetry did not accept them";
        to.register("otlp_spans_dropped", lost, self.otlp_dropped.clone());
        let in_flight = "HTTP requests being answered";
        to.register("http_requests_in_flight", in_flight, self.in_flight.clone());
        to.register("http_connections", "Open HTTP connections", self.connections.clone());
        let accept_errors = "HTTP connections that could not be accepted";
        to.register("http_accept_errors", accept_errors, self.accept_errors.clone());
        let memory = "Bytes that unfinished HTTP requests hold in memory";
        to.register("http_request_memory_bytes", memory, self.request_memory.clone());
        let refused = "HTTP requests refused because unfinished requests used all their memory";
        to.register("http_requests_without_memory", refused, self.requests_without_memory.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "The version of the program", build);
    }

    /// Counts a decision.
    #[inline]
    pub(crate) fn decided(&self, decision: &Decision) {
        self.policy_counters.count(decision);
    }

    /// Counts that a call took `ns`.
    #[inline]
    pub(crate) fn took(&self, call: Call, ns: u64) {
        self.latencies.observe(call, ns);
    }

    /// Creates the counters for the policies of `snapshot`, unless newer ones are in force, and keeps the counters of
    /// policies that stay. The series of deleted policies end.
    pub(crate) fn policies_in_force(&self, snapshot: &Arc<Snapshot>) {
        self.policy_counters.policies_in_force(snapshot);
    }

    /// The totals so far, for live display.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            outcomes: self.policy_counters.totals(),
            degraded: self.store.degraded_total(),
            latencies: self.latencies.counts(),
        }
    }

    /// Copies what became of the spans.
    pub(crate) fn set_otlp(&self, spans: OtlpStats) {
        // Relaxed: copies of counts; concurrent scrapes copy the same ones or newer ones.
        self.otlp_exported.inner().fetch_max(spans.exported, Ordering::Relaxed);
        self.otlp_dropped.inner().fetch_max(spans.dropped, Ordering::Relaxed);
    }

    /// All metrics in the text format of Prometheus; `store` has the current state of the store.
    pub(crate) fn encode(&self, store: MemoryStoreStats) -> Result<String, std::fmt::Error> {
        self.policies_version.set(self.policy_counters.policies_version());
        self.store_keys.set(store.keys);
        // Relaxed: a copy of the store's own count; concurrent scrapes copy the same count or a newer one.
        self.store_evicted.inner().fetch_max(store.evicted, Ordering::Relaxed);
        self.store_leases.set(store.leases);
        self.leases.set_store(&store);
        let evicted_leases = self.store_leases_evicted.inner();
        evicted_leases.fetch_max(store.evicted_leases, Ordering::Relaxed);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
