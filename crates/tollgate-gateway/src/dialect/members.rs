//! Replaces members of a JSON object. All other bytes of the object stay the same.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most members of an object that is rewritten.
pub(super) const MAX_MEMBERS: usize = 256;

/// An object whose values are kept as they are written.
#[derive(Clone, Debug)]
pub(super) struct Members {
    text: Bytes,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    value: Range<usize>,
}

/// Why a text is not such an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MembersProblem {
    /// It is not JSON, or not an object; says where and why, and shows nothing of it.
    Syntax(String),
    /// This member is given twice. Different servers would read different values.
    Twice(String),
    /// It has more than [`MAX_MEMBERS`] members.
    TooMany,
}

/// The members of an object, in order, borrowed from its text.
struct Borrowed<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Borrowed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Borrowed<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    // One more than the bound shows that there are too many.
                    if members.len() <= MAX_MEMBERS {
                        members.push((name, value));
                    }
                }
                Ok(Borrowed(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Members {
    /// The object in `text`. O(its length), and copies only the names.
    pub(super) fn parse(text: Bytes) -> Result<Self, MembersProblem> {
        let Borrowed(found) = serde_json::from_slice(&text).map_err(|error| syntax(&error))?;
        if found.len() > MAX_MEMBERS {
            return Err(MembersProblem::TooMany);
        }
        let begin = text.as_ptr().addr();
        let mut members: Vec<Member> = Vec::with_capacity(found.len());
        for (name, value) in found {
            if members.iter().any(|member| member.name == name) {
                return Err(MembersProblem::Twice(name.into_owned()));
            }
            let start = value.get().as_ptr().addr() - begin;
            let value = start..start + value.get().len();
            members.push(Member { name: name.into_owned(), value });
        }
        Ok(Self { text, members })
    }

    /// The value of the member `name`, as JSON; `None` if it is not given or null.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.value(name).map(|range| &self.text[range]).filter(|value| *value != b"null")
    }

    /// The same as an object.
    pub(super) fn object(&self, name: &str) -> Option<Result<Self, MembersProblem>> {
        self.get(name)?;
        self.value(name).map(|range| Self::parse(self.text.slice(range)))
    }

    fn value(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().find(|member| member.name == name);
        member.map(|member| member.value.clone())
    }

    /// The object with these members set to these values, in JSON. What is new is added at the end.
    pub(super) fn with(&self, changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let added: usize = changes.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut out = Vec::with_capacity(self.text.len() + added);
        out.push(b'{');
        for member in &self.members {
            let change = changes.iter().find(|(name, _)| *name == member.name);
            let value = change.map_or(&self.text[member.value.clone()], |(_, value)| value);
            write_member(&mut out, &member.name, value);
        }
        for (name, value) in changes {
            if self.value(name).is_none() {
                write_member(&mut out, name, value);
            }
        }
        out.push(b'}');
        out
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(&string(name));
    out.push(b':');
    out.extend_from_slice(value);
}

/// `text` as a JSON string.
pub(super) fn string(text: &str) -> Vec<u8> {
    // Writing a string to memory cannot fail.
    serde_json::to_vec(text).unwrap_or_default()
}

/// Where the text is wrong, without showing any of it.
fn syntax(error: &serde_json::Error) -> MembersProblem {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "the JSON ends too early",
        Category::Data => "the body is not a JSON object",
        Category::Syntax | Category::Io => "the body is not valid JSON",
    };
    MembersProblem::Syntax(format!("{what} (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> Result<Members, MembersProblem> {
        Members::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn values_are_kept_as_they_are_written() {
        let text = r#" {"a" : 1.50, "m\u006fdel":"x", "o": { "in" : [1,  2] }, "n": null} "#;
        let object = members(text).unwrap();
        assert_eq!(object.get("a").unwrap(), b"1.50");
        assert_eq!(object.get("model").unwrap(), br#""x""#);
        assert_eq!((object.get("n"), object.get("z")), (None, None));
        let inner = object.object("o").unwrap().unwrap();
        assert_eq!(inner.get("in").unwrap(), b"[1,  2]");
        let changed = object.with(&[("model", string("y\"z")), ("new", b"7".to_vec())]);
        let expected = r#"{"a":1.50,"model":"y\"z","o":{ "in" : [1,  2] },"n":null,"new":7}"#;
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
    }

    #[test]
    fn what_is_not_one_plain_object_is_refused() {
        for text in ["", "[]", "{", r#"{"a":1,}"#, "{} {}", "\u{feff}{}", r#"{"a":01}"#] {
            assert!(matches!(members(text), Err(MembersProblem::Syntax(_))), "{text:?}");
        }
        let twice = members(r#"{"model":"a","m\u006fdel":"b"}"#).unwrap_err();
        assert_eq!(twice, MembersProblem::Twice("model".to_owned()));
        let many: Vec<_> = (0..=MAX_MEMBERS).map(|number| format!("\"{number}\":0")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(members(&many).unwrap_err(), MembersProblem::TooMany);
        let secret = members(r#"{"prompt": "my secret" "#).unwrap_err();
        assert!(!format!("{secret:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn only_what_is_changed_changes(
            values in proptest::collection::btree_map("[a-z\"\\\\]{1,4}", "[ -~äß]{0,9}", 0..8),
            new in "[ -~]{0,9}",
        ) {
            let text = serde_json::to_string(&values).unwrap();
            let object = members(&text).unwrap();
            let same: std::collections::BTreeMap<String, String> =
                serde_json::from_slice(&object.with(&[])).unwrap();
            prop_assert_eq!(&same, &values);
            for name in values.keys() {
                let changed = object.with(&[(name, string(&new))]);
                let changed: std::collections::BTreeMap<String, String> =
                    serde_json::from_slice(&changed).unwrap();
                let mut expected = values.clone();
                expected.insert(name.clone(), new.clone());
                prop_assert_eq!(changed, expected);
            }
        }
    }
}
