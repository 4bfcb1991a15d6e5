//! Estimates the difference between the clock of one server and this node's clock, so that a call can carry the
//! server's time until which it may charge.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::Timestamp;

/// How long a round trip is remembered: for one to two such periods. Clocks run apart by at most 0.05 %, so within this
/// time by less than the resolution of a timer, one millisecond.
const REMEMBERED: Duration = Duration::from_secs(1);

/// An estimate of a server's clock, from the times in its answers.
///
/// The server read a reported time before its answer arrived. So the server's clock minus ours is at least `told -
/// received`. The greatest such difference of recent answers, which comes from the fastest one, is the best bound. With
/// it, no charge is made after its deadline.
#[derive(Debug)]
pub(crate) struct ServerClock {
    /// Instants are counted from here.
    start: Instant,
    known: Mutex<Known>,
}

/// The least by which the server's clock is ahead of ours, in nanoseconds since [`ServerClock::start`].
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// From the answers since then,
    recent: Option<i64>,
    /// and from those of the period before.
    before: Option<i64>,
    since: i64,
}

impl ServerClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), known: Mutex::default() }
    }

    /// The time by our clock.
    fn local_ns(&self, instant: Instant) -> i64 {
        let since = instant.saturating_duration_since(self.start);
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Records that the server reported `told` in answer to a question that was sent and answered at these times.
    pub(crate) fn note(&self, told: Timestamp, sent: Instant, received: Instant) {
        let Ok(told_ns) = i64::try_from(told.as_ns()) else { return };
        let (sent_ns, received_ns) = (self.local_ns(sent), self.local_ns(received));
        let least_ns = told_ns.saturating_sub(received_ns);
        let most_ns = told_ns.saturating_sub(sent_ns);
        // A poisoned lock is fine: the value is replaced in a single assignment.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered_ns = i64::try_from(REMEMBERED.as_nanos()).unwrap_or(i64::MAX);
        if known.best_ns().is_some_and(|best_ns| best_ns > most_ns) {
            // The server's clock was set back, so the old estimate is wrong.
            *known = Known { recent: Some(least_ns), before: None, since: received_ns };
        } else if received_ns.saturating_sub(known.since) >= remembered_ns {
            *known = Known { recent: Some(least_ns), before: known.recent, since: received_ns };
        } else {
            known.recent = known.recent.max(Some(least_ns));
        }
    }

    /// The server's time at `instant`, or slightly earlier; `None` until it has reported one.
    pub(crate) fn at(&self, instant: Instant) -> Option<Timestamp> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ns = known.best_ns()?.checked_add(self.local_ns(instant))?;
        u64::try_from(at_ns).ok().map(Timestamp::from_ns)
    }
}

impl Known {
    fn best_ns(&self) -> Option<i64> {
        self.recent.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// However long answers take, the bound is never later than the deadline, and at most the fastest answer's travel
    /// time earlier; also after the server's clock was set.
    #[test]
    fn a_bound_is_never_later_than_the_deadline() {
        let clock = ServerClock::new();
        assert_eq!(clock.at(clock.start), None);
        // By how many milliseconds the server's clock is ahead of ours.
        let mut now = clock.start;
        for (ahead_ms, ways) in [(5_000, [9, 1, 7]), (2_000, [3, 4, 2]), (90_000, [8, 2, 1])] {
            let server = |at: Instant| {
                let ms = u64::try_from((at - clock.start).as_millis()).unwrap();
                Timestamp::from_ms(ms + ahead_ms)
            };
            let mut shortest_ms = u32::MAX;
            for way_ms in ways {
                let (sent, read) = (now, now + MS * way_ms);
                let received = read + MS * way_ms;
                clock.note(server(read), sent, received);
                shortest_ms = shortest_ms.min(way_ms);
                now = received + MS;
                let deadline = now + MS * 100;
                let bound = clock.at(deadline).unwrap();
                assert!(bound <= server(deadline), "{ahead_ms} {way_ms}: late");
                assert!(bound >= server(deadline - MS * shortest_ms), "{ahead_ms} {way_ms}: early");
            }
        }
    }

    /// Clocks run apart, so old estimates no longer count.
    #[test]
    fn a_round_trip_is_forgotten() {
        let clock = ServerClock::new();
        let at = |s: u64| clock.start + Duration::from_secs(s);
        clock.note(Timestamp::from_ms(10_000), at(0), at(0));
        for s in [1, 2, 3] {
            // The server's clock loses 50 ms a second, and answers take a second.
            clock.note(Timestamp::from_ms(10_000 + s * 950), at(s - 1), at(s));
        }
        assert_eq!(clock.at(at(3)), Some(Timestamp::from_ms(10_000 + 3 * 950 + 50)));
    }
}
