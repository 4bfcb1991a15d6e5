//! Clears everything that one user has used.
//!
//! The store keeps hashes of keys and cannot list the models that a user has used. Keeping such a list would cost
//! memory for every user and time for every check, for a call that is made a few times a day. So nothing is deleted. A
//! reset gives the user a new *generation*. From then on the user's keys contain the generation, so they are different
//! keys (R8), without usage. The old keys are never read again and expire (R9).
//!
//! Users that were never reset have no generation and are not in the map here; while it is empty, a check only loads
//! its length. An entry is removed when its user has not been seen for [`horizon_ns`]. By then the keys of its
//! generation hold nothing that counts, and neither do those without a generation, so using the latter again changes
//! nothing. Therefore the map holds at most the users that were reset or, once reset, seen within twice that time. No
//! generation is used twice.
//!
//! Guarantees under concurrency:
//! - A check that begins after a reset has returned does not count what ended before the reset began. (A check that
//!   runs at the same time as a reset may count before or after it.)
//! - Between resets a limit is exact: a generation cannot be removed while a check of it runs, because the check holds
//!   the shard of its user.
//!   the shard that its user is in.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tollgate_core::{Clock, Throttle, Timestamp};

const SHARDS: usize = 16;

/// Two ticks of a log, at most 0.2 s, and the most by which a clock may step back when it is corrected (R7).
const MARGIN_NS: u64 = 1_000_000_000;

/// How long after its last use a key certainly holds no usage, if an admission lives at most `longest`.
fn horizon_ns(longest: Duration) -> u64 {
    u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).saturating_add(MARGIN_NS)
}

/// The generations of the users that were reset.
#[derive(Debug)]
pub(crate) struct Resets {
    /// The number of entries in all shards.
    len: AtomicUsize,
    shards: [RwLock<HashMap<Box<str>, Entry>>; SHARDS],
    hasher: RandomState,
    generations: AtomicU64,
    horizon_ns: u64,
    sweeps: Throttle,
}

#[derive(Debug)]
struct Entry {
    /// In decimal, as it is in keys.
    generation: Box<str>,
    last_seen_ns: AtomicU64,
}

impl Resets {
    /// No resets yet, of limits whose admissions live at most `longest`.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            len: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
            generations: AtomicU64::new(1),
            horizon_ns: horizon_ns(longest),
            sweeps: Throttle::new(),
        }
    }

    /// Whether no user has a generation.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a thread that knows that a reset has ended also sees its addition, however it learned of the end.
        // Other threads run at the same time as the reset and may count before it.
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Gives `user` a new generation. O(1), except when a sweep is due.
    pub(crate) fn reset(&self, user: &str, clock: &impl Clock) {
        // Relaxed: the numbers only have to be distinct.
        let generation = self.generations.fetch_add(1, Ordering::Relaxed).to_string().into();
        let mut shard = self.shard(user).write().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now();
        if let Some(entry) = shard.get_mut(user) {
            entry.generation = generation;
            entry.see(now);
        } else {
            let last_seen_ns = AtomicU64::new(now.as_ns());
            shard.insert(user.into(), Entry { generation, last_seen_ns });
            // Relaxed: see `is_empty`.
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        drop(shard);
        self.sweep_if_due(now);
    }

    /// Calls `charge` with the generation of `user`, which stays valid while the call runs.
    pub(crate) fn with_generation<R>(
        &self,
        user: &str,
        clock: &impl Clock,
        charge: impl FnOnce(Option<&str>) -> R,
    ) -> R {
        let shard = self.shard(user).read().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(user);
        let result = charge(entry.map(|entry| &*entry.generation));
        // Read after the charge, so that the entry outlives what was charged.
        let now = clock.now();
        if let Some(entry) = entry {
            entry.see(now);
        }
        drop(shard);
        self.sweep_if_due(now);
        result
    }

    fn shard(&self, user: &str) -> &RwLock<HashMap<Box<str>, Entry>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let low = self.hasher.hash_one(user) as usize;
        &self.shards[low % SHARDS]
    }

    /// Removes the entries of users that were not seen for the horizon; runs once per horizon. O(entries).
    fn sweep_if_due(&self, now: Timestamp) {
        if !self.sweeps.admits(now, Duration::from_nanos(self.horizon_ns)) {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, entry| {
                let last_seen_ns = *entry.last_seen_ns.get_mut();
                last_seen_ns.saturating_add(self.horizon_ns) >= now.as_ns()
            });
            shard.shrink_to_fit();
            // Relaxed: see `is_empty`. Under the lock, so that no removal is counted before its insertion.
            self.len.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }
}

impl Entry {
    fn see(&self, now: Timestamp) {
        // Relaxed: only read under the write lock, when there are no readers.
        self.last_seen_ns.fetch_max(now.as_ns(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tollgate_core::ManualClock;

    const WINDOW: Duration = Duration::from_mins(1);

    fn horizon() -> Duration {
        2 * WINDOW + Duration::from_secs(1)
    }

    fn generation(resets: &Resets, user: &str, clock: &ManualClock) -> Option<String> {
        resets.with_generation(user, clock, |generation| generation.map(str::to_owned))
    }

    fn resets() -> (Resets, ManualClock) {
        let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
        (Resets::new(2 * WINDOW), clock)
    }

    #[test]
    fn only_the_users_reset_have_a_generation_and_each_reset_gives_a_new_one() {
        let (resets, clock) = resets();
        assert!(resets.is_empty());
        assert_eq!(generation(&resets, "alice", &clock), None);
        resets.reset("alice", &clock);
        let first = generation(&resets, "alice", &clock);
        resets.reset("alice", &clock);
        let second = generation(&resets, "alice", &clock);
        assert!(!resets.is_empty() && first.is_some() && second.is_some() && first != second);
        assert_eq!(generation(&resets, "bob", &clock), None);
    }

    #[test]
    fn an_entry_stays_while_its_user_is_seen_and_then_goes() {
        let (resets, clock) = resets();
        resets.reset("alice", &clock);
        let first = generation(&resets, "alice", &clock);
        for _ in 0..5 {
            clock.advance(horizon());
            assert_eq!(generation(&resets, "alice", &clock), first);
        }
        // The sweep runs once per horizon, in whichever check comes then.
        for _ in 0..2 {
            clock.advance(horizon());
            clock.advance(Duration::from_nanos(1));
            generation(&resets, "bob", &clock);
        }
        assert!(resets.is_empty());
        assert!(resets.shards.iter().all(|shard| shard.read().unwrap().is_empty()));
        resets.reset("alice", &clock);
        assert_ne!(generation(&resets, "alice", &clock), first);
    }

    /// R9.
    #[test]
    fn the_map_is_bounded_by_the_users_of_two_horizons() {
        let (resets, clock) = resets();
        let per_step = 100;
        for step in 0..40 {
            for n in 0..per_step {
                resets.reset(&format!("user {step} {n}"), &clock);
            }
            clock.advance(horizon() / 4);
            assert!(resets.len.load(Ordering::Relaxed) <= 9 * per_step, "step {step}");
        }
    }
}
