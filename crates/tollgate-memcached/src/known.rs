//! What this process knows of keys: the value that it read or stored last.
//!
//! A check that the known value denies is certain to be denied, because other admissions only add to the usage: it is answered
//! without memcached until the wait of the known value is over. What gives usage back (a reset, a refund) is
//! announced to every node, which then forgets the key. A known value also saves the read before the next change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::KeyId;
use crate::protocol::Cas;
use crate::state::KeyState;

/// Enough that two threads seldom need the same one.
const SHARDS: usize = 64;
/// The most that is known, in entries of logs of 24 bytes: about 50 MB. A key without a log counts as 4 of them.
const MAX_WEIGHT: usize = 2_000_000;
/// The share of one half of a shard. The largest log fits.
const MAX_WEIGHT_PER_HALF: usize = MAX_WEIGHT / SHARDS / 2;

/// The value of one key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) state: Arc<KeyState>,
    /// The number of the value in memcached and of the connection that read or stored it: after a restart, memcached gives the
    /// same numbers again. `None` if the key has no value.
    pub(crate) cas: Option<(u64, Cas)>,
    /// Whether other nodes change it at the same time, so that a read before the next change is worth its time.
    pub(crate) is_contended: bool,
}

/// Values in two halves by last use: when the recent half is full, it replaces the old one.
#[derive(Debug, Default)]
struct Shard {
    recent: HashMap<KeyId, Known>,
    recent_weight: usize,
    old: HashMap<KeyId, Known>,
    /// How often something was forgotten: what was read before that is not kept.
    forgettings: u64,
}

impl Shard {
    fn put(&mut self, key: KeyId, known: Known) {
        let weight = known.state.weight();
        if self.recent_weight + weight > MAX_WEIGHT_PER_HALF {
            self.old = std::mem::take(&mut self.recent);
            self.recent_weight = 0;
        }
        self.old.remove(&key);
        if weight > MAX_WEIGHT_PER_HALF {
            return;
        }
        self.recent_weight += weight;
        if let Some(before) = self.recent.insert(key, known) {
            self.recent_weight = self.recent_weight.saturating_sub(before.state.weight());
        }
    }
}

/// What this process knows of keys.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    shards: Box<[Mutex<Shard>]>,
    /// Whether what gives usage back is announced to this process. Otherwise nothing is answered from here.
    hears: AtomicBool,
}

impl Default for KnownKeys {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hears: AtomicBool::new(false),
        }
    }
}

impl KnownKeys {
    /// A poisoned lock is fine: every change is complete at once.
    fn shard(&self, key: &KeyId) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(key.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `key`, and the count to [put](Self::put) with what is learned from now on.
    pub(crate) fn get(&self, key: &KeyId) -> (Option<Known>, u64) {
        let mut shard = self.shard(key);
        let found = shard.recent.get(key).cloned();
        let found = match found {
            Some(found) => Some(found),
            None => shard.old.remove(key).inspect(|found| shard.put(*key, found.clone())),
        };
        (found, shard.forgettings)
    }

    /// Learns a value that was asked for when [`KnownKeys::get`] returned `forgettings`.
    pub(crate) fn put(&self, key: KeyId, known: Known, forgettings: u64) {
        let mut shard = self.shard(&key);
        if shard.forgettings == forgettings {
            shard.put(key, known);
        }
    }

    /// Usage of this key was given back, or its value may have changed.
    pub(crate) fn forget(&self, key: &KeyId) {
        let mut shard = self.shard(key);
        shard.forgettings += 1;
        if let Some(known) = shard.recent.remove(key) {
            shard.recent_weight = shard.recent_weight.saturating_sub(known.state.weight());
        }
        shard.old.remove(key);
    }

    /// Usage of any key may have been given back.
    pub(crate) fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            *shard = Shard { forgettings: shard.forgettings + 1, ..Shard::default() };
        }
    }

    /// Whether denials may be answered from here.
    pub(crate) fn hears(&self) -> bool {
        // SeqCst: what was forgotten before it was set is forgotten.
        self.hears.load(Ordering::SeqCst)
    }

    /// Announcements arrive from now on, or do not any more. What is known may be wrong in both cases.
    pub(crate) fn set_hears(&self, hears: bool) {
        if !hears {
            self.hears.store(false, Ordering::SeqCst);
        }
        self.forget_all();
        if hears {
            self.hears.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::Timestamp;

    use super::*;
    use crate::key::KEY_ID_BYTES;
    use crate::log::{AdmissionLog, Entry};
    use crate::state::Usage;

    fn known(entries: usize) -> Known {
        let entry = Entry { number: 0, stamp: 0, cost: 1 };
        let log = AdmissionLog { entries: vec![entry; entries], next: 1 };
        let state = KeyState {
            usage: Usage::Log(log),
            latest: Timestamp::from_ns(1),
            ..KeyState::default()
        };
        Known { state: Arc::new(state), cas: Some((1, 1)), is_contended: false }
    }

    fn key(number: u64) -> KeyId {
        let mut bytes = [0; KEY_ID_BYTES];
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        KeyId(bytes)
    }

    #[test]
    fn what_was_forgotten_meanwhile_is_not_learned() {
        let keys = KnownKeys::default();
        let (_, before) = keys.get(&key(1));
        keys.put(key(1), known(1), before);
        assert!(keys.get(&key(1)).0.is_some());
        keys.forget(&key(1));
        keys.put(key(1), known(1), before);
        assert!(keys.get(&key(1)).0.is_none());
        let (_, now) = keys.get(&key(1));
        keys.put(key(1), known(1), now);
        assert!(keys.get(&key(1)).0.is_some());
        keys.forget_all();
        assert!(keys.get(&key(1)).0.is_none());
    }

    /// Whatever comes, the weight is bounded, and what is used stays.
    #[test]
    fn what_is_known_is_bounded() {
        let keys = KnownKeys::default();
        for number in 0..2_000 {
            let (_, now) = keys.get(&key(0));
            keys.put(key(number), known(100), now);
            assert!(keys.get(&key(0)).0.is_some(), "{number}");
            let shard = keys.shard(&key(0));
            let weight = |half: &HashMap<KeyId, Known>| -> usize {
                half.values().map(|known| known.state.weight()).sum()
            };
            assert_eq!(weight(&shard.recent), shard.recent_weight);
            assert!(weight(&shard.recent) <= MAX_WEIGHT_PER_HALF);
            assert!(weight(&shard.old) <= MAX_WEIGHT_PER_HALF);
        }
        let (_, now) = keys.get(&key(0));
        keys.put(key(5_000), known(MAX_WEIGHT), now);
        assert!(keys.get(&key(5_000)).0.is_none(), "too large");
    }
}
