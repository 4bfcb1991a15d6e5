//! The policies in force, published whole and read without a lock.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tollgate_core::PolicySet;

/// The policies in force from one change of the catalog to the next.
#[derive(Debug)]
pub struct Snapshot {
    version: u64,
    policies: Arc<PolicySet>,
}

impl Snapshot {
    /// The number of this set: 1 for the first of a process, then one more for each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The policies.
    pub fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }
}

/// Reads the snapshot in force. Clones read the same.
///
/// A decision takes one snapshot and keeps to it, so that it never mixes two versions (P11).
#[derive(Clone, Debug)]
pub struct SnapshotReader(Arc<ArcSwap<Snapshot>>);

impl SnapshotReader {
    /// A reader whose snapshot never changes, for policies that come from no catalog.
    pub fn fixed(policies: PolicySet) -> Self {
        Publisher::new(policies).reader()
    }

    /// The snapshot in force, for one decision. Keep the guard short; [`SnapshotReader::snapshot`] gives one
    /// to hold on to.
    #[inline]
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The snapshot in force, to keep.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// Publishes snapshots; there is one for each catalog.
#[derive(Debug)]
pub(crate) struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
}

impl Publisher {
    /// Publishes `policies` as version 1.
    pub(crate) fn new(policies: PolicySet) -> Self {
        let first = Snapshot { version: 1, policies: Arc::new(policies) };
        Self { current: Arc::new(ArcSwap::from_pointee(first)) }
    }

    pub(crate) fn reader(&self) -> SnapshotReader {
        SnapshotReader(Arc::clone(&self.current))
    }

    /// Publishes `policies` as the next version, and gives it. `&mut` because only one may count.
    pub(crate) fn publish(&mut self, policies: PolicySet) -> Arc<Snapshot> {
        let version = self.current.load().version + 1;
        let next = Arc::new(Snapshot { version, policies: Arc::new(policies) });
        self.current.store(Arc::clone(&next));
        next
    }
}
