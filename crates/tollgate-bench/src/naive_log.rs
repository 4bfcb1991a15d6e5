//! The simplest log: a sharded map from the key to a queue of admission times.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Enough that two threads seldom need the same one.
const SHARDS: usize = 128;

type Shard = HashMap<String, VecDeque<u64>>;

/// An exact sliding window log without any optimization.
#[derive(Debug)]
pub struct NaiveLog {
    limit: usize,
    window_ns: u64,
    start: Instant,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

impl NaiveLog {
    /// Admits `limit` in every `window`.
    #[expect(clippy::disallowed_methods, reason = "a baseline that knows nothing of our clocks")]
    pub fn new(limit: usize, window: Duration) -> Self {
        Self {
            limit,
            window_ns: whole_ns(window),
            start: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether one more admission of `key` fits in the window; if so, it is made.
    pub fn allow(&self, key: &String) -> bool {
        let now_ns = whole_ns(self.start.elapsed());
        let mut shard = self.shard(key);
        let Some(log) = shard.get_mut(key) else {
            if self.limit == 0 {
                return false;
            }
            shard.insert(key.clone(), VecDeque::from([now_ns]));
            return true;
        };
        while log.front().is_some_and(|admitted_ns| admitted_ns + self.window_ns <= now_ns) {
            log.pop_front();
        }
        let fits = log.len() < self.limit;
        if fits {
            log.push_back(now_ns);
        }
        fits
    }

    /// The number of keys.
    pub fn held_keys(&self) -> u64 {
        let shards = self.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.len() as u64
        });
        shards.sum()
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "a remainder is below the divisor")]
        let index = (hash % SHARDS as u64) as usize;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whole_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_up_to_the_limit_for_each_key() {
        let limiter = NaiveLog::new(3, Duration::from_hours(1));
        for key in ["a".to_owned(), "b".to_owned()] {
            let admitted = (0..5).filter(|_| limiter.allow(&key)).count();
            assert_eq!(admitted, 3, "{key}");
        }
        assert!(!NaiveLog::new(0, Duration::from_hours(1)).allow(&"a".to_owned()));
    }
}
