//! The leases of a store in memory (R13–R16).
//!
//! A lease is found by its place in a table and the random number that is the rest of its id. Leases have their own shards. An
//! operation locks the shard of its lease before any shard of keys, so two operations never wait for each other. Nothing here
//! knows how usage changes: `Holdings` is what the store does with the keys.

#[cfg(feature = "snapshots")]
mod saved;

use std::collections::{BinaryHeap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use tollgate_core::lease::ledger::{Ending, LeaseHead};
use tollgate_core::{Limit, Timestamp, Totals, Ttl};

#[cfg(feature = "snapshots")]
pub(super) use self::saved::SavedLease;
use super::digest::Digest;
use super::once;
use super::slots::SlotHolder;
use super::sync::{Mutex, MutexGuard};
use crate::{ExpiredHold, ExpiredLease, LeaseId, LiveHold, LiveLease, LiveLeases};

/// The most shards: enough that two threads seldom need the same one.
const MAX_SHARDS: usize = 64;
/// With fewer leases than this, an additional shard is not worth its lock.
const MIN_LEASES_PER_SHARD: usize = 64;
/// How many places are examined for leases to forget whenever one is added: more than a table gains, so that a round ends.
const SWEEP_STEP: usize = 2;
/// How many places are examined to find the lease to forget at the cap.
const EVICTION_SAMPLE: usize = 16;

/// The name of a lease in this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseKey {
    place: u32,
    secret: u128,
}

/// What the ids of this store begin with.
const PREFIX: u8 = b'm';
const ID_BYTES: usize = 1 + 8 + 32;

impl LeaseKey {
    pub(super) fn id(self) -> LeaseId {
        let mut text = [PREFIX; ID_BYTES];
        let bytes = self.place.to_be_bytes().into_iter().chain(self.secret.to_be_bytes());
        for (two, byte) in text[1..].chunks_exact_mut(2).zip(bytes) {
            two.copy_from_slice(&[byte >> 4, byte & 15].map(|four| DIGITS[usize::from(four)]));
        }
        LeaseId::of_bytes(&text)
    }

    /// `None` if this store did not write it.
    pub(super) fn of(id: &LeaseId) -> Option<Self> {
        let text: &[u8; ID_BYTES] = id.as_bytes().try_into().ok()?;
        let [PREFIX, digits @ ..] = text else { return None };
        let mut bytes = [0; (ID_BYTES - 1) / 2];
        let mut seen = 0;
        for (byte, two) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [two[0], two[1]].map(|digit| VALUES[usize::from(digit)]);
            seen |= high | low;
            *byte = high << 4 | low;
        }
        if seen >= NO_DIGIT {
            return None;
        }
        let (place, secret) = bytes.split_first_chunk()?;
        let secret = u128::from_be_bytes(secret.try_into().ok()?);
        Some(Self { place: u32::from_be_bytes(*place), secret })
    }

    pub(super) fn holder(self) -> SlotHolder {
        self.secret
    }
}

/// What is no digit.
const NO_DIGIT: u8 = 16;
/// The value of each digit, so that reading an id takes no branches.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 16")]
        let low = value as u8;
        values[DIGITS[value] as usize] = low;
        value += 1;
    }
    values
};
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A lease.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) head: LeaseHead,
    pub(super) kept_until: Timestamp,
    /// The longest life of its limits, except those of concurrency.
    pub(super) longest_life: Duration,
    /// Whether it has expired since its last extension, and [`Lease::expire`] has seen it.
    pub(super) has_expired: bool,
    /// The same, and [`Leases::note_expired`] or an update that changed it has counted it.
    pub(super) is_expiry_counted: bool,
    pub(super) holds: SmallVec<[Hold; 1]>,
    pub(super) reserved_at: Timestamp,
    /// What its last extension said was used so far.
    pub(super) observed: Option<Box<Totals>>,
    pub(super) note: Box<[u8]>,
    /// The record of its request id.
    pub(super) named: Option<once::Digest>,
}

/// What a lease holds in one limit.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) limit: Arc<Limit>,
    pub(super) digest: Digest,
    pub(super) held: Held,
}

/// A part of a hold.
#[derive(Debug)]
pub(super) enum Held {
    /// The admissions, oldest first, each with a cost above 0.
    Parts(SmallVec<[Part; 1]>),
    /// Whether it took a slot.
    Slot(bool),
}

/// One admission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) at: Timestamp,
    /// The usage right after it.
    pub(super) used_then: u64,
    pub(super) cost: u64,
}

impl Lease {
    pub(super) fn new(ttl: Ttl, now: Timestamp, holds: SmallVec<[Hold; 1]>, note: &[u8]) -> Self {
        let rates = holds.iter().filter(|hold| matches!(hold.held, Held::Parts(_)));
        let longest_life = rates.map(|hold| hold.limit.longest_life()).max().unwrap_or_default();
        let head = LeaseHead::new(ttl, now);
        Self {
            head,
            kept_until: head.kept_until(longest_life),
            longest_life,
            has_expired: false,
            is_expiry_counted: false,
            holds,
            reserved_at: now,
            observed: None,
            note: note.into(),
            named: None,
        }
    }

    /// If it expired until `now`, it holds no longer what was given back then (R15).
    pub(super) fn expire(&mut self, now: Timestamp) {
        let LeaseHead { ending, expires_at, .. } = self.head;
        if self.has_expired || ending != Ending::Open || now < expires_at {
            return;
        }
        self.has_expired = true;
        for hold in self.holds.iter_mut().filter(|hold| hold.limit.refunds_expired()) {
            hold.held = Held::Parts(SmallVec::new());
        }
    }

    /// Whether it is expired at `now`.
    fn is_expired(&self, now: Timestamp) -> bool {
        self.head.ending == Ending::Open && !self.head.is_live(now)
    }

    fn expired(&self, id: LeaseId, now: Timestamp) -> ExpiredLease {
        let holds = self.holds.iter().map(|hold| ExpiredHold {
            policy_id: hold.limit.policy_id().clone(),
            unit: hold.limit.unit().clone(),
            charged_before: hold.charged(true),
            charged: if hold.limit.refunds_expired() { 0 } else { hold.charged(false) },
        });
        let since = now.since(self.head.expires_at);
        ExpiredLease { id, note: self.note.clone(), since, holds: holds.collect() }
    }

    fn live(&self, id: LeaseId, now: Timestamp) -> LiveLease {
        let holds = self.holds.iter().map(|hold| LiveHold {
            policy_id: hold.limit.policy_id().clone(),
            unit: hold.limit.unit().clone(),
            charged: hold.charged(true),
            used: self.observed.as_deref().and_then(|totals| hold.limit.total_of(totals)),
        });
        LiveLease {
            id,
            note: self.note.clone(),
            age: now.since(self.reserved_at),
            lives_for: self.head.expires_at.since(now),
            observed: self.observed.as_deref().cloned().unwrap_or_default(),
            holds: holds.collect(),
        }
    }
}

/// All leases.
#[derive(Debug)]
pub(super) struct Leases {
    secret: (u64, u64),
    /// How many were reserved. Relaxed: only its values must differ.
    count: AtomicU64,
    shards: Box<[Mutex<Table>]>,
    max_per_shard: usize,
    max_ended_per_shard: usize,
}

/// The leases of one shard.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Option<(u128, Lease)>>,
    free: Vec<u32>,
    /// The places of the leases that have ended, in the order in which they did, and until when each was to be kept then: they are
    /// used again one after the other.
    ended: VecDeque<(Timestamp, u32)>,
    /// Where the next sweep continues.
    cursor: usize,
    evicted: u64,
    /// The expirations that were counted.
    expired: u64,
}

/// What the store in memory knows of its leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseStats {
    pub(super) kept: u64,
    pub(super) live: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
}

impl Leases {
    /// Keeps at most `max_leases`, and of those that have ended at most `max_ended`.
    pub(super) fn new(max_leases: usize, max_ended: usize) -> Self {
        let max_leases = max_leases.max(1);
        let most = (max_leases / MIN_LEASES_PER_SHARD).clamp(1, MAX_SHARDS);
        // The greatest power of two that is at most `most`.
        let shards = 1 << most.ilog2();
        let random = RandomState::new();
        Self {
            secret: (random.hash_one("leases, first"), random.hash_one("leases, second")),
            count: AtomicU64::new(0),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_per_shard: max_leases / shards,
            max_ended_per_shard: (max_ended / shards).max(1),
        }
    }

    /// A number that nobody can guess: SipHash of a count, with a secret.
    pub(super) fn draw(&self) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u64(self.count.fetch_add(1, Ordering::Relaxed));
        hasher.finish128().as_u128()
    }

    /// The shard of the lease with this number.
    pub(super) fn shard(&self, secret: u128) -> MutexGuard<'_, Table> {
        // Only the low bits are used.
        let low = secret as usize;
        lock(&self.shards[low & (self.shards.len() - 1)])
    }

    /// Notes that a lease of this shard has ended, the first time.
    pub(super) fn ended(&self, shard: &mut Table, key: LeaseKey, kept_until: Timestamp) {
        shard.ended.push_back((kept_until, key.place));
        if shard.ended.len() > self.max_ended_per_shard
            && let Some((_, place)) = shard.ended.pop_front()
        {
            shard.forget(place as usize);
        }
    }

    /// Adds a lease to its shard. The second is the open lease that was forgotten at the cap, with its number.
    pub(super) fn add(
        &self,
        shard: &mut Table,
        secret: u128,
        lease: Lease,
        now: Timestamp,
    ) -> (LeaseKey, Option<(u128, Lease)>) {
        let (place, evicted) = shard.add(secret, lease, now, self.max_per_shard);
        (LeaseKey { place, secret }, evicted)
    }

    /// Forgets every lease that need not be known any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.forget_ended(now);
            for place in 0..shard.places.len() {
                shard.forget_if_over(place, now);
            }
        }
    }

    /// The leases that are alive at `now`, the oldest first, at most `most`. O(leases), one shard locked at a time.
    pub(super) fn live(&self, now: Timestamp, most: usize) -> LiveLeases {
        let (mut oldest, mut is_complete) = (BinaryHeap::new(), true);
        for shard in &self.shards {
            for (place, kept) in (0..).zip(&lock(shard).places) {
                let Some((secret, lease)) = kept else { continue };
                if !lease.head.is_live(now) {
                    continue;
                }
                oldest.push((lease.reserved_at, place, *secret));
                if oldest.len() > most {
                    is_complete = false;
                    oldest.pop();
                }
            }
        }
        let leases = oldest.into_sorted_vec().into_iter().filter_map(|(_, place, secret)| {
            let key = LeaseKey { place, secret };
            let mut shard = self.shard(secret);
            let lease = shard.get(key, now).filter(|lease| lease.head.is_live(now))?;
            Some(lease.live(key.id(), now))
        });
        LiveLeases { leases: leases.collect(), is_complete }
    }

    /// Counts the leases that have expired until `now`, each once, and returns at most `most` of them. O(leases), one shard locked
    /// at a time.
    pub(super) fn note_expired(&self, now: Timestamp, most: usize) -> Vec<ExpiredLease> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let table = &mut *lock(shard);
            for (place, kept) in (0..).zip(&mut table.places) {
                let Some((secret, lease)) = kept else { continue };
                if lease.is_expiry_counted || !lease.is_expired(now) {
                    continue;
                }
                lease.is_expiry_counted = true;
                table.expired += 1;
                if found.len() < most {
                    found.push(lease.expired(LeaseKey { place, secret: *secret }.id(), now));
                }
            }
        }
        found
    }

    /// What they are at `now`. O(leases), one shard locked at a time.
    pub(super) fn stats(&self, now: Timestamp) -> LeaseStats {
        let mut stats = LeaseStats::default();
        for shard in &self.shards {
            let table = lock(shard);
            stats.evicted += table.evicted;
            stats.expired += table.expired;
            for (_, lease) in table.places.iter().flatten() {
                stats.kept += 1;
                stats.live += u64::from(lease.head.is_live(now));
                stats.expired += u64::from(!lease.is_expiry_counted && lease.is_expired(now));
            }
        }
        stats
    }
}

/// A poisoned lock is fine: a lease that a panic left half changed is settled once nevertheless.
fn lock(shard: &Mutex<Table>) -> MutexGuard<'_, Table> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Counts an expiry of the lease at this place that an update has found, unless it is counted. `has_come_back` says whether the
    /// update lets the lease live on, so that it may expire again.
    pub(super) fn count_expiry(&mut self, key: LeaseKey, has_come_back: bool) {
        let kept = self.places.get_mut(key.place as usize).and_then(Option::as_mut);
        if let Some((_, lease)) = kept {
            self.expired += u64::from(!lease.is_expiry_counted);
            lease.is_expiry_counted = !has_come_back;
        }
    }

    /// The lease of that name, if it is still known at `now`.
    pub(super) fn get(&mut self, key: LeaseKey, now: Timestamp) -> Option<&mut Lease> {
        let (secret, lease) = self.places.get_mut(key.place as usize)?.as_mut()?;
        (*secret == key.secret && now < lease.kept_until).then_some(lease)
    }

    fn add(
        &mut self,
        secret: u128,
        lease: Lease,
        now: Timestamp,
        max: usize,
    ) -> (u32, Option<(u128, Lease)>) {
        self.forget_ended(now);
        if self.free.is_empty() {
            for _ in 0..SWEEP_STEP.min(self.places.len()) {
                self.cursor =
                    if self.cursor + 1 >= self.places.len() { 0 } else { self.cursor + 1 };
                self.forget_if_over(self.cursor, now);
            }
        }
        let mut evicted = None;
        if self.free.is_empty() && self.places.len() >= max {
            evicted = self.evict(now);
        }
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some((secret, lease));
            return (place, evicted);
        }
        self.places.push(Some((secret, lease)));
        (u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX), evicted)
    }

    /// Forgets the first of those that have ended, if they need not be known any more.
    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((kept_until, place)) = self.ended.front().copied()
            && kept_until <= now
        {
            self.ended.pop_front();
            match &self.places[place as usize] {
                // It was corrected meanwhile.
                Some((_, lease)) if lease.kept_until > now => {
                    self.ended.push_back((lease.kept_until, place));
                }
                _ => {
                    self.forget(place as usize);
                }
            }
        }
    }

    /// Only a lease that has not ended: the others are in a queue.
    fn forget_if_over(&mut self, place: usize, now: Timestamp) {
        let over = |(_, lease): &(u128, Lease)| {
            lease.head.ending == Ending::Open && lease.kept_until <= now
        };
        if self.places[place].as_ref().is_some_and(over) {
            let lease = self.forget(place);
            self.expired += u64::from(lease.is_some_and(|(_, lease)| !lease.is_expiry_counted));
        }
    }

    fn forget(&mut self, place: usize) -> Option<(u128, Lease)> {
        self.free.extend(u32::try_from(place));
        self.places[place].take()
    }

    /// Forgets the one that has ended first, or else the one of some that expires first, which it returns.
    fn evict(&mut self, now: Timestamp) -> Option<(u128, Lease)> {
        self.evicted += 1;
        if let Some((_, place)) = self.ended.pop_front() {
            self.forget(place as usize);
            return None;
        }
        let sample = (0..EVICTION_SAMPLE.min(self.places.len()))
            .map(|step| (self.cursor + step) % self.places.len());
        let first = sample.min_by_key(|place| {
            self.places[*place].as_ref().map(|(_, lease)| lease.head.expires_at)
        });
        let evicted = first.and_then(|place| self.forget(place));
        let is_uncounted =
            |(_, lease): &(u128, Lease)| !lease.is_expiry_counted && lease.is_expired(now);
        self.expired += u64::from(evicted.as_ref().is_some_and(is_uncounted));
        evicted
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::lease::ledger::KEPT_FOR;

    use super::*;

    fn lease(ttl_ms: u64, now: Timestamp) -> Lease {
        Lease::new(Ttl::from_ms(ttl_ms).unwrap(), now, SmallVec::new(), &[])
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        for (place, secret) in [(0, 0), (7, 1 << 127), (u32::MAX, u128::MAX)] {
            let key = LeaseKey { place, secret };
            assert_eq!(LeaseKey::of(&key.id()), Some(key));
        }
        let written = LeaseKey { place: 1, secret: 1 }.id().to_string();
        for text in [&written[1..], &written[..40], &written.to_uppercase(), "m+0000001", "m"] {
            if let Some(id) = LeaseId::parse(text) {
                assert_eq!(LeaseKey::of(&id), None, "{text}");
            }
        }
    }

    #[test]
    fn a_lease_is_known_for_a_minute_after_it_expired_and_then_makes_room() {
        let (leases, now) = (Leases::new(64, 64), Timestamp::from_ms(1_000_000));
        let secret = leases.draw();
        let key = leases.add(&mut leases.shard(secret), secret, lease(100, now), now).0;
        let over = now.after(Duration::from_millis(60_100));
        let just_before = Timestamp::from_ns(over.as_ns() - 1);
        assert!(leases.shard(secret).get(key, just_before).is_some());
        assert!(leases.shard(secret).get(key, over).is_none());
        let other = LeaseKey { secret: key.secret ^ 2, ..key };
        assert!(leases.shard(secret).get(other, now).is_none(), "a number that was not drawn");
        leases.sweep(over);
        let stats = LeaseStats { expired: 1, ..LeaseStats::default() };
        assert_eq!(leases.stats(over), stats);
    }

    #[test]
    fn at_the_cap_the_lease_that_expires_first_is_forgotten() {
        let (leases, now) = (Leases::new(3, 3), Timestamp::from_ms(1_000_000));
        let add = |ttl_ms| {
            let secret = leases.draw();
            leases.add(&mut leases.shard(secret), secret, lease(ttl_ms, now), now).0
        };
        let keys = [500, 300, 700, 900].map(add);
        let is_known = keys.map(|key| leases.shard(key.secret).get(key, now).is_some());
        assert_eq!(is_known, [true, false, true, true]);
        let stats = leases.stats(now);
        assert_eq!((stats.kept, stats.live, stats.evicted, stats.expired), (3, 3, 1, 0));
    }

    #[test]
    fn of_those_that_have_ended_the_first_is_forgotten_first() {
        let (leases, now) = (Leases::new(8, 2), Timestamp::from_ms(1_000_000));
        let add = |_| {
            let secret = leases.draw();
            leases.add(&mut leases.shard(secret), secret, lease(500, now), now).0
        };
        let keys = [0; 4].map(add);
        for key in [keys[2], keys[0], keys[3]] {
            leases.ended(&mut leases.shard(key.secret), key, now.after(KEPT_FOR));
        }
        let is_known = keys.map(|key| leases.shard(key.secret).get(key, now).is_some());
        assert_eq!(is_known, [true, true, false, true]);
        let stats = leases.stats(now);
        assert_eq!((stats.kept, stats.evicted), (3, 0));
        assert_eq!(add(0).place, keys[2].place, "its place is used again");
    }

    #[test]
    fn numbers_are_drawn_once() {
        let leases = Leases::new(1, 1);
        let drawn: std::collections::HashSet<u128> = (0..1_000).map(|_| leases.draw()).collect();
        assert_eq!(drawn.len(), 1_000);
        assert!(!drawn.contains(&Leases::new(1, 1).draw()), "another store has another secret");
    }
}
