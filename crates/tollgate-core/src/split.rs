//! Splits: limits of which nodes take small parts ahead of time, to decide without the store (R22).

use std::time::Duration;

use crate::{Amount, Share, Window};

/// How nodes take parts of a limit.
///
/// A part is charged to the limit when it is taken, and may be spent for its [life](Split::life). So what is spent last leaves
/// the true window a life after the charge leaves it. That is why everything under such a limit counts for
/// [a life longer](Split::counted) than its window: then no window ever holds more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    share: Share,
}

impl Split {
    /// What [`Split::new`] accepts, for messages.
    pub const ACCEPTED_SHARES: &str =
        "a number above 0 and at most 0.5, with at most 6 decimals, such as 0.05";
    /// What [`Split::counted`] accepts, for messages.
    pub const ACCEPTED_WINDOWS: &str = "a window of 1 second to 365 days";
    /// A part is for at least so many checks; fewer are worth no call of their own.
    pub const LEAST_CHECKS: u64 = 4;

    const GREATEST_MILLIONTHS: u32 = 500_000;
    const LONGEST_LIFE: Duration = Duration::from_secs(1);
    /// The part of the window that a part lives at most.
    const LIVES_OF_WINDOW: u32 = 20;
    const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
    const LONGEST_WINDOW: Duration = Duration::from_hours(365 * 24);

    /// Parts of at most `share` of what is left of the limit; `None` if that is nothing or more than half.
    pub fn new(share: Share) -> Option<Self> {
        (1..=Self::GREATEST_MILLIONTHS).contains(&share.millionths()).then_some(Self { share })
    }

    /// The greatest part, as a share of what is left of the limit.
    pub fn share(self) -> Share {
        self.share
    }

    /// The greatest part of `room`, rounded down.
    #[inline]
    pub fn part_of(self, room: u64) -> u64 {
        let millionths = u128::from(room) * u128::from(self.share.millionths());
        // A part of a number is at most the number.
        u64::try_from(millionths / u128::from(Share::WHOLE.millionths())).unwrap_or(room)
    }

    /// Whether `limit` is large enough for a part.
    pub fn divides(self, limit: Amount) -> bool {
        self.part_of(limit.get()) >= Self::LEAST_CHECKS
    }

    /// For how long a part of a limit over `window` may be spent: a twentieth of it, and at most a second.
    #[inline]
    pub fn life(window: Window) -> Duration {
        (window.as_duration() / Self::LIVES_OF_WINDOW).min(Self::LONGEST_LIFE)
    }

    /// For how long an admission counts under a split limit over `window`: for the window and the life of a part. `None` if
    /// the window is too short or too long.
    pub fn counted(window: Window) -> Option<Window> {
        let length = window.as_duration();
        let range = Self::SHORTEST_WINDOW..=Self::LONGEST_WINDOW;
        range.contains(&length).then(|| Window::new(length + Self::life(window)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(millionths: u32) -> Option<Split> {
        Split::new(Share::of_millionths(millionths).unwrap())
    }

    #[test]
    fn a_part_is_rounded_down_and_at_most_half() {
        assert_eq!((split(0), split(500_001)), (None, None));
        let max = Amount::MAX.get();
        for (millionths, room, part) in [
            (50_000, 100, 5),
            (50_000, 99, 4),
            (50_000, 19, 0),
            (500_000, max, max / 2),
            (1, 999_999, 0),
            (1, 1_000_000, 1),
        ] {
            assert_eq!(split(millionths).unwrap().part_of(room), part, "{millionths} of {room}");
        }
        let twentieths = split(50_000).unwrap();
        let divides = |limit| twentieths.divides(Amount::new(limit).unwrap());
        assert!(divides(80) && !divides(79));
    }

    #[test]
    fn a_part_lives_for_a_twentieth_of_the_window_and_at_most_a_second() {
        for (window_ms, life_ms) in
            [(1_000, 50), (10_000, 500), (20_000, 1_000), (3_600_000, 1_000)]
        {
            let window = Window::new(Duration::from_millis(window_ms)).unwrap();
            assert_eq!(Split::life(window), Duration::from_millis(life_ms));
            let counted = Split::counted(window).unwrap().as_duration();
            assert_eq!(counted, Duration::from_millis(window_ms + life_ms));
        }
        for length in [Duration::from_millis(999), Window::MAX] {
            assert_eq!(Split::counted(Window::new(length).unwrap()), None, "{length:?}");
        }
    }
}
