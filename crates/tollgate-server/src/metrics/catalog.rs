//! Whether the catalog answers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether the catalog's database answers. A catalog without one always does.
#[derive(Debug)]
pub(crate) struct CatalogMetrics {
    up: Gauge,
    outages: Counter,
}

impl CatalogMetrics {
    pub(super) fn new() -> Self {
        let metrics = Self { up: Gauge::default(), outages: Counter::default() };
        // A server does not start without its catalog.
        metrics.up.set(1);
        metrics
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let up = "1 while the catalog's database answers, 0 while what is known of it stands";
        to.register("catalog_up", up, self.up.clone());
        let outages = "Times that the catalog's database began not to answer";
        to.register("catalog_outages", outages, self.outages.clone());
    }

    /// Notes that the database does not answer any more.
    pub(crate) fn went_away(&self) {
        self.up.set(0);
        self.outages.inc();
    }

    /// Notes that it answers again.
    pub(crate) fn came_back(&self) {
        self.up.set(1);
    }
}
