//! Metrics of the catalog's availability.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether the catalog's database is available. A catalog without a database always is.
#[derive(Debug)]
pub(crate) struct CatalogMetrics {
    up: Gauge,
    outages: Counter,
    /// 1 while another server on the same store has another secret for API keys.
    pub(crate) other_secret: Gauge,
}

impl CatalogMetrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            up: Gauge::default(),
            outages: Counter::default(),
            other_secret: Gauge::default(),
        };
        // A server does not start if its catalog is unavailable.
        metrics.up.set(1);
        metrics
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let up =
            "1 while the catalog's database is available, 0 while the last known records are used";
        to.register("catalog_up", up, self.up.clone());
        let outages = "How often the catalog's database became unavailable";
        to.register("catalog_outages", outages, self.outages.clone());
        let other = "1 while another server on the same store has another secret for API keys";
        to.register("catalog_other_api_key_secret", other, self.other_secret.clone());
    }

    /// The database has become unavailable.
    pub(crate) fn went_away(&self) {
        self.up.set(0);
        self.outages.inc();
    }

    /// It is available again.
    pub(crate) fn came_back(&self) {
        self.up.set(1);
    }
}
