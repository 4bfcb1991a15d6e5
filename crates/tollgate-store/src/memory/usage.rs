//! The usage of one key, in 32 bytes of its slot: up to six admissions or a whole tally in the slot, longer logs and the
//! leases that hold slots behind one pointer.
//!
//! A log stores timestamps modulo 2^32 ticks. This is sound because idle logs are dropped: the oldest entry was in the
//! window when the newest was made, and the newest is at most a window and a second old.

mod leases;
#[cfg(feature = "snapshots")]
mod saved;

use tollgate_core::counting::log::{self, LogTime};
use tollgate_core::counting::slots::{self, Slots};
use tollgate_core::counting::{Tally, TallyKind, UsageShape, Verdict};
use tollgate_core::{Amount, Counting, Limit, OverLimit, Timestamp};

pub(super) use self::leases::LeaseCharge;
#[cfg(feature = "snapshots")]
pub(super) use self::saved::SavedUsage;
use super::ring::{self, Ring, UNIT, WEIGHTED};
use super::short_log::{self, SHORT, ShortLog};
use super::slots::{SlotHolder, SlotSet};

const NS_PER_S: u64 = 1_000_000_000;

/// The usage of one key. The fields are in the variants, not in separate structs, so that they share a word with the
/// discriminant.
#[derive(Debug)]
pub(super) enum Usage {
    /// A log of at most [`SHORT`] admissions of cost 1.
    Short { exponent: u8, len: u8, limit: RoughLimit, idle_at_s: u32, ticks: [u32; SHORT] },
    /// A log of admissions of cost 1.
    Long { exponent: u8, limit: RoughLimit, idle_at_s: u32, ring: Ring<UNIT> },
    /// A log of admissions of any cost.
    Weighted { exponent: u8, limit: RoughLimit, idle_at_s: u32, ring: Ring<WEIGHTED> },
    /// A tally.
    Tally { kind: TallyKind, limit: RoughLimit, terms: u32, numbers: [u64; 2], idle_at_ns: u64 },
    /// The leases that hold a slot.
    Slots { limit: RoughLimit, slots: Box<SlotSet> },
}

/// The limit of a key when its log began, grew or lost entries, in one byte: at most a fifth too small. It gives the
/// share that is in use, so that keys of any unit, way of counting and limit can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoughLimit(u8);

impl RoughLimit {
    /// The digits of the limit that are kept after the first.
    const DIGITS: u32 = 2;

    #[inline]
    fn of(limit: &Limit) -> Self {
        // For a priority class its share is the limit, but eviction forgets a part of the whole limit.
        Self::of_amount(
            limit.class_share().map_or(limit.amount(), |class_share| class_share.whole).get(),
        )
    }

    #[inline]
    fn of_amount(amount: u64) -> Self {
        // Never 0; rounded as if it had this many more digits.
        let scaled = amount.max(1) << Self::DIGITS;
        let place = scaled.ilog2() - Self::DIGITS;
        let digits = (scaled >> place) & ((1 << Self::DIGITS) - 1);
        // Amounts are below 2^53: at most 52 places of 4 digits.
        Self(u8::try_from(u64::from(place) << Self::DIGITS | digits).unwrap_or(u8::MAX))
    }

    /// `usage` as a share of the limit, in parts of [`WHOLE_SHARE`]; at most the whole.
    fn share(self, usage: u64) -> u64 {
        let place = u32::from(self.0 >> Self::DIGITS);
        let digits = u128::from(self.0) & ((1 << Self::DIGITS) - 1) | 1 << Self::DIGITS;
        let scaled = digits << place;
        let share = (u128::from(usage) << Self::DIGITS) * u128::from(WHOLE_SHARE) / scaled;
        u64::try_from(share).unwrap_or(WHOLE_SHARE).min(WHOLE_SHARE)
    }
}

/// A share of 1.
const WHOLE_SHARE: u64 = 1 << 32;

const _: () = assert!(size_of::<Usage>() == 32);

impl Usage {
    /// No usage.
    pub(super) const NONE: Self =
        Self::Short { exponent: 0, len: 0, limit: RoughLimit(0), idle_at_s: 0, ticks: [0; SHORT] };

    /// The verdict of `limit` on `cost` at `now`, for a key without usage.
    #[inline]
    pub(super) fn evaluate_none(limit: &Limit, now: Timestamp, cost: Amount) -> Verdict {
        let mut none = Self::NONE;
        none.decide(limit, now, cost, false)
    }

    /// The verdict of `limit` on `cost` at `now`, over this usage. With `charge`, an admission is recorded. Entries
    /// that no longer count are removed.
    #[inline]
    pub(super) fn decide(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        cost: Amount,
        charge: bool,
    ) -> Verdict {
        if cost == Amount::ONE
            && let UsageShape::Log { window } = limit.counting().usage_shape()
        {
            let time = LogTime::new(window, now);
            match self {
                Self::Long { exponent, idle_at_s, ring, .. }
                    if is_current(*exponent, *idle_at_s, ring.oldest(), &time) =>
                {
                    return decide_in_ring(idle_at_s, ring, limit, &time, charge);
                }
                Self::Short { exponent, idle_at_s, len, ticks, .. }
                    if is_current(
                        *exponent,
                        *idle_at_s,
                        ticks[..usize::from(*len)].first(),
                        &time,
                    ) && usize::from(*len) < SHORT =>
                {
                    return decide_in_slot(idle_at_s, len, ticks, limit, &time, charge);
                }
                _ => {}
            }
        }
        self.decide_any(limit, now, cost, charge)
    }

    /// [`Usage::decide`] for every case that is too rare for the fast path of a check.
    #[inline(never)]
    fn decide_any(&mut self, limit: &Limit, now: Timestamp, cost: Amount, charge: bool) -> Verdict {
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = LogTime::new(window, now);
                self.refresh(&time);
                let verdict = self.evaluate_log(limit.amount(), &time, cost);
                if !charge || !verdict.allowed || cost == Amount::ZERO {
                    self.stay(&time, verdict.reset_after_ns);
                    return verdict;
                }
                self.append(limit, &time, cost);
                log::admitted(verdict, &time, cost)
            }
            UsageShape::Tally(tallied) => {
                let changed = self.tally().and_then(|kept| tallied.changed(kept, now));
                if let Some(tally) = changed {
                    *self = Self::from_tally(tally, limit);
                }
                let decided = tallied.decide(self.tally(), limit.amount(), now, cost);
                if charge && let (_, Some((verdict, tally))) = decided {
                    *self = Self::from_tally(tally, limit);
                    return verdict;
                }
                decided.0
            }
            // Only a lease takes a slot.
            UsageShape::Slots => match self.slots(now) {
                Some(slots) => slots::evaluate(slots, limit.amount(), now),
                None => slots::evaluate(&SlotSet::default(), limit.amount(), now),
            },
        }
    }

    /// The slots that are taken at `now`; `None` if none ever was.
    fn slots(&mut self, now: Timestamp) -> Option<&mut SlotSet> {
        match self {
            Self::Slots { slots, .. } => {
                slots.expire(now);
                Some(slots)
            }
            _ => None,
        }
    }

    /// Takes a slot of `limit` until `expires_at`, whether or not one is free: the caller has asked.
    pub(super) fn take_slot(&mut self, limit: &Limit, holder: SlotHolder, expires_at: Timestamp) {
        if !matches!(self, Self::Slots { .. }) {
            *self = Self::Slots { limit: RoughLimit::of(limit), slots: Box::default() };
        }
        if let Self::Slots { slots, .. } = self {
            slots.take(holder, expires_at);
        }
    }

    /// Whether leases hold its slots: only they free them.
    pub(super) fn holds_slots(&self) -> bool {
        matches!(self, Self::Slots { .. })
    }

    /// Frees the slot that `holder` took until `expires_at`; false if it has none.
    pub(super) fn free_slot(&mut self, holder: SlotHolder, expires_at: Timestamp) -> bool {
        match self {
            Self::Slots { slots, .. } => slots.free(holder, expires_at),
            _ => false,
        }
    }

    /// Records the cost of a denied check (R19). False, and nothing is changed, if the usage would be above
    /// [`Limit::most_recorded`].
    pub(super) fn record_denied(&mut self, limit: &Limit, now: Timestamp, cost: Amount) -> bool {
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = LogTime::new(window, now);
                self.refresh(&time);
                let fits = self.evaluate_log(limit.most_recorded(), &time, cost).allowed;
                if fits {
                    self.append(limit, &time, cost);
                }
                fits
            }
            UsageShape::Tally(tallied) => {
                match tallied.decide(self.tally(), limit.most_recorded(), now, cost) {
                    (_, Some((_, tally))) => {
                        *self = Self::from_tally(tally, limit);
                        true
                    }
                    (_, None) => false,
                }
            }
            UsageShape::Slots => false,
        }
    }

    /// Whether none of it counts at `now`.
    #[inline]
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        match self {
            Self::Short { idle_at_s, .. }
            | Self::Long { idle_at_s, .. }
            | Self::Weighted { idle_at_s, .. } => now.as_ns() >= whole_ns(*idle_at_s),
            Self::Tally { idle_at_ns, .. } => now.as_ns() >= *idle_at_ns,
            Self::Slots { slots, .. } => slots.is_idle(now),
        }
    }

    /// What eviction would forget, as a share of the limit, and for how long it would have counted: the smallest is
    /// evicted first.
    ///
    /// For a log it is the share in use when the key was last asked for. For a tally its way of counting says what it is
    /// ([`Tally::usage`]).
    pub(super) fn weight(&self) -> (u64, u64) {
        let (limit, usage, idle_at_s) = match self {
            Self::Short { limit, len, idle_at_s, .. } => (limit, u64::from(*len), *idle_at_s),
            Self::Long { limit, idle_at_s, ring, .. } => (limit, ring.usage(), *idle_at_s),
            Self::Weighted { limit, idle_at_s, ring, .. } => (limit, ring.usage(), *idle_at_s),
            Self::Tally { limit, idle_at_ns, .. } => {
                let usage = self.tally().map_or(0, |tally| tally.usage());
                (limit, usage, whole_s(*idle_at_ns))
            }
            Self::Slots { limit, slots } => (limit, slots.held(), whole_s(slots.idle_at().as_ns())),
        };
        (limit.share(usage), u64::from(idle_at_s))
    }

    fn evaluate_log(&self, limit: Amount, time: &LogTime, cost: Amount) -> Verdict {
        match self {
            Self::Short { len, ticks, .. } => {
                let log = ShortLog::of(*len, ticks, time);
                log::evaluate(&log, limit, time, cost)
            }
            Self::Long { ring, .. } => ring.evaluate(limit, time, cost),
            Self::Weighted { ring, .. } => ring.evaluate(limit, time, cost),
            // Usage of a tally is not usage of a log: if a policy changes its way of counting, its usage starts at 0.
            Self::Tally { .. } | Self::Slots { .. } => {
                log::evaluate(&ShortLog::NONE, limit, time, cost)
            }
        }
    }

    /// [`stay`] for a log.
    fn stay(&mut self, time: &LogTime, reset_after_ns: u64) {
        if let Self::Short { idle_at_s, .. }
        | Self::Long { idle_at_s, .. }
        | Self::Weighted { idle_at_s, .. } = self
        {
            stay(idle_at_s, time, reset_after_ns);
        }
    }

    /// Removes what no longer counts, and converts a log to the window's ticks.
    fn refresh(&mut self, time: &LogTime) {
        if self.is_idle(Timestamp::from_ns(time.now_ns())) {
            self.clear();
            return;
        }
        match self {
            Self::Short { exponent, .. }
            | Self::Long { exponent, .. }
            | Self::Weighted { exponent, .. }
                if *exponent != time.window().tick_exponent() =>
            {
                self.rescale(time);
            }
            _ => {}
        }
        match self {
            Self::Short { len, ticks, .. } => short_log::expire(len, ticks, time),
            Self::Long { ring, .. } => ring.expire(time),
            Self::Weighted { ring, .. } => ring.expire(time),
            Self::Tally { .. } | Self::Slots { .. } => {}
        }
    }

    /// Removes everything; writes nothing if there is nothing.
    #[inline]
    fn clear(&mut self) {
        if !matches!(self, Self::Short { len: 0, .. }) {
            *self = Self::NONE;
        }
    }

    /// Appends an admission to a log that was [refreshed](Usage::refresh) at the same moment.
    fn append(&mut self, limit: &Limit, time: &LogTime, cost: Amount) {
        self.make_room(cost);
        let rough = RoughLimit::of(limit);
        match self {
            Self::Short { exponent, len, limit: kept, idle_at_s, ticks } => {
                *kept = rough;
                short_log::push(len, ticks, time);
                *idle_at_s = self::idle_at_s(time);
                *exponent = time.window().tick_exponent();
            }
            Self::Long { limit: kept, idle_at_s, ring, .. } => {
                *kept = rough;
                push(idle_at_s, ring, limit, time, cost);
            }
            Self::Weighted { exponent, limit: kept, idle_at_s, ring } => {
                *kept = rough;
                push(idle_at_s, ring, limit, time, cost);
                *exponent = time.window().tick_exponent();
            }
            Self::Tally { .. } | Self::Slots { .. } => {}
        }
    }

    /// Converts the log to the smallest form that can take one more admission at `cost`.
    fn make_room(&mut self, cost: Amount) {
        if matches!(self, Self::Tally { .. } | Self::Slots { .. }) {
            *self = Self::NONE;
        }
        match self {
            Self::Short { len, .. } if cost == Amount::ONE && usize::from(*len) < SHORT => {}
            Self::Long { .. } if cost == Amount::ONE => {}
            Self::Weighted { .. } | Self::Tally { .. } | Self::Slots { .. } => {}
            Self::Short { exponent, len, limit, idle_at_s, ticks } if cost == Amount::ONE => {
                let live = &ticks[..usize::from(*len)];
                let ring = Ring::from_entries(live.iter().map(|low| (*low, 1)));
                let (exponent, limit, idle_at_s) = (*exponent, *limit, *idle_at_s);
                *self = Self::Long { exponent, limit, idle_at_s, ring };
            }
            Self::Short { .. } | Self::Long { .. } => self.weigh(),
        }
    }

    /// Converts a log of unit costs to a weighted one.
    #[cold]
    fn weigh(&mut self) {
        let limit = self.rough_limit();
        let (exponent, idle_at_s, entries) = self.low_entries();
        let ring = Ring::from_entries(entries.into_iter());
        *self = Self::Weighted { exponent, limit, idle_at_s, ring };
    }

    fn rough_limit(&self) -> RoughLimit {
        match self {
            Self::Short { limit, .. }
            | Self::Long { limit, .. }
            | Self::Weighted { limit, .. }
            | Self::Tally { limit, .. }
            | Self::Slots { limit, .. } => *limit,
        }
    }

    /// The entries as low timestamps and costs, for the rare changes of form.
    fn low_entries(&self) -> (u8, u32, Vec<(u32, u64)>) {
        match self {
            Self::Short { exponent, len, idle_at_s, ticks, .. } => {
                let entries = ticks[..usize::from(*len)].iter().map(|tick| (*tick, 1)).collect();
                (*exponent, *idle_at_s, entries)
            }
            Self::Long { exponent, idle_at_s, ring, .. } => {
                (*exponent, *idle_at_s, ring.low_entries().collect())
            }
            Self::Weighted { exponent, idle_at_s, ring, .. } => {
                (*exponent, *idle_at_s, ring.low_entries().collect())
            }
            Self::Tally { .. } | Self::Slots { .. } => (0, 0, Vec::new()),
        }
    }

    /// Converts a log with the ticks of another window to those of `time`: rounded up, so that no admission leaves
    /// early.
    fn rescale(&mut self, time: &LogTime) {
        let (exponent, _, entries) = self.low_entries();
        let (old_ns, new_ns) = (10_u64.pow(u32::from(exponent)), time.window().tick_ns());
        let old_stamp = time.now_ns().div_ceil(old_ns);
        // Remove what has left the window first: it may be too old for the new ticks.
        let ticks = entries.into_iter().map(|(low, cost)| {
            let tick = (ring::recall(old_stamp, low) * old_ns).div_ceil(new_ns);
            (tick.min(time.stamp()), cost)
        });
        let live = ticks.filter(|(tick, _)| !time.has_left(*tick));
        let entries: Vec<_> = live.map(|(tick, cost)| (ring::truncate(tick), cost)).collect();
        let exponent = time.window().tick_exponent();
        *self = Self::Weighted {
            exponent,
            limit: self.rough_limit(),
            idle_at_s: idle_at_s(time),
            ring: Ring::from_entries(entries.into_iter()),
        };
    }

    /// The tally that is kept; `None` for a log.
    #[inline]
    fn tally(&self) -> Option<Tally> {
        match *self {
            Self::Tally { kind, numbers, idle_at_ns, .. } => {
                Some(Tally { kind, numbers, idle_at_ns })
            }
            _ => None,
        }
    }

    fn from_tally(tally: Tally, limit: &Limit) -> Self {
        let Tally { kind, numbers, idle_at_ns } = tally;
        let (terms, limit) = (terms(limit), RoughLimit::of(limit));
        Self::Tally { kind, limit, terms, numbers, idle_at_ns }
    }
}

/// Tells windows apart: 0 for a calendar.
#[inline]
fn terms(limit: &Limit) -> u32 {
    match limit.counting() {
        Counting::Counter { window } | Counting::Bucket { window, .. } => {
            ring::truncate(window.as_ns() ^ window.as_ns() >> 32)
        }
        Counting::Log { .. } | Counting::Calendar { .. } | Counting::Concurrency => 0,
    }
}

/// Whether a log with ticks of this exponent has the window's ticks and all its entries count.
#[inline]
fn is_current(exponent: u8, idle_at_s: u32, oldest: Option<&u32>, time: &LogTime) -> bool {
    exponent == time.window().tick_exponent()
        && time.now_ns() < whole_ns(idle_at_s)
        && oldest.is_some_and(|low| !time.has_left(ring::recall(time.stamp(), *low)))
}

/// [`Usage::decide`] at a cost of 1 over a [current](is_current) log in a ring.
#[inline]
fn decide_in_ring(
    idle_at_s: &mut u32,
    ring: &mut Ring<UNIT>,
    limit: &Limit,
    time: &LogTime,
    charge: bool,
) -> Verdict {
    let verdict = ring.evaluate(limit.amount(), time, Amount::ONE);
    if verdict.allowed && charge {
        push(idle_at_s, ring, limit, time, Amount::ONE);
        return log::admitted(verdict, time, Amount::ONE);
    }
    stay(idle_at_s, time, verdict.reset_after_ns);
    verdict
}

/// [`Usage::decide`] at a cost of 1 over a [current](is_current) log in the slot, which is not full.
#[inline]
fn decide_in_slot(
    idle_at_s: &mut u32,
    len: &mut u8,
    ticks: &mut [u32; SHORT],
    limit: &Limit,
    time: &LogTime,
    charge: bool,
) -> Verdict {
    let log = ShortLog::of(*len, ticks, time);
    let verdict = log::evaluate(&log, limit.amount(), time, Amount::ONE);
    if verdict.allowed && charge {
        short_log::push(len, ticks, time);
        *idle_at_s = self::idle_at_s(time);
        return log::admitted(verdict, time, Amount::ONE);
    }
    stay(idle_at_s, time, verdict.reset_after_ns);
    verdict
}

/// Appends an admission to the log in a ring.
#[inline]
fn push<const WIDTH: usize>(
    idle_at_s: &mut u32,
    ring: &mut Ring<WIDTH>,
    limit: &Limit,
    time: &LogTime,
    cost: Amount,
) {
    let most = match limit.over_limit() {
        OverLimit::Deny => limit.amount(),
        OverLimit::Charge => limit.most_recorded(),
    };
    ring.push(time, cost.get(), most.get());
    *idle_at_s = self::idle_at_s(time);
}

/// Keeps a log for as long as it counts in this window, which may be longer than the window under which it was
/// admitted.
#[inline]
fn stay(idle_at_s: &mut u32, time: &LogTime, reset_after_ns: u64) {
    if reset_after_ns == 0 {
        return;
    }
    // A reset is cut to the window, and an admission may stay a tick longer.
    let leaves_ns = time.now_ns() + reset_after_ns + time.window().tick_ns();
    if leaves_ns > whole_ns(*idle_at_s) {
        *idle_at_s = whole_s(leaves_ns);
    }
}

/// The first whole second at which an admission made now has left the window.
#[inline]
fn idle_at_s(time: &LogTime) -> u32 {
    whole_s(time.leaves_at_ns(time.stamp()))
}

/// Seconds since the Unix epoch, rounded up.
#[inline]
fn whole_s(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(NS_PER_S)).unwrap_or(u32::MAX)
}

#[inline]
fn whole_ns(s: u32) -> u64 {
    u64::from(s) * NS_PER_S
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::{Per, Policy, PolicyId, Window};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

    fn limit(counting: fn(Window) -> Counting, amount: u64) -> Limit {
        let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("USER").unwrap());
        let window = Window::new(Duration::from_hours(1)).unwrap();
        let mut policy = Policy::new(id, per, Amount::new(amount), window);
        policy.counting = counting(window);
        Limit::of(&policy).unwrap()
    }

    /// The share, in percent, that eviction would forget after these admissions.
    fn share_of(counting: fn(Window) -> Counting, amount: u64, costs: &[u64]) -> f64 {
        let (limit, mut usage) = (limit(counting, amount), Usage::NONE);
        for cost in costs {
            assert!(usage.decide(&limit, NOW, Amount::new(*cost).unwrap(), true).allowed);
        }
        #[expect(clippy::cast_precision_loss, reason = "some percent are exact enough")]
        let percent = usage.weight().0 as f64 * 100.0 / WHOLE_SHARE as f64;
        percent
    }

    /// Whatever form the usage has: one admission of many tokens, many of few, or a counter.
    #[test]
    fn what_is_forgotten_is_the_share_of_the_limit_in_use() {
        let ones = [1; 50];
        let cases: [(u64, &[u64], f64); 10] = [
            (1, &[1], 100.0),
            (4, &[1], 25.0),
            (100, &ones[..1], 1.0),
            (100, &ones, 50.0),
            (100, &[50], 50.0),
            (100_000, &[100_000], 100.0),
            (1_000_000, &[100_000], 10.0),
            (1_000_000, &[1_000, 1_000], 0.2),
            (Amount::MAX.get(), &[Amount::MAX.get() / 2], 50.0),
            (Amount::MAX.get(), &ones, 0.0),
        ];
        for (amount, costs, percent) in cases {
            let log = |window| Counting::Log { window };
            let counter = |window| Counting::Counter { window };
            for counting in [log, counter] {
                let share = share_of(counting, amount, costs);
                // The limit is stored at most a fifth too small.
                let most = (percent * 1.25 + 0.000_001).min(100.0);
                assert!(
                    share >= percent * 0.999_999 && share <= most,
                    "{amount} {costs:?}: {share}"
                );
            }
        }
    }

    #[test]
    fn a_rough_limit_is_a_fifth_too_small_at_most() {
        let amounts = (0..53)
            .flat_map(|place| (0..8).map(move |eighth| (1_u64 << place) + (eighth << place) / 8));
        for amount in amounts.chain([Amount::MAX.get()]) {
            let whole = RoughLimit::of_amount(amount).share(amount);
            assert_eq!(whole, WHOLE_SHARE, "{amount}: all of it is the whole");
            let (half, exact) = (RoughLimit::of_amount(amount).share(amount / 2), amount / 2);
            let exact =
                u64::try_from(u128::from(exact) * u128::from(WHOLE_SHARE) / u128::from(amount))
                    .unwrap();
            assert!(half >= exact && half <= exact + exact / 4 + 1, "{amount}: {half} of {exact}");
        }
        assert_eq!(RoughLimit::of_amount(0).share(u64::MAX), WHOLE_SHARE);
    }
}
