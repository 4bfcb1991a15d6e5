//! Many patterns in one table, which finds those that match a value.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::nested::{Block, NestedBlocks};
use super::{Network, Pattern, Precision, folded};

/// What is held for each of many patterns.
#[derive(Debug)]
pub(crate) struct PatternTable<T> {
    exact: HashMap<Box<str>, T>,
    prefixes: NestedBlocks<Prefix, T>,
    networks: NestedBlocks<Network, T>,
}

/// All values that begin with a text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix(Box<str>);

impl Block for Prefix {
    type Value = str;

    fn key(&self) -> u128 {
        Self::key_of(&self.0)
    }

    /// The first bytes, and zeros after the end.
    #[inline]
    fn key_of(value: &str) -> u128 {
        if let Some(first) = value.as_bytes().first_chunk() {
            return u128::from_be_bytes(*first);
        }
        let mut first = [0; 16];
        first[..value.len()].copy_from_slice(value.as_bytes());
        u128::from_be_bytes(first)
    }

    fn starts_by(&self, value: &str) -> bool {
        *self.0 <= *value
    }

    fn contains(&self, value: &str) -> bool {
        value.starts_with(&*self.0)
    }

    fn contains_block(&self, other: &Self) -> bool {
        self.contains(&other.0)
    }
}

impl<T> PatternTable<T> {
    /// Calls `found` with what is held for each pattern that matches `value`, and how precisely it does.
    ///
    /// O(log(patterns) + how many match).
    #[inline]
    pub(crate) fn find<'t>(&'t self, value: &str, mut found: impl FnMut(&'t T, Precision)) {
        if !self.exact.is_empty()
            && let Some(held) = self.exact.get(value)
        {
            found(held, Precision::EXACT);
        }
        if !self.prefixes.is_empty() {
            for (prefix, held) in self.prefixes.containing(value) {
                found(held, Precision::of_length(prefix.0.len()));
            }
        }
        if !self.networks.is_empty()
            && let Ok(address) = value.parse::<IpAddr>()
        {
            for (network, held) in self.networks.containing(&address.to_canonical()) {
                found(held, Precision::of_length(network.length().into()));
            }
        }
    }

    /// The greatest precision of a pattern that matches `value`; `None` if none does.
    pub(crate) fn precision(&self, value: &str) -> Option<Precision> {
        let mut most_precise = None;
        self.find(value, |_, precision| most_precise = most_precise.max(Some(precision)));
        most_precise
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty() && self.networks.is_empty()
    }
}

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct PatternTableBuilder<T> {
    exact: HashMap<Box<str>, T>,
    prefixes: BTreeMap<Prefix, T>,
    networks: BTreeMap<Network, T>,
}

impl<T> Default for PatternTableBuilder<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: BTreeMap::new(), networks: BTreeMap::new() }
    }
}

impl<T: Default> PatternTableBuilder<T> {
    /// What is held for `pattern`. With `ignore_case`, the table is only right for folded values.
    pub(crate) fn entry(&mut self, pattern: &Pattern, ignore_case: bool) -> &mut T {
        let text = |text: &str| -> Box<str> {
            if ignore_case { folded(text).into() } else { text.into() }
        };
        match pattern {
            Pattern::Exact(exact) => self.exact.entry(text(exact)).or_default(),
            Pattern::Prefix(prefix) => self.prefixes.entry(Prefix(text(prefix))).or_default(),
            Pattern::Network(network) => self.networks.entry(*network).or_default(),
        }
    }

    pub(crate) fn build(self) -> PatternTable<T> {
        PatternTable {
            exact: self.exact,
            prefixes: NestedBlocks::new(self.prefixes),
            networks: NestedBlocks::new(self.networks),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Attribute;

    /// Texts over two letters, one of them in both cases, so that prefixes nest deeply.
    fn text() -> impl Strategy<Value = String> {
        "[aAb]{0,6}"
    }

    /// Addresses that share most of their bits, in both families.
    fn address() -> impl Strategy<Value = String> {
        (any::<bool>(), 0..16_u8).prop_map(|(is_v6, last)| {
            if is_v6 { format!("2001:db8::{last:x}") } else { format!("10.0.0.{last}") }
        })
    }

    fn network() -> impl Strategy<Value = String> {
        let length = prop_oneof![Just(0_u8), Just(8), 24..=32_u8];
        (address(), length).prop_map(|(address, length)| {
            let length = if address.contains(':') { length + 96 } else { length };
            match Network::parse(&format!("{address}/{length}")) {
                Err(super::super::NetworkProblem::HostBits(network)) => network.to_string(),
                _ => format!("{address}/{length}"),
            }
        })
    }

    fn pattern() -> impl Strategy<Value = (Attribute, String)> {
        prop_oneof![
            text().prop_map(|text| (Attribute::Model, text)),
            text().prop_map(|text| (Attribute::Model, format!("{text}*"))),
            prop_oneof![address(), network()].prop_map(|text| (Attribute::Ip, text)),
        ]
    }

    proptest! {
        /// The table finds exactly the patterns that match one by one.
        #[test]
        fn a_table_finds_what_matches(
            patterns in vec(pattern(), 0..40),
            values in vec(prop_oneof![text(), address()], 1..20),
            ignore_case in any::<bool>(),
        ) {
            let patterns: Vec<_> = patterns
                .iter()
                .filter_map(|(attribute, text)| Pattern::parse(attribute, text).ok())
                .collect();
            let mut builder = PatternTableBuilder::<Vec<usize>>::default();
            for (index, pattern) in patterns.iter().enumerate() {
                builder.entry(pattern, ignore_case).push(index);
            }
            let table = builder.build();
            prop_assert_eq!(table.is_empty(), patterns.is_empty());
            for value in &values {
                let mut found = Vec::new();
                let compared = if ignore_case { folded(value) } else { value.into() };
                table.find(&compared, |held, precision| {
                    found.extend(held.iter().map(|index| (*index, precision)));
                });
                found.sort_unstable_by_key(|(index, _)| *index);
                let each = patterns.iter().enumerate();
                let expected: Vec<_> = each
                    .filter_map(|(index, one)| Some((index, one.precision(value, ignore_case)?)))
                    .collect();
                prop_assert_eq!(&found, &expected, "{:?}", value);
                let most = expected.iter().map(|(_, precision)| *precision).max();
                prop_assert_eq!(table.precision(&compared), most);
            }
        }
    }
}
