//! The length of a sliding window, and the ticks in which a log keeps its times (R7).

use std::fmt;
use std::time::Duration;

/// The length of a window: 1 millisecond to 366 days, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    ns: u64,
    ticks: u64,
    tick_ns: u64,
    tick_exponent: u8,
    reciprocal: Reciprocal,
}

/// What divides by a tick: a multiplication, since every check divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Reciprocal {
    /// 2^(64 + `shift`) over 5^exponent, rounded up.
    factor: u64,
    shift: u8,
}

impl Reciprocal {
    /// That of 10^`exponent`.
    ///
    /// n/10^e is (n/2^e)/5^e, rounded down at each step. The first quotient is less than 2^63 unless e is 0, so
    /// by Granlund and Montgomery ("Division by invariant integers using multiplication", PLDI 1994, Theorem
    /// 4.2) a factor of 2^(63 + l)/5^e rounded up is exact, where 2^l is the first power of two that is not below
    /// 5^e; it needs no more than 64 bits.
    const fn of_power_of_ten(exponent: u8) -> Self {
        let divisor = 5_u64.pow(exponent as u32);
        let log = divisor.next_power_of_two().ilog2();
        let shift = log.saturating_sub(1);
        let factor = (1_u128 << (64 + shift)).div_ceil(divisor as u128);
        #[expect(clippy::cast_possible_truncation, reason = "only that of 1, not used, is cut")]
        Self { factor: factor as u64, shift: shift as u8 }
    }
}

/// The most ticks of a window. A store may keep the times of a log modulo 2^32 ticks: they span at most two
/// windows and the second to which a store may round the moment when a log is idle.
const MAX_TICKS: u64 = 1_600_000_000;
const _: () = assert!(2 * MAX_TICKS + 1_000_000_000 < 1 << 32);

impl Window {
    /// The shortest window.
    pub const MIN: Duration = Duration::from_millis(1);
    /// The most ticks of a window.
    pub const MAX_TICKS: u64 = MAX_TICKS;
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
        // The finest power of ten that is coarse enough keeps whole milliseconds whole up to 18 days, and is
        // below W/2^24 (R7).
        let mut tick_exponent = 0;
        while ns.div_ceil(power_of_ten(tick_exponent)) > MAX_TICKS {
            tick_exponent += 1;
        }
        let tick_ns = power_of_ten(tick_exponent);
        let reciprocal = Reciprocal::of_power_of_ten(tick_exponent);
        Some(Self { ns, ticks: ns.div_ceil(tick_ns), tick_ns, tick_exponent, reciprocal })
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

    /// The power of ten that [`Window::tick_ns`] is: 0 to 8.
    #[inline]
    pub const fn tick_exponent(self) -> u8 {
        self.tick_exponent
    }

    /// `ns` in whole ticks, rounded down.
    #[inline]
    pub(crate) const fn whole_ticks(self, ns: u64) -> u64 {
        if self.tick_exponent == 0 {
            return ns;
        }
        let Reciprocal { factor, shift } = self.reciprocal;
        let product = (ns >> self.tick_exponent) as u128 * factor as u128;
        let upper = (product >> 64) as u64;
        upper >> shift
    }

    /// The length in ticks, rounded up; less than 2^31.
    #[inline]
    pub const fn ticks(self) -> u64 {
        self.ticks
    }
}

/// The nanoseconds of a tick with this exponent. Exponents are at most 8.
#[inline]
const fn power_of_ten(exponent: u8) -> u64 {
    const POWERS: [u64; 16] = {
        let mut powers = [1; 16];
        let mut exponent = 1;
        while exponent < 16 {
            powers[exponent] = powers[exponent - 1] * 10;
            exponent += 1;
        }
        powers
    };
    POWERS[(exponent & 15) as usize]
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
        fn whole_ticks_are_a_division(ns: u64, near in 0..4_u64) {
            for exponent in 0..=8 {
                let tick_ns = 10_u64.pow(exponent);
                let longest = Duration::from_nanos(MAX_TICKS * tick_ns).min(Window::MAX);
                let window = Window::new(longest).unwrap();
                assert_eq!(window.tick_ns(), tick_ns);
                // Around a multiple, and at the end.
                for ns in [ns, (ns / tick_ns * tick_ns).saturating_add(near).saturating_sub(2), u64::MAX - near] {
                    prop_assert_eq!(window.whole_ticks(ns), ns / tick_ns);
                }
            }
        }

        #[test]
        fn a_tick_is_as_fine_as_r7_asks(ns in 1_000_000..=31_622_400_000_000_000_u64) {
            let window = Window::new(Duration::from_nanos(ns)).unwrap();
            prop_assert!(window.tick_ns() <= (ns >> 24).max(1_000));
            prop_assert!(window.ticks() <= MAX_TICKS);
        }
    }
}
