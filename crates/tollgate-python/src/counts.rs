//! What limiters count.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tollgate::{MemoryStoreStats, Metrics};

/// The numbers of allowed and denied checks. Relaxed everywhere: each is independent of everything else.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    allowed: AtomicU64,
    denied: AtomicU64,
}

impl Counts {
    pub(crate) fn count(&self, allowed: bool) {
        let count = if allowed { &self.allowed } else { &self.denied };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (allowed, denied) = (&self.allowed, &self.denied);
        Metrics { allowed: allowed.load(Ordering::Relaxed), denied: denied.load(Ordering::Relaxed) }
    }

    pub(crate) fn reset(&self) -> Metrics {
        let (allowed, denied) = (&self.allowed, &self.denied);
        Metrics {
            allowed: allowed.swap(0, Ordering::Relaxed),
            denied: denied.swap(0, Ordering::Relaxed),
        }
    }
}

/// What is counted, as a dict; with what is held, of a store in memory.
pub(crate) fn metrics_dict<'py>(
    py: Python<'py>,
    metrics: Metrics,
    stats: Option<&MemoryStoreStats>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("allowed", metrics.allowed)?;
    dict.set_item("denied", metrics.denied)?;
    dict.set_item("total", metrics.total())?;
    dict.set_item("deny_rate", metrics.deny_rate())?;
    if let Some(stats) = stats {
        dict.set_item("keys", stats.keys)?;
        dict.set_item("evicted", stats.evicted)?;
    }
    Ok(dict)
}
