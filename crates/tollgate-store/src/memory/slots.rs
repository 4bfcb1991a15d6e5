//! The leases that hold the slots of one key (R16), by the time at which they expire.

use std::collections::BTreeSet;

use tollgate_core::Timestamp;
use tollgate_core::counting::slots::Slots;

/// Who holds a slot: the number of a lease.
pub(super) type SlotHolder = u128;

/// The slots that are taken.
#[derive(Debug, Default)]
pub(super) struct SlotSet(BTreeSet<(Timestamp, SlotHolder)>);

impl SlotSet {
    /// Frees the slots of leases that have expired.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.0.first().is_some_and(|(expires_at, _)| *expires_at <= now) {
            self.0.pop_first();
        }
    }

    pub(super) fn take(&mut self, holder: SlotHolder, expires_at: Timestamp) {
        self.0.insert((expires_at, holder));
    }

    /// False if the lease has no slot until then.
    pub(super) fn free(&mut self, holder: SlotHolder, expires_at: Timestamp) -> bool {
        self.0.remove(&(expires_at, holder))
    }

    /// When all have expired.
    pub(super) fn idle_at(&self) -> Timestamp {
        self.0.last().map_or(Timestamp::from_ns(0), |(expires_at, _)| *expires_at)
    }

    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.idle_at() <= now
    }

    /// Until when each is taken, and by whom.
    #[cfg(feature = "snapshots")]
    pub(super) fn holders(&self) -> impl ExactSizeIterator<Item = (Timestamp, SlotHolder)> {
        self.0.iter().copied()
    }

    /// Frees every slot of `holder`. O(slots).
    #[cfg(feature = "snapshots")]
    pub(super) fn forget(&mut self, holder: SlotHolder) {
        self.0.retain(|(_, other)| *other != holder);
    }
}

impl Slots for SlotSet {
    fn held(&self) -> u64 {
        self.0.len() as u64
    }

    /// O(count), from the nearer end.
    fn expire_at(&self, count: u64) -> Timestamp {
        let index = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1);
        let after = self.0.len().saturating_sub(index + 1);
        let one =
            if index <= after { self.0.iter().nth(index) } else { self.0.iter().nth_back(after) };
        one.map_or(Timestamp::from_ns(0), |(expires_at, _)| *expires_at)
    }
}
