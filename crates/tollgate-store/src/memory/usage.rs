//! The usage of one key, in 32 bytes of its slot: up to six admissions or a whole counter in place, longer
//! logs behind one pointer.
//!
//! A log is kept as stamps modulo 2^32 ticks, which is sound because it is dropped when it is idle: the oldest
//! entry was in the window when the newest was made, and the newest is at most a window and a second old.

use tollgate_core::algorithm::sliding_window_counter::{self as counter, Counter};
use tollgate_core::algorithm::sliding_window_log::{self as log, Log, LogTime};
use tollgate_core::algorithm::{Verdict, Wait};
use tollgate_core::{Algorithm, Amount, Limit, Timestamp};

use super::ring::{self, MAX_ENTRIES, Ring, UNIT, WEIGHTED};

const NS_PER_S: u64 = 1_000_000_000;

/// The admissions of a log that fit into the slot.
const FEW: usize = 6;

/// The usage of one key. The fields lie in the variants, not in structs of their own, so that they share a
/// word with the discriminant.
#[derive(Debug)]
pub(super) enum Usage {
    /// A log of at most [`FEW`] admissions of cost 1.
    Few { exponent: u8, len: u8, idle_at_s: u32, ticks: [u32; FEW] },
    /// A log of admissions of cost 1.
    Many { exponent: u8, idle_at_s: u32, ring: Ring<UNIT> },
    /// A log of admissions of any cost.
    Weighted { exponent: u8, idle_at_s: u32, ring: Ring<WEIGHTED> },
    /// A counter.
    Counter { current: u64, previous: u64, idle_at_ns: u64 },
}

const _: () = assert!(size_of::<Usage>() == 32);

/// A log in the slot, read at a stamp.
struct Few<'a> {
    ticks: &'a [u32],
    stamp: u64,
}

impl Log for Few<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.ticks.len()
    }

    #[inline]
    fn tick(&self, index: usize) -> u64 {
        ring::recall(self.stamp, self.ticks[index])
    }

    #[inline]
    fn usage(&self) -> u64 {
        self.ticks.len() as u64
    }

    #[inline]
    fn index_freeing(&self, amount: u64) -> usize {
        usize::try_from(amount - 1).unwrap_or(usize::MAX)
    }
}

impl Usage {
    /// No usage.
    pub(super) const NONE: Self = Self::Few { exponent: 0, len: 0, idle_at_s: 0, ticks: [0; FEW] };

    /// What `limit` says to `cost` at `now`, of a key without usage.
    #[inline]
    pub(super) fn evaluate_none(limit: &Limit, now: Timestamp, cost: Amount) -> Verdict {
        let mut none = Self::NONE;
        none.decide(limit, now, cost, false)
    }

    /// What `limit` says to `cost` at `now`, over this usage; with `charge`, what is admitted is recorded.
    /// Forgets what counts no more.
    #[inline]
    pub(super) fn decide(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        cost: Amount,
        charge: bool,
    ) -> Verdict {
        match limit.algorithm() {
            Algorithm::SlidingWindowLog => {
                let time = LogTime::new(limit.window(), now);
                self.decide_log(limit, &time, cost, charge && cost != Amount::ZERO)
            }
            Algorithm::SlidingWindowCounter => {
                let counter = self.counter(limit, now);
                let window = limit.window();
                let verdict = counter::evaluate(counter, limit.amount(), window, now, cost);
                if !charge || !verdict.allowed || cost == Amount::ZERO {
                    return verdict;
                }
                let after = counter.admitted(cost);
                *self = Self::from_counter(after, limit);
                counter::admitted(verdict, after, window, now, cost)
            }
        }
    }

    /// Whether nothing of it counts at `now`.
    #[inline]
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        match self {
            Self::Few { idle_at_s, .. }
            | Self::Many { idle_at_s, .. }
            | Self::Weighted { idle_at_s, .. } => now.as_ns() >= whole_ns(*idle_at_s),
            Self::Counter { idle_at_ns, .. } => now.as_ns() >= *idle_at_ns,
        }
    }

    /// How much would be forgotten with it, and for how long it would have counted: what is evicted first
    /// has the least of these.
    pub(super) fn weight(&self) -> (u64, u64) {
        match self {
            Self::Few { len, idle_at_s, .. } => (u64::from(*len), u64::from(*idle_at_s)),
            Self::Many { idle_at_s, ring, .. } => (ring.len() as u64, u64::from(*idle_at_s)),
            Self::Weighted { idle_at_s, ring, .. } => (ring.len() as u64, u64::from(*idle_at_s)),
            Self::Counter { current, previous, idle_at_ns } => {
                (current + previous, idle_at_ns / NS_PER_S)
            }
        }
    }

    /// [`Usage::decide`] of a log.
    #[inline]
    fn decide_log(&mut self, limit: &Limit, time: &LogTime, cost: Amount, charge: bool) -> Verdict {
        if !self.is_current(time) {
            self.refresh(limit, time.now_ns());
        }
        // One look at the form of the log for all steps: each is short beside finding it out again.
        let (verdict, idle_at_s) = match self {
            Self::Many { idle_at_s, ring, .. } => {
                let verdict = ring.evaluate(limit, time, cost);
                if charge && verdict.allowed && cost == Amount::ONE {
                    ring.push(time, 1, limit.amount().get());
                    *idle_at_s = self::idle_at_s(time);
                    return log::admitted(verdict, time, cost);
                }
                (verdict, idle_at_s)
            }
            Self::Few { len, idle_at_s, ticks, exponent } => {
                expire_few(len, ticks, time);
                let live = &ticks[..usize::from(*len)];
                let log = Few { ticks: live, stamp: time.stamp() };
                let verdict = log::evaluate(&log, limit.amount(), time, cost);
                if charge
                    && verdict.allowed
                    && cost == Amount::ONE
                    && let Some(tick) = ticks.get_mut(usize::from(*len))
                {
                    *tick = ring::truncate(time.stamp());
                    *len += 1;
                    *exponent = time.window().tick_exponent();
                    *idle_at_s = self::idle_at_s(time);
                    return log::admitted(verdict, time, cost);
                }
                (verdict, idle_at_s)
            }
            _ => return self.decide_weighted(limit, time.now_ns(), cost, charge),
        };
        if charge && verdict.allowed {
            self.append(limit, time.now_ns(), cost);
            return log::admitted(verdict, time, cost);
        }
        stay(idle_at_s, time, verdict.reset_after_ns);
        verdict
    }

    /// [`Usage::decide_log`] of a log that is neither [`Usage::Few`] nor [`Usage::Many`].
    fn decide_weighted(
        &mut self,
        limit: &Limit,
        now_ns: u64,
        cost: Amount,
        charge: bool,
    ) -> Verdict {
        let time = LogTime::new(limit.window(), Timestamp::from_ns(now_ns));
        let verdict = if let Self::Weighted { idle_at_s, ring, .. } = self {
            let verdict = ring.evaluate(limit, &time, cost);
            stay(idle_at_s, &time, verdict.reset_after_ns);
            verdict
        } else {
            // Usage of a counter is not usage of a log: a policy that changes its algorithm starts afresh.
            let none = Few { ticks: &[], stamp: time.stamp() };
            log::evaluate(&none, limit.amount(), &time, cost)
        };
        if charge && verdict.allowed {
            self.append(limit, now_ns, cost);
            return log::admitted(verdict, &time, cost);
        }
        verdict
    }

    /// Whether it is a log in the window's ticks of which something may count.
    #[inline]
    fn is_current(&self, time: &LogTime) -> bool {
        match self {
            Self::Few { exponent, idle_at_s, .. }
            | Self::Many { exponent, idle_at_s, .. }
            | Self::Weighted { exponent, idle_at_s, .. } => {
                *exponent == time.window().tick_exponent() && time.now_ns() < whole_ns(*idle_at_s)
            }
            Self::Counter { .. } => false,
        }
    }

    /// Forgets a log that counts no more, and brings any other to the window's ticks.
    #[inline(never)]
    fn refresh(&mut self, limit: &Limit, now_ns: u64) {
        let now = Timestamp::from_ns(now_ns);
        if self.is_idle(now) {
            self.clear();
            return;
        }
        match self {
            Self::Few { exponent, .. }
            | Self::Many { exponent, .. }
            | Self::Weighted { exponent, .. }
                if *exponent != limit.window().tick_exponent() =>
            {
                self.rescale(&LogTime::new(limit.window(), now));
            }
            _ => {}
        }
    }

    /// Forgets everything; touches nothing if there is nothing.
    #[inline]
    fn clear(&mut self) {
        if !matches!(self, Self::Few { len: 0, .. }) {
            *self = Self::NONE;
        }
    }

    /// Appends an admission, which does not fit into the form that the log has or has another cost, to a log that
    /// was evaluated at the same moment.
    fn append(&mut self, limit: &Limit, now_ns: u64, cost: Amount) {
        let time = LogTime::new(limit.window(), Timestamp::from_ns(now_ns));
        self.make_room(cost);
        let (most, idle_s) = (limit.amount().get(), idle_at_s(&time));
        match self {
            Self::Many { idle_at_s, ring, .. } => {
                ring.push(&time, cost.get(), most);
                *idle_at_s = idle_s;
            }
            Self::Weighted { exponent, idle_at_s, ring } => {
                ring.push(&time, cost.get(), most);
                *idle_at_s = idle_s;
                *exponent = time.window().tick_exponent();
            }
            Self::Few { exponent, len, idle_at_s, ticks } => {
                ticks[usize::from(*len)] = ring::truncate(time.stamp());
                *len += 1;
                *idle_at_s = idle_s;
                *exponent = time.window().tick_exponent();
            }
            Self::Counter { .. } => {}
        }
    }

    /// Moves the log to the smallest form that can take one more admission at `cost`.
    fn make_room(&mut self, cost: Amount) {
        if matches!(self, Self::Counter { .. }) {
            *self = Self::NONE;
        }
        match self {
            Self::Few { len, .. } if cost == Amount::ONE && usize::from(*len) < FEW => {}
            Self::Many { .. } if cost == Amount::ONE => {}
            Self::Weighted { .. } | Self::Counter { .. } => {}
            Self::Few { exponent, len, idle_at_s, ticks } if cost == Amount::ONE => {
                let live = &ticks[..usize::from(*len)];
                let ring = Ring::from_entries(live.iter().map(|low| (*low, 1)));
                *self = Self::Many { exponent: *exponent, idle_at_s: *idle_at_s, ring };
            }
            Self::Few { .. } | Self::Many { .. } => self.weigh(),
        }
    }

    /// Turns a log of unit costs into a weighted one.
    #[cold]
    fn weigh(&mut self) {
        let (exponent, idle_at_s, entries) = self.low_entries();
        *self =
            Self::Weighted { exponent, idle_at_s, ring: Ring::from_entries(entries.into_iter()) };
    }

    /// The entries as low stamps and costs, for the rare changes of form.
    fn low_entries(&self) -> (u8, u32, Vec<(u32, u64)>) {
        match self {
            Self::Few { exponent, len, idle_at_s, ticks } => {
                let entries = ticks[..usize::from(*len)].iter().map(|tick| (*tick, 1)).collect();
                (*exponent, *idle_at_s, entries)
            }
            Self::Many { exponent, idle_at_s, ring } => {
                (*exponent, *idle_at_s, ring.low_entries().collect())
            }
            Self::Weighted { exponent, idle_at_s, ring } => {
                (*exponent, *idle_at_s, ring.low_entries().collect())
            }
            Self::Counter { .. } => (0, 0, Vec::new()),
        }
    }

    /// Brings a log that was kept in other ticks, for another window, to those of `time`: rounded up, so that
    /// no admission leaves early.
    fn rescale(&mut self, time: &LogTime) {
        let (exponent, _, entries) = self.low_entries();
        let (old_ns, new_ns) = (10_u64.pow(u32::from(exponent)), time.window().tick_ns());
        let old_stamp = time.now_ns().div_ceil(old_ns);
        // What has left the window goes now: it may be too old for the new ticks.
        let ticks = entries.into_iter().map(|(low, cost)| {
            let tick = (ring::recall(old_stamp, low) * old_ns).div_ceil(new_ns);
            (tick.min(time.stamp()), cost)
        });
        let live = ticks.filter(|(tick, _)| !time.has_left(*tick));
        let entries: Vec<_> = live.map(|(tick, cost)| (ring::truncate(tick), cost)).collect();
        let exponent = time.window().tick_exponent();
        *self = Self::Weighted {
            exponent,
            idle_at_s: idle_at_s(time),
            ring: Ring::from_entries(entries.into_iter()),
        };
    }

    /// The counter at `now`.
    #[inline]
    fn counter(&self, limit: &Limit, now: Timestamp) -> Counter {
        let window = limit.window();
        let kept = match self {
            // Usage of a log is not usage of a counter, as above.
            Self::Counter { current, previous, idle_at_ns } => Counter {
                start: Timestamp::from_ns(idle_at_ns.saturating_sub(2 * window.as_ns())),
                current: *current,
                previous: *previous,
            },
            _ => Counter::default(),
        };
        kept.at(window, now)
    }

    fn from_counter(counter: Counter, limit: &Limit) -> Self {
        Self::Counter {
            current: counter.current,
            previous: counter.previous,
            idle_at_ns: counter.start.as_ns() + 2 * limit.window().as_ns(),
        }
    }
}

impl<const WIDTH: usize> Ring<WIDTH> {
    /// What `limit` says to `cost`; forgets what has left the window.
    #[inline]
    fn evaluate(&mut self, limit: &Limit, time: &LogTime, cost: Amount) -> Verdict {
        if self.oldest().is_some_and(|low| time.has_left(ring::recall(time.stamp(), low))) {
            self.expire(limit, time.now_ns());
        }
        let log = self.at(time.stamp());
        let verdict = log::evaluate(&log, limit.amount(), time, cost);
        // A log that holds so many admits no more until its oldest leaves.
        if log.len() < MAX_ENTRIES || !verdict.allowed {
            return verdict;
        }
        let wait = Wait::Ns(time.leaves_at_ns(log.tick(0)) - time.now_ns());
        Verdict { allowed: false, wait, ..verdict }
    }

    /// Forgets what has left the window.
    #[inline(never)]
    fn expire(&mut self, limit: &Limit, now_ns: u64) {
        let time = LogTime::new(limit.window(), Timestamp::from_ns(now_ns));
        let log = self.at(time.stamp());
        let expired = ring::partition_point(0, log.len(), |index| time.has_left(log.tick(index)));
        if expired > 0 {
            self.forget(expired);
        }
    }
}

/// Forgets the admissions in a slot that have left the window.
#[inline]
fn expire_few(len: &mut u8, ticks: &mut [u32; FEW], time: &LogTime) {
    let live = &ticks[..usize::from(*len)];
    let left = live.iter().take_while(|tick| time.has_left(ring::recall(time.stamp(), **tick)));
    let expired = left.count();
    if expired > 0 {
        ticks.copy_within(expired.., 0);
        *len -= u8::try_from(expired).unwrap_or(*len);
    }
}

/// Keeps a log for as long as it counts in this window, which may be longer than the one that it was admitted
/// under.
#[inline]
fn stay(idle_at_s: &mut u32, time: &LogTime, reset_after_ns: u64) {
    // A reset is cut to the window, and an admission may stay a tick longer.
    let leaves_ns = time.now_ns() + reset_after_ns + time.window().tick_ns();
    if reset_after_ns > 0 && leaves_ns > whole_ns(*idle_at_s) {
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
