//! Parses a JSON body in one pass that finds every problem and copies strings only if necessary.
//!
//! `serde`'s derive stops at the first invalid value. Here an invalid value is skipped and recorded with its path, and
//! parsing continues; only a syntax error ends it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::problem::{FieldProblem, Problem};

/// The most problems in an answer.
pub(super) const MAX_LISTED_PROBLEMS: usize = 100;
/// The most characters of a client's name that are shown in a path.
const MAX_SHOWN_NAME_CHARS: usize = 64;

/// The path of a value in a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    /// The whole body.
    Body,
    /// The member of this name.
    Member(&'p Path<'p>, &'p str),
    /// The element at this index.
    Element(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("body"),
            Self::Member(Path::Body, name) => write!(f, "{}", Shown(name)),
            Self::Member(parent, name) => write!(f, "{parent}.{}", Shown(name)),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A name as it is shown in a path: shortened, with control characters escaped.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(MAX_SHOWN_NAME_CHARS) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// The problems of a body.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<FieldProblem>,
    omitted: usize,
}

impl Problems {
    /// Records that the value at `path` has `problem`.
    #[cold]
    pub(super) fn add(
        &mut self,
        path: Path<'_>,
        problem: impl Into<Cow<'static, str>>,
        accepted: impl Into<Cow<'static, str>>,
    ) {
        if self.listed.len() < MAX_LISTED_PROBLEMS {
            self.listed.push(FieldProblem::new(path.to_string(), problem, accepted));
        } else {
            self.omitted += 1;
        }
    }

    /// How many were found.
    pub(super) fn count(&self) -> usize {
        self.listed.len() + self.omitted
    }
}

/// A parsed value: a scalar, or the kind of a container.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'de> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A whole number from 0 to 2^64 − 1.
    Integer(u64),
    /// A whole number below 0.
    Negative,
    /// Any other number: with a fraction or an exponent, or too large for the kinds above.
    OtherNumber,
    /// A string.
    Text(Cow<'de, str>),
    /// An array; a [`Container`] received its elements.
    Array,
    /// An object; a [`Container`] received its members.
    Object,
}

impl Value<'_> {
    /// Its type in the words of a problem: "is a string".
    pub(super) fn is(&self) -> &'static str {
        match self {
            Self::Null => "is null",
            Self::Bool => "is a boolean",
            Self::Negative => "is negative",
            Self::Integer(_) | Self::OtherNumber => "is a number",
            Self::Text(_) => "is a string",
            Self::Array => "is an array",
            Self::Object => "is an object",
        }
    }
}

/// Receives the members or elements of the parsed value. By default they are skipped.
pub(super) trait Container<'de> {
    /// Receives the members of an object.
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    /// Receives the elements of an array.
    fn array<A: SeqAccess<'de>>(&mut self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Used if a scalar is expected: skips the content of containers.
pub(super) struct Scalar;

impl Container<'_> for Scalar {}

/// Parses one value of any kind and passes its content to the container.
pub(super) struct Read<'c, C>(pub(super) &'c mut C);

impl<'de, C: Container<'de>> DeserializeSeed<'de> for Read<'_, C> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, C: Container<'de>> Visitor<'de> for Read<'_, C> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(u64::try_from(value).map_or(Value::Negative, Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(if value < 0.0 { Value::Negative } else { Value::OtherNumber })
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Value<'de>, A::Error> {
        self.0.array(elements).map(|()| Value::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value<'de>, A::Error> {
        self.0.object(members).map(|()| Value::Object)
    }
}

/// Parses the name of a member.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Parses `body` with `read`, which records problems and returns `None` if an essential part is invalid.
///
/// 400 if the body is not JSON; 422 with all problems if there are any.
pub(super) fn read_body<'de, T>(
    body: &'de [u8],
    read: impl FnOnce(&mut SliceDeserializer<'de>, &mut Problems) -> serde_json::Result<Option<T>>,
) -> Result<T, Problem> {
    let mut problems = Problems::default();
    let mut from = serde_json::Deserializer::from_slice(body);
    let value = read(&mut from, &mut problems)
        .and_then(|value| from.end().map(|()| value))
        .map_err(|error| Problem::malformed_json(&error.to_string()))?;
    match value {
        Some(value) if problems.listed.is_empty() => Ok(value),
        _ => Err(Problem::invalid_fields(problems.listed, problems.omitted)),
    }
}

/// The parser of a body's bytes.
pub(super) type SliceDeserializer<'de> = serde_json::Deserializer<serde_json::de::SliceRead<'de>>;
