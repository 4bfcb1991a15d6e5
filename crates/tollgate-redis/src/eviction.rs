//! Whether Redis drops keys for want of memory, and with them the usage of limits that are in force.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::startup::field;
use crate::store::RedisStore;
use crate::url::{Address, shown};

/// What is between two looks at every primary: each costs it about 20 µs.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a primary may take to say how many keys it has evicted.
const ANSWER: Duration = Duration::from_secs(1);
/// How long none may be evicted until the alarm ends.
const QUIET: Duration = Duration::from_mins(1);
/// The latest that an eviction may be told after it.
const ALARM: Duration = Duration::from_secs(5);

const _: () = assert!(LOOK_EVERY.as_millis() + ANSWER.as_millis() < ALARM.as_millis());

/// What is known of evictions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// So many keys were evicted since the last look.
    Evicted {
        /// A primary that did.
        at: String,
        /// By all of them.
        keys: u64,
        /// Whether none were for a while before.
        is_new: bool,
    },
    /// None were evicted for so long.
    Ended {
        /// How long.
        quiet: Duration,
    },
}

/// What every primary has said, and since when nothing was evicted.
#[derive(Debug, Default)]
struct Evictions {
    counted: HashMap<Address, u64>,
    last: Option<Instant>,
}

impl Evictions {
    /// Compares with the last look. A primary that was not known then has nothing to be compared with; a counter that
    /// fell began anew, with a restart or `CONFIG RESETSTAT`, and all it says came after.
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

    /// Forgets the servers that are no primaries any more.
    fn keep(&mut self, is_primary: impl Fn(&Address) -> bool) {
        self.counted.retain(|address, _| is_primary(address));
    }
}

impl RedisStore {
    /// Asks every primary every two seconds how many keys it has evicted, for ever, and tells `tell` within five when it
    /// were some, and when it has ended. Needs the right to `INFO`.
    pub async fn watch_evictions(self, tell: impl Fn(Eviction) + Send + Sync + 'static) {
        let mut evictions = Evictions::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // What is wrong, the checks find out, and tell.
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
        // Since the servers started, not since this node did.
        assert_eq!(evictions.look(vec![(host("a"), 900), (host("b"), 5)], at(0)), None);
        assert_eq!(evictions.look(vec![(host("a"), 900), (host("b"), 5)], at(2)), None);
        let both = vec![(host("a"), 903), (host("b"), 6)];
        assert_eq!(evictions.look(both, at(4)), evicted("a", 4, true));
        assert_eq!(evictions.look(vec![(host("b"), 8)], at(6)), evicted("b", 2, false));
        // The counter of `a` began anew and has grown since.
        assert_eq!(evictions.look(vec![(host("a"), 7)], at(8)), evicted("a", 7, false));
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(10)), None);
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(67)), None);
        let ended = Some(Eviction::Ended { quiet: QUIET });
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(68)), ended);
        assert_eq!(evictions.look(vec![(host("a"), 0)], at(70)), None);
        assert_eq!(evictions.look(vec![(host("a"), 1)], at(72)), evicted("a", 1, true));
        // After a failover another server counts: from where it stands.
        evictions.keep(|address| *address == host("c"));
        assert_eq!(evictions.look(vec![(host("c"), 50)], at(74)), None);
        assert_eq!(evictions.look(vec![(host("c"), 51)], at(76)), evicted("c", 1, false));
    }
}
