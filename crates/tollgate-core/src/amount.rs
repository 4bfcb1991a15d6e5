//! Amounts, units and the cost of a check (R9): integers of at most 2^53 − 1, never wrapped.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// A count of some [`Unit`]: an integer in `0..=2^53 − 1`, the range that JSON numbers carry exactly (R9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One: the cost of a check in `requests`, unless it says otherwise.
    pub const ONE: Self = Self(1);
    /// The largest amount, 2^53 − 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The amount `value`, or `None` above [`Amount::MAX`].
    pub const fn new(value: u64) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// The amount as an integer.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Checks: each costs 1 unless it says otherwise.
    Requests,
    /// Tokens of prompt and answer together.
    Tokens,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// Leases that are alive (R16): a lease holds one slot, whatever else it reserves.
    Concurrency,
    /// Any other name that checks give a cost for.
    Custom(Arc<str>),
}

impl Unit {
    /// The longest name of a unit, in bytes.
    pub const MAX_NAME_BYTES: usize = 64;

    /// What [`Unit::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`requests`, `tokens`, `input_tokens`, `output_tokens`, `concurrency` or a \
         name of 1 to 64 characters a-z, 0-9 and _ that starts with a letter";

    /// The units that a cost may name, for messages.
    pub const ACCEPTED_IN_COSTS: &str = "`requests`, `tokens`, `input_tokens`, `output_tokens` or a name of 1 to 64 characters a-z, 0-9 \
         and _ that starts with a letter";

    /// What is wrong with a cost of [`Unit::Concurrency`], for messages.
    pub const NO_COST: &str =
        "has no cost: a lease holds one slot by itself, and a check holds none";

    /// Whether a cost may name it: every unit but [`Unit::Concurrency`] ([`Unit::NO_COST`]).
    pub fn has_cost(&self) -> bool {
        *self != Self::Concurrency
    }

    /// The unit called `name`; `None` if no unit can be called so ([`Unit::ACCEPTED`]).
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Self::Requests,
            "tokens" => Self::Tokens,
            "input_tokens" => Self::InputTokens,
            "output_tokens" => Self::OutputTokens,
            "concurrency" => Self::Concurrency,
            _ => {
                let well_formed = name.len() <= Self::MAX_NAME_BYTES
                    && name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                return well_formed.then(|| Self::Custom(name.into()));
            }
        })
    }

    /// The name, as in policies and costs.
    pub fn name(&self) -> &str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Concurrency => "concurrency",
            Self::Custom(name) => name,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of each unit a check asks for. `requests` is 1 and every other unit 0, unless set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    requests: Amount,
    others: SmallVec<[(Unit, Amount); 2]>,
}

impl Cost {
    /// One request and nothing else: the cost of a check that does not say.
    pub fn one_request() -> Self {
        Self { requests: Amount::ONE, others: SmallVec::new() }
    }

    /// The same cost with `amount` of `unit`.
    #[must_use]
    pub fn with(mut self, unit: Unit, amount: Amount) -> Self {
        self.set(unit, amount);
        self
    }

    /// Sets the cost in `unit`. [`Unit::Concurrency`] [has none](Unit::NO_COST), so nothing is kept of it.
    pub fn set(&mut self, unit: Unit, amount: Amount) {
        if !unit.has_cost() {
            return;
        }
        if unit == Unit::Requests {
            self.requests = amount;
        } else if let Some((_, old)) = self.others.iter_mut().find(|(known, _)| *known == unit) {
            *old = amount;
        } else {
            self.others.push((unit, amount));
        }
    }

    /// The cost in `unit`; 0 for a unit that was not said.
    #[inline]
    pub fn of(&self, unit: &Unit) -> Amount {
        if *unit == Unit::Requests {
            return self.requests;
        }
        self.others.iter().find(|(known, _)| known == unit).map_or(Amount::ZERO, |(_, cost)| *cost)
    }

    /// Whether the cost in `unit` was said, even as 0.
    pub fn names(&self, unit: &Unit) -> bool {
        self.amounts().any(|(known, _)| known == unit)
    }

    /// The amount of each unit that the cost names, `requests` always among them.
    pub fn amounts(&self) -> impl Iterator<Item = (&Unit, Amount)> {
        let others = self.others.iter().map(|(unit, amount)| (unit, *amount));
        std::iter::once((&Unit::Requests, self.requests)).chain(others)
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::one_request()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_holds_at_most_2_to_the_53_minus_1() {
        assert_eq!(Amount::new((1 << 53) - 1), Some(Amount::MAX));
        assert_eq!(Amount::new(1 << 53), None);
    }

    #[test]
    fn a_cost_is_one_request_unless_said() {
        let cost = Cost::default().with(Unit::Tokens, Amount::MAX);
        assert_eq!(cost.of(&Unit::Requests), Amount::ONE);
        assert_eq!(cost.of(&Unit::Tokens), Amount::MAX);
        assert_eq!(cost.of(&Unit::InputTokens), Amount::ZERO);
        let cost = cost.with(Unit::Concurrency, Amount::ONE);
        let named: Vec<_> = cost.amounts().collect();
        assert_eq!(named, [(&Unit::Requests, Amount::ONE), (&Unit::Tokens, Amount::MAX)]);
        let twice =
            cost.clone().with(Unit::InputTokens, Amount::ONE).with(Unit::Tokens, Amount::ONE);
        let named: Vec<_> = twice.amounts().skip(1).collect();
        assert_eq!(named, [(&Unit::Tokens, Amount::ONE), (&Unit::InputTokens, Amount::ONE)]);
        assert_eq!(cost.with(Unit::Requests, Amount::ZERO).of(&Unit::Requests), Amount::ZERO);
    }

    #[test]
    fn unit_names_are_checked() {
        let longest = "a".repeat(64);
        for name in ["requests", "tokens", "images", "gpu_ms2", &longest] {
            assert_eq!(Unit::parse(name).map(|unit| unit.name().to_owned()).as_deref(), Some(name));
        }
        let built_in = [
            Unit::Requests,
            Unit::Tokens,
            Unit::InputTokens,
            Unit::OutputTokens,
            Unit::Concurrency,
        ];
        for unit in built_in {
            let named = format!("`{}`", unit.name());
            assert!(Unit::ACCEPTED.contains(&named));
            assert_eq!(Unit::ACCEPTED_IN_COSTS.contains(&named), unit.has_cost());
            assert_eq!(Unit::parse(unit.name()), Some(unit));
        }
        for name in ["", "Tokens", "2fast", "_x", "a-b", &"a".repeat(65)] {
            assert_eq!(Unit::parse(name), None, "{name:?}");
        }
    }
}
