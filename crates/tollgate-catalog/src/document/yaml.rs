//! YAML 1.2 with the core schema: the event parser is `granit-parser`; this module builds the tree.
//!
//! It accepts one document with keys that are text and without tags. Aliases copy the node of their anchor, within the
//! [`Budget`]. `yes`, `no`, `on` and `off` are text, as in YAML 1.2.
//!
//! The plain key `<<` merges maps, as in YAML 1.1 (<https://yaml.org/type/merge.html>): the map gets their entries, except
//! those that it has itself. Of several maps, the first that has a key gives its value.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::{Budget, Entry, Node, Value, check_depth, too_deep};
use crate::problem::{DocumentProblem, Position};

const ACCEPTED: &str = "YAML 1.2";

/// The key that merges maps.
const MERGE: &str = "<<";
const ACCEPTED_MERGES: &str = "a map, an alias of a map (`<<: *name`), or a list of these";

/// Parses the document; `None` if it contains no value.
pub(super) fn read(text: &str) -> Result<Option<Node>, DocumentProblem> {
    let mut options = granit_parser::Options::default();
    // Another crate may have switched the feature on; comments are ignored here.
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    Reader { parser, budget: Budget::new(), anchors: HashMap::new() }.document()
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    budget: Budget,
    /// By the parser's number of the anchor. Nodes that are not complete yet are not included.
    anchors: HashMap<usize, Anchored>,
}

/// A key of a map.
enum Key {
    Text(String),
    /// `<<` without quotes.
    Merge,
}

/// A node that aliases may copy.
struct Anchored {
    node: Node,
    /// How many lists and maps it nests.
    height: usize,
    /// What it counts in the [`Budget`].
    bytes: usize,
}

impl<'t> Reader<'t> {
    fn document(mut self) -> Result<Option<Node>, DocumentProblem> {
        let root = loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, _) => return Ok(None),
                (event, position) => break self.node(event, position, 0)?,
            }
        };
        loop {
            match self.next()? {
                (Event::DocumentEnd, _) => {}
                // `---` alone is null, and counts as an empty text.
                (Event::StreamEnd, _) => return Ok((root.value != Value::Null).then_some(root)),
                (_, position) => {
                    let message = "a second document starts here";
                    return Err(DocumentProblem::of_text(Some(position), message, "one document"));
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Position), DocumentProblem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span.start))),
            Some(Err(error)) => Err(malformed(&error)),
            None => Err(DocumentProblem::of_text(None, "is not YAML: ends too early", ACCEPTED)),
        }
    }

    /// Parses the node that starts with `event` at `position`, inside `depth` lists and maps.
    fn node(
        &mut self,
        event: Event<'t>,
        position: Position,
        depth: usize,
    ) -> Result<Node, DocumentProblem> {
        let taken = self.budget.taken();
        let placed = Some(position);
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.repeat(anchor, position, depth),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref(), position)?;
                self.budget.take(text.len(), placed)?;
                (scalar(text, style), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), position)?;
                check_depth(depth, placed)?;
                self.budget.take(0, placed)?;
                (self.list(depth + 1)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), position)?;
                check_depth(depth, placed)?;
                self.budget.take(0, placed)?;
                (self.map(depth + 1)?, anchor)
            }
            _ => {
                return Err(DocumentProblem::of_text(
                    placed,
                    "is not YAML: a value is missing",
                    ACCEPTED,
                ));
            }
        };
        let node = Node { position: placed, value };
        // 0 means no anchor.
        if anchor != 0 {
            let bytes = self.budget.taken() - taken;
            // The copy for aliases takes memory too.
            self.budget.take_all(bytes, placed)?;
            let anchored = Anchored { height: height(&node), node: node.clone(), bytes };
            self.anchors.insert(anchor, anchored);
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, DocumentProblem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, position) => items.push(self.node(event, position, depth)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, DocumentProblem> {
        let mut entries = Vec::new();
        let mut merged: Option<Node> = None;
        loop {
            let (event, key_position) = match self.next()? {
                (Event::MappingEnd, _) => break,
                placed => placed,
            };
            let key = self.key(event, key_position)?;
            let (event, position) = self.next()?;
            let node = self.node(event, position, depth)?;
            match key {
                Key::Text(key) => {
                    entries.push(Entry { key, key_position: Some(key_position), node });
                }
                Key::Merge if merged.is_none() => {
                    merged = Some(Node { position: Some(position), ..node });
                }
                Key::Merge => {
                    return Err(DocumentProblem::of_text(
                        Some(key_position),
                        "`<<` is given twice in one map",
                        "`<<` once, with a list for several maps: `<<: [*a, *b]`",
                    ));
                }
            }
        }
        if let Some(merged) = merged {
            merge(&mut entries, merged)?;
        }
        Ok(Value::Map(entries))
    }

    /// Parses a key: a scalar, which is taken as text whatever its value would be.
    fn key(&mut self, event: Event<'t>, position: Position) -> Result<Key, DocumentProblem> {
        let Event::Scalar(text, style, 0, tag) = event else {
            let message = "a key is a list, a map, an alias or an anchor";
            return Err(DocumentProblem::of_text(
                Some(position),
                message,
                "keys that are plain text",
            ));
        };
        refuse_tag(tag.as_deref(), position)?;
        self.budget.take(text.len(), Some(position))?;
        Ok(match &*text {
            MERGE if style == ScalarStyle::Plain => Key::Merge,
            _ => Key::Text(text.into_owned()),
        })
    }

    /// The node of an anchor, as it is copied at `position`. Its values keep their own positions, which is where they
    /// can be corrected.
    fn repeat(
        &mut self,
        anchor: usize,
        position: Position,
        depth: usize,
    ) -> Result<Node, DocumentProblem> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            let message = "an alias stands inside the value of its own anchor";
            return Err(DocumentProblem::of_text(
                Some(position),
                message,
                "aliases of complete values",
            ));
        };
        if anchored.height > 0 {
            check_depth(depth + anchored.height - 1, Some(position))?;
        }
        self.budget.take_all(anchored.bytes, Some(position))?;
        Ok(anchored.node.clone())
    }
}

/// Adds to `entries`, those of a map, the entries that its `<<` with the value `merged` gives it. They keep their
/// positions, which is where they can be corrected.
fn merge(entries: &mut Vec<Entry>, merged: Node) -> Result<(), DocumentProblem> {
    let at = merged.position;
    let sources = match merged.value {
        Value::List(items) => items.into_iter().map(|item| item.value).collect(),
        value => vec![value],
    };
    for source in sources {
        let found = match source {
            Value::Map(found) => found,
            other => {
                let message = format!("`<<` merges {}, not a map", kind(&other));
                return Err(DocumentProblem::of_text(at, message, ACCEPTED_MERGES));
            }
        };
        // Keys that one map has twice stay, so that the validator refuses them.
        let known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        entries.extend(found.into_iter().filter(|entry| !known.contains(&entry.key)));
    }
    Ok(())
}

/// What a value is, for messages.
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

fn position(marker: &Marker) -> Position {
    // The parser counts columns from 0.
    Position { line: marker.line(), column: marker.col() + 1 }
}

fn malformed(error: &ScanError) -> DocumentProblem {
    // The scanner runs ahead of the events, and has its own bound.
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(Some(position(error.marker())));
    }
    let message = format!("is not YAML: {}", error.info());
    DocumentProblem::of_text(Some(position(error.marker())), message, ACCEPTED)
}

fn refuse_tag(tag: Option<&Tag>, position: Position) -> Result<(), DocumentProblem> {
    if tag.is_none() {
        return Ok(());
    }
    Err(DocumentProblem::of_text(Some(position), "a value has a tag (`!…`)", "values without tags"))
}

fn height(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries.iter().map(|entry| height(&entry.node)).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// The value of a scalar in the core schema (YAML 1.2.2, 10.3.2).
fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.into_owned());
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        number if is_number(number) => Value::Number(text.into_owned()),
        _ => Value::String(text.into_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, is_digit: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(is_digit)
    };
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |digit| matches!(digit, b'0'..=b'7'));
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return all(hexadecimal, u8::is_ascii_hexdigit);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
        }
        None => (unsigned, None),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    let has_digit = !whole.is_empty() || !decimals.is_empty();
    has_digit
        && digits(whole)
        && digits(decimals)
        && exponent.is_none_or(|exponent| all(exponent, u8::is_ascii_digit))
}
