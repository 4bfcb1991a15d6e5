//! What the `match` of a policy accepts: values, prefixes, address blocks, presence and absence.
//!
//! [`Condition`] is what is stored, and says plainly whether it holds. The private modules hold the same patterns in tables
//! that find the matching ones without going through all of them; tests compare the two.

mod nested;
mod network;
mod pattern;
pub(crate) mod table;

use std::borrow::Cow;

pub use self::network::{Ipv6Prefix, Network, NetworkProblem};
pub use self::pattern::{ACCEPTED_ADDRESS_PATTERNS, ACCEPTED_PATTERNS, Pattern, PatternProblem};
use crate::{Attribute, Subject};

/// One condition of a policy's `match`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The attribute compared.
    pub attribute: Attribute,
    /// What its value may be.
    pub accepted: Accepted,
}

/// What a condition accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Accepted {
    /// A value that one of these patterns matches; never empty.
    AnyOf(Vec<Pattern>),
    /// Any value.
    Present,
    /// No value.
    Absent,
}

/// How precisely a condition describes the value that it accepts; more is more specific.
///
/// Presence and absence are the least precise, then prefixes and address blocks by their length, then exact values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precision(u16);

impl Precision {
    /// That of presence and absence.
    pub const LEAST: Self = Self(0);
    /// That of an exact value.
    pub const EXACT: Self = Self(u16::MAX);

    /// That of a prefix of so many bytes, or of an address block with so many fixed bits.
    fn of_length(length: usize) -> Self {
        Self(u16::try_from(length).unwrap_or(u16::MAX - 1).min(u16::MAX - 1))
    }
}

impl Condition {
    /// The condition that `attribute` has exactly one of `values`.
    pub fn one_of(attribute: Attribute, values: &[&str]) -> Self {
        let exact = values.iter().map(|value| Pattern::Exact((*value).to_owned()));
        Self { attribute, accepted: Accepted::AnyOf(exact.collect()) }
    }

    /// How precisely it describes `subject`; `None` if it does not hold. O(patterns).
    pub fn precision(&self, subject: &Subject<'_>, ignore_case: bool) -> Option<Precision> {
        let value = subject.get(&self.attribute);
        match &self.accepted {
            Accepted::Present => value.map(|_| Precision::LEAST),
            Accepted::Absent => value.is_none().then_some(Precision::LEAST),
            Accepted::AnyOf(patterns) => {
                let value = value?;
                let matching =
                    patterns.iter().filter_map(|pattern| pattern.precision(value, ignore_case));
                matching.max()
            }
        }
    }
}

/// `text` for comparing without regard to case: each character in lower case, by itself.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c.to_lowercase().eq([c])) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_that_matches_counts() {
        let parse = |text: &str| Pattern::parse(&Attribute::Model, text).unwrap();
        let patterns = ["*", "gpt-4*", "gpt-4o", "gpt-*"].map(parse);
        let condition =
            Condition { attribute: Attribute::Model, accepted: Accepted::AnyOf(patterns.to_vec()) };
        let precision = |model| condition.precision(&Subject::new("u", model), false);
        assert_eq!(precision("gpt-4o"), Some(Precision::EXACT));
        assert!(precision("gpt-4o") > precision("gpt-4-turbo"));
        assert!(precision("gpt-4-turbo") > precision("gpt-5"));
        assert!(precision("gpt-5") > precision("llama"));
        assert_eq!(precision("llama"), Some(Precision::LEAST));
        assert_eq!(condition.precision(&Subject::empty(), false), None);
    }

    #[test]
    fn presence_and_absence_ask_for_any_value_and_none() {
        let of = |accepted| Condition { attribute: Attribute::Tenant, accepted };
        let (with, without) = (Subject::empty().with(&Attribute::Tenant, "acme"), Subject::empty());
        let (present, absent) = (of(Accepted::Present), of(Accepted::Absent));
        assert_eq!(present.precision(&with, false), Some(Precision::LEAST));
        assert_eq!(present.precision(&without, false), None);
        assert_eq!(absent.precision(&with, false), None);
        assert_eq!(absent.precision(&without, false), Some(Precision::LEAST));
    }

    #[test]
    fn case_is_ignored_where_that_is_said() {
        let upper = Condition::one_of(Attribute::Model, &["GPT-4", "ÉCOLE"]);
        for model in ["gpt-4", "Gpt-4", "école"] {
            let subject = Subject::new("u", model);
            assert_eq!(upper.precision(&subject, true), Some(Precision::EXACT), "{model}");
            assert_eq!(upper.precision(&subject, false), None, "{model}");
        }
        assert!(matches!(folded("gpt-4"), Cow::Borrowed(_)));
    }
}
