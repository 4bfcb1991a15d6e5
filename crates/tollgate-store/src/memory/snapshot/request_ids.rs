//! What was admitted under request ids, in a snapshot.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Timestamp, Ttl};

use super::super::once::{Digest, MAX_SHARDS, Once, Record, lock};
use super::super::sync::Mutex;
use crate::{LeaseId, NewLease};

/// A [`Record`] with its digest, as a snapshot has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedRecord {
    digest: Digest,
    expires_ns: u64,
    queued_ns: u64,
    verdicts: Vec<SavedVerdict>,
    lease: Option<SavedNewLease>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct SavedVerdict {
    allowed: bool,
    usage: u64,
    wait: SavedWait,
    reset_after_ns: u64,
    period_s: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum SavedWait {
    None,
    Ns(u64),
    Unknown,
    Never,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedNewLease {
    id: String,
    ttl_ms: u64,
    lives_for: Duration,
}

impl SavedVerdict {
    fn of(verdict: &Verdict) -> Self {
        let wait = match verdict.wait {
            Wait::None => SavedWait::None,
            Wait::Ns(ns) => SavedWait::Ns(ns),
            Wait::Unknown => SavedWait::Unknown,
            Wait::Never => SavedWait::Never,
        };
        let Verdict { allowed, usage, reset_after_ns, period_s, .. } = *verdict;
        Self { allowed, usage, wait, reset_after_ns, period_s }
    }

    fn restored(self) -> Verdict {
        let wait = match self.wait {
            SavedWait::None => Wait::None,
            SavedWait::Ns(ns) => Wait::Ns(ns),
            SavedWait::Unknown => Wait::Unknown,
            SavedWait::Never => Wait::Never,
        };
        let Self { allowed, usage, reset_after_ns, period_s, .. } = self;
        Verdict { allowed, usage, wait, reset_after_ns, period_s }
    }
}

impl SavedRecord {
    fn of(digest: Digest, record: &Record) -> Self {
        let lease = record.lease.as_ref().map(|lease| SavedNewLease {
            id: lease.id.to_string(),
            ttl_ms: lease.ttl.as_ms(),
            lives_for: lease.lives_for,
        });
        Self {
            digest,
            expires_ns: record.expires.as_ns(),
            queued_ns: record.queued.as_ns(),
            verdicts: record.verdicts.iter().map(SavedVerdict::of).collect(),
            lease,
        }
    }

    fn restored(self) -> Option<(Digest, Record)> {
        let lease = match self.lease {
            None => None,
            Some(SavedNewLease { id, ttl_ms, lives_for }) => {
                let (id, ttl) = (LeaseId::parse(&id)?, Ttl::from_ms(ttl_ms)?);
                Some(NewLease { lives_for, ..NewLease::new(id, ttl) })
            }
        };
        let record = Record {
            expires: Timestamp::from_ns(self.expires_ns),
            queued: Timestamp::from_ns(self.queued_ns),
            verdicts: self.verdicts.into_iter().map(SavedVerdict::restored).collect(),
            lease,
        };
        Some((self.digest, record))
    }
}

impl Once {
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// By which request ids are hashed.
    pub(super) fn secret(&self) -> (u64, u64) {
        self.secret
    }

    /// No records, in as many shards as a snapshot says, and with its secret: digests lead to them.
    pub(super) fn with_shards(
        shards: usize,
        secret: (u64, u64),
        max_records: usize,
    ) -> Option<Self> {
        let is_possible = shards.is_power_of_two() && shards <= MAX_SHARDS;
        is_possible.then(|| Self {
            secret,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_records_per_shard: (max_records / shards).max(1),
        })
    }

    /// The records of a shard, oldest first.
    pub(super) fn saved(&self, shard: usize) -> Vec<SavedRecord> {
        let shard = lock(&self.shards[shard]);
        let kept = shard.oldest_first.iter().filter_map(|(digest, queued)| {
            let record = shard.by_digest.get(digest).filter(|record| record.queued == *queued)?;
            Some(SavedRecord::of(*digest, record))
        });
        kept.collect()
    }

    /// Adds a record as the newest. `None` if no store wrote it. Beyond the bound, the oldest is forgotten.
    pub(super) fn restore(&self, saved: SavedRecord) -> Option<()> {
        let (digest, record) = saved.restored()?;
        let mut records = self.shard(digest);
        while records.oldest_first.len() >= self.max_records_per_shard {
            records.forget_oldest(Timestamp::from_ns(u64::MAX));
        }
        records.oldest_first.push_back((digest, record.queued));
        records.by_digest.insert(digest, record);
        Some(())
    }
}
