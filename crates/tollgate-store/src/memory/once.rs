//! Request ids (R12): what was admitted under one is remembered, so that the same check is charged once.
//!
//! A record is found by a keyed 128-bit hash of the request id and of the limits' keys. Records have their own shards.
//! A check with a request id locks its record's shard before the store locks any shard of keys, and holds it until it
//! is decided, so two copies of one check are decided one after the other. Nothing here knows how a check is decided.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::PoisonError;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};
use tollgate_core::counting::Verdict;
use tollgate_core::{Charge, Clock, Timestamp, Window};

use super::sync::{Mutex, MutexGuard};
use crate::{LeaseId, LeaseRequest, NewLease, Reserved, Verdicts, admits};

/// The most shards: enough that two threads seldom need the same one.
pub(super) const MAX_SHARDS: usize = 64;
/// With fewer records than this, an additional shard is not worth its lock.
const MIN_RECORDS_PER_SHARD: usize = 64;
/// How many records are examined for expiry whenever one is added: more than one, so that expired ones are removed.
const SWEEP_STEP: usize = 2;

/// Represents a request id and the keys of its limits.
pub(super) type Digest = u128;

/// What was admitted under request ids.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) secret: (u64, u64),
    pub(super) shards: Box<[Mutex<Records>]>,
    pub(super) max_records_per_shard: usize,
}

/// The records of one shard, found by their digest and removed in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) by_digest: HashMap<Digest, Record>,
    /// The digests in the order of their records, each with the expiry that its record had then. A record that was made anew
    /// also has an old entry; only the one that it says counts.
    pub(super) oldest_first: VecDeque<(Digest, Timestamp)>,
}

/// The answer to an admitted check, or to the reservation of a lease.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) expires: Timestamp,
    /// The expiry that its entry in the order has: it lives longer if its lease was extended since.
    pub(super) queued: Timestamp,
    pub(super) verdicts: Box<[Verdict]>,
    pub(super) lease: Option<NewLease>,
}

impl Once {
    /// Remembers at most `max_records` checks.
    pub(super) fn new(max_records: usize) -> Self {
        let max_records = max_records.max(1);
        let most = (max_records / MIN_RECORDS_PER_SHARD).clamp(1, MAX_SHARDS);
        // The greatest power of two that is at most `most`.
        let shards = 1 << most.ilog2();
        let random = RandomState::new();
        Self {
            secret: (random.hash_one("request ids, first"), random.hash_one("request ids, second")),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_records_per_shard: max_records / shards,
        }
    }

    /// The answer that this check got when it was recorded, within the longest window of its limits. Otherwise the
    /// answer of `charge`, which is remembered if it admits or if a limit records it in any case (R19).
    pub(super) fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: &str,
        clock: &impl Clock,
        charge: impl FnOnce() -> Verdicts,
    ) -> Verdicts {
        let digest = self.digest(charges, request_id, Call::Check);
        // Held until the check is decided, so that the second of two copies finds the record of the first.
        let mut records = self.shard(digest);
        if let Some(record) = records.by_digest.get(&digest)
            && clock.now() < record.expires
        {
            return record.verdicts.iter().copied().collect();
        }
        let verdicts = charge();
        if admits(charges, &verdicts) || charges.iter().any(Charge::is_recorded_if_denied) {
            // Read after the charge, so that the record outlives the usage.
            let now = clock.now();
            let verdicts = verdicts.iter().copied().collect();
            let record = Record::new(now.after(longest_window(charges)), verdicts, None);
            records.add(digest, record, now, self.max_records_per_shard);
        }
        verdicts
    }

    /// The same for a reservation: a lease is remembered as long as it lives, or for the longest window if that is longer.
    /// `again` completes what is known of a lease that was reserved before; `reserve` gets what [`Once::named`] needs.
    pub(super) fn reserve(
        &self,
        request: &LeaseRequest<'_>,
        request_id: &str,
        clock: &impl Clock,
        again: impl FnOnce(&NewLease) -> NewLease,
        reserve: impl FnOnce(Digest) -> Reserved,
    ) -> Reserved {
        let LeaseRequest { charges, ttl, .. } = *request;
        let digest = self.digest(charges, request_id, Call::Reservation);
        let mut records = self.shard(digest);
        if let Some(record) = records.by_digest.get(&digest)
            && clock.now() < record.expires
        {
            let verdicts = record.verdicts.iter().copied().collect();
            return Reserved { verdicts, lease: record.lease.as_ref().map(again), degraded: false };
        }
        let reserved = reserve(digest);
        if reserved.lease.is_some() {
            let now = clock.now();
            let expires = now.after(longest_window(charges).max(ttl.as_duration()));
            let verdicts = reserved.verdicts.iter().copied().collect();
            let record = Record::new(expires, verdicts, reserved.lease.clone());
            records.add(digest, record, now, self.max_records_per_shard);
        }
        reserved
    }

    /// The record of a lease with a request id, locked. Lock it before the lease.
    pub(super) fn named(&self, digest: Digest) -> Named<'_> {
        Named { records: self.shard(digest), digest }
    }

    /// Removes every expired record.
    pub(super) fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            lock(shard).sweep(now);
        }
    }

    /// The number of records, and the number of entries in their order.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(lock);
        shards.fold((0, 0), |(records, order), shard| {
            (records + shard.by_digest.len(), order + shard.oldest_first.len())
        })
    }

    /// Injective except for the hash: the call, the lengths and bytes of the id, and for each key its policy and its values.
    fn digest(&self, charges: &[Charge<'_>], request_id: &str, call: Call) -> Digest {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u8(call as u8);
        let mut add = |text: &str| {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        };
        add(request_id);
        for charge in charges {
            add(charge.limit.policy_id().as_str());
            charge.key_values().for_each(|value| add(&value));
        }
        hasher.finish128().as_u128()
    }

    pub(super) fn shard(&self, digest: Digest) -> MutexGuard<'_, Records> {
        // Only the low bits are used.
        let low = digest as usize;
        lock(&self.shards[low & (self.shards.len() - 1)])
    }
}

/// What is identified by a request id: an id of a check and that of a reservation are two ids.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Call {
    Check,
    Reservation,
}

fn longest_window(charges: &[Charge<'_>]) -> Duration {
    let windows = charges.iter().filter_map(|charge| charge.limit.counting().window());
    windows.max().map_or(Duration::ZERO, Window::as_duration)
}

/// A poisoned lock is fine: every change of the records is complete at once.
pub(super) fn lock(shard: &Mutex<Records>) -> MutexGuard<'_, Records> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn new(expires: Timestamp, verdicts: Box<[Verdict]>, lease: Option<NewLease>) -> Self {
        Self { expires, queued: expires, verdicts, lease }
    }
}

/// A locked record.
pub(super) struct Named<'a> {
    records: MutexGuard<'a, Records>,
    digest: Digest,
}

impl Named<'_> {
    /// The record, unless the request id names another lease by now.
    fn record_of(&mut self, id: &LeaseId) -> Option<&mut Record> {
        let record = self.records.by_digest.get_mut(&self.digest)?;
        record.lease.as_ref().is_some_and(|lease| lease.id == *id).then_some(record)
    }

    /// The lease was extended: the request id names it until `until` at least.
    pub(super) fn prolong(&mut self, id: &LeaseId, until: Timestamp) {
        if let Some(record) = self.record_of(id) {
            record.expires = record.expires.max(until);
        }
    }

    /// The lease was released: the request id is new again.
    pub(super) fn forget(&mut self, id: &LeaseId) {
        if self.record_of(id).is_some() {
            self.records.by_digest.remove(&self.digest);
        }
    }
}

impl Records {
    /// Adds `record`; at `max_records` it replaces the oldest.
    fn add(&mut self, digest: Digest, record: Record, now: Timestamp, max_records: usize) {
        for _ in 0..SWEEP_STEP {
            if self.oldest_first.front().is_some_and(|(_, queued)| *queued <= now) {
                self.forget_oldest(now);
            }
        }
        while self.oldest_first.len() >= max_records {
            self.forget_oldest(Timestamp::from_ns(u64::MAX));
        }
        self.oldest_first.push_back((digest, record.expires));
        self.by_digest.insert(digest, record);
    }

    /// Forgets the oldest record if it has expired at `now`; if its lease was extended, it becomes the newest.
    pub(super) fn forget_oldest(&mut self, now: Timestamp) {
        let Some((digest, queued)) = self.oldest_first.pop_front() else { return };
        let Some(record) = self.by_digest.get_mut(&digest) else { return };
        if record.queued != queued {
            return;
        }
        if record.expires <= now {
            self.by_digest.remove(&digest);
        } else {
            record.queued = record.expires;
            self.oldest_first.push_back((digest, record.expires));
        }
    }

    /// Removes expired records, and returns memory that is no longer needed. O(records).
    fn sweep(&mut self, now: Timestamp) {
        self.by_digest.retain(|_, record| now < record.expires);
        let by_digest = &self.by_digest;
        self.oldest_first.retain(|(digest, queued)| {
            by_digest.get(digest).is_some_and(|record| record.queued == *queued)
        });
        if self.by_digest.len() * 4 <= self.by_digest.capacity() {
            self.by_digest.shrink_to_fit();
            self.oldest_first.shrink_to_fit();
        }
    }
}
