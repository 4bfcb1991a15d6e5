//! How long calls take: a histogram of atomics.
//!
//! The client library's own histogram takes a lock for each observation, which every thread would share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The calls whose time is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// `POST /rate-limit/check`
    Check,
    /// `POST /rate-limit/enforce`
    Enforce,
    /// `POST /rate-limit/peek`
    Peek,
    /// `POST /rate-limit/check/batch`
    Batch,
}

impl Call {
    const ALL: [Self; 4] = [Self::Check, Self::Enforce, Self::Peek, Self::Batch];

    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Enforce => "enforce",
            Self::Peek => "peek",
            Self::Batch => "batch",
        }
    }
}

/// The upper ends of the buckets, in nanoseconds: microseconds in memory, up to a store's deadline of 100 ms,
/// and one to show what went wrong.
const BUCKET_ENDS_NS: [u64; 12] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    500_000,
    2_500_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

const BUCKETS: usize = BUCKET_ENDS_NS.len() + 1;

/// A histogram for each call.
#[derive(Debug, Default)]
pub(super) struct Latencies([Histogram; Call::ALL.len()]);

#[derive(Debug, Default)]
struct Histogram {
    /// How many fell into each bucket; the last has no end.
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Latencies {
    /// Notes that `call` took `ns`.
    #[inline]
    pub(super) fn observe(&self, call: Call, ns: u64) {
        let histogram = &self.0[call as usize];
        let bucket = BUCKET_ENDS_NS.iter().take_while(|end| ns > **end).count();
        // Relaxed: each is a count by itself; a scrape may see one of the two first.
        histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "decision_duration_seconds",
            "From a call's body being read to its answer being ready",
            None,
            MetricType::Histogram,
        )?;
        for call in Call::ALL {
            let histogram = &self.0[call as usize];
            // Relaxed: as in `observe`.
            let counts = histogram.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
            let ends = BUCKET_ENDS_NS.map(seconds).into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts).collect();
            let sum = seconds(histogram.sum_ns.load(Ordering::Relaxed));
            let labels = [("call", call.name())];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sum,
                counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people and graphs")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
