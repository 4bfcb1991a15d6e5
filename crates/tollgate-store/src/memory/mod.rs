//! The in-memory store: exact under any concurrency on one machine.
//!
//! Keys are hashed (`digest`) to one of many shards, each a lock over a `table` of slots. A slot holds the `usage` of a
//! key; a long log has a separate `ring`. A check locks the shards of all its limits, in order, and so decides them at
//! one moment (R3). Checks with a request id go through `once` first. Reservations and updates of leases (`lease_calls`) lock
//! their lease (`leases`) and then the shards of its limits. What is to be given back when a lease expires is in the shards of its
//! keys (`refunds`). Nothing here knows policies, checks or decisions.

mod digest;
mod lease_calls;
#[cfg(test)]
mod lease_stats_tests;
mod leases;
mod once;
#[cfg(test)]
mod once_model;
#[cfg(test)]
mod once_tests;
mod refunds;
mod ring;
mod shard;
mod short_log;
mod slots;
#[cfg(feature = "snapshots")]
mod snapshot;
mod table;
mod usage;

use std::future::ready;

use smallvec::SmallVec;
use tollgate_core::counting::Verdict;
use tollgate_core::{Charge, Clock, LeaseUpdate, Limit, MonotonicClock, Subject, Timestamp};

#[cfg(feature = "snapshots")]
pub use self::snapshot::{Found, SnapshotError, SnapshotFile, SnapshotTime};
use crate::{
    Capabilities, Charged, ExpiredLease, LeaseId, LeaseRequest, LeaseState, LiveLeases, Reserved,
    Store, StoreError, Verdicts, admits,
};
use digest::{Digest, KeyHasher, SHARD_BITS};
use leases::Leases;
use once::Once;
use shard::{Guard, Shard};
use usage::Usage;

/// The locks of `once`. Its model replaces them with Shuttle's.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}

/// The bounds of a [`MemoryStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStoreOptions {
    /// The most keys at a time, at least 1. Each of up to 512 shards has its share of the cap, so a shard may evict
    /// slightly before the whole store is full.
    pub max_keys: usize,
    /// The most admitted request ids that are remembered at a time (R12), at least 1. At the bound, a new id replaces
    /// the oldest; if that one is sent again, it is charged again. Each takes about 200 bytes. Each of up to 64 shards
    /// has its share of the bound.
    pub max_request_ids: usize,
    /// The most leases that are known at a time, at least 1. At the bound, a new one replaces one of 16 others: one that has
    /// ended, or else the one that expires first. What that one holds stays charged, and its slots are free when it would
    /// have expired. A lease of up to two limits takes about 300 bytes. Each of up to 64 shards has its share of the bound.
    pub max_leases: usize,
    /// The most leases that have ended and are known, so that a settlement may be repeated, at least 1. At the bound, the one
    /// that ended first is forgotten, also before a minute is over. Each shard has its share of the bound.
    pub max_ended_leases: usize,
}

impl MemoryStoreOptions {
    /// 10 million keys: about 550 MB if each has at most six admissions.
    pub const DEFAULT_MAX_KEYS: usize = 10_000_000;
    /// A million request ids: those of the last 100 seconds at 10,000 admissions a second.
    pub const DEFAULT_MAX_REQUEST_IDS: usize = 1_000_000;
    /// A million leases.
    pub const DEFAULT_MAX_LEASES: usize = 1_000_000;
    /// The leases that ended in the last minute, at 1,000 a second.
    pub const DEFAULT_MAX_ENDED_LEASES: usize = 65_536;

    /// The same options with at most `max_keys` keys.
    #[must_use]
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// The same options with at most `max_request_ids` request ids.
    #[must_use]
    pub fn max_request_ids(mut self, max_request_ids: usize) -> Self {
        self.max_request_ids = max_request_ids;
        self
    }

    /// The same options with at most `max_leases` leases.
    #[must_use]
    pub fn max_leases(mut self, max_leases: usize) -> Self {
        self.max_leases = max_leases;
        self
    }

    /// The same options with at most `max_ended_leases` leases that have ended.
    #[must_use]
    pub fn max_ended_leases(mut self, max_ended_leases: usize) -> Self {
        self.max_ended_leases = max_ended_leases;
        self
    }
}

impl Default for MemoryStoreOptions {
    fn default() -> Self {
        Self {
            max_keys: Self::DEFAULT_MAX_KEYS,
            max_request_ids: Self::DEFAULT_MAX_REQUEST_IDS,
            max_leases: Self::DEFAULT_MAX_LEASES,
            max_ended_leases: Self::DEFAULT_MAX_ENDED_LEASES,
        }
    }
}

/// What a decision records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    /// Nothing: a peek.
    Nothing,
    /// The check if it is admitted, and what is recorded although it is denied (R19).
    Check,
    /// The latter only: another limit has denied the check.
    #[cfg(feature = "resilience")]
    Denied,
}

/// The current contents of a [`MemoryStore`], and its evictions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStoreStats {
    /// The keys held now.
    pub keys: u64,
    /// The keys that were evicted at the cap before they were idle, so that some usage was forgotten.
    pub evicted: u64,
    /// The leases known now, also those that have just ended.
    pub leases: u64,
    /// The leases that were forgotten at the cap.
    pub evicted_leases: u64,
    /// The leases that are alive now.
    pub live_leases: u64,
    /// How often a lease expired so far, whether or not an update came later.
    pub expired_leases: u64,
}

/// The most shards: enough that two threads seldom need the same one, and that one shard of a full store grows in less
/// than a millisecond.
const MAX_SHARDS: usize = 512;
const _: () = assert!(MAX_SHARDS <= 1 << SHARD_BITS);
/// With fewer keys than this, an additional shard is not worth its cache line.
const MIN_KEYS_PER_SHARD: usize = 1024;

/// Usage in this process's memory.
///
/// It is exact: checks that share a limit are decided one after the other. The time is that of the clock, read once per
/// check before the locks are taken, and clamped to the latest time that a shard has seen, so it never steps back (R7).
///
/// **Leases** are known to this store only. An admission is found again by its time and its cost: admissions that have both
/// in common are alike, so it does not matter which one a settlement changes.
///
/// **At the cap on keys** a new key evicts one of 16 in its neighbourhood: an idle key, or else the key with the
/// smallest share of its limit in use. Its usage is forgotten, and [`MemoryStoreStats::evicted`] counts it. The
/// alternative, to deny new keys, would let anybody who can make up ids lock out everybody else.
#[derive(Debug)]
pub struct MemoryStore<C = MonotonicClock> {
    clock: C,
    hasher: KeyHasher,
    shards: Box<[Shard]>,
    max_keys_per_shard: usize,
    once: Once,
    leases: Leases,
}

impl MemoryStore {
    /// A store with the default bounds and the machine's monotonic clock.
    pub fn new() -> Self {
        Self::with_clock(MonotonicClock::new(), &MemoryStoreOptions::default())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock> MemoryStore<C> {
    /// An empty store that uses `clock`.
    pub fn with_clock(clock: C, options: &MemoryStoreOptions) -> Self {
        let max_keys = options.max_keys.max(1);
        let most = (max_keys / MIN_KEYS_PER_SHARD).clamp(1, MAX_SHARDS);
        // The greatest power of two that is at most `most`.
        let shards = 1 << most.ilog2();
        Self {
            clock,
            hasher: KeyHasher::new(),
            shards: (0..shards).map(|_| Shard::default()).collect(),
            max_keys_per_shard: max_keys / shards,
            once: Once::new(options.max_request_ids),
            leases: Leases::new(options.max_leases, options.max_ended_leases),
        }
    }

    /// The clock of the store.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// [`Store::charge`], without async. Takes a lock for each limit.
    #[inline]
    pub fn charge(&self, charges: &[Charge<'_>]) -> Verdicts {
        match charges {
            [] => Verdicts::new(),
            [charge] => std::iter::once(self.charge_one(charge)).collect(),
            _ => self.decide_many(charges, Commit::Check),
        }
    }

    /// [`MemoryStore::charge`] of a check with `request_id`: charged once (R12). Takes one more lock.
    pub fn charge_once(&self, charges: &[Charge<'_>], request_id: &str) -> Verdicts {
        if charges.is_empty() {
            return Verdicts::new();
        }
        self.once.charge(charges, request_id, &self.clock, || self.charge(charges))
    }

    /// The verdicts of a check that is denied elsewhere: records its cost under the limits that record denied costs (R19), once
    /// if it has a request id.
    #[cfg(feature = "resilience")]
    pub(crate) fn charge_denied(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Verdicts {
        let charge = || self.decide_many(charges, Commit::Denied);
        match request_id {
            Some(request_id) if charges.iter().any(Charge::is_recorded_if_denied) => {
                self.once.charge(charges, request_id, &self.clock, charge)
            }
            _ => charge(),
        }
    }

    /// [`MemoryStore::charge`] for one limit. A limit that denies is charged only if it records denied costs (R19).
    #[inline]
    pub fn charge_one(&self, charge: &Charge<'_>) -> Verdict {
        let digest = self.hasher.digest(charge.limit, charge.subject);
        let now = self.clock.now();
        let mut shard = self.shard(digest).lock();
        let now = shard.clamp(now);
        // Asked before the decision, so that the usual verdict is not copied: with a copy, a check through the library takes a
        // third longer.
        if charge.is_recorded_if_denied() {
            return self.decide_and_record(&mut shard, digest, charge, now);
        }
        self.decide_one(&mut shard, digest, charge, now)
    }

    /// [`Store::peek`], without async.
    pub fn peek(&self, charges: &[Charge<'_>]) -> Verdicts {
        self.decide_many(charges, Commit::Nothing)
    }

    /// [`Store::reset`], without async.
    pub fn reset(&self, limit: &Limit, subject: &Subject<'_>) {
        let digest = self.hasher.digest(limit, subject);
        let mut shard = self.shard(digest).lock();
        if !shard.table.get(digest.fingerprint).is_some_and(|usage| usage.holds_slots()) {
            shard.forget(digest.fingerprint);
        }
    }

    /// Removes every key whose usage no longer counts, every request id that may be charged again and every lease that need not
    /// be known. Each new key
    /// does a little of this; call it occasionally to return memory when traffic ends. O(keys), one shard locked at a
    /// time.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let now = shard.clamp(now);
            shard.table.sweep(now);
        }
        self.once.sweep(now);
        self.leases.sweep(now);
    }

    /// The number of keys and leases, and the evictions and expirations so far. O(leases); locks each shard for a moment.
    pub fn stats(&self) -> MemoryStoreStats {
        let leases = self.leases.stats(self.clock.now());
        let none = MemoryStoreStats {
            leases: leases.kept,
            evicted_leases: leases.evicted,
            live_leases: leases.live,
            expired_leases: leases.expired,
            ..MemoryStoreStats::default()
        };
        self.shards.iter().fold(none, |stats, shard| {
            let shard = shard.lock();
            MemoryStoreStats {
                keys: stats.keys + shard.table.len() as u64,
                evicted: stats.evicted + shard.table.evicted(),
                ..stats
            }
        })
    }

    /// The number of keys. Locks each shard for a moment.
    pub fn keys(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().table.len() as u64).sum()
    }

    #[inline]
    fn shard_index(&self, digest: Digest) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let low = digest.shard_bits as usize;
        low & (self.shards.len() - 1)
    }

    #[inline]
    fn shard(&self, digest: Digest) -> &Shard {
        &self.shards[self.shard_index(digest)]
    }

    /// Decides and charges a check of one limit: a denial records nothing.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `KeyHasher::digest`")]
    fn decide_one(
        &self,
        shard: &mut Guard<'_>,
        digest: Digest,
        charge: &Charge<'_>,
        now: Timestamp,
    ) -> Verdict {
        match shard.table.get(digest.fingerprint) {
            Some(usage) => usage.decide(charge.limit, now, charge.cost, true),
            None => self.decide_new(shard, digest, charge, now),
        }
    }

    /// [`MemoryStore::decide_one`] for a limit that records denied costs (R19).
    #[inline(never)]
    fn decide_and_record(
        &self,
        shard: &mut Guard<'_>,
        digest: Digest,
        charge: &Charge<'_>,
        now: Timestamp,
    ) -> Verdict {
        let verdict = self.decide_one(shard, digest, charge, now);
        if verdict.allowed {
            return verdict;
        }
        self.record_denied(shard, digest, charge, now, verdict)
    }

    /// Decides and charges a check whose key may be missing: a denial adds no key.
    fn decide_new(
        &self,
        shard: &mut Guard<'_>,
        digest: Digest,
        charge: &Charge<'_>,
        now: Timestamp,
    ) -> Verdict {
        let verdict = Usage::evaluate_none(charge.limit, now, charge.cost);
        if !verdict.allowed || charge.cost.get() == 0 {
            return verdict;
        }
        let usage = shard.table.get_or_insert(digest.fingerprint, now, self.max_keys_per_shard);
        usage.decide(charge.limit, now, charge.cost, true)
    }

    /// Records the cost of a denied check, on which the limit's own `verdict` is known. Returns the verdict with the usage after
    /// that, and the wait of the same check sent again.
    #[cold]
    fn record_denied(
        &self,
        shard: &mut Guard<'_>,
        digest: Digest,
        charge: &Charge<'_>,
        now: Timestamp,
        verdict: Verdict,
    ) -> Verdict {
        let Charge { limit, cost, .. } = *charge;
        let most = limit.most_recorded().get();
        // Otherwise it adds no key.
        if verdict.usage.checked_add(cost.get()).is_none_or(|total| total > most) {
            return verdict;
        }
        let usage = shard.table.get_or_insert(digest.fingerprint, now, self.max_keys_per_shard);
        if !usage.record_denied(limit, now, cost) {
            return verdict;
        }
        Verdict { allowed: verdict.allowed, ..usage.decide(limit, now, cost, false) }
    }

    fn decide_many(&self, charges: &[Charge<'_>], commit: Commit) -> Verdicts {
        let keys: SmallVec<[(usize, Digest); 4]> = charges
            .iter()
            .map(|charge| self.hasher.digest(charge.limit, charge.subject))
            .map(|digest| (self.shard_index(digest), digest))
            .collect();
        let now = self.clock.now();
        let mut guards = self.lock_all(keys.iter().map(|(shard, _)| *shard).collect());
        // One time for all: the latest that any of the shards has seen.
        let now = guards.iter_mut().fold(now, |now, (_, guard)| guard.clamp(now));
        for (_, guard) in &mut guards {
            guard.clamp(now);
        }
        let mut verdicts: Verdicts = charges
            .iter()
            .zip(&keys)
            .map(|(charge, (shard, digest))| {
                match find(&mut guards, *shard)
                    .and_then(|guard| guard.table.get(digest.fingerprint))
                {
                    Some(usage) => usage.decide(charge.limit, now, charge.cost, false),
                    None => Usage::evaluate_none(charge.limit, now, charge.cost),
                }
            })
            .collect();
        if commit == Commit::Nothing {
            return verdicts;
        }
        let admitted = commit == Commit::Check && admits(charges, &verdicts);
        for ((charge, (shard, digest)), verdict) in charges.iter().zip(&keys).zip(&mut verdicts) {
            let Some(guard) = find(&mut guards, *shard) else { continue };
            if admitted && verdict.allowed {
                *verdict = match guard.table.get(digest.fingerprint) {
                    Some(usage) => usage.decide(charge.limit, now, charge.cost, true),
                    None => self.decide_new(guard, *digest, charge, now),
                };
            } else if charge.is_recorded_if_denied() {
                *verdict = self.record_denied(guard, *digest, charge, now, *verdict);
            }
        }
        verdicts
    }

    /// Locks these shards, each once, in the order of their indices, so that two checks never deadlock.
    fn lock_all(&self, mut shards: SmallVec<[usize; 4]>) -> SmallVec<[(usize, Guard<'_>); 4]> {
        if shards.len() > 1 {
            shards.sort_unstable();
            shards.dedup();
        }
        shards.into_iter().map(|index| (index, self.shards[index].lock())).collect()
    }
}

#[inline]
fn find<'a, 'b>(guards: &'a mut [(usize, Guard<'b>)], shard: usize) -> Option<&'a mut Guard<'b>> {
    guards.iter_mut().find(|(index, _)| *index == shard).map(|(_, guard)| guard)
}

impl<C: Clock + 'static> Store for MemoryStore<C> {
    fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        let verdicts = match request_id {
            None => self.charge(charges),
            Some(request_id) => self.charge_once(charges, request_id),
        };
        ready(Ok(verdicts.into()))
    }

    fn keeps_order(&self) -> bool {
        true
    }

    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        ready(Ok(self.peek(charges).into()))
    }

    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.reset(limit, subject);
        ready(Ok(()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::LEASES_HERE
    }

    fn reserve(
        &self,
        request: &LeaseRequest<'_>,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        ready(Ok(self.reserve(request)))
    }

    fn live_leases(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<LiveLeases, StoreError>> + Send {
        ready(Ok(self.live_leases(most)))
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.expired_leases(most)
    }

    fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        ready(Ok(self.update_lease(id, update)))
    }
}
