//! A circuit breaker: sends nothing to an upstream that fails, and finds out when it works again.
//!
//! The breaker of stores (`tollgate_store::resilience`) judges calls to a [`Store`](tollgate_store::Store) by their error kinds
//! and probes by itself; this one is told what became of requests, and probes with one of them.

use std::time::Duration;

use tollgate_core::Timestamp;

use crate::monitor::UpstreamState;

/// It opens after this many failures in a row.
const CONSECUTIVE_FAILURES: u32 = 5;
/// For how long it is open at first. It doubles with each failed probe.
const MIN_OPEN: Duration = Duration::from_secs(1);
/// The longest time for which it is open.
const MAX_OPEN: Duration = Duration::from_secs(30);
/// After so many failed probes the time no longer doubles.
const MAX_DOUBLINGS: u32 = 5;
/// A probe that has said nothing for this long is forgotten, so that another request can be one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for which a provider's `retry-after` is respected.
pub(super) const MAX_COOLING: Duration = Duration::from_mins(1);

/// Whether an upstream may get a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// It may get this request, to find out whether it works again.
    Probe,
    /// It may not.
    Shut,
}

/// The state of one upstream.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// Until when it gets nothing, because it fails.
    shut_until: Option<Timestamp>,
    failed_probes: u32,
    probing_until: Option<Timestamp>,
    /// Until when its provider wants no requests.
    cooling_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether it may get a request at `now`. After [`Gate::Probe`], say what became of the request.
    pub(super) fn gate(&mut self, now: Timestamp) -> Gate {
        if self.cools_for(now).is_some() {
            return Gate::Shut;
        }
        let Some(shut_until) = self.shut_until else { return Gate::Open };
        let is_probing = self.probing_until.is_some_and(|until| now < until);
        if now < shut_until || is_probing {
            return Gate::Shut;
        }
        self.probing_until = Some(now.after(PROBE_TIMEOUT));
        Gate::Probe
    }

    /// A probe went to another upstream.
    pub(super) fn not_probed(&mut self) {
        self.probing_until = None;
    }

    /// Whether it gets requests at `now`.
    pub(super) fn state(&self, now: Timestamp) -> UpstreamState {
        match self.shut_until {
            Some(until) if now < until => UpstreamState::Open,
            Some(_) => UpstreamState::HalfOpen,
            None if self.cools_for(now).is_some() => UpstreamState::Limited,
            None => UpstreamState::Available,
        }
    }

    /// How much longer its provider wants no requests.
    pub(super) fn cools_for(&self, now: Timestamp) -> Option<Duration> {
        let until = self.cooling_until.filter(|until| now < *until)?;
        Some(Duration::from_nanos(until.as_ns() - now.as_ns()))
    }

    /// It has answered. Returns whether it had failed before.
    pub(super) fn succeeded(&mut self) -> bool {
        let had_failed = self.shut_until.is_some();
        *self = Self { cooling_until: self.cooling_until, ..Self::default() };
        had_failed
    }

    /// It has failed. Returns whether the breaker opens now that was closed.
    pub(super) fn failed(&mut self, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.shut_until {
            // Requests that were sent before it opened say nothing new.
            Some(until) if now < until => return false,
            Some(_) => self.failed_probes = self.failed_probes.saturating_add(1),
            None if self.failures < CONSECUTIVE_FAILURES => return false,
            None => {}
        }
        let opens = self.shut_until.is_none();
        let open = MIN_OPEN * (1 << self.failed_probes.min(MAX_DOUBLINGS));
        self.shut_until = Some(now.after(open.min(MAX_OPEN)));
        self.probing_until = None;
        opens
    }

    /// The same, where more requests would fail in the same way.
    pub(super) fn failed_for_good(&mut self, now: Timestamp) -> bool {
        self.failures = self.failures.max(CONSECUTIVE_FAILURES - 1);
        self.failed(now)
    }

    /// Its provider wants no requests for `wait`.
    pub(super) fn cool(&mut self, now: Timestamp, wait: Duration) {
        let until = now.after(wait.min(MAX_COOLING));
        self.cooling_until = self.cooling_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        let opens: Vec<_> = (0..5).map(|_| breaker.failed(at(0))).collect();
        assert_eq!(opens, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn it_opens_after_some_failures_in_a_row() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            for _ in 0..4 {
                assert!(!breaker.failed(at(0)));
            }
            assert!(!breaker.succeeded());
        }
        assert_eq!(breaker.gate(at(0)), Gate::Open);
        assert_eq!(opened().gate(at(999)), Gate::Shut);
    }

    #[test]
    fn it_opens_at_once_if_more_requests_would_fail_too() {
        let mut breaker = Breaker::default();
        assert!(breaker.failed_for_good(at(0)) && !breaker.failed_for_good(at(1)));
        assert_eq!((breaker.gate(at(999)), breaker.gate(at(1_000))), (Gate::Shut, Gate::Probe));
    }

    #[test]
    fn one_request_at_a_time_probes_an_upstream_that_fails() {
        let mut breaker = opened();
        assert_eq!(breaker.gate(at(1_000)), Gate::Probe);
        assert_eq!(breaker.gate(at(1_001)), Gate::Shut);
        assert!(!breaker.failed(at(1_002)));
        assert_eq!(breaker.gate(at(3_001)), Gate::Shut, "twice as long");
        assert_eq!(breaker.gate(at(3_002)), Gate::Probe);
        breaker.not_probed();
        assert_eq!(breaker.gate(at(3_003)), Gate::Probe);
        assert_eq!(breaker.gate(at(8_002)), Gate::Shut);
        assert_eq!(breaker.gate(at(8_003)), Gate::Probe, "the last probe said nothing");
        assert!(breaker.succeeded());
        assert_eq!(breaker.gate(at(8_004)), Gate::Open);
    }

    #[test]
    fn its_state_says_whether_it_gets_requests() {
        let mut breaker = opened();
        assert_eq!(breaker.state(at(999)), UpstreamState::Open);
        assert_eq!(breaker.state(at(1_000)), UpstreamState::HalfOpen);
        breaker.succeeded();
        assert_eq!(breaker.state(at(1_000)), UpstreamState::Available);
        breaker.cool(at(1_000), Duration::from_secs(1));
        assert_eq!(breaker.state(at(1_999)), UpstreamState::Limited);
        assert_eq!(breaker.state(at(2_000)), UpstreamState::Available);
    }

    #[test]
    fn it_is_never_open_for_longer_than_its_bound() {
        let mut breaker = opened();
        let mut now = 0;
        for _ in 0..50 {
            now += 30_000;
            assert_eq!(breaker.gate(at(now)), Gate::Probe);
            breaker.failed(at(now));
        }
    }

    #[test]
    fn a_provider_that_limits_is_left_alone() {
        let mut breaker = Breaker::default();
        breaker.cool(at(0), Duration::from_secs(2));
        breaker.cool(at(0), Duration::from_secs(1));
        assert_eq!(breaker.gate(at(1_999)), Gate::Shut);
        assert_eq!(breaker.cools_for(at(1_500)), Some(Duration::from_millis(500)));
        breaker.succeeded();
        assert_eq!(breaker.gate(at(1_999)), Gate::Shut, "an older request");
        assert_eq!(breaker.gate(at(2_000)), Gate::Open);
        breaker.cool(at(0), Duration::from_hours(1));
        assert_eq!(breaker.gate(at(60_000)), Gate::Open);
    }
}
