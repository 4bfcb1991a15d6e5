//! `token_bucket` (R17): a bucket of B tokens that is refilled at L tokens per W, in whole tokens.
//!
//! Since the Unix epoch ⌊t·L/W⌋ tokens have been produced at t, for every key alike; a token that finds the bucket full is
//! lost. So an untouched bucket needs no state, and forgetting a full one changes nothing. Usage is what is missing from the
//! bucket. The worst interval of length W holds B + L: a full bucket is emptied, and then every new token is taken.

use std::time::Duration;

use super::{Tally, TallyKind, Verdict, Wait, fits, needed};
use crate::{Amount, Timestamp, Window};

/// The name in policies and answers.
pub const NAME: &str = "token_bucket";

/// How fast a bucket is refilled: `refill` tokens per `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// L
    pub refill: Amount,
    /// W
    pub window: Window,
}

/// The longest time that a bucket may take to be full again after the cost of a denied check was recorded (R19). It is shorter
/// than any store keeps a bucket, and longer than an empty one of any policy takes ([`Window::MAX`]).
const LONGEST_DEBT: Duration = Duration::from_hours(700 * 24);

/// The usage of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// A multiple of W since the Unix epoch.
    pub start: Timestamp,
    /// The tokens that would be missing now if none had been produced since `start`.
    pub missing: u64,
}

impl Rate {
    /// How long `tokens` take to be produced, if the first begins now: in nanoseconds, rounded up. The longest possible
    /// time if there is no refill.
    fn time_ns(self, tokens: u64) -> u64 {
        let product = u128::from(tokens) * u128::from(self.window.as_ns());
        match u128::from(self.refill.get()) {
            0 => u64::MAX,
            refill => u64::try_from(product.div_ceil(refill)).unwrap_or(u64::MAX),
        }
    }

    /// The tokens that are produced in `ns` from the start of a window.
    #[inline]
    fn produced(self, ns: u64) -> u64 {
        let product = u128::from(ns) * u128::from(self.refill.get());
        u64::try_from(product / u128::from(self.window.as_ns())).unwrap_or(u64::MAX)
    }

    /// The start of the window that `now` is in.
    #[inline]
    fn start(self, now: Timestamp) -> Timestamp {
        Timestamp::from_ns(now.as_ns() - now.as_ns() % self.window.as_ns())
    }

    /// The most that may be missing after the cost of a denied check was recorded: what 700 days refill, and with the
    /// tokens of a window still an amount.
    #[must_use]
    pub fn most_recorded(self) -> Amount {
        let tokens = LONGEST_DEBT.as_nanos() * u128::from(self.refill.get().max(1));
        let refilled = tokens / u128::from(self.window.as_ns());
        let most = u128::from(Amount::MAX.get() - self.refill.get());
        u64::try_from(refilled.min(most)).ok().and_then(Amount::new).unwrap_or(Amount::MAX)
    }

    /// For how long an admission may count in a bucket of `capacity`: until the empty bucket is full.
    pub(crate) fn longest_life(self, capacity: Amount) -> Duration {
        Duration::from_nanos(if capacity == Amount::ZERO {
            0
        } else {
            self.time_ns(capacity.get())
        })
    }
}

impl Bucket {
    /// What is missing at `now`, which is not before its start.
    #[inline]
    pub fn used(self, rate: Rate, now: Timestamp) -> u64 {
        self.missing.saturating_sub(rate.produced(now.as_ns().saturating_sub(self.start.as_ns())))
    }

    /// The same bucket, counted from the start of the window that `now` is in; `now` is not before its start.
    #[inline]
    #[must_use]
    pub fn at(self, rate: Rate, now: Timestamp) -> Self {
        let start = rate.start(now);
        if self.start == start {
            return self;
        }
        let passed_ns = start.as_ns().saturating_sub(self.start.as_ns());
        Self { start, missing: self.missing.saturating_sub(rate.produced(passed_ns)) }
    }

    /// The same for a `now` that may be before `written`, when it was last written: after a step back of the clock, as much
    /// is missing as was then (R7).
    #[must_use]
    pub fn following(self, written: Timestamp, rate: Rate, now: Timestamp) -> Self {
        if written > now {
            Self::of_used(self.used(rate, written), rate, now)
        } else {
            self.at(rate, now)
        }
    }

    /// The same bucket, refilled at the rate `new` from now on.
    #[must_use]
    pub fn refilled_at(self, old: Rate, new: Rate, now: Timestamp) -> Self {
        Self::of_used(self.used(old, now), new, now)
    }

    /// A bucket from which `used` tokens are missing at `now`.
    fn of_used(used: u64, rate: Rate, now: Timestamp) -> Self {
        let start = rate.start(now);
        let produced = rate.produced(now.as_ns() - start.as_ns());
        // At most an amount: what is produced in a part of a window may not fit beside the largest usage.
        let missing = used.saturating_add(produced).min(Amount::MAX.get());
        Self { start, missing: if used == 0 { 0 } else { missing } }
    }

    /// The same bucket without the tokens that found it full until `now`: they are lost.
    #[inline]
    #[must_use]
    pub fn without_lost(self, rate: Rate, now: Timestamp) -> Self {
        let produced = rate.produced(now.as_ns().saturating_sub(self.start.as_ns()));
        Self { missing: self.missing.max(produced), ..self }
    }

    /// When nothing of it is missing any more.
    #[inline]
    fn full_at_ns(self, rate: Rate) -> u64 {
        match self.missing {
            0 => self.start.as_ns(),
            missing => self.start.as_ns().saturating_add(rate.time_ns(missing)),
        }
    }
}

/// Whether `cost` is admitted by `bucket` of `capacity` (R17), and if not, when (R6). `bucket` is as [`Bucket::at`] `now`
/// returns it. O(1).
#[inline]
pub fn evaluate(
    bucket: Bucket,
    capacity: Amount,
    rate: Rate,
    now: Timestamp,
    cost: Amount,
) -> Verdict {
    let usage = bucket.used(rate, now);
    let allowed = fits(usage, cost, capacity);
    let wait = if allowed {
        Wait::None
    } else if needed(cost) > capacity.get() || rate.refill == Amount::ZERO {
        Wait::Never
    } else {
        let wanted = bucket.missing - (capacity.get() - needed(cost));
        let at_ns = bucket.start.as_ns().saturating_add(rate.time_ns(wanted));
        Wait::Ns(at_ns.saturating_sub(now.as_ns()))
    };
    Verdict::new(allowed, usage, wait, reset_after_ns(bucket, rate, now))
}

#[inline]
fn reset_after_ns(bucket: Bucket, rate: Rate, now: Timestamp) -> u64 {
    bucket.full_at_ns(rate).saturating_sub(now.as_ns())
}

/// The verdict on `cost` and, if it is admitted, the verdict and the bucket after the cost is charged. `bucket` is as
/// [`Bucket::at`] `now` returns it; a cost of 0 charges nothing.
#[inline]
#[must_use]
pub fn decide(
    bucket: Bucket,
    capacity: Amount,
    rate: Rate,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, Bucket)>) {
    let verdict = evaluate(bucket, capacity, rate, now, cost);
    if !verdict.allowed || cost == Amount::ZERO {
        return (verdict, None);
    }
    let kept = bucket.without_lost(rate, now);
    let after = Bucket { missing: kept.missing.saturating_add(cost.get()), ..kept };
    let charged = Verdict {
        usage: verdict.usage.saturating_add(cost.get()),
        reset_after_ns: reset_after_ns(after, rate, now),
        ..verdict
    };
    (verdict, Some((charged, after)))
}

/// [`decide`] over the usage that a store keeps.
#[inline]
pub(super) fn decide_tally(
    kept: Option<Tally>,
    capacity: Amount,
    rate: Rate,
    now: Timestamp,
    cost: Amount,
) -> (Verdict, Option<(Verdict, Tally)>) {
    let bucket = kept.and_then(|tally| of_tally(tally, rate, now)).unwrap_or_default();
    let (verdict, charged) = decide(bucket.at(rate, now), capacity, rate, now, cost);
    (verdict, charged.map(|(verdict, after)| (verdict, tally(after, rate))))
}

/// The bucket after a cost that was charged at `at` was changed from `old` to `new`, where `used_then` was missing right after
/// that charge. `bucket` is as [`Bucket::at`] `now` returns it. `None` if there is nothing to give back, or more would be
/// missing than an amount can be.
///
/// Without the difference, what was produced since might have found the bucket full, and would be lost. Since the charge, at
/// least `used_then` less what was produced has always been missing, so that much can be given back.
#[must_use]
pub fn change(
    bucket: Bucket,
    rate: Rate,
    now: Timestamp,
    (at, used_then): (Timestamp, u64),
    old: Amount,
    new: Amount,
) -> Option<Bucket> {
    let kept = bucket.without_lost(rate, now);
    let missing = if new >= old {
        kept.missing.checked_add(new.get() - old.get())?
    } else {
        let start_ns = rate.start(at).as_ns();
        let windows = (bucket.start.as_ns().saturating_sub(start_ns)) / rate.window.as_ns();
        let until_now = windows
            .saturating_mul(rate.refill.get())
            .saturating_add(rate.produced(now.as_ns() - bucket.start.as_ns()));
        let produced = until_now.saturating_sub(rate.produced(at.as_ns() - start_ns));
        let certain = used_then.saturating_sub(produced).min(kept.used(rate, now));
        let given_back = certain.min(old.get() - new.get());
        kept.missing - (given_back > 0).then_some(given_back)?
    };
    (missing <= Amount::MAX.get()).then_some(Bucket { missing, ..kept })
}

/// [`change`] of the usage that a store keeps.
pub(super) fn change_tally(
    kept: Tally,
    rate: Rate,
    now: Timestamp,
    then: (Timestamp, u64),
    old: Amount,
    new: Amount,
) -> Option<Tally> {
    let bucket = of_tally(kept, rate, now)?.at(rate, now);
    change(bucket, rate, now, then, old, new).map(|bucket| tally(bucket, rate))
}

/// The whole windows that it takes to refill what is missing.
#[inline]
fn windows_ns(missing: u64, refill: u64, window: Window) -> u64 {
    missing.div_ceil(refill.max(1)).saturating_mul(window.as_ns())
}

#[inline]
fn tally(bucket: Bucket, rate: Rate) -> Tally {
    let (refill, start_ns) = (rate.refill.get(), bucket.start.as_ns());
    Tally {
        kind: TallyKind::Bucket,
        numbers: [bucket.missing, refill],
        idle_at_ns: start_ns.saturating_add(windows_ns(bucket.missing, refill, rate.window)),
    }
}

/// The tally that replaces `kept` when it is first seen at another refill: until then the old one applied, and from now on the
/// new one does, whether something is admitted or not. `None` if the refill is the same. What would still be missing at the end
/// of all timestamps is forgotten.
#[inline]
pub(super) fn refilled(kept: Tally, rate: Rate, now: Timestamp) -> Option<Tally> {
    if kept.numbers[1] == rate.refill.get() {
        return None;
    }
    let bucket = of_tally(kept, rate, now)?;
    let windows = (u64::MAX - bucket.start.as_ns()) / rate.window.as_ns();
    let most = windows.saturating_mul(rate.refill.get().max(1));
    Some(tally(Bucket { missing: bucket.missing.min(most), ..bucket }, rate))
}

/// `None` if the tally belongs to another way of counting or to another window: then its start is none of this window.
#[inline]
fn of_tally(tally: Tally, rate: Rate, now: Timestamp) -> Option<Bucket> {
    let [missing, refill] = tally.numbers;
    let start_ns = tally.idle_at_ns.checked_sub(windows_ns(missing, refill, rate.window))?;
    let start = Timestamp::from_ns(start_ns);
    if tally.kind != TallyKind::Bucket || start != rate.start(start) || start > now {
        return None;
    }
    let bucket = Bucket { start, missing };
    if refill == rate.refill.get() {
        return Some(bucket);
    }
    let old = Rate { refill: Amount::new(refill)?, ..rate };
    Some(bucket.refilled_at(old, rate, now))
}

/// [`Tally::usage`]: what has been produced since does not count, as that needs a clock.
pub(super) fn rough_usage(tally: &Tally) -> u64 {
    tally.numbers[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW_NS: u64 = 1_000_000;

    fn rate(refill: u64) -> Rate {
        let window = Window::new(Duration::from_nanos(WINDOW_NS)).unwrap();
        Rate { refill: Amount::new(refill).unwrap(), window }
    }

    /// A bucket that is filled token by token, one nanosecond after the other.
    struct Slow {
        tokens: u64,
        capacity: u64,
        refill: u64,
        now_ns: u64,
    }

    impl Slow {
        fn go_to(&mut self, then_ns: u64) {
            let produced = |ns: u64| ns * self.refill / WINDOW_NS;
            for ns in self.now_ns + 1..=then_ns {
                self.tokens = (self.tokens + produced(ns) - produced(ns - 1)).min(self.capacity);
            }
            self.now_ns = then_ns;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// R17 token by token, and R6: the wait is the first nanosecond that admits. The tally of a store keeps all of it.
        #[test]
        fn the_bucket_admits_what_is_in_it_and_waits_no_longer(
            capacity in 0..20_u64, refill in 1..40_u64,
            steps in prop::collection::vec((0..200_000_u64, 0..22_u64), 1..20),
        ) {
            let (rate, capacity_amount) = (rate(refill), Amount::new(capacity).unwrap());
            let mut slow = Slow { tokens: capacity, capacity, refill, now_ns: 7 * WINDOW_NS };
            let mut kept = None;
            for (later_ns, cost) in steps {
                slow.go_to(slow.now_ns + later_ns);
                let (now, amount) = (Timestamp::from_ns(slow.now_ns), Amount::new(cost).unwrap());
                let (verdict, charged) = decide_tally(kept, capacity_amount, rate, now, amount);
                prop_assert_eq!(verdict.usage, capacity - slow.tokens);
                prop_assert_eq!(verdict.allowed, cost.max(1) <= slow.tokens);
                let usage_at = |at_ns| {
                    let then = Timestamp::from_ns(at_ns);
                    decide_tally(kept, capacity_amount, rate, then, Amount::ZERO).0.usage
                };
                match verdict.wait {
                    Wait::None => prop_assert!(verdict.allowed),
                    Wait::Never => prop_assert!(cost.max(1) > capacity),
                    Wait::Unknown => prop_assert!(false, "a bucket always knows"),
                    Wait::Ns(ns) => {
                        let then_ns = slow.now_ns + ns;
                        prop_assert!(usage_at(then_ns) + cost.max(1) <= capacity);
                        prop_assert!(usage_at(then_ns - 1) + cost.max(1) > capacity);
                    }
                }
                if verdict.usage > 0 {
                    let full_ns = slow.now_ns + verdict.reset_after_ns;
                    prop_assert_eq!((usage_at(full_ns), usage_at(full_ns - 1) > 0), (0, true));
                }
                if let Some((after, tally)) = charged {
                    prop_assert_eq!(after.usage, verdict.usage + cost);
                    slow.tokens -= cost;
                    kept = Some(tally);
                }
            }
        }
    }

    /// A debt of a bucket with a fast refill, which then takes longer than timestamps last.
    #[test]
    fn a_debt_is_kept_when_the_refill_becomes_slow() {
        let now = Timestamp::from_ms(1_700_000_000_000);
        let window = Window::new(Duration::from_secs(1)).unwrap();
        let rate = |refill| Rate { refill: Amount::new(refill).unwrap(), window };
        let most = rate(1_000).most_recorded();
        let (_, charged) = decide_tally(None, most, rate(1_000), now, most);
        let slow = refilled(charged.unwrap().1, rate(1), now).unwrap();
        let usage = |at| decide_tally(Some(slow), most, rate(1), at, Amount::ZERO).0.usage;
        let years_500 = 500 * 365 * 24 * 3_600;
        assert!((years_500 - 1_000_000_000..most.get()).contains(&usage(now)), "{}", usage(now));
        assert_eq!(usage(now.after(window.as_duration())), usage(now) - 1);
        assert_eq!(refilled(slow, rate(1), now), None);
    }

    #[test]
    fn a_changed_refill_keeps_the_usage() {
        let capacity = Amount::new(10).unwrap();
        let at = |ns| Timestamp::from_ns(5 * WINDOW_NS + ns);
        let (_, charged) = decide_tally(None, capacity, rate(10), at(500_000), capacity);
        let kept = charged.map(|(_, tally)| tally);
        // Until a check at the new refill comes, the old one applies.
        for (refill, after_ns, usage) in
            [(1, 500_000, 10), (1_000, 500_000, 10), (1, 700_000, 8), (1_000, 700_000, 8)]
        {
            let verdict = decide_tally(kept, capacity, rate(refill), at(after_ns), Amount::ZERO).0;
            assert_eq!(verdict.usage, usage, "{refill}");
        }
    }
}
