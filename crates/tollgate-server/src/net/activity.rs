//! The activity of one connection, and when it has been inactive for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use crate::config::HttpLimits;

/// The activity of one connection so far. Its requests and reads update it, and a task checks it periodically.
///
/// Counting costs two uncontended additions per request; a timer per request would cost several clock reads.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The requests in flight of all connections.
    all_in_flight: Gauge,
    /// Reads that brought bytes.
    reads: AtomicU64,
    /// Requests with complete headers.
    requests: AtomicU64,
    in_flight: AtomicU32,
    /// Requests in flight whose answer has begun and has no known end.
    streams: AtomicU32,
    http2: AtomicBool,
    /// Whether each answer from now on is the last of its connection.
    draining: AtomicBool,
    /// Whether the connection ends as soon as there is nothing to read.
    ends_when_idle: AtomicBool,
    /// Whether the client was told that the connection ends, while it may still be sending.
    lingers: AtomicBool,
}

// Relaxed throughout: a connection's task writes and checks in turn. HTTP/2 requests that other threads answer are seen
// at the next check, some seconds later.
impl Activity {
    /// The activity of a new connection, whose requests `all_in_flight` counts too.
    pub(super) fn new(all_in_flight: Gauge) -> Self {
        Self { all_in_flight, ..Self::default() }
    }

    /// Counts a request, which is in flight until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, http2: bool) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.all_in_flight.inc();
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        InFlight { activity: Arc::clone(self), is_stream: false }
    }

    /// Counts a read that brought bytes.
    pub(super) fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of reads that brought bytes.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The number of requests with complete headers.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether a request came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// From now on each answer is the last of its connection.
    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends the connection as soon as there is nothing to read from it.
    pub(super) fn set_ends_when_idle(&self) {
        self.ends_when_idle.store(true, Ordering::Relaxed);
    }

    pub(super) fn ends_when_idle(&self) -> bool {
        self.ends_when_idle.load(Ordering::Relaxed)
    }

    /// The client was told that the connection ends, and may still be sending.
    pub(super) fn set_lingers(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    pub(super) fn is_answering(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether a request waits for an answer with an end. A stream does not count: it is told to end, and a client that
    /// does not read misses that.
    pub(super) fn owes_an_answer(&self) -> bool {
        let streams = self.streams.load(Ordering::Relaxed);
        self.in_flight.load(Ordering::Relaxed) > streams
    }

    fn sample(&self) -> ActivitySample {
        ActivitySample { reads: self.reads(), requests: self.requests() }
    }
}

/// A request being answered.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    is_stream: bool,
}

impl InFlight {
    /// Its answer has begun and has no known end.
    pub(super) fn streams(mut self) -> Self {
        self.is_stream = true;
        self.activity.streams.fetch_add(1, Ordering::Relaxed);
        self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.is_stream {
            self.activity.streams.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.activity.all_in_flight.dec();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ActivitySample {
    reads: u64,
    requests: u64,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// It is active.
    Keep,
    /// It has been idle for too long: end it in the way of the protocol.
    Close,
    /// The client keeps it open without a complete request: close it.
    Cut,
}

/// Checks a connection periodically.
#[derive(Debug)]
pub(super) struct ConnectionMonitor {
    activity: Arc<Activity>,
    every: Duration,
    header_samples: u32,
    idle_samples: u32,
    last: ActivitySample,
    /// The reads before the current wait for headers.
    reads_before_wait: u64,
    /// The number of checks in a row with nothing in flight and no new request.
    waiting: u32,
    /// The number of these in which bytes arrived.
    reading: u32,
}

/// How many samples there are within the shortest timeout.
const SAMPLES_PER_TIMEOUT: u32 = 4;

impl ConnectionMonitor {
    pub(super) fn new(activity: Arc<Activity>, limits: &HttpLimits) -> Self {
        let every = limits.header_timeout.min(limits.idle_timeout) / SAMPLES_PER_TIMEOUT;
        let samples = |timeout: Duration| {
            u32::try_from(timeout.as_millis() / every.as_millis().max(1)).unwrap_or(u32::MAX)
        };
        Self {
            last: activity.sample(),
            activity,
            every,
            header_samples: samples(limits.header_timeout),
            idle_samples: samples(limits.idle_timeout),
            reads_before_wait: 0,
            waiting: 0,
            reading: 0,
        }
    }

    /// The time between two checks.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// Judges the connection by its activity since the last check.
    pub(super) fn look(&mut self) -> IdleAction {
        let now = self.activity.sample();
        if self.activity.is_answering() || now.requests != self.last.requests {
            (self.waiting, self.reading) = (0, 0);
            self.reads_before_wait = now.reads;
            self.last = now;
            return IdleAction::Keep;
        }
        self.last = now;
        self.waiting += 1;
        if now.reads > self.reads_before_wait {
            self.reading += 1;
        }
        // Between requests, HTTP/2 clients send pings and settings, so only the idle timeout ends the connection.
        let first = now.requests == 0;
        let between_http2 = !first && self.activity.is_http2();
        let waited_for_headers = if first { self.waiting } else { self.reading };
        if !between_http2 && waited_for_headers >= self.header_samples {
            IdleAction::Cut
        } else if self.waiting >= self.idle_samples {
            IdleAction::Close
        } else {
            IdleAction::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events between two checks.
    #[derive(Clone, Copy)]
    enum Event {
        Nothing,
        Bytes,
        Request,
        Http2Request,
    }

    /// The header timeout is 4 checks, the idle timeout 8. Returns the first verdict that ends the connection, and
    /// after which check.
    fn ends(events: impl Fn(u32) -> Event) -> Option<(u32, IdleAction)> {
        let limits = HttpLimits {
            header_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_secs(8),
            ..HttpLimits::default()
        };
        let activity = Arc::new(Activity::default());
        let mut watch = ConnectionMonitor::new(Arc::clone(&activity), &limits);
        (1..=40).find_map(|look| {
            match events(look) {
                Event::Nothing => {}
                Event::Bytes => activity.read(),
                Event::Request => drop(activity.request(false)),
                Event::Http2Request => drop(activity.request(true)),
            }
            let verdict = watch.look();
            (verdict != IdleAction::Keep).then_some((look, verdict))
        })
    }

    #[test]
    fn a_peer_without_a_whole_request_is_cut_and_an_idle_one_closed() {
        use Event::{Bytes, Http2Request, Nothing, Request};
        let at_first = |event| move |look| if look == 1 { event } else { Nothing };
        assert_eq!(ends(|_| Nothing), Some((4, IdleAction::Cut)), "silent");
        assert_eq!(ends(|_| Bytes), Some((4, IdleAction::Cut)), "slow first headers");
        assert_eq!(ends(|_| Request), None, "busy");
        assert_eq!(ends(at_first(Request)), Some((9, IdleAction::Close)), "idle");
        assert_eq!(
            ends(|look| if look == 1 { Request } else { Bytes }),
            Some((5, IdleAction::Cut)),
            "slow second headers"
        );
        assert_eq!(
            ends(|look| if look == 1 { Http2Request } else { Bytes }),
            Some((9, IdleAction::Close)),
            "only pings"
        );
    }

    #[test]
    fn a_request_being_answered_is_never_ended() {
        let activity = Arc::new(Activity::default());
        let mut watch = ConnectionMonitor::new(Arc::clone(&activity), &HttpLimits::default());
        let in_flight = activity.request(false);
        assert!((0..1_000).all(|_| watch.look() == IdleAction::Keep));
        drop(in_flight);
        assert!((0..1_000).any(|_| watch.look() == IdleAction::Close));
    }
}
