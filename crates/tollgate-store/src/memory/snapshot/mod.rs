//! Snapshots of a [`MemoryStore`]: its usage, its leases and its request ids, written while it decides and read after a restart.
//!
//! Windows go on by wall time. The store that a snapshot is read into has the clock of the store that wrote it, moved on by as much
//! as the wall clock: what was admitted leaves its window when it would have left it, wherever the wall clock was set meanwhile.
//!
//! The store works on while a snapshot is written, and a check waits for a few keys at most. So the parts of a snapshot are of different
//! moments: each key, lease and request id was copied at its own. What was admitted after that is not in it: a limit may admit as much
//! again after a crash, but not after an orderly end, when nothing is admitted any more.

mod file;
mod format;
mod request_ids;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_core::lease::ledger::{Ending, LeaseHead};
use tollgate_core::{Amount, Clock, Limit, Per, Policy, PolicyId, Subject, Timestamp, Window};

pub use self::file::{Found, SnapshotFile};
pub use self::format::SnapshotError;
use self::format::{Kind, Reader, Writer};
use self::request_ids::SavedRecord;
use super::digest::{Digest, KeyHasher, MAX_WORDS};
use super::leases::{Held, Hold, Lease, Leases, SavedLease};
use super::once::Once;
use super::refunds::Refund;
use super::shard::Shard;
use super::slots::SlotHolder;
use super::usage::{SavedUsage, Usage};
use super::{MAX_SHARDS, MemoryStore, MemoryStoreOptions};

/// About how many slots of a table are copied under one lock.
const SLOTS_AT_ONCE: usize = 256;
/// About how many entries of logs: some tens of microseconds. One longer log is copied at once nevertheless.
const ENTRIES_AT_ONCE: usize = 16_384;
/// How many leases are copied under one lock.
const LEASES_AT_ONCE: usize = 256;

/// When a snapshot was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTime {
    /// By the clock of the store.
    pub clock: Timestamp,
    /// By the wall clock.
    pub wall: Timestamp,
}

impl SnapshotTime {
    /// What the clock of the store shows when the wall clock shows `wall`. If the wall clock was set back, as if no time had
    /// passed.
    pub fn resumed(self, wall: Timestamp) -> Timestamp {
        self.clock.after(wall.since(self.wall))
    }
}

/// The first section.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    clock_ns: u64,
    wall_ns: u64,
    shards: usize,
    start: u128,
    factors: [u128; MAX_WORDS],
    long: (u64, u64),
    /// The digest of a certain key.
    probe: (u64, u64),
    lease_shards: usize,
    request_id_shards: usize,
    request_id_secret: (u64, u64),
}

/// Some keys of one shard.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    shard: usize,
    /// How many slots the table of the shard has.
    slots: usize,
    latest_ns: u64,
    keys: Vec<(u64, SavedUsage)>,
    /// The leases that give back what they hold in these keys when they expire, with the fingerprints of the keys.
    refunding: Vec<RefundingHold>,
}

type RefundingHold = (SlotHolder, u64);

impl<C: Clock> MemoryStore<C> {
    /// Writes a snapshot to `to`, in small pieces, and flushes it. Returns its length in bytes. O(usage); checks wait for some tens
    /// of microseconds at a time, or for the copy of one log that is longer than 16,384 entries. `wall` is the time by the wall
    /// clock.
    pub fn write_snapshot(&self, to: impl Write, wall: Timestamp) -> io::Result<u64> {
        let mut writer = Writer::begin(to)?;
        let (start, factors, long) = self.hasher.secrets();
        let header = Header {
            clock_ns: self.clock.now().as_ns(),
            wall_ns: wall.as_ns(),
            shards: self.shards.len(),
            start,
            factors: *factors,
            long,
            probe: probe(&self.hasher),
            lease_shards: self.leases.shard_count(),
            request_id_shards: self.once.shard_count(),
            request_id_secret: self.once.secret(),
        };
        writer.section(Kind::Header, &header)?;
        for shard in 0..self.shards.len() {
            self.write_shard(shard, &mut writer)?;
        }
        // After the keys, so that no lease is missing whose charges are there.
        for shard in 0..self.leases.shard_count() {
            let mut first = 0;
            while let Some(leases) = self.leases.saved(shard, first, LEASES_AT_ONCE) {
                writer.section(Kind::Leases, &leases)?;
                first += LEASES_AT_ONCE;
            }
        }
        for shard in 0..self.once.shard_count() {
            let records = self.once.saved(shard);
            if !records.is_empty() {
                writer.section(Kind::RequestIds, &records)?;
            }
        }
        writer.end()
    }

    fn write_shard(&self, shard: usize, writer: &mut Writer<impl Write>) -> io::Result<()> {
        let slots = self.shards[shard].lock().table.slots();
        let pieces = (slots / SLOTS_AT_ONCE).next_power_of_two().max(1);
        let width_bits = u64::BITS - pieces.trailing_zeros();
        let range = |index: usize| {
            let first = (index as u64).unbounded_shl(width_bits);
            (first, first + u64::MAX.unbounded_shr(u64::BITS - width_bits))
        };
        let mut ranges: Vec<(u64, u64)> = (0..pieces).rev().map(range).collect();
        while let Some((first, last)) = ranges.pop() {
            let Some(piece) = self.keys_between(shard, first, last) else {
                let middle = first + (last - first) / 2;
                ranges.extend([(middle + 1, last), (first, middle)]);
                continue;
            };
            // Without keys there is a time nevertheless.
            if !piece.keys.is_empty() || first == 0 && piece.latest_ns > 0 {
                writer.section(Kind::Keys, &piece)?;
            }
        }
        Ok(())
    }

    /// The keys of a shard whose fingerprints lie from `first` to `last`; `None` if they are too many for one lock.
    fn keys_between(&self, shard: usize, first: u64, last: u64) -> Option<Piece> {
        let mut keys = Vec::with_capacity(SLOTS_AT_ONCE);
        let mut entries = 0;
        let guard = self.shards[shard].lock();
        let seen = guard.table.visit(first, last, |fingerprint, usage| {
            entries += usage.entries();
            if entries > ENTRIES_AT_ONCE && !keys.is_empty() {
                return ControlFlow::Break(());
            }
            keys.push((fingerprint, usage.saved()));
            ControlFlow::Continue(())
        });
        if seen.is_break() {
            return None;
        }
        let refunding = guard.refunds().map(|refunds| refunds.holds_in(first, last));
        let (latest_ns, refunding) = (guard.latest().as_ns(), refunding.unwrap_or_default());
        let slots = guard.table.slots();
        drop(guard);
        Some(Piece { shard, slots, latest_ns, keys, refunding })
    }

    /// Reads a snapshot. `clock` gets the time at which it was begun and makes the clock of the store, which must go on from
    /// [`SnapshotTime::resumed`]. O(usage).
    ///
    /// The bounds are those of `options`; the store has as many shards as the one that wrote the snapshot.
    pub fn read_snapshot(
        from: impl Read,
        options: &MemoryStoreOptions,
        clock: impl FnOnce(SnapshotTime) -> C,
    ) -> Result<Self, SnapshotError> {
        let mut reader = Reader::begin(from)?;
        if reader.section()? != Kind::Header {
            return Err(reader.damaged("the first section is no header"));
        }
        let header: Header = reader.content()?;
        let hasher = KeyHasher::with_secrets(header.start, &header.factors, header.long);
        if probe(&hasher) != header.probe {
            return Err(SnapshotError::OtherKeys);
        }
        let time = SnapshotTime {
            clock: Timestamp::from_ns(header.clock_ns),
            wall: Timestamp::from_ns(header.wall_ns),
        };
        let store = Self::of_header(&header, hasher, options, clock(time));
        let store = store.ok_or_else(|| reader.damaged("the number of shards is impossible"))?;
        let mut refunding = HashSet::new();
        loop {
            let restored = match reader.section()? {
                Kind::Header => None,
                Kind::Keys => store.restore_keys(reader.content()?, &mut refunding),
                Kind::Leases => {
                    let mut leases = reader.content::<Vec<SavedLease>>()?.into_iter();
                    leases.try_for_each(|lease| store.restore_lease(lease, &refunding))
                }
                Kind::RequestIds => {
                    let mut records = reader.content::<Vec<SavedRecord>>()?.into_iter();
                    records.try_for_each(|record| store.once.restore(record))
                }
                Kind::End => break,
            };
            restored.ok_or_else(|| reader.damaged("a section holds what no store writes"))?;
        }
        reader.end()?;
        store.leases.restored();
        Ok(store)
    }

    fn of_header(
        header: &Header,
        hasher: KeyHasher,
        options: &MemoryStoreOptions,
        clock: C,
    ) -> Option<Self> {
        let shards = header.shards;
        if !shards.is_power_of_two() || shards > MAX_SHARDS {
            return None;
        }
        Some(Self {
            clock,
            hasher,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            max_keys_per_shard: (options.max_keys / shards).max(1),
            once: Once::with_shards(
                header.request_id_shards,
                header.request_id_secret,
                options.max_request_ids,
            )?,
            leases: Leases::with_shards(
                header.lease_shards,
                options.max_leases,
                options.max_ended_leases,
            )?,
        })
    }

    fn restore_keys(&self, saved: Piece, refunding: &mut HashSet<RefundingHold>) -> Option<()> {
        let mut shard = self.shards.get(saved.shard)?.lock();
        let now = shard.clamp(Timestamp::from_ns(saved.latest_ns));
        // Keys come in the order of their slots: in a small table they would all have the same few.
        shard.table.begin_with(saved.slots, self.max_keys_per_shard);
        for (fingerprint, usage) in saved.keys {
            let usage = Usage::restored(usage)?;
            // 0 marks an empty slot.
            if fingerprint == 0 {
                return None;
            }
            if !usage.is_idle(now) {
                *shard.table.get_or_insert(fingerprint, now, self.max_keys_per_shard) = usage;
            }
        }
        refunding.extend(saved.refunding);
        Some(())
    }

    /// A lease and its keys were saved at two moments. Its slots are as the lease says. What it gives back when it expires is in its
    /// keys only if it was when they were saved.
    fn restore_lease(&self, saved: SavedLease, refunding: &HashSet<RefundingHold>) -> Option<()> {
        self.leases.restore(saved, |holder, lease| {
            for hold in &lease.holds {
                self.restore_hold(holder, lease, hold, refunding);
            }
        })
    }

    fn restore_hold(
        &self,
        holder: SlotHolder,
        lease: &Lease,
        hold: &Hold,
        refunding: &HashSet<RefundingHold>,
    ) {
        let LeaseHead { ending, expires_at, .. } = lease.head;
        let fingerprint = hold.digest.fingerprint;
        let mut shard = self.shard(hold.digest).lock();
        let now = self.clock.now().max(shard.latest());
        match &hold.held {
            Held::Slot(true) if lease.head.is_live(now) => {
                let usage = shard.table.get_or_insert(fingerprint, now, self.max_keys_per_shard);
                usage.restore_slot(&hold.limit, holder, Some(expires_at));
            }
            Held::Slot(_) => {
                if let Some(usage) = shard.table.get(fingerprint) {
                    usage.restore_slot(&hold.limit, holder, None);
                }
            }
            Held::Parts(parts) => {
                if ending == Ending::Open && refunding.contains(&(holder, fingerprint)) {
                    let refund = Refund { limit: Arc::clone(&hold.limit), parts: parts.clone() };
                    shard.refund_later((expires_at, holder, fingerprint), refund);
                }
            }
        }
    }
}

/// The digest of a certain key, so that a program that hashes keys otherwise does not take usage of one key for that of another.
fn probe(hasher: &KeyHasher) -> (u64, u64) {
    let policy = || {
        let window = Window::new(Window::MIN)?;
        let id = PolicyId::new("probe").ok()?;
        Limit::of(&Policy::new(id, Per::from_scope("USER_MODEL")?, Some(Amount::ONE), window))
    };
    let Some(limit) = policy() else { return (0, 0) };
    let Digest { fingerprint, shard_bits } = hasher.digest(&limit, &Subject::new("user", "model"));
    (fingerprint, shard_bits)
}
