//! Shares: the part of a limit up to which a priority class is admitted, so that the more important ones keep room.

use std::fmt;

use crate::{Amount, PriorityClass};

/// A part of a limit, from nothing to all of it, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// All of a limit.
    pub const WHOLE: Self = Self(Self::MILLIONTHS);
    /// 0.95
    pub const NINETEEN_TWENTIETHS: Self = Self(950_000);
    /// The digits after the point that a share may have.
    pub const MAX_DECIMALS: usize = 6;
    const MILLIONTHS: u32 = 1_000_000;

    /// A share of this many millionths; `None` if that is more than the whole.
    pub fn of_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::MILLIONTHS).then_some(Self(millionths))
    }

    /// The share in millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// The share as a number from 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::MILLIONTHS)
    }

    /// This part of `amount`, rounded up: a usage is under the part if and only if one more is at most this.
    pub fn of(self, amount: Amount) -> Amount {
        let millionths = u128::from(Self::MILLIONTHS);
        let part = (u128::from(amount.get()) * u128::from(self.0)).div_ceil(millionths);
        // A part of an amount is at most the amount.
        u64::try_from(part).ok().and_then(Amount::new).unwrap_or(amount)
    }
}

/// In plain decimals: `1`, `0.5`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / Self::MILLIONTHS, self.0 % Self::MILLIONTHS);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:06}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({self})")
    }
}

/// The shares of a policy's limit, by priority class.
///
/// A class without a share of its own has that of the next more important class with one, or else the whole limit: so
/// the less important class never has more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shares([Option<Share>; PriorityClass::ALL.len()]);

impl Shares {
    /// Whether every class has the whole limit because none was given less.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The shares given, the least important class first.
    pub fn given(&self) -> impl Iterator<Item = (PriorityClass, Share)> {
        PriorityClass::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(class, share)| Some((class, share?)))
    }

    /// Gives `class` a share of its own.
    pub fn set(&mut self, class: PriorityClass, share: Share) {
        self.0[class.index()] = Some(share);
    }

    /// The share of `class`.
    pub fn of(&self, class: PriorityClass) -> Share {
        self.0[class.index()..].iter().flatten().next().copied().unwrap_or(Share::WHOLE)
    }

    /// A class with a greater share than a more important class, and that class; `None` if there is none.
    pub fn inversion(&self) -> Option<(PriorityClass, PriorityClass)> {
        let given: Vec<_> = self.given().collect();
        given.windows(2).find_map(|pair| match pair {
            [(low, more), (high, less)] if more > less => Some((*low, *high)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(millionths: u32) -> Share {
        Share::of_millionths(millionths).unwrap()
    }

    #[test]
    fn a_share_is_rounded_so_that_a_usage_below_it_leaves_room_for_one() {
        let max = Amount::MAX.get();
        let cases = [
            (10, 500_000, 5),
            (5, 500_000, 3),
            (1, 1, 1),
            (0, 500_000, 0),
            (100, 0, 0),
            (max, 1_000_000, max),
            (max, 500_000, max / 2 + 1),
        ];
        for (amount, millionths, expected) in cases {
            let part = share(millionths).of(Amount::new(amount).unwrap()).get();
            assert_eq!(part, expected, "{millionths} of {amount}");
        }
        assert_eq!(Share::of_millionths(1_000_001), None);
    }

    #[test]
    fn a_class_without_a_share_has_that_of_the_next_more_important_one() {
        let mut shares = Shares::default();
        assert!(shares.is_empty());
        shares.set(PriorityClass::Standard, share(800_000));
        let of_each = PriorityClass::ALL.map(|class| shares.of(class).millionths());
        assert_eq!(of_each, [800_000, 800_000, 1_000_000, 1_000_000]);
        shares.set(PriorityClass::Batch, share(500_000));
        assert_eq!(shares.of(PriorityClass::Batch), share(500_000));
        assert_eq!(shares.inversion(), None);
        shares.set(PriorityClass::Internal, share(700_000));
        assert_eq!(shares.inversion(), Some((PriorityClass::Standard, PriorityClass::Internal)));
    }

    #[test]
    fn shares_are_written_in_plain_decimals() {
        for (millionths, text) in [(0, "0"), (1, "0.000001"), (500_000, "0.5"), (1_000_000, "1")] {
            assert_eq!(share(millionths).to_string(), text);
        }
    }
}
