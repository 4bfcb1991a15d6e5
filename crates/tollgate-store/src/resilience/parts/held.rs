//! The states of the split limits that a node has lately decided, by a keyed hash of their keys.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use tollgate_core::{Charge, Limit, Subject, Timestamp};

use super::state::{State, Unspent};

/// Enough that two threads seldom need the same one.
const SHARDS: usize = 64;
/// The most keys of a shard. Of further ones nothing is taken ahead of time.
const MAX_KEYS_OF_SHARD: usize = 1_024;
/// The most limits of a key: one for each priority class, and as many from before a change of the policy.
const MAX_LIMITS_OF_KEY: usize = 8;

type Digest = u128;
type States = SmallVec<[Box<State>; 1]>;
type Shard = HashMap<Digest, States>;

/// The states, by key.
#[derive(Debug)]
pub(super) struct HeldParts {
    secret: (u64, u64),
    shards: Box<[Mutex<Shard>]>,
}

impl HeldParts {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            secret: (random.hash_one("parts, first"), random.hash_one("parts, second")),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn digest(&self, limit: &Limit, subject: &Subject<'_>) -> Digest {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u128(limit.policy_tag());
        for (_, value) in limit.key_parts(subject) {
            hasher.write_u64(value.len() as u64);
            hasher.write(value.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    /// A poisoned lock is fine: every change is complete at once.
    fn shard(&self, digest: Digest) -> MutexGuard<'_, Shard> {
        // Only the low bits are used.
        let low = digest as usize;
        self.shards[low % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `run` on the state of `limit`; `None` if there is none.
    pub(super) fn with<T>(
        &self,
        limit: &Arc<Limit>,
        subject: &Subject<'_>,
        run: impl FnOnce(&mut State) -> T,
    ) -> Option<T> {
        let digest = self.digest(limit, subject);
        let mut shard = self.shard(digest);
        let state = shard.get_mut(&digest)?.iter_mut().find(|state| state.is_of(limit))?;
        Some(run(state))
    }

    /// The same, and first makes the state if there is room for one.
    pub(super) fn with_new<T>(
        &self,
        charge: &Charge<'_>,
        counted: &Arc<Limit>,
        run: impl FnOnce(&mut State) -> T,
    ) -> Option<T> {
        let digest = self.digest(charge.limit, charge.subject);
        let mut shard = self.shard(digest);
        if shard.len() >= MAX_KEYS_OF_SHARD && !shard.contains_key(&digest) {
            return None;
        }
        let states = shard.entry(digest).or_default();
        if let Some(known) = states.iter_mut().find(|state| state.is_of(charge.limit)) {
            return Some(run(known));
        }
        if states.len() >= MAX_LIMITS_OF_KEY {
            return None;
        }
        states.push(Box::new(State::new(charge, Arc::clone(counted))?));
        states.last_mut().map(|state| run(state))
    }

    /// Drops what is held of the key, under whatever limit.
    pub(super) fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Vec<Unspent> {
        let digest = self.digest(limit, subject);
        let mut shard = self.shard(digest);
        let states = shard.get_mut(&digest).into_iter().flatten();
        states.flat_map(|state| state.reset()).collect()
    }

    /// Removes the parts that have ended at `now`, and forgets keys of which nothing was lately used.
    pub(super) fn ended(&self, now: Timestamp) -> Vec<Unspent> {
        let mut unspent = Vec::new();
        self.each_shard(|shard| {
            shard.retain(|_, states| {
                states.retain(|state| {
                    unspent.extend(state.ended(now));
                    !state.is_idle()
                });
                !states.is_empty()
            });
        });
        unspent
    }

    /// Removes all parts.
    pub(super) fn clear(&self) -> Vec<Unspent> {
        let mut unspent = Vec::new();
        self.each_shard(|shard| {
            unspent.extend(shard.values_mut().flatten().flat_map(|state| state.clear()));
        });
        unspent
    }

    fn each_shard(&self, mut change: impl FnMut(&mut Shard)) {
        for shard in &self.shards {
            change(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}
