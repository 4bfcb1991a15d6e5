//! The length of a sliding window, and the ticks in which a log keeps its times (R7).

use std::fmt;
use std::time::Duration;

/// The length of a window: 1 millisecond to 366 days, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    ns: u64,
    tick_ns: u64,
}

/// Live times of a log span at most two windows (the newest may be one window old before an untouched log is
/// known to be idle) and are kept modulo 2^32 ticks, so a window takes fewer than 2^31 of them.
const MAX_TICKS: u64 = (1 << 31) - 1;

impl Window {
    /// The shortest window.
    pub const MIN: Duration = Duration::from_millis(1);
    /// The longest window, a leap year.
    pub const MAX: Duration = Duration::from_hours(366 * 24);

    /// A window of `length`; `None` if it is shorter than [`Window::MIN`] or longer than [`Window::MAX`].
    pub const fn new(length: Duration) -> Option<Self> {
        let ns = length.as_nanos();
        if ns < Self::MIN.as_nanos() || ns > Self::MAX.as_nanos() {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "366 days of nanoseconds need 55 bits")]
        let ns = ns as u64;
        // The finest power of ten keeps whole milliseconds whole; it is at most W/2^31·10 < W/2^24 (R7).
        let mut tick_ns = 1;
        while ns.div_ceil(tick_ns) > MAX_TICKS {
            tick_ns *= 10;
        }
        Some(Self { ns, tick_ns })
    }

    /// The length in nanoseconds.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// The length as a [`Duration`].
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.ns)
    }

    /// The length in seconds; whole for whole seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "for people and JSON; decisions use nanoseconds"
    )]
    pub fn as_seconds(self) -> f64 {
        self.ns as f64 / 1e9
    }

    /// The tick of a log over this window, in nanoseconds: a power of ten of at most 1 µs or W/2^24,
    /// whichever is larger (R7).
    #[inline]
    pub const fn tick_ns(self) -> u64 {
        self.tick_ns
    }

    /// The length in ticks, rounded up; less than 2^31.
    #[inline]
    pub const fn ticks(self) -> u64 {
        self.ns.div_ceil(self.tick_ns)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.as_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_lasts_1_ms_to_366_days() {
        assert!(Window::new(Duration::ZERO).is_none());
        assert!(Window::new(Duration::from_nanos(999_999)).is_none());
        assert!(Window::new(Window::MIN).is_some());
        assert!(Window::new(Window::MAX).is_some());
        assert!(Window::new(Window::MAX + Duration::from_nanos(1)).is_none());
    }

    proptest! {
        #[test]
        fn a_tick_is_as_fine_as_r7_asks(ns in 1_000_000..=31_622_400_000_000_000_u64) {
            let window = Window::new(Duration::from_nanos(ns)).unwrap();
            prop_assert!(window.tick_ns() <= (ns >> 24).max(1_000));
            prop_assert!(window.ticks() <= MAX_TICKS);
        }
    }
}
