//! Parses the attributes of a check.

use std::borrow::Cow;

use serde::de::MapAccess;
use tollgate_core::Attribute;
use tollgate_core::subject::check_id;

use super::super::json::{Container, Name, Path, Problems, Read, Scalar, Value};
use super::{MAX_ATTRIBUTES, ONCE, id};

const ACCEPTED_ATTRIBUTES: &str = "an object of at most 32 strings";

/// Names and values, as the client sent them.
pub(super) type Attributes<'de> = Vec<(Cow<'de, str>, Cow<'de, str>)>;

/// Parses `attributes`: an object of ids by name.
pub(super) struct AttributesReader<'p, 'de> {
    path: Path<'p>,
    problems: &'p mut Problems,
    attributes: Attributes<'de>,
}

impl<'p, 'de> AttributesReader<'p, 'de> {
    pub(super) fn read<A: MapAccess<'de>>(
        path: Path<'p>,
        from: &mut A,
        problems: &'p mut Problems,
    ) -> Result<Attributes<'de>, A::Error> {
        let mut reader = Self { path, problems, attributes: Vec::new() };
        match from.next_value_seed(Read(&mut reader))? {
            Value::Object | Value::Null => {}
            other => reader.problems.add(path, other.is(), ACCEPTED_ATTRIBUTES),
        }
        Ok(reader.attributes)
    }

    /// Records the problem of an attribute's name.
    fn check_name(&mut self, name: &str) {
        let path = Path::Member(&self.path, name);
        if let Err(problem) = check_id(name) {
            let accepted = "names of 1 to 256 bytes of UTF-8 without control characters";
            self.problems.add(path, format!("has a name that {problem}"), accepted);
        } else if let Some(accepted) = own_field(name) {
            self.problems.add(path, "is not an attribute: it has a field of its own", accepted);
        } else if let Some(like) = Attribute::resembled_by(name) {
            let accepted =
                own_field(like).map_or_else(|| format!("the attribute {like}"), str::to_owned);
            let problem = format!("resembles the built-in attribute `{like}`, but is not the same");
            self.problems.add(path, problem, accepted);
        } else if self.attributes.iter().any(|(known, _)| known == name) {
            self.problems.add(path, "is given twice", ONCE);
        }
    }
}

impl<'de> Container<'de> for AttributesReader<'_, 'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(name) = members.next_key_seed(Name)? {
            let value = members.next_value_seed(Read(&mut Scalar))?;
            count += 1;
            if count > MAX_ATTRIBUTES {
                continue;
            }
            self.check_name(&name);
            if let Some(value) = id(Path::Member(&self.path, &name), value, self.problems) {
                self.attributes.push((name, value));
            }
        }
        if count > MAX_ATTRIBUTES {
            self.problems.add(self.path, format!("has {count} members"), ACCEPTED_ATTRIBUTES);
        }
        Ok(())
    }
}

/// The member of the check to use instead of this attribute.
fn own_field(attribute: &str) -> Option<&'static str> {
    Some(match attribute {
        "user" => "the field userId of the check",
        "model" => "the field modelId of the check",
        "tenant" => "the field tenantId of the check",
        "apiKey" => "the field apiKey of the check",
        "service" => "the field service of the check",
        "ip" => "the field ip of the check",
        _ => return None,
    })
}
