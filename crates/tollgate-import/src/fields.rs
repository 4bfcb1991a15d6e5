//! Reads the fields of a map, with errors that name the place.

use tollgate_catalog::Position;
use tollgate_catalog::document::{Entry, Node, Value};

use crate::ImportError;

/// The fields of a map.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    /// Where the map starts.
    pub(crate) position: Option<Position>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`, which messages call `name`; each may be given once.
    pub(crate) fn of(node: &'n Node, name: &str) -> Result<Self, ImportError> {
        let Value::Map(entries) = &node.value else {
            let message = format!("is {}", kind(&node.value));
            return Err(ImportError::at(node.position, name, message, "a map"));
        };
        let mut seen = std::collections::HashSet::new();
        match entries.iter().find(|entry| !seen.insert(entry.key.as_str())) {
            None => Ok(Self { entries, position: node.position }),
            Some(twice) => {
                let path = field_path(name, &twice.key);
                Err(ImportError::at(twice.key_position, &path, "is given twice", "each key once"))
            }
        }
    }

    /// The field `name`, unless it is null.
    pub(crate) fn get(&self, name: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == name && entry.node.value != Value::Null)
    }

    /// All fields, in the order of the document.
    pub(crate) fn iter(&self) -> std::slice::Iter<'n, Entry> {
        self.entries.iter()
    }

    /// The text in the optional field `name`. Numbers and booleans are taken as they are written.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'n str>, ImportError> {
        let Some(entry) = self.get(name) else { return Ok(None) };
        scalar(&entry.node).map(Some).ok_or_else(|| wrong(entry, "a text"))
    }

    /// The list in the optional field `name`; empty if it is not given.
    pub(crate) fn list(&self, name: &str) -> Result<&'n [Node], ImportError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Entry { node: Node { value: Value::List(items), .. }, .. }) => Ok(items),
            Some(entry) => Err(wrong(entry, "a list")),
        }
    }

    /// The flag in the optional field `name`; false if it is not given.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ImportError> {
        match self.get(name).map(|entry| (&entry.node.value, entry)) {
            None => Ok(false),
            Some((Value::Bool(flag), _)) => Ok(*flag),
            Some((_, entry)) => Err(wrong(entry, "true or false")),
        }
    }

    /// The number in the optional field `name`, with its position.
    pub(crate) fn number(&self, name: &str) -> Result<Option<&'n Node>, Unreadable> {
        match self.get(name) {
            None => Ok(None),
            Some(entry) if matches!(entry.node.value, Value::Number(_)) => Ok(Some(&entry.node)),
            Some(entry) => Err(Unreadable::of(entry)),
        }
    }
}

/// A value that is no number where one is read. It does not show the value, which may be a secret.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) position: Option<Position>,
    /// The field.
    pub(crate) name: String,
    /// Such as `it is a text, not a number`.
    pub(crate) why: String,
}

impl Unreadable {
    pub(crate) fn of(entry: &Entry) -> Self {
        let why = format!("it is {}, not a number", kind(&entry.node.value));
        Self { position: entry.node.position, name: entry.key.clone(), why }
    }
}

/// The error of a field of another type than what is `accepted`. It does not show the value, which may be a secret.
pub(crate) fn wrong(entry: &Entry, accepted: &str) -> ImportError {
    let message = format!("is {}", kind(&entry.node.value));
    ImportError::at(entry.node.position, &entry.key, message, accepted)
}

/// The text of a scalar, unchanged.
pub(crate) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::String(text) | Value::Number(text) | Value::Date(text) => Some(text),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Date(_) => "a date",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

fn field_path(name: &str, field: &str) -> String {
    if name.is_empty() { field.to_owned() } else { format!("{name}.{field}") }
}
