//! What an update of a lease does to the usage of a key.
//!
//! The policy may have changed since the reservation. So an update forgets nothing that checks count: it uses the ticks of the
//! log as it finds them, keeps what has left the window of the lease, and leaves usage alone that is counted otherwise.

use tollgate_core::counting::log::{self, Log, LogTime};
use tollgate_core::counting::{Tallied, Tally, UsageShape, Verdict, bucket};
use tollgate_core::{Amount, Limit, OverLimit, Timestamp, Window};

use super::short_log::{self, ShortLog};
use super::{Usage, ring, terms, whole_ns, whole_s};
use crate::memory::slots::SlotHolder;

/// What a lease charged to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::memory) enum LeaseCharge {
    /// All of it; the usage is this now.
    Charged(u64),
    /// Nothing: there is no room.
    NoRoom,
    /// Nothing: the policy counts otherwise now, and does not know usage of before.
    CountedOtherwise,
}

impl Usage {
    /// The verdict of a lease's `limit` on `cost` at `now`. Changes nothing, except that slots of leases that have expired are
    /// free.
    pub(in crate::memory) fn look(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        cost: Amount,
    ) -> Verdict {
        self.look_below(limit, limit.amount(), now, cost)
    }

    fn look_below(&mut self, limit: &Limit, most: Amount, now: Timestamp, cost: Amount) -> Verdict {
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = self.lease_time(window, now);
                self.look_at_log(most, &time, cost)
            }
            UsageShape::Tally(tallied) => {
                let kept = self.tally_of(limit, now);
                as_kept(tallied, kept).decide(kept, most, now, cost).0
            }
            UsageShape::Slots => self.decide_any(limit, now, cost, false),
        }
    }

    fn look_at_log(&self, most: Amount, time: &LogTime, cost: Amount) -> Verdict {
        match self {
            _ if self.is_idle(Timestamp::from_ns(time.now_ns())) => {
                log::evaluate(&ShortLog::NONE, most, time, cost)
            }
            Self::Short { len, ticks, .. } => {
                let log = ShortLog::of(*len, ticks, time);
                let gone = (0..log.len()).take_while(|at| time.has_left(log.tick(*at))).count();
                log::evaluate(&log.without(gone), most, time, cost)
            }
            Self::Long { ring, .. } => ring.look(most, time, cost),
            Self::Weighted { ring, .. } => ring.look(most, time, cost),
            Self::Tally { .. } | Self::Slots { .. } => {
                log::evaluate(&ShortLog::NONE, most, time, cost)
            }
        }
    }

    /// Changes what a lease of `limit` was charged at `at` from `old` to `new`, where the usage right after that charge was
    /// `used_then`. Does nothing if it counts no more.
    pub(in crate::memory) fn change(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        (at, used_then): (Timestamp, u64),
        old: Amount,
        new: Amount,
    ) {
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = self.lease_time(window, now);
                if old == new || self.is_idle(now) {
                    return;
                }
                let stamp = self.lease_time(window, at).stamp();
                // A log whose ticks were converted since has the time rounded twice.
                let own = LogTime::new(window, at);
                let converted = (own.stamp() * window.tick_ns()).div_ceil(time.tick_ns());
                let _ = self.change_log(&time, stamp, old, new)
                    || converted != stamp && self.change_log(&time, converted, old, new);
            }
            UsageShape::Tally(tallied) => {
                let Some(kept) = self.tally_of(limit, now) else { return };
                let tallied = as_kept(tallied, Some(kept));
                if let Some(tally) = tallied.change(Some(kept), now, (at, used_then), old, new) {
                    *self = Self::from_tally(tally, limit);
                }
            }
            UsageShape::Slots => {}
        }
    }

    /// False if there is no such entry.
    fn change_log(&mut self, time: &LogTime, tick: u64, old: Amount, new: Amount) -> bool {
        match self {
            Self::Short { len, ticks, .. } if old == Amount::ONE && new == Amount::ZERO => {
                return short_log::remove(len, ticks, time, tick);
            }
            Self::Short { len, ticks, .. } if old == Amount::ONE => {
                let log = ShortLog::of(*len, ticks, time);
                if !(0..log.len()).any(|index| log.tick(index) == tick) {
                    return false;
                }
                self.weigh();
            }
            Self::Long { .. } if old == Amount::ONE => self.weigh(),
            _ => {}
        }
        let Self::Weighted { ring, .. } = self else { return false };
        let is_changed = ring.change(time.stamp(), tick, old.get(), new.get());
        if ring.len() == 0 {
            *self = Self::NONE;
        }
        is_changed
    }

    /// Charges `cost` to a lease of `limit` at `now`: if there is room, or up to [`Limit::most_recorded`] if `over_limit` says
    /// so (R14).
    pub(in crate::memory) fn charge_lease(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        cost: Amount,
        over_limit: OverLimit,
    ) -> LeaseCharge {
        if self.is_idle(now) {
            self.clear();
        }
        let most = match over_limit {
            OverLimit::Deny => limit.amount(),
            OverLimit::Charge => limit.most_recorded(),
        };
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                if matches!(self, Self::Tally { .. } | Self::Slots { .. }) {
                    return LeaseCharge::CountedOtherwise;
                }
                let time = self.lease_time(window, now);
                let verdict = self.look_at_log(most, &time, cost);
                if !verdict.allowed {
                    return LeaseCharge::NoRoom;
                }
                self.append_beside(limit, window, &time, cost);
                LeaseCharge::Charged(verdict.usage + cost.get())
            }
            UsageShape::Tally(tallied) => {
                let kept = self.tally_of(limit, now);
                if kept.is_none() && !self.is_empty() {
                    return LeaseCharge::CountedOtherwise;
                }
                let tallied = as_kept(tallied, kept);
                let (_, Some((charged, tally))) = tallied.decide(kept, most, now, cost) else {
                    return LeaseCharge::NoRoom;
                };
                *self = Self::from_tally(tally, limit);
                LeaseCharge::Charged(charged.usage)
            }
            UsageShape::Slots => LeaseCharge::NoRoom,
        }
    }

    /// Appends an admission to a log that may be counted in another window, and lets the key live as long as the longer of both
    /// wants.
    fn append_beside(&mut self, limit: &Limit, window: Window, time: &LogTime, cost: Amount) {
        let Some(newest_ns) = self.newest_ns(time) else {
            *self = Self::NONE;
            let now = Timestamp::from_ns(time.now_ns());
            return self.append(limit, &LogTime::new(window, now), cost);
        };
        self.make_room(cost);
        match self {
            Self::Short { len, idle_at_s, ticks, .. } => {
                short_log::push(len, ticks, time);
                *idle_at_s = idle_at_beside(*idle_at_s, newest_ns, window, time);
            }
            Self::Long { idle_at_s, ring, .. } => {
                ring.push(time, cost.get(), limit.most_recorded().get());
                *idle_at_s = idle_at_beside(*idle_at_s, newest_ns, window, time);
            }
            Self::Weighted { idle_at_s, ring, .. } => {
                ring.push(time, cost.get(), limit.most_recorded().get());
                *idle_at_s = idle_at_beside(*idle_at_s, newest_ns, window, time);
            }
            Self::Tally { .. } | Self::Slots { .. } => {}
        }
    }

    /// `now` in the ticks of the log and the window of a lease.
    fn lease_time(&self, window: Window, now: Timestamp) -> LogTime {
        match self {
            Self::Short { exponent, len: 1.., .. }
            | Self::Long { exponent, .. }
            | Self::Weighted { exponent, .. } => {
                LogTime::in_ticks_of(10_u64.pow(u32::from(*exponent)), window, now)
            }
            Self::Short { .. } | Self::Tally { .. } | Self::Slots { .. } => {
                LogTime::new(window, now)
            }
        }
    }

    /// When the newest admission of a log was made; `None` if there is none.
    fn newest_ns(&self, time: &LogTime) -> Option<u64> {
        let low = match self {
            Self::Short { len, ticks, .. } => ticks[..usize::from(*len)].last().copied(),
            Self::Long { ring, .. } => ring.newest(),
            Self::Weighted { ring, .. } => ring.newest(),
            Self::Tally { .. } | Self::Slots { .. } => None,
        };
        low.map(|low| ring::recall(time.stamp(), low).saturating_mul(time.tick_ns()))
    }

    /// Whether it is a log without admissions.
    fn is_empty(&self) -> bool {
        match self {
            Self::Short { len, .. } => *len == 0,
            Self::Long { ring, .. } => ring.len() == 0,
            Self::Weighted { ring, .. } => ring.len() == 0,
            Self::Tally { .. } | Self::Slots { .. } => false,
        }
    }

    /// The tally, if it counts as `limit` does, whatever the limit and the refill.
    fn tally_of(&self, limit: &Limit, now: Timestamp) -> Option<Tally> {
        let Self::Tally { terms: kept_terms, .. } = self else { return None };
        let UsageShape::Tally(tallied) = limit.counting().usage_shape() else { return None };
        let tally = self.tally()?;
        let is_of = tallied.is_of(&tally) && *kept_terms == terms(limit);
        (is_of && !self.is_idle(now)).then_some(tally)
    }

    /// Lets the slot that `holder` has until `until` last until `until_then`, or takes one; does nothing if the policy does
    /// not limit concurrency any more.
    pub(in crate::memory) fn keep_slot(
        &mut self,
        limit: &Limit,
        holder: SlotHolder,
        now: Timestamp,
        (until, until_then): (Timestamp, Timestamp),
    ) {
        if matches!(self, Self::Slots { .. }) || self.is_idle(now) {
            self.free_slot(holder, until);
            self.take_slot(limit, holder, until_then);
        }
    }
}

/// A token bucket is refilled as the checks have it refilled.
fn as_kept(tallied: Tallied, kept: Option<Tally>) -> Tallied {
    match (tallied, kept) {
        (Tallied::Bucket { rate }, Some(Tally { numbers: [_, refill], .. })) => {
            let refill = Amount::new(refill).unwrap_or(rate.refill);
            Tallied::Bucket { rate: bucket::Rate { refill, ..rate } }
        }
        _ => tallied,
    }
}

/// The first whole second at which an admission made now counts no more, neither for the lease nor for the checks: they kept the
/// newest one from `newest_ns` to `idle_at_s`.
fn idle_at_beside(idle_at_s: u32, newest_ns: u64, window: Window, time: &LogTime) -> u32 {
    let life_ns = whole_ns(idle_at_s).saturating_sub(newest_ns).max(window.as_ns());
    // A log cannot tell ticks apart for longer.
    let life_ns = life_ns.min(Window::MAX_TICKS.saturating_mul(time.tick_ns()));
    let stamped_ns = time.stamp().saturating_mul(time.tick_ns());
    idle_at_s.max(whole_s(stamped_ns.saturating_add(life_ns)))
}
