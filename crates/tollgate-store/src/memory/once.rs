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
use tollgate_core::{Charge, Clock, Timestamp, Ttl, Window};

use super::sync::{Mutex, MutexGuard};
use crate::{NewLease, Reserved, Verdicts, admits};

/// The most shards: enough that two threads seldom need the same one.
const MAX_SHARDS: usize = 64;
/// With fewer records than this, an additional shard is not worth its lock.
const MIN_RECORDS_PER_SHARD: usize = 64;
/// How many records are examined for expiry whenever one is added: more than one, so that expired ones are removed.
const SWEEP_STEP: usize = 2;

/// Represents a request id and the keys of its limits.
type Digest = u128;

/// What was admitted under request ids.
#[derive(Debug)]
pub(super) struct Once {
    secret: (u64, u64),
    shards: Box<[Mutex<Records>]>,
    max_records_per_shard: usize,
}

/// The records of one shard, found by their digest and removed in the order in which they were made.
#[derive(Debug, Default)]
struct Records {
    by_digest: HashMap<Digest, Record>,
    /// The digests in the order of their records, each with the expiry of its record. A record that was renewed also
    /// has an old entry; only the entry with the current expiry counts.
    oldest_first: VecDeque<(Digest, Timestamp)>,
}

/// The answer to an admitted check, or to the reservation of a lease.
#[derive(Debug)]
struct Record {
    expires: Timestamp,
    verdicts: Box<[Verdict]>,
    lease: Option<NewLease>,
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
            let record =
                Record { expires: now.after(longest_window(charges)), verdicts, lease: None };
            records.add(digest, record, now, self.max_records_per_shard);
        }
        verdicts
    }

    /// The same for a reservation: a lease is remembered for its time to live, or for the longest window if that is longer.
    pub(super) fn reserve(
        &self,
        charges: &[Charge<'_>],
        request_id: &str,
        ttl: Ttl,
        clock: &impl Clock,
        reserve: impl FnOnce() -> Reserved,
    ) -> Reserved {
        let digest = self.digest(charges, request_id, Call::Reservation);
        let mut records = self.shard(digest);
        if let Some(record) = records.by_digest.get(&digest)
            && clock.now() < record.expires
        {
            let verdicts = record.verdicts.iter().copied().collect();
            return Reserved { verdicts, lease: record.lease.clone(), degraded: false };
        }
        let reserved = reserve();
        if reserved.lease.is_some() {
            let now = clock.now();
            let expires = now.after(longest_window(charges).max(ttl.as_duration()));
            let verdicts = reserved.verdicts.iter().copied().collect();
            let record = Record { expires, verdicts, lease: reserved.lease.clone() };
            records.add(digest, record, now, self.max_records_per_shard);
        }
        reserved
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

    fn shard(&self, digest: Digest) -> MutexGuard<'_, Records> {
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
fn lock(shard: &Mutex<Records>) -> MutexGuard<'_, Records> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Records {
    /// Adds `record`; at `max_records` it replaces the oldest.
    fn add(&mut self, digest: Digest, record: Record, now: Timestamp, max_records: usize) {
        for _ in 0..SWEEP_STEP {
            if self.oldest_first.front().is_some_and(|(_, expires)| *expires <= now) {
                self.forget_oldest();
            }
        }
        while self.oldest_first.len() >= max_records {
            self.forget_oldest();
        }
        self.oldest_first.push_back((digest, record.expires));
        self.by_digest.insert(digest, record);
    }

    fn forget_oldest(&mut self) {
        let Some((digest, expires)) = self.oldest_first.pop_front() else { return };
        if self.by_digest.get(&digest).is_some_and(|record| record.expires == expires) {
            self.by_digest.remove(&digest);
        }
    }

    /// Removes expired records, and returns memory that is no longer needed. O(records).
    fn sweep(&mut self, now: Timestamp) {
        self.oldest_first.retain(|(_, expires)| now < *expires);
        self.by_digest.retain(|_, record| now < record.expires);
        if self.by_digest.len() * 4 <= self.by_digest.capacity() {
            self.by_digest.shrink_to_fit();
            self.oldest_first.shrink_to_fit();
        }
    }
}
