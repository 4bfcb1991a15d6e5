//! Detects that Redis evicts keys because its memory is full. Evicted keys lose the usage of limits in force.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::startup::field;
use crate::store::RedisStore;
use crate::url::{Address, shown};

/// The time between two checks of every primary; a check costs the primary about 20 µs.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a primary may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long no key may be evicted before the alarm ends.
const QUIET: Duration = Duration::from_mins(1);
/// An eviction is reported within this time.
const ALARM: Duration = Duration::from_secs(5);

const _: () = assert!(LOOK_EVERY.as_millis() + ANSWER.as_millis() < ALARM.as_millis());

/// A change of the alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// This many keys were evicted since the last check.
    Evicted {
        /// A primary that evicted keys.
        at: String,
        /// The number of keys, over all primaries.
        keys: u64,
        /// Whether no key had been evicted for a while before.
        is_new: bool,
    },
    /// No key was evicted for this time.
    Ended {
        /// How long.
        quiet: Duration,
    },
}

/// The last counter of every primary, and the time of the last eviction.
#[derive(Debug, Default)]
struct Evictions {
    counted: HashMap<Address, u64>,
    last: Option<Instant>,
}

impl Evictions {
    /// Compares with the last check. A primary that was not known then has nothing to compare with. A counter that fell
    /// was reset, by a restart or `CONFIG RESETSTAT`, so its whole value is new.
    fn look(&mut self, counts: Vec<(Address, u64)>, now: Instant) -> Option<Eviction> {
        let (mut keys, mut at) = (0_u64, None);
        for (address, count) in counts {
            let Some(before) = self.counted.insert(address.clone(), count) else { continue };
            let more = count.checked_sub(before).unwrap_or(count);
            if more > 0 {
                keys = keys.saturating_add(more);
                at.get_or_insert(address);
            }
        }
        match (at, self.last) {
            (Some(at), last) => {
                self.last = Some(now);
                Some(Eviction::Evicted { at: shown(&at), keys, is_new: last.is_none() })
            }
            (None, Some(last)) if now.saturating_duration_since(last) >= QUIET => {
                self.last = None;
                Some(Eviction::Ended { quiet: QUIET })
            }
            _ => None,
        }
    }

    /// Forgets servers that are no longer primaries.
    fn keep(&mut self, is_primary: impl Fn(&Address) -> bool) {
        self.counted.retain(|address, _| is_primary(address));
    }
}

impl RedisStore {
    /// Asks every primary every two seconds how many keys it has evicted. Calls `tell` within five seconds of an
    /// eviction, and when the alarm ends. Never returns. Needs the right to `INFO`.
    pub async fn watch_evictions(self, tell: impl Fn(Eviction) + Send + Sync + 'static) {
        let mut evictions = Evictions::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // If this fails, checks fail too and report the error.
            let Ok(primaries) = self.topology.primaries().await else { continue };
            evictions.keep(|known| primaries.iter().any(|link| link.address == *known));
            let mut looks = JoinSet::new();
            for link in primaries {
                looks.spawn(async move {
                    let mut info = redis::cmd("INFO");
                    info.arg("stats");
                    let answer = tokio::time::timeout(ANSWER, link.query::<String>(&info)).await;
                    let count = field(&answer.ok()?.ok()?, "evicted_keys")?.parse().ok()?;
                    Some((link.address.clone(), count))
                });
            }
            let counts = looks.join_all().await.into_iter().flatten().collect();
            if let Some(eviction) = evictions.look(counts, Instant::now()) {
                tell(eviction);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Address {
        (name.to_owned(), 1)
    }

    #[test]
    fn only_what_is_evicted_from_now_on_is_told() {
        let (mut evictions, start) = (Evictions::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let evicted = |at: &str, keys, is_new| {
            Some(Eviction::Evicted { at: format!("{at}:1"), keys, is_new })
        };
        // These keys were evicted before this node started.
        assert_eq!(evictions.look(vec![(host("a"), 900), (host("b"), 5)], at(0)), None);
        assert_eq!(evictions.look(vec![(host("a"), 900), (host("b"), 5)], at(2)), None);
        let both = vec![(host("a"), 903), (host("b"), 6)];
        assert_eq!(evictions.look(both, at(4)), evicted("a", 4, true));
        assert_eq!(evictions.look(vec![(host("b"), 8)], at(6)), evicted("b", 2, false));
        // The counter of `a` was reset and has grown since.
        assert_eq!(evictions.look(vec![(host("a"), 7)], at(8)), evicted("a", 7, false));
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(10)), None);
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(67)), None);
        let ended = Some(Eviction::Ended { quiet: QUIET });
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(68)), ended);
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(70)), None);
        assert_eq!(evictions.look(vec![(host("a"), 1)], at(72)), evicted("a", 1, true));
        // After a failover another server counts, starting from its own value.
        evictions.keep(|address| *address == host("c"));
        assert_eq!(evictions.look(vec![(host("c"), 50)], at(74)), None);
        assert_eq!(evictions.look(vec![(host("c"), 51)], at(76)), evicted("c", 1, false));
    }
}
