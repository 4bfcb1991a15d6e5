//! The patterns that conditions compare values with, as policies write them.

use std::fmt;
use std::net::IpAddr;

use super::network::{Network, NetworkProblem};
use super::{Precision, folded};
use crate::Attribute;
use crate::subject::{IdProblem, check_id};

/// What [`Pattern::parse`] accepts, for messages.
pub const ACCEPTED_PATTERNS: &str = "1 to 256 bytes of UTF-8 without control characters; an asterisk at the end stands for any \
     continuation, `\\*` is an asterisk itself";

/// What [`Pattern::parse`] accepts for the attribute `ip`, for messages.
pub const ACCEPTED_ADDRESS_PATTERNS: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7, or a CIDR block, such as \
     10.0.0.0/8 or 2001:db8::/32";

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This value; an address in its canonical form.
    Exact(String),
    /// A value that begins with this, which may be empty.
    Prefix(String),
    /// An address in this block.
    Network(Network),
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternProblem {
    /// Its text is not one of a value.
    Text(IdProblem),
    /// It has an asterisk before its end.
    AsteriskInside,
    /// It is neither an address nor a block.
    Network(NetworkProblem),
}

impl fmt::Display for PatternProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(problem) => problem.fmt(f),
            Self::AsteriskInside => f.write_str("has an asterisk before its end"),
            Self::Network(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for PatternProblem {}

impl Pattern {
    /// The pattern that `text` writes for `attribute`.
    ///
    /// A text that ends in an asterisk is a prefix. `\*` is an asterisk and `\\` a backslash; a backslash before anything
    /// else is itself. For the attribute `ip` the text is an address or a CIDR block instead.
    pub fn parse(attribute: &Attribute, text: &str) -> Result<Self, PatternProblem> {
        if *attribute == Attribute::Ip {
            return address(text).map_err(PatternProblem::Network);
        }
        let (mut literal, mut is_prefix) = (String::with_capacity(text.len()), false);
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '*' if rest.peek().is_none() => is_prefix = true,
                '*' => return Err(PatternProblem::AsteriskInside),
                '\\' => literal.push(rest.next_if(|next| matches!(next, '*' | '\\')).unwrap_or(c)),
                _ => literal.push(c),
            }
        }
        match check_id(&literal) {
            Err(IdProblem::Empty) if is_prefix => {}
            checked => checked.map_err(PatternProblem::Text)?,
        }
        Ok(if is_prefix { Self::Prefix(literal) } else { Self::Exact(literal) })
    }

    /// How precisely it describes `value`; `None` if it does not match it.
    pub fn precision(&self, value: &str, ignore_case: bool) -> Option<Precision> {
        let comparable = |text| if ignore_case { folded(text) } else { text.into() };
        match self {
            Self::Exact(exact) => {
                (comparable(exact) == comparable(value)).then_some(Precision::EXACT)
            }
            Self::Prefix(prefix) => {
                let prefix = comparable(prefix);
                let matches = comparable(value).starts_with(&*prefix);
                matches.then(|| Precision::of_length(prefix.len()))
            }
            Self::Network(network) => {
                let address: IpAddr = value.parse().ok()?;
                let contains = network.contains_address(address);
                contains.then(|| Precision::of_length(network.length().into()))
            }
        }
    }
}

/// The pattern for an address or a block of them. A block of one address is that address.
fn address(text: &str) -> Result<Pattern, NetworkProblem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Pattern::Exact(address.to_canonical().to_string()));
    }
    let network = Network::parse(text)?;
    Ok(match network.single_address() {
        Some(address) => Pattern::Exact(address.to_string()),
        None => Pattern::Network(network),
    })
}

/// Writes the pattern so that [`Pattern::parse`] reads it back.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, end) = match self {
            Self::Network(network) => return network.fmt(f),
            Self::Exact(text) => (text, None),
            Self::Prefix(text) => (text, Some('*')),
        };
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            // A backslash is only doubled where it would be read together with what follows.
            let next = rest.peek().copied().or(end);
            if c == '*' || c == '\\' && matches!(next, Some('*' | '\\')) {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        end.map_or(Ok(()), |asterisk| write!(f, "{asterisk}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Pattern, PatternProblem> {
        Pattern::parse(&Attribute::Model, text)
    }

    #[test]
    fn an_asterisk_at_the_end_makes_a_prefix() {
        let exact = |text: &str| Ok(Pattern::Exact(text.to_owned()));
        let prefix = |text: &str| Ok(Pattern::Prefix(text.to_owned()));
        let cases = [
            ("gpt-4", exact("gpt-4")),
            ("gpt-4*", prefix("gpt-4")),
            ("openai/*", prefix("openai/")),
            ("*", prefix("")),
            (r"gpt\*", exact("gpt*")),
            (r"gpt\**", prefix("gpt*")),
            (r"a\*b", exact("a*b")),
            (r"DOM\alice", exact(r"DOM\alice")),
            (r"a\\*", prefix(r"a\")),
            (r"a\", exact(r"a\")),
            ("a*b", Err(PatternProblem::AsteriskInside)),
            ("**", Err(PatternProblem::AsteriskInside)),
            ("*a", Err(PatternProblem::AsteriskInside)),
            ("", Err(PatternProblem::Text(IdProblem::Empty))),
            ("a\nb*", Err(PatternProblem::Text(IdProblem::Control('\n')))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
        assert!(parse(&"a".repeat(256)).is_ok() && parse(&format!("{}*", "a".repeat(256))).is_ok());
        let long = Err(PatternProblem::Text(IdProblem::TooLong(257)));
        assert_eq!(parse(&"a".repeat(257)), long);
    }

    #[test]
    fn addresses_and_blocks_are_canonical() {
        let cases = [
            ("2001:DB8:0::8", "2001:db8::8"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
            ("::ffff:9.9.0.0/112", "9.9.0.0/16"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1/32", "10.0.0.1"),
        ];
        for (text, canonical) in cases {
            let pattern = Pattern::parse(&Attribute::Ip, text).unwrap();
            assert_eq!(pattern.to_string(), canonical, "{text}");
        }
        for text in ["*", "10.*", "localhost", ""] {
            let problem = PatternProblem::Network(NetworkProblem::NotABlock);
            assert_eq!(Pattern::parse(&Attribute::Ip, text), Err(problem), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_reads_back(text in r"[a\\*]{1,6}", is_prefix in proptest::bool::ANY) {
            let pattern = if is_prefix { Pattern::Prefix(text) } else { Pattern::Exact(text) };
            proptest::prop_assert_eq!(parse(&pattern.to_string()), Ok(pattern));
        }
    }
}
