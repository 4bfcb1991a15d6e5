//! Totals since the server started, for live display.

pub(crate) use super::latency::LatencyCounts;

/// The decisions of one policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyTotals {
    /// Its id, or the name under which several policies are counted together.
    pub(crate) policy: Box<str>,
    /// The checks that it bound and that were allowed.
    pub(crate) allowed: u64,
    /// The checks that it denied.
    pub(crate) denied: u64,
}

/// The totals so far.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    /// The decisions by policy.
    pub(crate) outcomes: Vec<PolicyTotals>,
    /// The decisions made without the store.
    pub(crate) degraded: u64,
    /// The durations of calls.
    pub(crate) latencies: LatencyCounts,
}
