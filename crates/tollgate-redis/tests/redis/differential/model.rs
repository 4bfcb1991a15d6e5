//! The expected behaviour of the scripts: the same operations on the ways of counting of `tollgate-core`.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_core::counting::Verdict;
use tollgate_core::counting::bucket::{self, Bucket, Rate};
use tollgate_core::counting::calendar::{self, PeriodCount};
use tollgate_core::counting::counter::{self, Counter};
use tollgate_core::counting::log::{Admission, LogState, LogTime};
use tollgate_core::{Amount, Charge, Counting, Mode, Period, Timestamp, Window};

/// The resolution of Redis's clock.
const TICK_NS: u64 = 1_000;

/// The usage of one key.
#[derive(Clone, Debug)]
enum Usage {
    Log(LogState),
    Counter(Window, Counter),
    /// With the time at which it was written.
    Bucket(Rate, Bucket, Timestamp),
    /// With the period that it was written in.
    Calendar(PeriodCount, Period),
}

/// The identity of an admission; for a counter, the start of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelId {
    Log(Admission),
    Counter(Timestamp, Window),
    /// The time, and the usage right after.
    Bucket(Timestamp, u64, Window),
    Calendar(Period),
}

/// The usage of every key, by the policy's id.
#[derive(Debug, Default)]
pub(super) struct Model(HashMap<String, Usage>);

impl Model {
    /// Decides a check at `now` and, with `charge`, charges all its limits or none.
    pub(super) fn decide(
        &mut self,
        now: Timestamp,
        charges: &[Charge<'_>],
        charge: bool,
    ) -> Vec<(Verdict, Option<ModelId>)> {
        let mut decided: Vec<_> =
            charges.iter().map(|one| self.decide_one(now, one, false)).collect();
        let refuses = |((verdict, _), one): (&(Verdict, _), &Charge<'_>)| {
            !verdict.allowed && one.limit.mode() == Mode::Enforce
        };
        let is_denied = decided.iter().zip(charges).any(refuses);
        for (decided, one) in decided.iter_mut().zip(charges).filter(|_| charge) {
            if !is_denied && decided.0.allowed {
                *decided = self.decide_one(now, one, true);
            } else if one.is_recorded_if_denied() {
                // As if the limit was the most that may be recorded.
                let most = Arc::new(one.limit.with_amount(one.limit.most_recorded()));
                let as_of_most = Charge { limit: &most, ..*one };
                if self.decide_one(now, &as_of_most, true).1.is_some() {
                    let (verdict, _) = self.decide_one(now, one, false);
                    decided.0 = Verdict { allowed: decided.0.allowed, ..verdict };
                }
            }
        }
        decided
    }

    fn decide_one(
        &mut self,
        now: Timestamp,
        charge: &Charge<'_>,
        commit: bool,
    ) -> (Verdict, Option<ModelId>) {
        let limit = charge.limit;
        let id = limit.policy_id().as_str();
        match limit.counting() {
            Counting::Concurrency => panic!("slots are not among the compared limits"),
            Counting::Log { window } => {
                let time = LogTime::in_ticks_of(TICK_NS, window, now);
                let (amount, cost) = (limit.amount(), charge.cost);
                if let Some(Usage::Log(log)) = self.0.get_mut(id) {
                    let (verdict, admission) = log.decide(amount, &time, cost, commit);
                    return (verdict, admission.map(ModelId::Log));
                }
                let mut log = LogState::default();
                let (verdict, admission) = log.decide(amount, &time, cost, commit);
                // The state of another way of counting stays until something is admitted.
                if admission.is_some() {
                    self.0.insert(id.to_owned(), Usage::Log(log));
                }
                (verdict, admission.map(ModelId::Log))
            }
            Counting::Counter { window } => {
                let kept = match self.0.get(id) {
                    Some(Usage::Counter(of, counter)) if *of == window => Some(*counter),
                    _ => None,
                };
                let counter = kept.unwrap_or_default().following(window, now);
                if kept.is_some_and(|kept| kept.start > counter.start) {
                    self.0.insert(id.to_owned(), Usage::Counter(window, counter));
                }
                let amount = limit.amount();
                match counter::decide(counter, amount, window, now, charge.cost) {
                    (_, Some((charged, after))) if commit => {
                        self.0.insert(id.to_owned(), Usage::Counter(window, after));
                        (charged, Some(ModelId::Counter(after.start, window)))
                    }
                    (verdict, _) => (verdict, None),
                }
            }
            Counting::Bucket { window, refill } => {
                let rate = Rate { refill, window };
                let (bucket, stepped) = match self.0.get(id) {
                    Some(Usage::Bucket(of, bucket, written)) if of.window == window => {
                        let kept = bucket.following(*written, *of, now);
                        let kept =
                            if *of == rate { kept } else { kept.refilled_at(*of, rate, now) };
                        (kept.without_lost(rate, now), *written > now || *of != rate)
                    }
                    _ => (Bucket::default().at(rate, now), false),
                };
                if stepped {
                    self.0.insert(id.to_owned(), Usage::Bucket(rate, bucket, now));
                }
                match bucket::decide(bucket, limit.amount(), rate, now, charge.cost) {
                    (_, Some((charged, after))) if commit => {
                        self.0.insert(id.to_owned(), Usage::Bucket(rate, after, now));
                        (charged, Some(ModelId::Bucket(now, charged.usage, window)))
                    }
                    (verdict, _) => (verdict, None),
                }
            }
            Counting::Calendar { calendar, zone } => {
                let period = calendar.period(zone, now);
                let kept = match self.0.get(id) {
                    Some(Usage::Calendar(kept, _)) => *kept,
                    _ => PeriodCount::default(),
                };
                let current = kept.in_period(period);
                if kept.start > current.start {
                    self.0.insert(id.to_owned(), Usage::Calendar(current, period));
                }
                match calendar::decide(current, limit.amount(), period, now, charge.cost) {
                    (_, Some((charged, after))) if commit => {
                        self.0.insert(id.to_owned(), Usage::Calendar(after, period));
                        (charged, Some(ModelId::Calendar(period)))
                    }
                    (verdict, _) => (verdict, None),
                }
            }
        }
    }

    /// Changes one admission under a policy.
    pub(super) fn change(
        &mut self,
        now: Timestamp,
        policy: &str,
        id: ModelId,
        [old, new]: [Amount; 2],
    ) -> bool {
        match (self.0.get_mut(policy), id) {
            (Some(Usage::Log(log)), ModelId::Log(admission)) => {
                let changed = log.change(admission, old, new);
                if changed && log.is_empty() {
                    self.0.remove(policy);
                }
                changed
            }
            (Some(Usage::Counter(window, counter)), ModelId::Counter(start, of))
                if *window == of =>
            {
                let count = if counter.start <= start {
                    &mut counter.current
                } else if counter.start.as_ns() == start.as_ns() + window.as_ns() {
                    &mut counter.previous
                } else {
                    return false;
                };
                let changed = count.checked_sub(old.get()).map(|others| others + new.get());
                let changed = changed.filter(|changed| *changed <= Amount::MAX.get());
                if let Some(changed) = changed {
                    *count = changed;
                }
                changed.is_some()
            }
            (
                Some(Usage::Bucket(rate, bucket, written)),
                ModelId::Bucket(at, used_then, window),
            ) => {
                if old == Amount::ZERO || rate.window != window {
                    return false;
                }
                let current = bucket.following(*written, *rate, now).without_lost(*rate, now);
                let changed = bucket::change(current, *rate, now, (at, used_then), old, new);
                if let Some(changed) = changed {
                    (*bucket, *written) = (changed, now);
                }
                changed.is_some()
            }
            (Some(Usage::Calendar(kept, written)), ModelId::Calendar(period)) => {
                let is_its = *written == period || written.end <= period.start;
                let changed = kept.count.checked_sub(old.get()).map(|others| others + new.get());
                match changed {
                    Some(changed) if is_its && changed <= Amount::MAX.get() => {
                        kept.count = changed;
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Clears the usage under a policy.
    pub(super) fn reset(&mut self, policy: &str) {
        self.0.remove(policy);
    }

    /// The entries that are stored under a policy.
    pub(super) fn entries(&self, policy: &str) -> usize {
        match self.0.get(policy) {
            Some(Usage::Log(log)) => log.len(),
            _ => 0,
        }
    }
}
