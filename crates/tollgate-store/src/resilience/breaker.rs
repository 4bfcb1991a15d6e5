//! Leaves a store alone that fails, and finds out when it is back.
//!
//! The breaker is *closed* while the store works. It *opens* when calls fail, and then every call fails at once
//! (P3). After a while it is *half-open*: one call, the probe, is let through; its success closes the
//! breaker, its failure opens it for longer.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_core::{Charge, Clock, Limit, MonotonicClock, Subject, Timestamp};

use super::StoreObserver;
use crate::{Charged, Store, StoreError, StoreErrorKind};

/// When a [`Breaker`] opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// It opens after this many failures in a row.
    pub consecutive_failures: u32,
    /// It opens when this share of the calls of a second has failed, in percent,
    pub failure_percent: u32,
    /// if there were at least so many.
    pub min_calls: u32,
    /// The least time between two probes: at most 10 connects a second by default (P14).
    pub min_backoff: Duration,
    /// The most time between two probes: a store that is back is found within it (P14).
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

/// The time over which the share of failures is taken.
const SHARE_WINDOW: Duration = Duration::from_secs(1);
/// From here on the back-off is the longest; keeps the power of two small.
const MAX_DOUBLINGS: u32 = 16;

/// How a [`Breaker`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go to the store.
    Closed,
    /// Calls fail at once.
    Open,
    /// One call is on its way to the store to see whether it is back; the others fail at once.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Fails at once while the store is known to fail.
///
/// - **Opens** after some failures in a row, or when a share of the calls of a second fails. A failure is an error
///   of kind [`StoreErrorKind::Unavailable`]; a store that answers what it must not does answer.
/// - **Probes** with the calls that come anyway, one at a time. Between two probes lies a time drawn at random
///   from 0 up to a bound that doubles with each failure (full jitter), at least `min_backoff` and at most
///   `max_backoff`, so that many nodes do not come at once.
/// - **Recovers**: with the deadline of a probe added, a store that is back decides again within
///   `max_backoff` and the next call (P14).
/// - A call that began before the breaker went over says nothing about the store now, and is not counted.
#[derive(Debug)]
pub struct Breaker<S, C = MonotonicClock> {
    store: S,
    clock: C,
    options: BreakerOptions,
    observer: Arc<dyn StoreObserver>,
    // Held for some nanoseconds, twice a call: little beside a call over a network.
    machine: Mutex<Machine>,
}

/// What the breaker remembers.
#[derive(Debug)]
struct Machine {
    phase: Phase,
    /// How often the phase changed: tells answers to earlier phases apart.
    epoch: u64,
    /// Failed probes since the breaker opened.
    failed_probes: u32,
    random: RandomState,
}

#[derive(Debug)]
enum Phase {
    Closed { consecutive: u32, calls: u32, failures: u32, counted_since: Timestamp },
    Open { until: Timestamp },
    HalfOpen,
}

impl Phase {
    fn closed(now: Timestamp) -> Self {
        Self::Closed { consecutive: 0, calls: 0, failures: 0, counted_since: now }
    }

    fn state(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
    /// Its caller gave up: nothing was learned.
    Abandoned,
}

impl Machine {
    /// Goes over to `phase`; answers the states before and after.
    fn enter(&mut self, phase: Phase) -> (BreakerState, BreakerState) {
        let from = self.phase.state();
        self.epoch += 1;
        self.phase = phase;
        (from, self.phase.state())
    }

    /// How long to leave the store alone, after so many failed probes: full jitter, at least the minimum.
    fn backoff(&self, options: &BreakerOptions) -> Duration {
        let doubled = options.min_backoff * (1 << self.failed_probes.min(MAX_DOUBLINGS));
        let longest_ns = doubled.min(options.max_backoff).as_nanos().max(1);
        // The epoch is new every time, and the hash of a number that is new is as good as random.
        let drawn_ns = u128::from(self.random.hash_one(self.epoch)) % longest_ns;
        let drawn = Duration::from_nanos(u64::try_from(drawn_ns).unwrap_or(u64::MAX));
        drawn.max(options.min_backoff)
    }

    /// Takes in how the call of `epoch` ended; answers the states before and after if that changes anything.
    fn report(
        &mut self,
        epoch: u64,
        outcome: Outcome,
        now: Timestamp,
        options: &BreakerOptions,
    ) -> Option<(BreakerState, BreakerState)> {
        if epoch != self.epoch {
            return None;
        }
        match (&mut self.phase, outcome) {
            (Phase::Closed { .. }, Outcome::Abandoned) | (Phase::Open { .. }, _) => None,
            (Phase::Closed { consecutive, calls, failures, counted_since }, _) => {
                if now >= counted_since.after(SHARE_WINDOW) {
                    (*calls, *failures, *counted_since) = (0, 0, now);
                }
                let failed = outcome == Outcome::Failed;
                *consecutive = if failed { *consecutive + 1 } else { 0 };
                *calls += 1;
                *failures += u32::from(failed);
                let share = *calls >= options.min_calls
                    && u64::from(*failures) * 100
                        >= u64::from(*calls) * u64::from(options.failure_percent);
                if failed && (share || *consecutive >= options.consecutive_failures) {
                    self.failed_probes = 0;
                    let until = now.after(self.backoff(options));
                    return Some(self.enter(Phase::Open { until }));
                }
                None
            }
            (Phase::HalfOpen, Outcome::Answered) => Some(self.enter(Phase::closed(now))),
            (Phase::HalfOpen, Outcome::Failed) => {
                self.failed_probes = self.failed_probes.saturating_add(1);
                let until = now.after(self.backoff(options));
                Some(self.enter(Phase::Open { until }))
            }
            (Phase::HalfOpen, Outcome::Abandoned) => {
                let until = now.after(options.min_backoff);
                Some(self.enter(Phase::Open { until }))
            }
        }
    }
}

impl<S, C: Clock> Breaker<S, C> {
    /// `store` behind a breaker that goes by `clock` and tells `observer`.
    pub fn new(
        store: S,
        clock: C,
        options: BreakerOptions,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        let machine = Machine {
            phase: Phase::closed(clock.now()),
            epoch: 0,
            failed_probes: 0,
            random: RandomState::new(),
        };
        Self { store, clock, options, observer, machine: Mutex::new(machine) }
    }

    /// What it surrounds.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// How it stands.
    pub fn state(&self) -> BreakerState {
        self.machine().phase.state()
    }

    /// A change of the machine is made at once, so it is whole whatever a thread that held it did.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or says for how long none will be.
    fn admit(&self) -> Result<Call<'_, S, C>, Duration> {
        let now = self.clock.now();
        let mut machine = self.machine();
        let changed = match machine.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until } if now >= until => Some(machine.enter(Phase::HalfOpen)),
            Phase::Open { until } => {
                return Err(Duration::from_nanos(until.as_ns() - now.as_ns()));
            }
            Phase::HalfOpen => return Err(self.options.min_backoff),
        };
        let epoch = machine.epoch;
        drop(machine);
        if let Some((from, to)) = changed {
            self.observer.breaker_changed(from, to, None);
        }
        Ok(Call { breaker: self, epoch, ended: false })
    }

    /// Lets a call through, or says why none is.
    fn begin(&self) -> Result<Call<'_, S, C>, StoreError> {
        self.admit().map_err(|wait| {
            let context =
                format!("the store has failed; it is tried again in {} ms", wait.as_millis());
            StoreError::new(StoreErrorKind::Unavailable, context)
        })
    }
}

/// A call that was let through. One that is dropped before its end was abandoned: a probe must not block the
/// breaker for ever.
struct Call<'a, S, C: Clock> {
    breaker: &'a Breaker<S, C>,
    epoch: u64,
    ended: bool,
}

impl<S, C: Clock> Call<'_, S, C> {
    /// Notes what the store said.
    fn answered<T>(mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match &answer {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                self.end(Outcome::Failed, Some(error));
            }
            _ => self.end(Outcome::Answered, None),
        }
        answer
    }

    fn end(&mut self, outcome: Outcome, cause: Option<&StoreError>) {
        self.ended = true;
        let breaker = self.breaker;
        let now = breaker.clock.now();
        let changed = breaker.machine().report(self.epoch, outcome, now, &breaker.options);
        if let Some((from, to)) = changed {
            breaker.observer.breaker_changed(from, to, cause);
        }
    }
}

impl<S, C: Clock> Drop for Call<'_, S, C> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Abandoned, None);
        }
    }
}

impl<S: Store, C: Clock + 'static> Store for Breaker<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        // No future is passed on: to move one costs as much as a reading of the clock.
        let call = self.begin()?;
        call.answered(self.store.charge(charges, request_id).await)
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        let call = self.begin()?;
        call.answered(self.store.peek(charges).await)
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        let call = self.begin()?;
        call.answered(self.store.reset(limit, subject).await)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
