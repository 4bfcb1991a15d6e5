//! Collects problems, and describes values and their positions.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;

use crate::document::{Entry, Node, Value};
use crate::problem::{DocumentProblem, Position, Problems};

/// The most characters of a value or key that a message shows.
const MAX_SHOWN_CHARS: usize = 40;

/// The longest name that is compared with the accepted ones, in bytes.
const MAX_COMPARED_BYTES: usize = 64;

/// The place of a value: its position and its path, which is only written out for a problem.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    position: Option<Position>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl At<'_> {
    /// The document itself, which starts at `position`.
    pub fn root(position: Option<Position>) -> Self {
        Self { parent: None, step: Step::Root, position }
    }

    /// The value of `entry` in the map here.
    pub fn field<'b>(&'b self, entry: &'b Entry) -> At<'b> {
        At { parent: Some(self), step: Step::Field(&entry.key), position: entry.node.position }
    }

    /// The key of `entry` in the map here.
    pub fn key<'b>(&'b self, entry: &'b Entry) -> At<'b> {
        At { parent: Some(self), step: Step::Field(&entry.key), position: entry.key_position }
    }

    /// The missing field `name` of the map here.
    pub fn missing<'b>(&'b self, name: &'b str) -> At<'b> {
        At { parent: Some(self), step: Step::Field(name), position: self.position }
    }

    /// The item number `index` of the list here.
    pub fn item<'b>(&'b self, index: usize, item: &Node) -> At<'b> {
        At { parent: Some(self), step: Step::Item(index), position: item.position }
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        match self.step {
            Step::Root => {}
            Step::Item(index) => _ = write!(path, "[{index}]"),
            Step::Field(name) => push_field(path, name),
        }
    }
}

/// Adds the field `name` to `path`.
pub(crate) fn push_field(path: &mut String, name: &str) {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.len() <= MAX_COMPARED_BYTES && name.chars().all(plain) {
        let dot = if path.is_empty() { "" } else { "." };
        _ = write!(path, "{dot}{name}");
    } else {
        _ = write!(path, "[{}]", Quoted(name));
    }
}

/// A text in quotes, shortened and escaped, so that no control character reaches a terminal or a log.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_SHOWN_CHARS) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// A value as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) | Value::Date(text) => shortened(text),
        Value::String(text) => Quoted(text).to_string(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

/// A text as messages show it: in quotes, escaped and shortened.
pub(crate) fn shown_text(text: &str) -> String {
    Quoted(text).to_string()
}

/// The text of a number or date, shortened; it contains no character that needs an escape.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Report {
    kept: Vec<DocumentProblem>,
    omitted: usize,
}

impl Report {
    /// `value`, or the problems of the document called `name` if there are any.
    pub fn into_result<T>(self, name: &str, value: T) -> Result<T, Problems> {
        if self.kept.is_empty() { Ok(value) } else { Err(self.into_problems(name)) }
    }

    /// The problems of the document called `name`. There must be at least one.
    pub fn into_problems(self, name: &str) -> Problems {
        Problems::of(name, self.kept, self.omitted)
    }

    /// Adds a problem of the value at `at`.
    pub fn problem(
        &mut self,
        at: &At<'_>,
        message: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        if self.kept.len() >= Problems::MAX_KEPT {
            self.omitted += 1;
            return;
        }
        let mut path = String::new();
        at.write_path(&mut path);
        let (position, message, accepted) = (at.position, message.into(), accepted.into());
        self.kept.push(DocumentProblem { position, path, message, accepted });
    }

    /// Adds the problem that `value` has another type than what is accepted.
    pub fn mismatch(&mut self, at: &At<'_>, value: &Value, accepted: impl Into<String>) {
        let shown = shown(value);
        let message = match value {
            Value::Null | Value::List(_) | Value::Map(_) => format!("is {shown}"),
            Value::Bool(_) => format!("{shown} is a boolean"),
            Value::Number(_) => format!("{shown} is a number"),
            Value::Date(_) => format!("{shown} is a date or time"),
            Value::String(_) => format!("{shown} is a text"),
        };
        self.problem(at, message, accepted);
    }

    /// The text at `at`. A value that looks like a number, a boolean or a date is not taken as a text.
    pub fn text<'n>(&mut self, at: &At<'_>, value: &'n Value, accepted: &str) -> Option<&'n str> {
        match value {
            Value::String(text) => return Some(text),
            Value::Bool(_) | Value::Number(_) | Value::Date(_) => {
                let quoted = format!("{accepted}; put it in quotes to mean the text");
                self.mismatch(at, value, quoted);
            }
            Value::Null | Value::List(_) | Value::Map(_) => self.mismatch(at, value, accepted),
        }
        None
    }

    /// The boolean in the optional field `field`.
    pub fn flag(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        field: &str,
        default: bool,
    ) -> Option<bool> {
        let Some(entry) = fields.get(field) else { return Some(default) };
        if let Value::Bool(flag) = &entry.node.value {
            return Some(*flag);
        }
        self.mismatch(&at.field(entry), &entry.node.value, "`true` or `false`");
        None
    }

    /// The optional field `field`, one of a few names.
    pub fn named<T: Copy>(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        field: &str,
        names: &Names<T>,
        default: T,
    ) -> Option<T> {
        let Some(entry) = fields.get(field) else { return Some(default) };
        let at = at.field(entry);
        let name = self.text(&at, &entry.node.value, names.accepted)?;
        let value = (names.parse)(name);
        if value.is_none() {
            let near = did_you_mean(name, names.known);
            let message = format!("{} is not accepted{near}", shown(&entry.node.value));
            self.problem(&at, message, names.accepted);
        }
        value
    }

    /// The fields of a map, which must be among `known`, each at most once.
    pub fn fields<'n>(&mut self, at: &At<'_>, entries: &'n [Entry], known: &[&str]) -> Fields<'n> {
        self.fields_beside(at, entries, known, |_| false)
    }

    /// The same, without the fields that are `ignored`, whatever they hold.
    pub fn fields_beside<'n>(
        &mut self,
        at: &At<'_>,
        entries: &'n [Entry],
        known: &[&str],
        ignored: fn(&str) -> bool,
    ) -> Fields<'n> {
        for entry in self.distinct(at, entries) {
            if !known.contains(&entry.key.as_str()) && !ignored(&entry.key) {
                let message = format!("is not a field{}", did_you_mean(&entry.key, known));
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                self.problem(&at.key(entry), message, names.join(", "));
            }
        }
        Fields(entries)
    }

    /// The entries of a map without duplicate keys, which are reported.
    pub fn distinct<'n>(&mut self, at: &At<'_>, entries: &'n [Entry]) -> Vec<&'n Entry> {
        let mut firsts: HashMap<&str, Option<Position>> = HashMap::new();
        let mut distinct = Vec::with_capacity(entries.len());
        for entry in entries {
            match firsts.get(entry.key.as_str()) {
                None => {
                    firsts.insert(&entry.key, entry.key_position);
                    distinct.push(entry);
                }
                Some(first) => {
                    let on_line = first.map(|at| format!(", first on line {}", at.line));
                    let message = format!("is given twice{}", on_line.unwrap_or_default());
                    self.problem(&at.key(entry), message, "each key once");
                }
            }
        }
        distinct
    }
}

/// The names of a field that takes one of a few.
#[derive(Debug)]
pub struct Names<T> {
    /// What a name stands for; `None` if it is not one of them.
    pub parse: fn(&str) -> Option<T>,
    /// The names, of which a message proposes the nearest.
    pub known: &'static [&'static str],
    /// The names as a message lists them.
    pub accepted: &'static str,
}

/// The entries of a map whose keys have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'n>(&'n [Entry]);

impl<'n> Fields<'n> {
    /// The first entry with the key `name`.
    pub fn get(&self, name: &str) -> Option<&'n Entry> {
        self.0.iter().find(|entry| entry.key == name)
    }

    /// The same, if its value is not null: for fields where null means the same as omitting them.
    pub fn given(&self, name: &str) -> Option<&'n Entry> {
        self.get(name).filter(|entry| entry.node.value != Value::Null)
    }
}

/// A suggestion of the accepted name that is nearest to `name`; empty if none is near.
pub(super) fn did_you_mean(name: &str, accepted: &[&str]) -> String {
    nearest(name, accepted).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

fn nearest<'a>(name: &str, accepted: &[&'a str]) -> Option<&'a str> {
    if name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['_', '-', ' '], "");
    let wanted = plain(name);
    let distance = |candidate: &str| strsim::osa_distance(&wanted, &plain(candidate));
    let (distance, near) =
        accepted.iter().map(|candidate| (distance(candidate), *candidate)).min()?;
    // Up to a third of the letters may differ.
    (distance <= 3 && distance * 3 <= near.len().max(3)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_proposed_and_a_far_one_is_not() {
        let accepted = ["limit", "windowSeconds", "id"];
        let cases = [
            ("limt", Some("limit")),
            ("Limit", Some("limit")),
            ("window_seconds", Some("windowSeconds")),
            ("windowSecs", Some("windowSeconds")),
            ("ID", Some("id")),
            ("burst", None),
            ("", None),
        ];
        for (name, near) in cases {
            assert_eq!(nearest(name, &accepted), near, "{name:?}");
        }
        assert_eq!(nearest(&"limit".repeat(1_000), &accepted), None);
    }

    #[test]
    fn shown_texts_are_escaped_and_shortened() {
        assert_eq!(shown(&Value::String("a\u{1b}[2J".to_owned())), r#""a\u{1b}[2J""#);
        let long = shown(&Value::String("é".repeat(50)));
        assert_eq!(long, format!("\"{}\"…", "é".repeat(MAX_SHOWN_CHARS)));
        assert_eq!(shown(&Value::Number("9".repeat(50))), format!("{}…", "9".repeat(40)));
    }

    #[test]
    fn keys_that_are_no_plain_names_are_quoted_in_paths() {
        let entry = |key: &str| Entry {
            key: key.to_owned(),
            key_position: None,
            node: Node::unplaced(Value::Null),
        };
        let root = At::root(None);
        for (key, path) in
            [("user", "match.user"), ("a.b", r#"match["a.b"]"#), ("", r#"match[""]"#)]
        {
            let (outer, inner) = (entry("match"), entry(key));
            let mut shown = String::new();
            root.field(&outer).key(&inner).write_path(&mut shown);
            assert_eq!(shown, path);
        }
    }
}
