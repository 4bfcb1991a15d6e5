//! When a breaker opens, and when it closes: the state machine of one domain, without locks and clocks.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tollgate_core::Timestamp;

/// When a [`Breaker`](super::Breaker) opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// It opens after this many failures in a row.
    pub consecutive_failures: u32,
    /// It opens when this share of the calls of a second has failed, in percent,
    pub failure_percent: u32,
    /// if there were at least this many.
    pub min_calls: u32,
    /// The minimum time between two probes: at most 10 connection attempts a second by default (P14).
    pub min_backoff: Duration,
    /// The maximum time between two probes, within which a store that works again is noticed (P14).
    pub max_backoff: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_percent: 50,
            min_calls: 20,
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
        }
    }
}

/// The period over which the share of failures is computed.
const SHARE_WINDOW: Duration = Duration::from_secs(1);
/// After this many failed probes the back-off no longer doubles, which bounds the power of two.
const MAX_DOUBLINGS: u32 = 16;
/// The state of a [`Breaker`](super::Breaker), as a whole or in one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go to the store.
    Closed,
    /// Calls fail at once.
    Open,
    /// One call is on its way to the store to find out whether it works again; the others fail at once.
    HalfOpen,
}

impl BreakerState {
    /// Every state, from the best to the worst.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The state of one domain.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    /// How often the phase changed, to recognize answers to calls of earlier phases.
    pub(super) epoch: u64,
    /// Failed probes since the breaker opened.
    pub(super) failed_probes: u32,
    /// Whether a failure since it opened may spare calls, so that only [`Store::probe`](crate::Store::probe) shows that the store works again.
    needs_probe: bool,
    random: RandomState,
}

#[derive(Debug)]
pub(super) enum Phase {
    Closed { consecutive: u32, calls: u32, failures: u32, counted_since: Timestamp },
    Open { until: Timestamp },
    HalfOpen,
}

impl Phase {
    fn closed(now: Timestamp) -> Self {
        Self::Closed { consecutive: 0, calls: 0, failures: 0, counted_since: now }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    /// It failed, and every other call would.
    Refused,
    /// It failed, and so would every other call that needs the same right or command.
    Lacking,
    /// Nothing was learned: its caller gave up, or the call failed before it reached this domain.
    Unknown,
}

impl Machine {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::closed(now),
            epoch: 0,
            failed_probes: 0,
            needs_probe: false,
            random: RandomState::new(),
        }
    }

    /// For how long the breaker refuses such calls; `None` if it lets them through now.
    pub(super) fn closed_for(
        &self,
        now: Timestamp,
        options: &BreakerOptions,
        shows_little: bool,
    ) -> Option<Duration> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until } if now >= until && shows_little && self.needs_probe => {
                Some(options.min_backoff)
            }
            Phase::Open { until } if now >= until => None,
            Phase::Open { until } => Some(Duration::from_nanos(until.as_ns() - now.as_ns())),
            Phase::HalfOpen => Some(options.min_backoff),
        }
    }

    /// Whether its latest call failed.
    pub(super) fn is_in_doubt(&self) -> bool {
        !matches!(self.phase, Phase::Closed { consecutive: 0, .. })
    }

    /// Changes to `phase`; returns the states before and after.
    pub(super) fn enter(&mut self, phase: Phase) -> (BreakerState, BreakerState) {
        let from = self.phase.state();
        self.epoch += 1;
        self.phase = phase;
        (from, self.phase.state())
    }

    /// The back-off after the failed probes so far: full jitter, at least the minimum.
    pub(super) fn backoff(&self, options: &BreakerOptions) -> Duration {
        let doubled = options.min_backoff * (1 << self.failed_probes.min(MAX_DOUBLINGS));
        let longest_ns = doubled.min(options.max_backoff).as_nanos().max(1);
        // The epoch is new every time, and the hash of a new number is as good as random.
        let drawn_ns = u128::from(self.random.hash_one(self.epoch)) % longest_ns;
        let drawn = Duration::from_nanos(u64::try_from(drawn_ns).unwrap_or(u64::MAX));
        drawn.max(options.min_backoff)
    }

    /// Records how the call of `epoch` ended; returns the states before and after if they change.
    pub(super) fn report(
        &mut self,
        epoch: u64,
        outcome: Outcome,
        now: Timestamp,
        options: &BreakerOptions,
    ) -> Option<(BreakerState, BreakerState)> {
        if epoch != self.epoch {
            return None;
        }
        match outcome {
            Outcome::Lacking => self.needs_probe = true,
            Outcome::Answered if matches!(self.phase, Phase::HalfOpen) => self.needs_probe = false,
            _ => {}
        }
        match (&mut self.phase, outcome) {
            (Phase::Closed { .. }, Outcome::Unknown) | (Phase::Open { .. }, _) => None,
            (Phase::Closed { consecutive, calls, failures, counted_since }, _) => {
                if now >= counted_since.after(SHARE_WINDOW) {
                    (*calls, *failures, *counted_since) = (0, 0, now);
                }
                let failed = outcome != Outcome::Answered;
                *consecutive = if failed { *consecutive + 1 } else { 0 };
                *calls += 1;
                *failures += u32::from(failed);
                let share = *calls >= options.min_calls
                    && u64::from(*failures) * 100
                        >= u64::from(*calls) * u64::from(options.failure_percent);
                let is_enough = share || *consecutive >= options.consecutive_failures;
                let refuses = matches!(outcome, Outcome::Refused | Outcome::Lacking);
                if refuses || failed && is_enough {
                    self.failed_probes = 0;
                    let until = now.after(self.backoff(options));
                    return Some(self.enter(Phase::Open { until }));
                }
                None
            }
            (Phase::HalfOpen, Outcome::Answered) => Some(self.enter(Phase::closed(now))),
            (Phase::HalfOpen, Outcome::Failed | Outcome::Refused | Outcome::Lacking) => {
                self.failed_probes = self.failed_probes.saturating_add(1);
                let until = now.after(self.backoff(options));
                Some(self.enter(Phase::Open { until }))
            }
            (Phase::HalfOpen, Outcome::Unknown) => {
                let until = now.after(options.min_backoff);
                Some(self.enter(Phase::Open { until }))
            }
        }
    }
}
