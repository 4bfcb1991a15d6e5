//! Reads the fields of a document, and collects all problems.

use std::ops::RangeInclusive;
use std::time::Duration;

use tollgate_catalog::document::{Entry, Node, Value};
use tollgate_catalog::{DocumentProblem, Position};

/// The longest value that a message shows, in characters.
const MAX_SHOWN_CHARS: usize = 40;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<DocumentProblem>,
}

/// A map whose fields are read.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    position: Option<Position>,
    path: String,
}

/// A value with its path.
#[derive(Clone)]
pub(super) struct Field<'n> {
    pub(super) value: &'n Value,
    pub(super) position: Option<Position>,
    pub(super) path: String,
}

impl<'n> Field<'n> {
    fn of(node: &'n Node, path: String) -> Self {
        Self { value: &node.value, position: node.position, path }
    }
}

impl Reader {
    pub(super) fn problem(
        &mut self,
        (position, path): (Option<Position>, &str),
        message: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        let (message, accepted) = (message.into(), accepted.into());
        self.problems.push(DocumentProblem { position, path: path.to_owned(), message, accepted });
    }

    /// Adds a problem of `field`.
    pub(super) fn refuse(&mut self, field: &Field<'_>, message: &str, accepted: &str) {
        self.problem((field.position, &field.path), message, accepted);
    }

    /// Adds the problem that the value of `field` is not accepted.
    pub(super) fn mismatch(&mut self, field: &Field<'_>, accepted: &str) {
        let message = match field.value {
            Value::Null | Value::List(_) | Value::Map(_) => format!("is {}", shown(field.value)),
            Value::Bool(_) => format!("{} is a boolean", shown(field.value)),
            Value::Number(_) => format!("{} is a number", shown(field.value)),
            Value::Date(_) => format!("{} is a date or time", shown(field.value)),
            Value::String(_) => format!("{} is not accepted", shown(field.value)),
        };
        self.refuse(field, &message, accepted);
    }

    /// The fields of the map in `field`, each of them `known` and given once.
    pub(super) fn fields<'n>(&mut self, field: &Field<'n>, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Map(entries) = field.value else {
            self.mismatch(field, "a map");
            return None;
        };
        let prefix = if field.path.is_empty() { String::new() } else { format!("{}.", field.path) };
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("{prefix}{}", shortened(&entry.key));
            if entries[..index].iter().any(|earlier| earlier.key == entry.key) {
                self.problem((entry.key_position, &path), "is given twice", "each key once");
            } else if !known.contains(&entry.key.as_str()) {
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                self.problem((entry.key_position, &path), "is not a field", names.join(", "));
            }
        }
        Some(Fields { entries, position: field.position, path: prefix })
    }

    /// The value of the field `name`, which must be given.
    pub(super) fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        name: &str,
        accepted: &str,
    ) -> Option<Field<'n>> {
        let field = fields.get(name);
        if field.is_none() {
            let path = format!("{}{name}", fields.path);
            self.problem((fields.position, &path), "is missing", accepted);
        }
        field
    }

    /// The text in `field`, which `accepted` describes.
    pub(super) fn text<'n>(&mut self, field: &Field<'n>, accepted: &str) -> Option<&'n str> {
        match field.value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => {
                self.mismatch(field, accepted);
                None
            }
        }
    }

    /// The items of the list in `field`.
    pub(super) fn items<'n>(&mut self, field: &Field<'n>, accepted: &str) -> Vec<Field<'n>> {
        let Value::List(items) = field.value else {
            self.mismatch(field, accepted);
            return Vec::new();
        };
        let place = |(index, item)| Field::of(item, format!("{}[{index}]", field.path));
        items.iter().enumerate().map(place).collect()
    }

    /// The integer in the optional field `name`, within `range`.
    pub(super) fn integer(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(field) = fields.get(name) else { return default };
        let number = match field.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let accepted = format!("an integer from {} to {}", range.start(), range.end());
            let message = format!("{} is not accepted", shown(field.value));
            self.refuse(&field, &message, &accepted);
            default
        })
    }

    /// The same, in milliseconds.
    pub(super) fn milliseconds(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        range: RangeInclusive<u64>,
        default: Duration,
    ) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.integer(fields, name, range, default))
    }

    /// The flag in the optional field `name`.
    pub(super) fn flag(&mut self, fields: &Fields<'_>, name: &str, default: bool) -> bool {
        let Some(field) = fields.get(name) else { return default };
        if let Value::Bool(flag) = field.value {
            return *flag;
        }
        self.mismatch(&field, "`true` or `false`");
        default
    }

    /// One of a few `names` in the optional field `name`.
    pub(super) fn named<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        names: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(field) = fields.get(name) else { return default };
        self.name_in(&field, names).unwrap_or(default)
    }

    /// One of a few `names` in `field`.
    pub(super) fn name_in<T: Copy>(&mut self, field: &Field<'_>, names: &[(&str, T)]) -> Option<T> {
        let found = match field.value {
            Value::String(text) => names.iter().find(|(known, _)| known == text),
            _ => None,
        };
        if found.is_none() {
            let accepted: Vec<_> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.mismatch(field, &accepted.join(" or "));
        }
        found.map(|(_, value)| *value)
    }
}

impl<'n> Fields<'n> {
    /// The field `name`, unless it is null.
    pub(super) fn get(&self, name: &str) -> Option<Field<'n>> {
        let entry = self.entries.iter().find(|entry| entry.key == name);
        let entry = entry.filter(|entry| entry.node.value != Value::Null)?;
        Some(Field::of(&entry.node, format!("{}{name}", self.path)))
    }
}

/// The document itself as a value.
pub(super) fn root(document: &Node) -> Field<'_> {
    Field::of(document, String::new())
}

/// A value as messages show it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) | Value::Date(text) => shortened(text),
        Value::String(text) => format!("{:?}", shortened(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
