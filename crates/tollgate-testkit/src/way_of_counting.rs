//! The ways of counting without their window, for tests that hold for each of them over any window.

use tollgate_core::{Amount, Calendar, Counting, Window, Zone};

/// A way of counting, before its window is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// [`Counting::Log`]
    Log,
    /// [`Counting::Counter`]
    Counter,
    /// [`Counting::Bucket`]
    Bucket,
    /// [`Counting::Calendar`]
    Calendar,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Log, Self::Counter, Self::Bucket, Self::Calendar];

    /// The way in which `counting` counts; `None` for concurrency, which has no window.
    pub fn of(counting: Counting) -> Option<Self> {
        match counting {
            Counting::Log { .. } => Some(Self::Log),
            Counting::Counter { .. } => Some(Self::Counter),
            Counting::Bucket { .. } => Some(Self::Bucket),
            Counting::Calendar { .. } => Some(Self::Calendar),
            Counting::Concurrency => None,
        }
    }

    /// This way over `window`, for a limit of `amount`. A token bucket is refilled in a window if that is possible; a calendar
    /// has the shortest period that is as long, or else a month, in UTC.
    pub fn over(self, window: Window, amount: Option<Amount>) -> Counting {
        match self {
            Self::Log => Counting::Log { window },
            Self::Counter => Counting::Counter { window },
            Self::Bucket => Counting::Bucket { window, refill: refill_of(amount) },
            Self::Calendar => {
                let is_as_long = |one: &Calendar| one.usual_length() >= window;
                let calendar = Calendar::ALL.into_iter().find(is_as_long);
                let calendar = calendar.unwrap_or(Calendar::Month);
                Counting::Calendar { calendar, zone: Zone::utc() }
            }
        }
    }
}

/// The refill of a bucket of `amount`: as much, but at least 1, and so little that both together are an amount.
fn refill_of(amount: Option<Amount>) -> Amount {
    let capacity = amount.map_or(1, Amount::get);
    let refill = capacity.min(Amount::MAX.get() - capacity).max(1);
    Amount::new(refill).unwrap_or(Amount::ONE)
}
