//! The duration of calls: a histogram of atomics.
//!
//! The client library's own histogram takes a lock for each observation, which all threads would share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The measured calls.
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
    /// `/rate-limit/auth`
    Auth,
    /// `ShouldRateLimit` of Envoy, over gRPC.
    ShouldRateLimit,
    /// `POST /rate-limit/leases`
    Reserve,
    /// An extension, a settlement or a release of one lease.
    UpdateLease,
    /// `POST /rate-limit/settle/batch`
    SettleBatch,
}

impl Call {
    const ALL: [Self; 9] = [
        Self::Check,
        Self::Enforce,
        Self::Peek,
        Self::Batch,
        Self::Auth,
        Self::ShouldRateLimit,
        Self::Reserve,
        Self::UpdateLease,
        Self::SettleBatch,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Enforce => "enforce",
            Self::Peek => "peek",
            Self::Batch => "batch",
            Self::Auth => "auth",
            Self::ShouldRateLimit => "should_rate_limit",
            Self::Reserve => "reserve",
            Self::UpdateLease => "update_lease",
            Self::SettleBatch => "settle_batch",
        }
    }
}

/// The upper bounds of the buckets, in nanoseconds: microseconds for the in-memory store, up to a store's deadline of
/// 100 ms, and one more to show what took even longer.
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
    /// The number of observations in each bucket; the last bucket has no upper bound.
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Latencies {
    /// Records that `call` took `ns`.
    #[inline]
    pub(super) fn observe(&self, call: Call, ns: u64) {
        let histogram = &self.0[call as usize];
        let bucket = BUCKET_ENDS_NS.iter().take_while(|end| ns > **end).count();
        // Relaxed: each count is independent; a scrape may see one of the two first.
        histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Latencies {
    /// The observations so far, over all calls.
    pub(super) fn counts(&self) -> LatencyCounts {
        let mut counts = LatencyCounts::default();
        for histogram in &self.0 {
            for (sum, count) in counts.0.iter_mut().zip(&histogram.buckets) {
                // Relaxed: see `observe`.
                *sum += count.load(Ordering::Relaxed);
            }
        }
        counts
    }
}

/// The distribution of durations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LatencyCounts([u64; BUCKETS]);

impl LatencyCounts {
    /// The observations since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut counts = *self;
        for (count, before) in counts.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        counts
    }

    /// The quantile `thousandths` of the durations, interpolated evenly within a bucket; `None` without calls.
    pub(crate) fn quantile_ns(&self, thousandths: u64) -> Option<u64> {
        let all: u64 = self.0.iter().sum();
        // The rank of the call in question, counted from the fastest, which has rank 1.
        let nth = (u128::from(all) * u128::from(thousandths)).div_ceil(1_000).max(1);
        let starts = [0].into_iter().chain(BUCKET_ENDS_NS);
        // The last bucket has no upper bound, so the lower bound is the estimate.
        let ends = BUCKET_ENDS_NS.into_iter().chain(BUCKET_ENDS_NS.last().copied());
        let mut before = 0_u128;
        for ((start, end), count) in starts.zip(ends).zip(self.0.map(u128::from)) {
            if count > 0 && nth <= before + count {
                let within = u128::from(end - start) * (nth - before) / count;
                return Some(start + u64::try_from(within).unwrap_or(0));
            }
            before += count;
        }
        None
    }
}

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "decision_duration_seconds",
            "Time from reading a call's body to the finished answer",
            None,
            MetricType::Histogram,
        )?;
        for call in Call::ALL {
            let histogram = &self.0[call as usize];
            // Relaxed: see `observe`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_call() {
        let latencies = Latencies::default();
        assert_eq!(latencies.counts().quantile_ns(500), None);
        for ns in [500, 600, 700, 800, 1_500, 2_000, 2_000, 2_000, 2_000_000_000] {
            latencies.observe(Call::Check, ns);
        }
        let counts = latencies.counts();
        for (thousandths, ns) in
            [(0, 250), (444, 1_000), (500, 1_375), (888, 2_500), (999, 1_000_000_000)]
        {
            assert_eq!(counts.quantile_ns(thousandths), Some(ns), "{thousandths}");
        }
        latencies.observe(Call::Peek, 20_000);
        assert_eq!(latencies.counts().since(&counts).quantile_ns(500), Some(25_000));
    }
}
