//! What was counted since the server began, for those who watch it live.

pub(crate) use super::latency::LatencyCounts;

/// What was decided by one policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyTotals {
    /// Its id, or the name under which several are counted together.
    pub(crate) policy: Box<str>,
    /// The checks that it bound and that were allowed.
    pub(crate) allowed: u64,
    /// The checks that it denied.
    pub(crate) denied: u64,
}

/// What was counted so far.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    /// What was decided, by policy.
    pub(crate) outcomes: Vec<PolicyTotals>,
    /// The decisions taken without the store.
    pub(crate) degraded: u64,
    /// How long calls took.
    pub(crate) latencies: LatencyCounts,
}
