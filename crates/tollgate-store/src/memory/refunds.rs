//! What open leases hold in limits that give it back when a lease expires (R15), by the time at which it does.
//!
//! Each shard of keys has the holds in its keys. So a call finds those that are due under the locks that it takes anyway, and
//! needs no lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;
use tollgate_core::{Amount, Limit, Timestamp};

use super::leases::Part;
use super::slots::SlotHolder;
use super::table::Table;

/// The holds of one shard.
#[derive(Debug)]
pub(super) struct Refunds {
    /// When the first lease expires.
    next: Timestamp,
    holds: BTreeMap<RefundKey, Refund>,
}

/// A hold: when its lease expires, the number of the lease, and the fingerprint of its key.
pub(super) type RefundKey = (Timestamp, SlotHolder, u64);

/// What is given back.
#[derive(Debug)]
pub(super) struct Refund {
    pub(super) limit: Arc<Limit>,
    pub(super) parts: SmallVec<[Part; 1]>,
}

impl Default for Refunds {
    fn default() -> Self {
        Self { next: Timestamp::from_ns(u64::MAX), holds: BTreeMap::new() }
    }
}

impl Refunds {
    pub(super) fn add(&mut self, key: RefundKey, refund: Refund) {
        self.next = self.next.min(key.0);
        self.holds.insert(key, refund);
    }

    /// Does nothing if there is no such hold.
    pub(super) fn remove(&mut self, key: &RefundKey) {
        self.holds.remove(key);
        self.find_next();
    }

    /// Forgets the holds in one key. O(holds of the shard).
    pub(super) fn remove_key(&mut self, fingerprint: u64) {
        self.holds.retain(|(_, _, of), _| *of != fingerprint);
        self.find_next();
    }

    #[inline]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.next <= now
    }

    /// Gives back what is due at `now`, each hold as at the time at which its lease expired: nothing was charged since, because
    /// every call does this first.
    pub(super) fn give_back(&mut self, table: &mut Table, now: Timestamp) {
        while let Some(first) = self.holds.first_entry()
            && first.key().0 <= now
        {
            let ((expired_at, _, fingerprint), Refund { limit, parts }) = first.remove_entry();
            let Some(usage) = table.get(fingerprint) else { continue };
            for part in parts {
                let Some(cost) = Amount::new(part.cost) else { continue };
                usage.change(&limit, expired_at, (part.at, part.used_then), cost, Amount::ZERO);
            }
        }
        self.find_next();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// The holds in the keys whose fingerprints lie from `first` to `last`. O(holds of the shard).
    #[cfg(feature = "snapshots")]
    pub(super) fn holds_in(&self, first: u64, last: u64) -> Vec<(SlotHolder, u64)> {
        let keys = self.holds.keys().map(|(_, holder, fingerprint)| (*holder, *fingerprint));
        keys.filter(|(_, fingerprint)| (first..=last).contains(fingerprint)).collect()
    }

    fn find_next(&mut self) {
        let first = self.holds.first_key_value();
        self.next = first.map_or(Timestamp::from_ns(u64::MAX), |((at, _, _), _)| *at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::{
        Charge, ManualClock, OnExpire, Per, Policy, PolicyId, Subject, Ttl, Window,
    };

    use super::super::{MemoryStore, MemoryStoreOptions};
    use super::*;
    use crate::LeaseRequest;

    /// A lease that is forgotten at the cap gives nothing back, so there are no more holds than leases.
    #[test]
    fn there_are_no_more_holds_than_leases() {
        let clock = ManualClock::at(Timestamp::from_ms(1_700_000_000_000));
        let options = MemoryStoreOptions::default().max_leases(3).max_keys(1);
        let store = MemoryStore::with_clock(clock.clone(), &options);
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("GLOBAL").unwrap());
        let policy = Policy::new(id, per, Amount::new(100), window);
        let policy = Policy { on_expire: OnExpire::Refund, ..policy };
        let limit = Arc::new(Limit::of(&policy).unwrap());
        let subject = Subject::new("alice", "gpt-4");
        let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
        let ttl = Ttl::from_ms(5_000).unwrap();
        for _ in 0..10 {
            assert!(store.reserve(&LeaseRequest::new(&charge, ttl)).lease.is_some());
        }
        let holds = || store.shards[0].lock().refunds().map_or(0, |refunds| refunds.holds.len());
        assert_eq!(holds(), 3);
        clock.advance(ttl.as_duration());
        assert_eq!(store.peek(&charge)[0].usage, 7, "what was forgotten stays as reserved");
        assert_eq!(holds(), 0);
        clock.advance(window.as_duration());
        assert_eq!(store.peek(&charge)[0].usage, 0);
    }
}
