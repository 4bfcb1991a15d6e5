//! Waits in the model: it tries the moments at which usage can fall.

use super::period::period;
use super::usage::leaves_at_ns;
use super::{LimitView, width_ns};
use crate::{Amount, Counting, Mode};

/// R6: until every enforced limit admits; `None` for never.
pub(super) fn longest_wait_ns(looks: &[LimitView<'_>]) -> Option<u128> {
    let enforced = looks.iter().filter(|look| look.policy.mode == Mode::Enforce);
    enforced.map(|look| look.wait_ns).try_fold(0, |longest, wait| Some(longest.max(wait?)))
}

/// R6: the least wait after which the limit admits; `None` if it never will.
pub(super) fn wait_ns(look: &LimitView<'_>, now_ns: u128) -> Option<u128> {
    let admits_at = |then_ns: u128| look.usage(then_ns) + look.room_needed() <= look.limit;
    let is_refilled = look.policy.counting.refill() != Some(Amount::ZERO);
    if look.room_needed() > look.limit || !is_refilled && !admits_at(now_ns) {
        None
    } else if admits_at(now_ns) {
        Some(0)
    } else {
        Some(Moments::after(now_ns, look).first(admits_at) - now_ns)
    }
}

/// When the usage would be 0 again; for a log at most the window, although ticks may keep an admission longer.
pub(super) fn reset_after_ns(look: &LimitView<'_>, now_ns: u128) -> u128 {
    let unused_at = |then_ns: u128| look.usage(then_ns) == 0;
    if unused_at(now_ns) {
        return 0;
    }
    let after_ns = Moments::after(now_ns, look).first(unused_at) - now_ns;
    match look.policy.counting {
        Counting::Log { window } => after_ns.min(width_ns(window)),
        Counting::Counter { .. }
        | Counting::Bucket { .. }
        | Counting::Calendar { .. }
        | Counting::Concurrency => after_ns,
    }
}

/// The moments after now at which usage can fall.
enum Moments {
    /// These, ascending: admissions leave a log one by one, and the end of a period all at once.
    Each(Vec<u128>),
    /// Every nanosecond of an interval, up to one at which nothing is left: a counter fades.
    Every(std::ops::RangeInclusive<u128>),
}

impl Moments {
    fn after(now_ns: u128, look: &LimitView<'_>) -> Self {
        match look.policy.counting {
            Counting::Log { window } => {
                let leaving =
                    look.admissions.iter().map(|one| leaves_at_ns(window, look.tick_ns, one));
                let mut moments: Vec<u128> = leaving.filter(|&at_ns| at_ns > now_ns).collect();
                moments.sort_unstable();
                Self::Each(moments)
            }
            Counting::Counter { window } => Self::Every(now_ns + 1..=now_ns + 2 * width_ns(window)),
            Counting::Bucket { window, refill } => {
                let tokens = (look.usage(now_ns) + 1) * width_ns(window);
                let full_ns =
                    tokens.checked_div(u128::from(refill.get())).map(|ns| now_ns + ns + 1);
                // A bucket that is not full in the year 2554, the end of all timestamps, is full then.
                Self::Every(now_ns + 1..=full_ns.unwrap_or(u128::MAX).min(u64::MAX.into()))
            }
            Counting::Calendar { calendar, zone } => {
                Self::Each(vec![period(calendar, zone, now_ns).1])
            }
            Counting::Concurrency => {
                let expiring = look.admissions.iter().map(|slot| slot.expires_ns);
                let mut moments: Vec<u128> = expiring.filter(|&at_ns| at_ns > now_ns).collect();
                moments.sort_unstable();
                Self::Each(moments)
            }
        }
    }

    /// The first moment at which `is_so` holds, by binary search: without further checks usage only falls, so once `is_so`
    /// holds, it keeps holding. It holds at the last moment.
    fn first(self, is_so: impl Fn(u128) -> bool) -> u128 {
        match self {
            Self::Each(moments) => moments[moments.partition_point(|&at_ns| !is_so(at_ns))],
            Self::Every(interval) => {
                let (mut least, mut most) = interval.into_inner();
                while least < most {
                    let middle = u128::midpoint(least, most);
                    if is_so(middle) {
                        most = middle;
                    } else {
                        least = middle + 1;
                    }
                }
                least
            }
        }
    }
}
