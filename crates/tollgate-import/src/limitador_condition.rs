//! The conditions of Limitador: the old form `req.method == 'GET'`, and the part of CEL that asks for values of the first
//! descriptor.

use crate::attributes::{attribute, beginning, exactly};

/// That an attribute has one of some values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) attribute: String,
    /// As policies write them.
    pub(crate) values: Vec<String>,
}

const NOT_KNOWN: &str =
    "only ==, in, startsWith() and && on entries of the first descriptor can be expressed";

/// The conditions that `text` joins by `&&`, or why it cannot be carried over.
pub(crate) fn condition(text: &str) -> Result<Vec<Condition>, &'static str> {
    if has_outside_quotes(text, "!=") || text.trim_start().starts_with('!') {
        return Err("a policy cannot ask for values to be different");
    }
    if has_outside_quotes(text, "||") {
        return Err("a policy cannot ask for one of several conditions");
    }
    split_outside_quotes(text, "&&").into_iter().map(|part| single(part.trim())).collect()
}

fn single(text: &str) -> Result<Condition, &'static str> {
    let made = |name: String, values| Ok(Condition { attribute: name, values });
    if let [left, right] = &split_outside_quotes(text, "==")[..] {
        let (left, right) = (left.trim(), right.trim());
        return match (variable(left), quoted(right), quoted(left), variable(right)) {
            (Some(name), Some(value), ..) | (.., Some(value), Some(name)) => {
                made(name, vec![exactly(&value)])
            }
            _ => Err(NOT_KNOWN),
        };
    }
    if let Some((left, right)) = text.split_once(".startsWith(") {
        let value = right.trim().strip_suffix(')').and_then(|value| quoted(value.trim()));
        return match (variable(left.trim()), value) {
            (Some(name), Some(_)) if name == "ip" => Err(NOT_KNOWN),
            (Some(name), Some(value)) => made(name, vec![beginning(&value)]),
            _ => Err(NOT_KNOWN),
        };
    }
    if let Some((left, right)) = text.split_once(" in ") {
        let list = right.trim().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        let values = list.map(|list| {
            split_outside_quotes(list, ",").iter().map(|value| quoted(value.trim())).collect()
        });
        return match (variable(left.trim()), values.flatten()) {
            (Some(name), Some::<Vec<String>>(values)) if !values.is_empty() => {
                made(name, values.iter().map(|value| exactly(value)).collect())
            }
            _ => Err(NOT_KNOWN),
        };
    }
    Err(NOT_KNOWN)
}

/// The attribute that `text` names: `user_id`, `descriptors[0].user_id`, or `descriptors[0]['user_id']`.
pub(crate) fn variable(text: &str) -> Option<String> {
    let name = match text.strip_prefix("descriptors[") {
        None => plain(text)?.to_owned(),
        Some(rest) => {
            let rest = rest.strip_prefix("0]")?;
            match rest.strip_prefix('.') {
                Some(name) => plain(name)?.to_owned(),
                None => quoted(rest.strip_prefix('[')?.strip_suffix(']')?)?,
            }
        }
    };
    Some(attribute(&name).to_owned())
}

/// `text`, if it is a name as the old form writes it.
fn plain(text: &str) -> Option<&str> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    (starts && text.chars().all(is_name)).then_some(text)
}

/// The value of `text`, a literal in single or double quotes without escapes.
fn quoted(text: &str) -> Option<String> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains([quote, '\\'])).then(|| inner.to_owned())
    })
}

fn has_outside_quotes(text: &str, wanted: &str) -> bool {
    split_outside_quotes(text, wanted).len() > 1
}

/// The parts of `text` between `separator`, which inside quotes is text.
fn split_outside_quotes<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => quote = (open != c).then_some(open),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            None => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_first_descriptor_are_read_in_every_form() {
        let cases = [
            ("req.method == 'GET'", "req.method", vec!["GET"]),
            ("req_method == \"a && b\"", "req_method", vec!["a && b"]),
            ("descriptors[0]['req.method'] == 'GET'", "req.method", vec!["GET"]),
            ("descriptors[0].user_id=='a*'", "user", vec!["a\\*"]),
            ("'x' == descriptors[0][\"k\"]", "k", vec!["x"]),
            ("descriptors[0].path.startsWith('/v1')", "path", vec!["/v1*"]),
            ("descriptors[0]['m'] in ['a', 'b']", "m", vec!["a", "b"]),
        ];
        for (text, attribute, values) in cases {
            let found = condition(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            let values = values.into_iter().map(str::to_owned).collect();
            assert_eq!(found, [Condition { attribute: attribute.to_owned(), values }], "{text}");
        }
        let two = condition("a == '1' && descriptors[0].b == '2'").unwrap();
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn what_policies_cannot_ask_is_refused() {
        for text in [
            "a != 'x'",
            "!(a == 'x')",
            "a == 'x' || b == 'y'",
            "descriptors[1].a == 'x'",
            "a == 5",
            "size(a) == '1'",
            "a == 'x' == 'y'",
            "a matches 'x'",
            "a == 'it\\'s'",
            "a in []",
            "é",
            "",
        ] {
            assert!(condition(text).is_err(), "{text}");
        }
    }
}
