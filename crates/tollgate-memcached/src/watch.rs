//! Notices what endangers exact limits while the store works: evictions, a clock of this node that differs from memcached's, and
//! a memcached that was started anew with other settings.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::Timestamp;
use tollgate_store::{Misconfiguration, StartProblem, Warning};

use crate::startup::stat;
use crate::store::MemcachedStore;

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long memcached may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long no value may be evicted before the alarm ends.
const QUIET: Duration = Duration::from_mins(1);
/// An eviction is reported within this time.
const ALARM: Duration = Duration::from_secs(5);
/// How far the clocks may be apart: memcached tells whole seconds, and the second may have been over.
const MAX_SKEW: Duration = Duration::from_secs(3);

const _: () = assert!(LOOK_EVERY.as_millis() + ANSWER.as_millis() < ALARM.as_millis());

/// What was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Values were lost since the last look, because memory is full: evicted, or deleted when this node changed them.
    Evicted {
        /// The server.
        at: String,
        /// How many.
        values: u64,
        /// Whether none had been evicted for a while before.
        is_new: bool,
    },
    /// No value was evicted for this time.
    EvictionEnded {
        /// How long.
        quiet: Duration,
    },
    /// Memcached was started anew, so it has forgotten all usage, and its settings were examined again.
    StartedAnew {
        /// The server.
        at: String,
        /// Settings that endanger exact limits.
        warnings: Vec<Warning>,
        /// What keeps the store from working at all.
        problem: Option<Misconfiguration>,
    },
    /// This node's clock differs from memcached's.
    ClockDiffers {
        /// The server.
        at: String,
        /// By how much.
        by: Duration,
        /// Whether this node's clock is ahead.
        is_ahead: bool,
    },
    /// This node's clock agrees with memcached's again.
    ClockAgrees,
    /// Checks were denied since the last look without asking memcached, because a limit was known to deny.
    DeniedLocally {
        /// How many.
        checks: u64,
    },
}

/// What was seen last.
#[derive(Debug, Default)]
struct Seen {
    evictions: Option<u64>,
    evicted_at: Option<Instant>,
    clock_differs: bool,
    /// The process and its uptime in seconds.
    process: Option<(u64, u64)>,
    /// Whether a new process has still to be examined.
    is_unexamined: bool,
}

impl Seen {
    /// Compares the counter of evictions with the last look, and adds the values that this node `lost` since then. A counter
    /// that fell began anew with memcached, so its whole value is new.
    fn evictions(&mut self, place: &str, count: u64, lost: u64, now: Instant) -> Option<Event> {
        let before = self.evictions.replace(count).unwrap_or(count);
        let values = count.checked_sub(before).unwrap_or(count).saturating_add(lost);
        if values > 0 {
            let is_new = self.evicted_at.replace(now).is_none();
            return Some(Event::Evicted { at: place.to_owned(), values, is_new });
        }
        let is_quiet = |at: &Instant| now.saturating_duration_since(*at) >= QUIET;
        self.evicted_at.take_if(|at| is_quiet(at)).map(|_| Event::EvictionEnded { quiet: QUIET })
    }

    /// Notes that memcached is the process `pid`, which has run for `uptime_s`; in a container every process may have the same id.
    fn process(&mut self, pid: u64, uptime_s: u64) {
        let before = self.process.replace((pid, uptime_s));
        self.is_unexamined |= before.is_some_and(|(id, ran_s)| id != pid || uptime_s < ran_s);
    }

    /// Compares this node's clock, which shows `now`, with the time that memcached told.
    fn clock(&mut self, place: &str, now: Timestamp, told_s: u64) -> Option<Event> {
        let told = Timestamp::from_ms(told_s.saturating_mul(1_000));
        let is_ahead = now > told;
        let by = now.since(told).max(told.since(now));
        let differs = by > MAX_SKEW;
        if std::mem::replace(&mut self.clock_differs, differs) == differs {
            return None;
        }
        Some(if differs {
            Event::ClockDiffers { at: place.to_owned(), by, is_ahead }
        } else {
            Event::ClockAgrees
        })
    }
}

impl MemcachedStore {
    /// Asks memcached every two seconds how many values it has evicted and what time it is. Calls `tell` within five seconds
    /// of an eviction or of a new start of memcached, when clocks begin to differ, when an alarm ends, and when checks were denied
    /// without asking memcached. Never returns.
    pub async fn watch(self, tell: impl Fn(Event) + Send + Sync + 'static) {
        let mut seen = Seen::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&mut seen).await.into_iter().for_each(&tell);
        }
    }

    /// What has changed since the last look.
    async fn look(&self, seen: &mut Seen) -> Vec<Event> {
        let mut events = Vec::new();
        // Relaxed: the number is independent.
        let checks = self.shared.denied_locally.swap(0, Ordering::Relaxed);
        if checks > 0 {
            events.push(Event::DeniedLocally { checks });
        }
        // If this fails, checks fail too and report the error.
        let Ok(stats) = self.shared.stats("", Instant::now() + ANSWER).await else { return events };
        let place = &self.shared.link.place;
        let number = |name| stat(&stats, name).and_then(|value| value.parse().ok());
        if let Some((pid, uptime_s)) = number("pid").zip(number("uptime")) {
            seen.process(pid, uptime_s);
        }
        if seen.is_unexamined
            && let Some((warnings, problem)) = self.examined_anew().await
        {
            seen.is_unexamined = false;
            events.push(Event::StartedAnew { at: place.clone(), warnings, problem });
        }
        events.extend(number("evictions").and_then(|count| {
            // Relaxed: the number is independent.
            let lost = self.shared.lost_values.swap(0, Ordering::Relaxed);
            seen.evictions(place, count, lost, Instant::now())
        }));
        let told_s = number("time");
        events.extend(told_s.and_then(|told_s| seen.clock(place, self.shared.now(), told_s)));
        events
    }

    /// What is wrong with the settings of memcached; `None` if it did not answer.
    async fn examined_anew(&self) -> Option<(Vec<Warning>, Option<Misconfiguration>)> {
        match self.examine().await {
            Ok(warnings) => Some((warnings, None)),
            Err(StartProblem::Misconfigured(problem)) => Some((Vec::new(), Some(problem))),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_testkit::memcached::MemcachedServer;

    use super::*;
    use crate::MemcachedOptions;

    /// By its process, and by its uptime where all processes have one id. Only until it was examined.
    #[test]
    fn a_new_process_is_noticed() {
        let mut seen = Seen::default();
        let mut look = |pid, uptime_s| {
            seen.process(pid, uptime_s);
            std::mem::take(&mut seen.is_unexamined)
        };
        assert!(!look(7, 100) && !look(7, 100) && !look(7, 102));
        assert!(look(8, 200));
        assert!(look(8, 3) && !look(8, 5));
    }

    /// The look after a new start without `-M` tells it.
    #[tokio::test]
    async fn a_start_without_m_is_told_at_the_next_look() {
        let server = MemcachedServer::start();
        let (url, port) = (server.url(), server.port());
        let store = MemcachedStore::new(&url.parse().unwrap(), &MemcachedOptions::default());
        let mut seen = Seen::default();
        while seen.process.is_none() {
            assert_eq!(store.look(&mut seen).await, []);
        }
        server.kill();
        drop(server);
        let _server = MemcachedServer::start_on(port, &[]);
        let told = async {
            loop {
                // The connection to the old process may have to be replaced first.
                if let Some(event) = store.look(&mut seen).await.pop() {
                    return event;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
        let Event::StartedAnew { at, warnings, problem: None } = told else { panic!("{told:?}") };
        assert_eq!((at, warnings.len()), (format!("127.0.0.1:{port}"), 1));
        assert!(warnings[0].to_string().contains("start it with -M"), "{warnings:?}");
    }

    #[test]
    fn only_what_is_evicted_from_now_on_is_told() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut look =
            |count, second| seen.evictions("a", count, 0, start + Duration::from_secs(second));
        let evicted = |values, is_new| Some(Event::Evicted { at: "a".to_owned(), values, is_new });
        assert_eq!(look(900, 0), None, "before this node started");
        assert_eq!(look(900, 2), None);
        assert_eq!(look(903, 4), evicted(3, true));
        assert_eq!(look(904, 6), evicted(1, false));
        assert_eq!(look(7, 8), evicted(7, false), "after a restart");
        assert_eq!(look(7, 67), None);
        assert_eq!(look(7, 68), Some(Event::EvictionEnded { quiet: QUIET }));
        assert_eq!(look(7, 70), None);
        assert_eq!(look(8, 72), evicted(1, true));
        let lost = Seen::default().evictions("a", 9, 2, start);
        assert_eq!(lost, evicted(2, true), "deleted by changes of this node");
    }

    #[test]
    fn a_clock_that_differs_is_told_once() {
        let mut seen = Seen::default();
        let mut look = |now_ms| seen.clock("a", Timestamp::from_ms(now_ms), 1_000);
        let differs = |by_ms, is_ahead| {
            let by = Duration::from_millis(by_ms);
            Some(Event::ClockDiffers { at: "a".to_owned(), by, is_ahead })
        };
        assert_eq!(look(1_001_900), None);
        assert_eq!(look(1_003_001), differs(3_001, true));
        assert_eq!(look(1_009_000), None);
        assert_eq!(look(1_001_000), Some(Event::ClockAgrees));
        assert_eq!(look(900_000), differs(100_000, false));
    }
}
