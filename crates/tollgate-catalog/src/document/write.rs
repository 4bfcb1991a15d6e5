//! Writes a document as text: JSON on one line, or YAML in block style.

use std::fmt::Write as _;

use super::{Entry, Node, Value};

/// `node` as JSON on one line. Numbers are written as they are stored, so the result is JSON only if they are valid in
/// JSON.
pub fn to_json(node: &Node) -> String {
    let mut text = String::new();
    json(&node.value, &mut text);
    text
}

/// `node` as YAML in block style, which [`read`](super::read) can parse. Texts are quoted, as in JSON.
pub fn to_yaml(node: &Node) -> String {
    let mut text = String::new();
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => yaml_map(entries, 0, &mut text),
        Value::List(items) if !items.is_empty() => yaml_list(items, 0, &mut text),
        value => {
            json(value, &mut text);
            text.push('\n');
        }
    }
    text
}

fn json(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => _ = write!(text, "{flag}"),
        Value::Number(number) => text.push_str(number),
        Value::Date(date) => quoted(date, text),
        Value::String(string) => quoted(string, text),
        Value::List(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                json(&item.value, text);
            }
            text.push(']');
        }
        Value::Map(entries) => {
            text.push('{');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                quoted(&entry.key, text);
                text.push(':');
                json(&entry.node.value, text);
            }
            text.push('}');
        }
    }
}

/// A text in quotes as in JSON. YAML reads it the same way, because control characters of both ranges are escaped.
fn quoted(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn yaml_map(entries: &[Entry], depth: usize, text: &mut String) {
    for (index, entry) in entries.iter().enumerate() {
        // The first line of an item is on the same line as its dash.
        if index > 0 || !text.ends_with("- ") {
            indent(depth, text);
        }
        if is_plain(&entry.key) {
            text.push_str(&entry.key);
        } else {
            quoted(&entry.key, text);
        }
        text.push(':');
        yaml_value(&entry.node.value, depth, text);
    }
}

fn yaml_list(items: &[Node], depth: usize, text: &mut String) {
    for item in items {
        indent(depth, text);
        text.push_str("- ");
        match &item.value {
            Value::Map(entries) if !entries.is_empty() => yaml_map(entries, depth + 1, text),
            value => {
                json(value, text);
                text.push('\n');
            }
        }
    }
}

/// The part after a key's colon, on the same line and below it.
fn yaml_value(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            yaml_map(entries, depth + 1, text);
        }
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            text.push('\n');
            yaml_list(items, depth + 1, text);
        }
        value => {
            text.push(' ');
            json(value, text);
            text.push('\n');
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Whether a key needs no quotes; the names of fields do not.
fn is_plain(key: &str) -> bool {
    const WORDS: [&str; 4] = ["null", "true", "false", "nan"];
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !WORDS.contains(&key.to_ascii_lowercase().as_str())
}
