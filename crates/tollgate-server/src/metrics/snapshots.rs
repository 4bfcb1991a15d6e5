//! Metrics of the snapshots of the store in memory.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_core::Timestamp;

/// Metrics of snapshots.
#[derive(Debug, Default)]
pub(crate) struct SnapshotMetrics {
    written: Counter,
    failed: Counter,
    /// When the last one was written, in seconds since the Unix epoch; 0 for never.
    last: Gauge<u64, AtomicU64>,
}

impl SnapshotMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        let written = "Snapshots of the store in memory that were written";
        to.register("store_snapshots", written, self.written.clone());
        let failed = "Snapshots of the store in memory that could not be written";
        to.register("store_snapshot_failures", failed, self.failed.clone());
        let last =
            "When this process last wrote a snapshot, in seconds since the Unix epoch; 0 for never";
        to.register("store_snapshot_timestamp_seconds", last, self.last.clone());
    }

    /// Counts a snapshot.
    pub(crate) fn wrote(&self, is_written: bool, now: Timestamp) {
        if is_written {
            self.written.inc();
            self.last.set(now.as_ns() / 1_000_000_000);
        } else {
            self.failed.inc();
        }
    }
}
