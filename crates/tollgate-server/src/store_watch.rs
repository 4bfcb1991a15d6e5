//! Counts and logs events around the store, and shows its state in `/readyz`: one line for each transition, not for
//! each check.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_core::{Clock, FailureMode, MonotonicClock, Throttle, Timestamp};
use tollgate_store::resilience::{BreakerState, PartEvent, StoreObserver};
use tollgate_store::{ChargeLeft, FaultDomain, StartProblem, StoreError, StoreErrorKind};

use crate::health::Health;
use crate::metrics::Metrics;
use crate::telemetry::Chain;

/// The minimum time between two lines about keys with unreadable values.
const KEY_LINE_EVERY: Duration = Duration::from_secs(10);
/// The minimum time between two lines about charges that stay.
const LEFT_LINE_EVERY: Duration = Duration::from_secs(10);
/// The minimum time between two lines about another cause of the same outage.
const CAUSE_LINE_EVERY: Duration = Duration::from_secs(5);
/// For how long after the last degraded decision the store counts as degraded although no breaker is open.
const DEGRADED_HOLDS: Duration = Duration::from_secs(1);
/// If failures that open no breaker last this long, they are logged.
const LINE_AFTER: Duration = Duration::from_millis(500);
/// How often [`StoreWatch::watch`] checks. Together with [`LINE_AFTER`] it stays below the second that P20 allows.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Counts and logs events around the store, and shows its state in `/readyz`.
#[derive(Debug)]
pub(crate) struct StoreWatch {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: MonotonicClock,
    outage: Mutex<Outage>,
    /// Whether the breaker of any part is not closed.
    any_failing: AtomicBool,
    /// Checks that were decided without the store although no breaker was open.
    scattered: Mutex<Option<Scattered>>,
    /// The earliest time for the next line, in nanoseconds.
    key_lines: Throttle,
    left_lines: Throttle,
    cause_lines: Throttle,
}

/// What fails now.
#[derive(Debug, Default)]
struct Outage {
    /// The parts of the store whose breakers are not closed.
    failing: BTreeMap<FaultDomain, Failing>,
    /// Whether the examination at the start found the store unavailable and logged it, and nothing has logged yet that
    /// the store is available again.
    was_told_at_start: bool,
    /// Whether it was logged why the examination has not ended yet.
    was_examination_told: bool,
    /// How many outages have ended.
    ended: u64,
}

/// A part of the store that fails.
#[derive(Clone, Copy, Debug)]
struct Failing {
    state: BreakerState,
    /// The kind of its latest error.
    kind: Option<StoreErrorKind>,
    /// The kind of the error that was logged last.
    logged: Option<StoreErrorKind>,
}

/// A period in which single checks were decided without the store.
#[derive(Debug)]
struct Scattered {
    since: Timestamp,
    latest: Timestamp,
    /// The error of the first of them, until it was logged.
    untold: Option<Untold>,
    /// Whether it was logged, so that its end is logged too.
    was_told: bool,
}

#[derive(Debug)]
struct Untold {
    error: String,
    kind: &'static str,
    what_to_do: Option<&'static str>,
}

impl StoreWatch {
    pub(crate) fn new(metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        Self {
            metrics,
            health,
            clock: MonotonicClock::new(),
            outage: Mutex::default(),
            any_failing: AtomicBool::new(false),
            scattered: Mutex::default(),
            key_lines: Throttle::new(),
            left_lines: Throttle::new(),
            cause_lines: Throttle::new(),
        }
    }

    /// How many outages have ended, for [`StoreWatch::unavailable_at_start`].
    pub(crate) fn ended_outages(&self) -> u64 {
        self.outage().ended
    }

    /// The examination at the start, begun after `ended_before` outages, found the store unavailable. Logs the outage, unless a
    /// breaker has logged it; then it logs once that the examination goes on, because only this line says where the store was set.
    pub(crate) fn unavailable_at_start(
        &self,
        error: &StartProblem,
        set_by: Option<&str>,
        ended_before: u64,
    ) {
        let mut outage = self.outage();
        if outage.ended != ended_before {
            return;
        }
        let was_told = std::mem::replace(&mut outage.was_examination_told, true);
        if !outage.was_told_at_start && outage.failing.is_empty() {
            outage.was_told_at_start = true;
            tracing::warn!(
                error = %Chain(error),
                set_by,
                "the store is unavailable; checks are decided without it, by the failure mode (onStoreError), until it answers"
            );
        } else if !was_told {
            tracing::warn!(
                error = %Chain(error),
                set_by,
                "the store did not answer the examination at the start, which is repeated until it does"
            );
        }
    }

    /// The examination at the start has ended well. Logs the end of an outage that only the examination has seen.
    pub(crate) fn reached(&self) {
        let mut outage = self.outage();
        if outage.failing.is_empty() && std::mem::take(&mut outage.was_told_at_start) {
            log_available();
        }
        self.health.set_store_reached();
    }

    /// A poisoned lock is fine: every change is complete at once.
    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poisoned lock is fine: every change is complete at once.
    fn scattered(&self) -> MutexGuard<'_, Option<Scattered>> {
        self.scattered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends such periods when their time is over; never returns.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn look(&self) {
        let now = self.clock.now();
        let mut scattered = self.scattered();
        let Some(period) = scattered.as_mut() else { return };
        // Relaxed, here and below: the flag is independent.
        let any_failing = self.any_failing.load(Ordering::Relaxed);
        if !any_failing
            && now >= period.since.after(LINE_AFTER)
            && let Some(Untold { error, kind, what_to_do }) = period.untold.take()
        {
            period.was_told = true;
            tracing::warn!(
                error,
                kind,
                what_to_do,
                "the store fails occasionally; the affected checks are decided by the failure mode"
            );
        }
        if now >= period.latest.after(DEGRADED_HOLDS) {
            let was_told = period.was_told;
            *scattered = None;
            if !any_failing {
                self.health.set_store_failure(None);
                if was_told {
                    tracing::info!("the store decides every check again");
                }
            }
        }
    }

    /// Records that `error` caused a decision without the store although no breaker is open.
    #[cold]
    fn note_scattered(&self, error: &StoreError) {
        self.health.set_store_failure(Some(error.kind()));
        let now = self.clock.now();
        let mut scattered = self.scattered();
        let concerns_one_check = error.kind().concerns_one_check();
        if let Some(period) = scattered.as_mut() {
            period.latest = now;
        } else {
            // Errors of one key have their own line.
            let untold = (!concerns_one_check).then(|| Untold {
                error: Chain(error).to_string(),
                kind: error.kind().name(),
                what_to_do: error.remedy(),
            });
            *scattered = Some(Scattered { since: now, latest: now, untold, was_told: false });
        }
        drop(scattered);
        if concerns_one_check && self.key_lines.admits(self.clock.now(), KEY_LINE_EVERY) {
            let (error, what_to_do) = (Chain(error), error.remedy());
            tracing::error!(
                %error,
                what_to_do,
                "the store cannot decide a check because its key holds an unexpected value; the check is decided by the \
                 failure mode, and the key is left unchanged"
            );
        }
    }

    /// Shows the state of the breakers.
    fn show(&self, failing: &BTreeMap<FaultDomain, Failing>) {
        let worst = if failing.is_empty() {
            BreakerState::Closed
        } else if failing.values().any(|part| part.state == BreakerState::Open) {
            BreakerState::Open
        } else {
            BreakerState::HalfOpen
        };
        self.metrics.store.breaker_is(worst);
        self.metrics.store.failing_parts.set(i64::try_from(failing.len()).unwrap_or(i64::MAX));
        self.any_failing.store(!failing.is_empty(), Ordering::Relaxed);
        if failing.is_empty() {
            // The breaker has just seen that the store decides.
            *self.scattered() = None;
        }
        let kind = failing.values().find_map(|part| part.kind);
        let unknown = (!failing.is_empty()).then_some(StoreErrorKind::Unavailable);
        self.health.set_store_failure(kind.or(unknown));
    }
}

fn log_available() {
    tracing::info!("the store is available again; all limits are enforced");
}

impl StoreObserver for StoreWatch {
    fn breaker_changed(
        &self,
        domain: FaultDomain,
        from: BreakerState,
        to: BreakerState,
        cause: Option<&StoreError>,
    ) {
        let mut outage = self.outage();
        let Outage { failing, was_told_at_start, ended, .. } = &mut *outage;
        let logged = failing.get(&domain).and_then(|part| part.logged);
        let now_known =
            cause.map(StoreError::kind).filter(|kind| *kind != StoreErrorKind::NotAsked);
        let kind = now_known.or_else(|| failing.get(&domain).and_then(|part| part.kind));
        // The cause may change during an outage: Redis comes back and asks for a password.
        let is_another_cause = from != BreakerState::Closed
            && now_known.is_some_and(|kind| logged != Some(kind))
            && self.cause_lines.admits(self.clock.now(), CAUSE_LINE_EVERY);
        let logged =
            if from == BreakerState::Closed || is_another_cause { now_known } else { logged };
        match to {
            BreakerState::Closed => failing.remove(&domain),
            _ => failing.insert(domain, Failing { state: to, kind, logged }),
        };
        self.show(failing);
        let failing_parts = failing.len();
        let error = cause.map(|cause| tracing::field::display(Chain(cause)));
        let kind = cause.map(|cause| cause.kind().name());
        let what_to_do = cause.and_then(StoreError::remedy);
        let what = if domain == FaultDomain::WHOLE { "the store" } else { "a part of the store" };
        match (from, to) {
            (BreakerState::Closed, _) if *was_told_at_start && domain == FaultDomain::WHOLE => {
                tracing::debug!(error, kind, "the store is still unavailable");
            }
            (BreakerState::Closed, _) => tracing::warn!(
                error,
                kind,
                what_to_do,
                failing_parts,
                "{what} is unavailable; checks that need it are decided without it, by the failure mode (onStoreError)"
            ),
            (_, BreakerState::Closed) if failing_parts > 0 => tracing::info!(
                failing_parts,
                "a part of the store is available again; its limits are enforced again"
            ),
            (_, BreakerState::Closed) => {
                *was_told_at_start = false;
                *ended += 1;
                log_available();
            }
            _ if is_another_cause => tracing::warn!(
                error,
                kind,
                what_to_do,
                failing_parts,
                "{what} is still unavailable, now for another reason"
            ),
            _ => tracing::debug!(error, from = from.name(), to = to.name(), "probing the store"),
        }
    }

    fn call_failed(&self, error: &StoreError) {
        self.metrics.store_errors.inc();
        self.metrics.store.failed(error.kind());
    }

    fn failed(&self, error: &StoreError) {
        if !self.any_failing.load(Ordering::Relaxed) || error.kind().concerns_one_check() {
            self.note_scattered(error);
        }
    }

    fn degraded(&self, mode: FailureMode) {
        self.metrics.store.degraded(mode);
    }

    fn denied_locally(&self) {
        self.metrics.store.denied_locally.inc();
    }

    fn admitted_locally(&self) {
        self.metrics.store.admitted_locally.inc();
    }

    fn parts_changed(&self, event: PartEvent, units: u64) {
        self.metrics.store.parts_changed(event, units);
    }

    fn charge_left(&self, why: ChargeLeft) {
        self.metrics.store.charge_left(why);
        if self.left_lines.admits(self.clock.now(), LEFT_LINE_EVERY) {
            tracing::warn!(
                why = why.name(),
                "the charge of a check that was not admitted may stay until it leaves its window: its limit may admit \
                 less until then; tollgate_store_charges_left_total counts them"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (StoreWatch, Arc<Health>) {
        let health = Arc::new(Health::default());
        (StoreWatch::new(Arc::new(Metrics::new()), Arc::clone(&health)), health)
    }

    /// Several primaries fail: the store is degraded until the last one is available again.
    #[test]
    fn the_store_is_degraded_while_any_part_fails() {
        use BreakerState::{Closed, HalfOpen, Open};
        let (watch, health) = watch();
        let error = StoreError::new(StoreErrorKind::Unavailable, "as it was told");
        let (one, other) = (FaultDomain::new(1), FaultDomain::new(2));
        for (domain, from, to, expected) in [
            (one, Closed, Open, true),
            (other, Closed, Open, true),
            (one, Open, HalfOpen, true),
            (one, HalfOpen, Closed, true),
            (other, Open, Closed, false),
        ] {
            watch.breaker_changed(domain, from, to, Some(&error));
            assert_eq!(health.store_degraded(), expected, "{domain:?} {to:?}");
        }
    }

    /// `/readyz` names the kind of the latest failure, also while a probe is under way or could not be sent.
    #[test]
    fn the_kind_of_the_failure_is_known() {
        use BreakerState::{Closed, HalfOpen, Open};
        let (watch, health) = watch();
        let kinds =
            [StoreErrorKind::OutOfMemory, StoreErrorKind::NotAsked, StoreErrorKind::Loading];
        let [memory, not_asked, loading] =
            kinds.map(|kind| Some(StoreError::new(kind, "as it was told")));
        for (from, to, cause, expected) in [
            (Closed, Open, &memory, Some(kinds[0])),
            (Open, HalfOpen, &None, Some(kinds[0])),
            (HalfOpen, Open, &not_asked, Some(kinds[0])),
            (HalfOpen, Open, &loading, Some(kinds[2])),
            (HalfOpen, Closed, &None, None),
        ] {
            watch.breaker_changed(FaultDomain::WHOLE, from, to, cause.as_ref());
            assert_eq!(health.store_failure(), expected, "{from:?} {to:?}");
        }
    }

    /// P20: a decision without the store is logged although no breaker opens, whatever the kind of its error.
    #[test]
    fn a_single_failure_is_said() {
        for kind in StoreErrorKind::ALL {
            let (watch, health) = watch();
            watch.failed(&StoreError::new(kind, "as it was told"));
            assert_eq!(health.store_failure(), Some(kind));
            watch.look();
            assert!(health.store_degraded(), "it holds for a while");
        }
    }
}
