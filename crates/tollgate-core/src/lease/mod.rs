//! Leases: admitted checks that hold what they reserved until they are settled, released or expire (R13–R16).
//!
//! A store keeps a [`Lease`](ledger::LeaseHead) with what it holds in each limit. [`ledger`] says what an update does to it, so that every
//! store and the reference model agree; the stores own atomicity and time.

pub mod ledger;

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

use crate::{Amount, Unit};

/// How long a lease lives after its last extension: 100 ms to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// The shortest.
    pub const MIN: Self = Self(100);
    /// The longest: an hour.
    pub const MAX: Self = Self(3_600_000);
    /// That of a lease which does not say: 30 seconds.
    pub const DEFAULT: Self = Self(30_000);
    /// What [`Ttl::from_ms`] accepts, for messages.
    pub const ACCEPTED: &str = "an integer from 100 to 3600000 (milliseconds)";

    /// So many milliseconds; `None` if they are out of range.
    pub const fn from_ms(ms: u64) -> Option<Self> {
        if ms < Self::MIN.0 as u64 || ms > Self::MAX.0 as u64 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an hour of milliseconds needs 22 bits"
        )]
        Some(Self(ms as u32))
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0 as u64
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.as_ms())
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Total amounts by unit. A unit that is not named is unknown, unlike one with a total of 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(SmallVec<[(Unit, Amount); 2]>);

impl Totals {
    /// No unit.
    pub fn none() -> Self {
        Self(SmallVec::new())
    }

    /// The same totals with `amount` of `unit`, in place of any that it had.
    #[must_use]
    pub fn with(mut self, unit: Unit, amount: Amount) -> Self {
        self.set(unit, amount);
        self
    }

    /// Sets the total of `unit`.
    pub fn set(&mut self, unit: Unit, amount: Amount) {
        match self.0.iter_mut().find(|(known, _)| *known == unit) {
            Some((_, old)) => *old = amount,
            None => self.0.push((unit, amount)),
        }
    }

    /// The total of `unit`; `None` if it is not named.
    pub fn of(&self, unit: &Unit) -> Option<Amount> {
        self.0.iter().find(|(known, _)| known == unit).map(|(_, amount)| *amount)
    }

    /// Each unit with its total.
    pub fn amounts(&self) -> impl Iterator<Item = (&Unit, Amount)> {
        self.0.iter().map(|(unit, amount)| (unit, *amount))
    }

    /// Whether no unit is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How well the totals of a settlement are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quality {
    /// They are what was used.
    #[default]
    Exact,
    /// At least so much was used, because the answer broke off: gives no room back (R14).
    LowerBound,
}

impl Quality {
    /// Every name; the first is the default.
    pub const ACCEPTED: &str = "`exact` or `lower_bound`";

    /// The name, as in requests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::LowerBound => "lower_bound",
        }
    }

    /// The quality called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Exact, Self::LowerBound].into_iter().find(|quality| quality.name() == name)
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a lease. Totals are absolute, and an update whose sequence number is not above the last one changes nothing,
/// so that updates may be repeated and reordered (R14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseUpdate {
    /// Keeps it alive, reports progress and asks for more.
    Extend {
        /// The sequence number: from 1, above that of every earlier update.
        seq: Amount,
        /// The new time to live, from now; `None` for that of the reservation or of the last extension.
        ttl: Option<Ttl>,
        /// What was used so far. What is above the reservation is charged at once (R14); nothing is given back.
        observed: Totals,
        /// What is wanted in all. What is above the reservation is admitted like a check, all of it or nothing; a total
        /// below it changes nothing.
        wanted: Totals,
    },
    /// Replaces what it reserved by what was used, and frees its slots.
    Settle {
        /// The sequence number, as for an extension.
        seq: Amount,
        /// What was used. A unit that is not named stays as reserved.
        usage: Totals,
        /// Whether it is all that was used.
        quality: Quality,
    },
    /// Gives everything back, as if the check had not been made. A settled lease cannot be released.
    Release,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_between_its_bounds() {
        for ms in [100, 30_000, 3_600_000] {
            assert_eq!(Ttl::from_ms(ms).unwrap().as_ms(), ms);
        }
        for ms in [0, 99, 3_600_001, u64::MAX, (1 << 32) + 100] {
            assert_eq!(Ttl::from_ms(ms), None, "{ms}");
        }
        assert_eq!(Ttl::default().as_duration(), Duration::from_secs(30));
    }

    #[test]
    fn a_unit_that_is_not_named_has_no_total() {
        let totals = Totals::none()
            .with(Unit::Tokens, Amount::ONE)
            .with(Unit::Requests, Amount::ZERO)
            .with(Unit::Tokens, Amount::MAX);
        assert_eq!(totals.of(&Unit::Tokens), Some(Amount::MAX));
        assert_eq!(totals.of(&Unit::Requests), Some(Amount::ZERO));
        assert_eq!(totals.of(&Unit::InputTokens), None);
        assert_eq!(totals.amounts().count(), 2);
        assert!(Totals::none().is_empty() && !totals.is_empty());
    }

    #[test]
    fn qualities_have_names() {
        for quality in [Quality::Exact, Quality::LowerBound] {
            assert_eq!(Quality::parse(quality.name()), Some(quality));
            assert!(Quality::ACCEPTED.contains(quality.name()));
        }
        assert_eq!(Quality::parse("guess"), None);
    }
}
