//! `calendar` (R18): a fixed window that is a period of a [`Calendar`](crate::Calendar), with one number per key.
//!
//! At most L are admitted since the start of the period. The worst interval holds 2L: L at the end of a period, and L at the
//! start of the next one.

use super::{Tally, TallyKind, Verdict, Wait, fits, needed};
use crate::{Amount, Period, Timestamp};

/// The name in answers.
pub const NAME: &str = "calendar";

/// The usage of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeriodCount {
    /// The start of the period that was counted in.
    pub start: Timestamp,
    /// The costs admitted since.
    pub count: u64,
}

impl PeriodCount {
    /// The count in `period`, the current period: 0 if the state is of an earlier one.
    ///
    /// A period that started before it is over. A later one can only be known if the clock has stepped back, or if it is that
    /// of another calendar which lies in this one: then its count belongs to the current period (R7).
    #[inline]
    #[must_use]
    pub fn in_period(self, period: Period) -> Self {
        let count = if self.start >= period.start { self.count } else { 0 };
        Self { start: period.start, count }
    }
}

/// Whether `cost` is admitted by `kept` (R18), and if not, when (R6). `kept` is as [`PeriodCount::in_period`] returns it, and
/// `period` contains `now`. O(1).
#[inline]
pub fn evaluate(
    kept: PeriodCount,
    limit: Amount,
    period: Period,
    now: Timestamp,
    cost: Amount,
) -> Verdict {
    let left_ns = period.end.as_ns() - now.as_ns();
    let allowed = fits(kept.count, cost, limit);
    let wait = if allowed {
        Wait::None
    } else if needed(cost) > limit.get() {
        Wait::Never
    } else {
        Wait::Ns(left_ns)
    };
    let reset_after_ns = if kept.count == 0 { 0 } else { left_ns };
    Verdict {
        period_s: period.length_s(),
        ..Verdict::new(allowed, kept.count, wait, reset_after_ns)
    }
}

/// The verdict on `cost` and, if it is admitted, the verdict and the count after the cost is charged. The arguments are those
/// of [`evaluate`]; a cost of 0 charges nothing.
#[inline]
#[must_use]
pub fn decide(
    kept: PeriodCount,
    limit: Amount,
    period: Period,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, PeriodCount)>) {
    let verdict = evaluate(kept, limit, period, now, cost);
    if !verdict.allowed || cost == Amount::ZERO {
        return (verdict, None);
    }
    let after = PeriodCount { count: kept.count.saturating_add(cost.get()), ..kept };
    let left_ns = period.end.as_ns() - now.as_ns();
    let charged = Verdict { usage: after.count, reset_after_ns: left_ns, ..verdict };
    (verdict, Some((charged, after)))
}

/// [`decide`] over the usage that a store keeps.
#[inline]
pub(super) fn decide_tally(
    kept: Option<Tally>,
    limit: Amount,
    period: Period,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, Tally)>) {
    let kept = kept.and_then(of_tally).unwrap_or_default().in_period(period);
    let (verdict, charged) = decide(kept, limit, period, now, cost);
    (verdict, charged.map(|(verdict, after)| (verdict, tally(after, period))))
}

/// The count after a cost that was charged in the period that starts at `start` was changed from `old` to `new`; `None` if it
/// counts no more, or the count would be above [`Amount::MAX`].
#[must_use]
pub fn change(
    kept: PeriodCount,
    start: Timestamp,
    old: Amount,
    new: Amount,
) -> Option<PeriodCount> {
    let count = kept.count.checked_sub(old.get())? + new.get();
    let is_counted = kept.start <= start && count <= Amount::MAX.get();
    is_counted.then_some(PeriodCount { count, ..kept })
}

/// [`change`] of the usage that a store keeps; the cost was charged in the period `then`.
pub(super) fn change_tally(
    kept: Tally,
    now: Period,
    then: Period,
    old: Amount,
    new: Amount,
) -> Option<Tally> {
    let kept = of_tally(kept)?.in_period(now);
    change(kept, then.start, old, new).map(|kept| tally(kept, now))
}

#[inline]
fn tally(kept: PeriodCount, period: Period) -> Tally {
    Tally {
        kind: TallyKind::Calendar,
        numbers: [kept.count, kept.start.as_ns()],
        idle_at_ns: period.end.as_ns(),
    }
}

#[inline]
fn of_tally(tally: Tally) -> Option<PeriodCount> {
    let [count, start_ns] = tally.numbers;
    let start = Timestamp::from_ns(start_ns);
    (tally.kind == TallyKind::Calendar).then_some(PeriodCount { start, count })
}

/// [`Tally::usage`]
pub(super) fn rough_usage(tally: &Tally) -> u64 {
    tally.numbers[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Calendar, Zone};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// R18 word by word, and R6: the wait is the first nanosecond that admits.
        #[test]
        fn a_period_admits_its_limit_and_waits_for_the_next(
            limit in 0..20_u64, steps in prop::collection::vec((0..40_u64, 0..22_u64), 1..20),
            calendar in prop::sample::select(Calendar::ALL.to_vec()),
        ) {
            let zone = Zone::named("Europe/Berlin").unwrap();
            let limit_amount = Amount::new(limit).unwrap();
            let part_ns = calendar.usual_length().as_ns() / 16;
            let mut now = Timestamp::from_ns(1_700_000_000_000_000_001);
            let (mut kept, mut admitted) = (None, Vec::<(Timestamp, u64)>::new());
            for (parts, cost) in steps {
                now = Timestamp::from_ns(now.as_ns() + parts * part_ns);
                let decide = |at: Timestamp, cost: u64| {
                    let cost = Amount::new(cost).unwrap();
                    decide_tally(kept, limit_amount, calendar.period(zone, at), at, cost)
                };
                let (verdict, charged) = decide(now, cost);
                let period = calendar.period(zone, now);
                let inside = admitted.iter().filter(|(at, _)| period.contains(*at));
                let used = inside.map(|(_, cost)| cost).sum::<u64>();
                prop_assert_eq!(verdict.usage, used);
                prop_assert_eq!(verdict.allowed, used + cost.max(1) <= limit);
                prop_assert_eq!(verdict.period_s.map(|s| s.get().into()), Some(period.length().as_secs()));
                match verdict.wait {
                    Wait::None => prop_assert!(verdict.allowed),
                    Wait::Never => prop_assert!(cost.max(1) > limit),
                    Wait::Unknown => prop_assert!(false, "a period always knows"),
                    Wait::Ns(ns) => {
                        let then_ns = now.as_ns() + ns;
                        prop_assert!(decide(Timestamp::from_ns(then_ns), cost).0.allowed);
                        prop_assert!(!decide(Timestamp::from_ns(then_ns - 1), cost).0.allowed);
                    }
                }
                if let Some((after, tally)) = charged {
                    prop_assert_eq!(after.usage, used + cost);
                    prop_assert_eq!(after.reset_after_ns, period.end.as_ns() - now.as_ns());
                    admitted.push((now, cost));
                    kept = Some(tally);
                }
            }
        }
    }

    #[test]
    fn a_changed_calendar_keeps_the_count_of_a_period_inside() {
        let at = Timestamp::from_ms(1_700_000_000_000);
        let limit = Amount::new(10).unwrap();
        for (from, to, usage) in [
            (Calendar::Hour, Calendar::Month, 7),
            (Calendar::Month, Calendar::Day, 0),
            (Calendar::Day, Calendar::Day, 7),
        ] {
            let period = |calendar: Calendar| calendar.period(Zone::utc(), at);
            let (_, charged) = decide_tally(None, limit, period(from), at, Amount::new(7).unwrap());
            let kept = charged.map(|(_, tally)| tally);
            let verdict = decide_tally(kept, limit, period(to), at, Amount::ZERO).0;
            assert_eq!(verdict.usage, usage, "{from:?} to {to:?}");
        }
    }
}
