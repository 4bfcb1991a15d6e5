//! The host names that requests may use for the server.

use super::layers::Refused;

/// The maximum number of names.
const MAX_NAMES: usize = 64;
/// The longest name in DNS.
const MAX_NAME_BYTES: usize = 253;

const ACCEPTED: &str = "names of hosts without ports, with commas or white space between, such as tollgate.internal; localhost \
     and IP addresses are always accepted";

/// Host names, in lower case and without a final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Box<str>>);

impl AllowedHosts {
    /// These names; `None` if one of them is not a valid host name.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        names.into_iter().map(name).collect::<Option<_>>().map(Self)
    }

    /// Whether `name` is one of them, ignoring case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn name(text: &str) -> Option<Box<str>> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_one = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(may_be);
    is_one.then(|| name.to_ascii_lowercase().into())
}

/// Parses the names in `text`.
pub(super) fn parse(text: &str) -> Result<AllowedHosts, Refused> {
    let names: Vec<_> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
        .collect();
    let wrong = names.iter().find(|text| name(text).is_none());
    let problem = match (wrong, names.len()) {
        (Some(wrong), _) => format!("{wrong:?} is not the name of a host"),
        (None, 0) => "names no host".to_owned(),
        (None, count) if count > MAX_NAMES => format!("has {count} names, more than {MAX_NAMES}"),
        (None, _) => return Ok(AllowedHosts(names.into_iter().filter_map(name).collect())),
    };
    Err(Refused { problem, accepted: ACCEPTED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_names_and_nothing_else() {
        let names = parse("Tollgate.internal, gate\tb_c.example.,10.0.0.1").unwrap();
        for name in ["tollgate.internal", "GATE", "b_c.example", "10.0.0.1"] {
            assert!(names.has(name), "{name}");
        }
        for name in ["", "tollgate", "tollgate.internal.evil.example", "b_c.example."] {
            assert!(!names.has(name), "{name}");
        }
        for wrong in ["", " , ", "gate:8000", "http://gate", "*.example", "[::1]", "a,b\u{e4}", "."]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(&"a,".repeat(MAX_NAMES + 1)).is_err());
        assert!(parse(&"a".repeat(MAX_NAME_BYTES + 1)).is_err());
    }
}
