//! Weights: how much a token of some kind counts in a limit over tokens.
//!
//! `tokens` consist of input and output, the input has parts that were read from a cache or written to one, and the output has a
//! part that is reasoning. A limit counts a token of a kind with a weight as that weight, and every other token as its unit or its
//! wider kind says. Sums are exact integers of thousandths, and rounded up once.

use std::fmt;

use crate::{Amount, Cost, Totals, Unit};

/// A kind of tokens, which is a part of `tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenKind {
    /// Tokens of the prompt.
    Input,
    /// Tokens of the prompt that were read from a cache.
    CachedInput,
    /// Tokens of the prompt that were written to a cache.
    CacheCreationInput,
    /// Tokens of the answer.
    Output,
    /// Tokens of the answer that are reasoning.
    Reasoning,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Input, Self::CachedInput, Self::CacheCreationInput, Self::Output, Self::Reasoning];

    /// The units that have kinds.
    pub const UNITS: [Unit; 3] = [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens];

    /// The name of the unit in which costs and totals name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input_tokens",
            Self::CachedInput => "cached_input_tokens",
            Self::CacheCreationInput => "cache_creation_input_tokens",
            Self::Output => "output_tokens",
            Self::Reasoning => "reasoning_tokens",
        }
    }

    /// The kind called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The unit in which costs and totals name it.
    pub fn unit(self) -> Unit {
        match self {
            Self::Input => Unit::InputTokens,
            Self::Output => Unit::OutputTokens,
            other => Unit::Custom(other.name().into()),
        }
    }

    /// The kinds of which `unit` consists, besides tokens of no named kind.
    pub fn parts_of(unit: &Unit) -> &'static [Self] {
        match unit {
            Unit::Tokens => &[Self::Input, Self::Output],
            Unit::InputTokens => Self::Input.parts(),
            Unit::OutputTokens => Self::Output.parts(),
            _ => &[],
        }
    }

    /// Every kind that is a part of `unit` or of such a part.
    pub fn within(unit: &Unit) -> Vec<Self> {
        let parts = Self::parts_of(unit).iter();
        parts.flat_map(|part| std::iter::once(part).chain(part.parts())).copied().collect()
    }

    /// The kinds that are parts of this one.
    const fn parts(self) -> &'static [Self] {
        match self {
            Self::Input => &[Self::CachedInput, Self::CacheCreationInput],
            Self::Output => &[Self::Reasoning],
            _ => &[],
        }
    }
}

/// How much one token counts, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(u32);

impl Weight {
    /// 1
    pub const ONE: Self = Self(1_000);
    /// 1,000
    pub const MAX: Self = Self(1_000_000);
    /// The digits after the point that a weight may have.
    pub const MAX_DECIMALS: usize = 3;

    /// A weight of so many thousandths; `None` above [`Weight::MAX`].
    pub fn of_thousandths(thousandths: u32) -> Option<Self> {
        (thousandths <= Self::MAX.0).then_some(Self(thousandths))
    }

    /// In thousandths.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

/// In plain decimals: `1`, `0.1`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000, self.0 % 1_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({self})")
    }
}

/// The weights of a policy. A kind without a weight of its own has that of the kind that it is a part of, and else 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Weights([Option<Weight>; TokenKind::ALL.len()]);

/// How many tokens there are of a kind, and what they count in thousandths.
#[derive(Clone, Copy, Default)]
struct Part {
    tokens: u128,
    thousandths: u128,
}

impl Weights {
    /// Whether every token counts 1 because no weight was given.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The weights given.
    pub fn given(&self) -> impl Iterator<Item = (TokenKind, Weight)> {
        TokenKind::ALL.into_iter().zip(self.0).filter_map(|(kind, weight)| Some((kind, weight?)))
    }

    /// Gives `kind` a weight.
    pub fn set(&mut self, kind: TokenKind, weight: Weight) {
        self.0[kind as usize] = Some(weight);
    }

    /// What a limit over `unit` counts of `cost`.
    pub fn of_cost(&self, unit: &Unit, cost: &Cost) -> Amount {
        if self.is_empty() {
            return cost.of(unit);
        }
        let of = |name: &str| cost.amounts().find(|(unit, _)| unit.name() == name);
        self.counted(unit, cost.of(unit), &|kind| of(kind.name()).map(|(_, amount)| amount))
    }

    /// What a limit over `unit` counts of `totals`; `None` if they do not name the unit.
    pub fn of_totals(&self, unit: &Unit, totals: &Totals) -> Option<Amount> {
        let all = totals.of(unit)?;
        if self.is_empty() {
            return Some(all);
        }
        let of = |name: &str| totals.amounts().find(|(unit, _)| unit.name() == name);
        let named = |kind: TokenKind| of(kind.name()).map(|(_, amount)| amount);
        Some(self.counted(unit, all, &named))
    }

    /// What `all` tokens of `unit` count, of which so many are of each kind as `named` says, rounded up. If parts come to more than
    /// what they are a part of, the parts count. At most [`Amount::MAX`].
    fn counted(
        &self,
        unit: &Unit,
        all: Amount,
        named: &dyn Fn(TokenKind) -> Option<Amount>,
    ) -> Amount {
        if all == Amount::ZERO {
            return all;
        }
        let parts = self.sum(TokenKind::parts_of(unit), Weight::ONE, named);
        let others = u128::from(all.get()).saturating_sub(parts.tokens);
        // No overflow: 54 bits for each count, 20 for a weight.
        let thousandths = parts.thousandths + others * u128::from(Weight::ONE.0);
        let whole = thousandths.div_ceil(u128::from(Weight::ONE.0));
        u64::try_from(whole).ok().and_then(Amount::new).unwrap_or(Amount::MAX)
    }

    fn sum(
        &self,
        kinds: &[TokenKind],
        wider: Weight,
        named: &dyn Fn(TokenKind) -> Option<Amount>,
    ) -> Part {
        kinds.iter().fold(Part::default(), |sum, kind| {
            let weight = self.0[*kind as usize].unwrap_or(wider);
            let parts = self.sum(kind.parts(), weight, named);
            let tokens = u128::from(named(*kind).unwrap_or_default().get()).max(parts.tokens);
            let own = (tokens - parts.tokens) * u128::from(weight.0);
            Part {
                tokens: sum.tokens + tokens,
                thousandths: sum.thousandths + parts.thousandths + own,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights(given: &[(TokenKind, u32)]) -> Weights {
        let mut weights = Weights::default();
        for (kind, thousandths) in given {
            weights.set(*kind, Weight::of_thousandths(*thousandths).unwrap());
        }
        weights
    }

    fn totals(named: &[(Unit, u64)]) -> Totals {
        let with = |totals: Totals, (unit, amount): &(Unit, u64)| {
            totals.with(unit.clone(), Amount::new(*amount).unwrap())
        };
        named.iter().fold(Totals::none(), with)
    }

    fn counted(weights: Weights, unit: &Unit, named: &[(Unit, u64)]) -> Option<u64> {
        weights.of_totals(unit, &totals(named)).map(Amount::get)
    }

    #[test]
    fn a_token_counts_as_the_narrowest_kind_that_it_is_known_to_be() {
        use TokenKind::{CacheCreationInput, CachedInput, Input, Output, Reasoning};
        let cached = weights(&[(CachedInput, 100)]);
        let all = [(CachedInput, 100), (CacheCreationInput, 1_250), (Output, 4_000)];
        let priced = weights(&all);
        let unit = |kind: TokenKind| kind.unit();
        let max = Amount::MAX.get();
        let tokens = |all, named: &[(TokenKind, u64)]| {
            let named = named.iter().map(|(kind, amount)| (kind.unit(), *amount));
            std::iter::once((Unit::Tokens, all)).chain(named).collect::<Vec<_>>()
        };
        let cases = [
            // 900 + 100 × 0.1 = 910
            (cached, tokens(1_000, &[(CachedInput, 100)]), Some(910)),
            // 0.1 is rounded up once, for all kinds together.
            (cached, tokens(1, &[(CachedInput, 1)]), Some(1)),
            (
                weights(&[(CachedInput, 100), (Reasoning, 100)]),
                tokens(2, &[(CachedInput, 1), (Reasoning, 1)]),
                Some(1),
            ),
            (cached, tokens(0, &[]), Some(0)),
            (cached, vec![(unit(CachedInput), 100)], None),
            // 10 + 20 × 0.1 + 8 × 1.25 + 5 × 4, with or without the input.
            (
                priced,
                tokens(43, &[(Input, 38), (CachedInput, 20), (CacheCreationInput, 8), (Output, 5)]),
                Some(42),
            ),
            (
                priced,
                tokens(43, &[(CachedInput, 20), (CacheCreationInput, 8), (Output, 5)]),
                Some(42),
            ),
            // Reasoning is output, so it counts 4 unless it says otherwise.
            (priced, tokens(10, &[(Output, 10), (Reasoning, 10)]), Some(40)),
            (
                weights(&[(Output, 4_000), (Reasoning, 0)]),
                tokens(10, &[(Output, 10), (Reasoning, 9)]),
                Some(4),
            ),
            // More cached than there is in all.
            (cached, tokens(10, &[(CachedInput, 200)]), Some(20)),
            (weights(&[(Output, 1_000_000)]), tokens(max, &[(Output, max)]), Some(max)),
        ];
        for (weights, named, expected) in cases {
            assert_eq!(counted(weights, &Unit::Tokens, &named), expected, "{named:?}");
        }
        let input = [(Unit::InputTokens, 50), (unit(CachedInput), 40), (unit(Reasoning), 9)];
        assert_eq!(counted(cached, &Unit::InputTokens, &input), Some(14));
        assert_eq!(counted(cached, &Unit::OutputTokens, &[(Unit::OutputTokens, 7)]), Some(7));
    }

    #[test]
    fn weights_are_written_in_plain_decimals() {
        let shown = |thousandths| Weight::of_thousandths(thousandths).map(|one| one.to_string());
        let cases = [(0, "0"), (100, "0.1"), (1_250, "1.25"), (1, "0.001"), (1_000_000, "1000")];
        for (thousandths, text) in cases {
            assert_eq!(shown(thousandths).as_deref(), Some(text));
        }
        assert_eq!(shown(1_000_001), None);
    }

    #[test]
    fn kinds_have_the_names_of_units() {
        for kind in TokenKind::ALL {
            assert_eq!(TokenKind::parse(kind.name()), Some(kind));
            assert_eq!(Unit::parse(kind.name()), Some(kind.unit()));
        }
        assert_eq!(TokenKind::within(&Unit::Tokens), TokenKind::ALL);
        assert_eq!(TokenKind::within(&Unit::OutputTokens), [TokenKind::Reasoning]);
        assert_eq!(TokenKind::within(&Unit::Requests), []);
        assert_eq!(TokenKind::parse("tokens"), None);
    }

    proptest! {
        /// The obvious model: every token is listed with the kinds that it is of, and counts as the last of them that has a weight.
        #[test]
        fn every_token_counts_its_weight(
            numbers in proptest::array::uniform6(0..40_u64),
            given in proptest::array::uniform5(proptest::option::of(0..3_000_u32)),
        ) {
            use TokenKind::{CacheCreationInput, CachedInput, Input, Output, Reasoning};
            let kinds: [&[TokenKind]; 6] = [
                &[],
                &[Input],
                &[Input, CachedInput],
                &[Input, CacheCreationInput],
                &[Output],
                &[Output, Reasoning],
            ];
            let given = TokenKind::ALL.into_iter().zip(given);
            let given: Vec<_> = given.filter_map(|(kind, one)| Some((kind, one?))).collect();
            let tokens: Vec<&[TokenKind]> = kinds
                .iter()
                .zip(numbers)
                .flat_map(|(kinds, number)| (0..number).map(move |_| *kinds))
                .collect();
            for unit in [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Requests] {
                let within = TokenKind::within(&unit);
                let is_of = |token: &&&[TokenKind]| match TokenKind::parse(unit.name()) {
                    Some(kind) => token.contains(&kind),
                    None => true,
                };
                let mut thousandths = 0_u64;
                for token in tokens.iter().filter(is_of) {
                    let own = token.iter().rev().filter(|kind| within.contains(kind));
                    let weight = own.filter_map(|kind| given.iter().find(|(one, _)| one == kind));
                    thousandths += weight.map(|(_, one)| u64::from(*one)).next().unwrap_or(1_000);
                }
                let expected = Some(thousandths.div_ceil(1_000));
                let count = |kind: TokenKind| {
                    let of = tokens.iter().filter(|token| token.contains(&kind));
                    (kind.unit(), of.count() as u64)
                };
                let all = (unit.clone(), tokens.iter().filter(is_of).count() as u64);
                let named: Vec<_> = TokenKind::ALL.map(count).into_iter().chain([all]).collect();
                let cost = named.iter().fold(Cost::one_request(), |cost, (unit, amount)| {
                    cost.with(unit.clone(), Amount::new(*amount).unwrap())
                });
                prop_assert_eq!(counted(weights(&given), &unit, &named), expected);
                let cost = weights(&given).of_cost(&unit, &cost).get();
                prop_assert_eq!(Some(cost), expected);
            }
        }
    }
}
