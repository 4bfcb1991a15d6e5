//! Puts environment variables into a document: `${NAME}`, or `${NAME:-default}`; `$$` is a `$`.
//!
//! A value of the environment may be a secret, so messages show what the file has in its place.
//!
//! Only for files that this program reads on its own machine. A document that arrives over the network must never get
//! here: its sender could read the server's environment.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;

use crate::directory::Kind;
use crate::document::{MAX_EXPANDED_BYTES, Node, Value};
use crate::problem::DocumentProblem;
use crate::validate::{self, Place};

/// Looks an environment variable up by its name; `None` if it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

const ACCEPTED: &str = "`${NAME}`, `${NAME:-default}`, or `$$` for a `$`";

/// Replaces the variables in all values of `document`; keys stay. Fields that take a number or a flag get one if that is
/// what the variable holds. `x-` fields of the document, which nothing reads, may name variables that are not set. If a
/// variable cannot be replaced, its value stays unchanged and the problem is reported.
///
/// O(the document and what is put into it), which is at most what a document may expand to.
pub(crate) fn substitute(document: &mut Node, environment: &Environment<'_>) -> Substitutions {
    let mut pass = Pass {
        environment,
        path: String::new(),
        added_bytes: 0,
        substitutions: Substitutions::default(),
    };
    pass.node(document, Place::Document);
    pass.substitutions
}

/// The values of a document that came from variables, as messages show them, and those that could not.
#[derive(Debug, Default)]
pub(crate) struct Substitutions {
    /// Of the values that could not be replaced, in their order.
    problems: Vec<DocumentProblem>,
    /// The paths of these values.
    failed: BTreeSet<String>,
    /// By their paths.
    values: HashMap<String, Substitution>,
    /// What the file has in place of each text, by the text.
    texts: HashMap<String, String>,
}

/// One such value.
#[derive(Debug)]
struct Substitution {
    /// The value as messages show it.
    shown: String,
    /// What the file has in its place.
    written: String,
    /// Whether what follows the value in a message may be a part of it.
    is_text: bool,
}

/// What follows a text in messages that show no part of it.
const KNOWN_REASONS: [&str; 14] = [
    "",
    " is a text",
    " is not accepted",
    " is not a scope",
    " is not a unit",
    " is not a time zone",
    " is not a duration",
    " is not in whole numbers of units",
    " is not an IP address or a CIDR block",
    " is no such exemption",
    " is reserved for metrics",
    " is given twice",
    " is empty",
    " is a user of another tenant",
];

impl Substitutions {
    /// The problems of the values that could not be replaced.
    pub(crate) fn problems(&self) -> &[DocumentProblem] {
        &self.problems
    }

    /// Whether the value at `path` could not be replaced, so that nothing else is known about it.
    pub(crate) fn has_failed_at(&self, path: &str) -> bool {
        self.failed.contains(path)
    }

    /// The same for any value in the map at `path`.
    pub(crate) fn has_failed_within(&self, path: &str) -> bool {
        let inside = |failed: &String| {
            failed.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.failed.iter().any(inside)
    }

    /// Whether the id of some record of `kind` is not known.
    pub(crate) fn has_failed_at_an_id(&self, kind: Kind) -> bool {
        let is_id = |failed: &String| {
            failed.strip_prefix(kind.list_name()).is_some_and(|rest| rest.ends_with("].id"))
        };
        self.failed.iter().any(is_id)
    }

    /// What the file has in place of `text`, if that came from a variable.
    pub(crate) fn written(&self, text: &str) -> Option<&str> {
        self.texts.get(text).map(String::as_str)
    }

    /// Replaces the values in the message of `problem` that came from variables by what the file has in their place.
    ///
    /// O(the message × the different texts from variables).
    pub(crate) fn hide(&self, problem: &mut DocumentProblem) {
        if let Some(own) = self.values.get(&problem.path) {
            problem.message = own.without_value(&problem.message);
        }
        for (hidden, written) in &self.texts {
            let message = &problem.message;
            let (quoted, marked) = (validate::shown_text(hidden), format!("`{hidden}`"));
            if !message.contains(&quoted) && !message.contains(&marked) {
                continue;
            }
            let start = if message.starts_with(&quoted) { "the value of " } else { "" };
            let written = validate::shown_text(written);
            let replaced = message.replace(&quoted, &written).replace(&marked, &written);
            problem.message = format!("{start}{}", without_suggestion(&replaced));
        }
    }
}

impl Substitution {
    /// `message`, which is about this value, without it. What is not known to be no part of it is left out too.
    fn without_value(&self, message: &str) -> String {
        let written = format!("the value of {}", validate::shown_text(&self.written));
        let Some((before, after)) = message.split_once(&self.shown) else {
            let may_show_it = message.contains('"');
            return if may_show_it { written + " is not accepted" } else { message.to_owned() };
        };
        let after = without_suggestion(after);
        let is_known =
            !self.is_text || KNOWN_REASONS.contains(&after) || after.starts_with(" is the id of ");
        let written = if before.is_empty() { written } else { validate::shown_text(&self.written) };
        format!("{before}{written}{}", if is_known { after } else { " is not accepted" })
    }
}

/// `message` up to a name that resembles the value.
fn without_suggestion(message: &str) -> &str {
    message.split_once(" (did you mean ").map_or(message, |(before, _)| before)
}

struct Pass<'e> {
    environment: &'e Environment<'e>,
    /// Of the node, as problems show it.
    path: String,
    added_bytes: usize,
    substitutions: Substitutions,
}

impl Pass<'_> {
    fn node(&mut self, node: &mut Node, place: Place) {
        let length = self.path.len();
        match &mut node.value {
            Value::String(text) => {
                if let Some(found) = self.text(text, node.position) {
                    let written = std::mem::take(text);
                    node.value = if found.has_variable {
                        let value = of_variable(found.text.clone(), place);
                        self.note(found.text, written, &value);
                        value
                    } else {
                        Value::String(found.text)
                    };
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    _ = write!(self.path, "[{index}]");
                    self.node(item, place.item());
                    self.path.truncate(length);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    if place == Place::Document && validate::is_private(&entry.key) {
                        continue;
                    }
                    validate::push_field(&mut self.path, &entry.key);
                    self.node(&mut entry.node, place.field(&entry.key));
                    self.path.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Date(_) => {}
        }
    }

    /// Notes that the `value` here, from `text`, is in place of what is `written` in the file.
    fn note(&mut self, text: String, written: String, value: &Value) {
        let (shown, is_text) = (validate::shown(value), matches!(value, Value::String(_)));
        let Substitutions { values, texts, .. } = &mut self.substitutions;
        if is_text {
            texts.insert(text, written.clone());
        }
        values.insert(self.path.clone(), Substitution { shown, written, is_text });
    }

    /// `text` with its variables replaced; `None` if there is nothing to replace, or a problem.
    fn text(
        &mut self,
        text: &str,
        position: Option<crate::problem::Position>,
    ) -> Option<Substituted> {
        if !text.contains('$') {
            return None;
        }
        let replaced = replace(text, self.environment).and_then(|found| {
            self.added_bytes = self.added_bytes.saturating_add(found.text.len());
            if self.added_bytes > MAX_EXPANDED_BYTES {
                let accepted = format!("at most {MAX_EXPANDED_BYTES} bytes with every variable");
                return Err(("the document grows too large here".to_owned(), accepted));
            }
            Ok(found)
        });
        match replaced {
            Ok(found) => Some(found),
            Err((message, accepted)) => {
                let path = self.path.clone();
                self.substitutions.failed.insert(path.clone());
                let problem = DocumentProblem { position, path, message, accepted };
                self.substitutions.problems.push(problem);
                None
            }
        }
    }
}

struct Substituted {
    text: String,
    /// False if only `$$` was replaced.
    has_variable: bool,
}

/// `text` with its variables replaced, or what is wrong and what is accepted.
fn replace(text: &str, environment: &Environment<'_>) -> Result<Substituted, (String, String)> {
    let refused = |message: String| Err((message, ACCEPTED.to_owned()));
    let mut found = Substituted { text: String::with_capacity(text.len()), has_variable: false };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        found.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            found.text.push('$');
            rest = after;
            continue;
        }
        let Some(inside) = after.strip_prefix('{') else {
            return refused("a `$` is followed by neither `{` nor `$`".to_owned());
        };
        let Some((inside, after)) = inside.split_once('}') else {
            return refused("a `${` has no `}`".to_owned());
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return refused(format!("{:?} is not the name of a variable", shortened(name)));
        }
        if default.is_some_and(|default| default.contains('$')) {
            return refused(format!("the default of {} has a `$`", shortened(name)));
        }
        found.text.push_str(&value(name, default, environment)?);
        found.has_variable = true;
        rest = after;
    }
    found.text.push_str(rest);
    Ok(found)
}

/// The value of the variable `name`. As in a shell, the default also stands for an empty value.
fn value(
    name: &str,
    default: Option<&str>,
    environment: &Environment<'_>,
) -> Result<String, (String, String)> {
    let value = environment(name).map(OsString::into_string);
    let shown = shortened(name);
    match (value, default) {
        (Some(Ok(value)), None) => Ok(value),
        (Some(Ok(value)), Some(_)) if !value.is_empty() => Ok(value),
        (Some(Ok(_)) | None, Some(default)) => Ok(default.to_owned()),
        (Some(Err(_)), _) => {
            let message = format!("the environment variable {shown} is not UTF-8");
            Err((message, "a variable in UTF-8".to_owned()))
        }
        (None, None) => {
            let message = format!("the environment variable {shown} is not set");
            Err((message, format!("a variable that is set, or a default: `${{{shown}:-…}}`")))
        }
    }
}

/// Whether `name` can be a variable of a shell.
fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_inner) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The value in `text`, in which a variable was replaced, at `place`.
fn of_variable(text: String, place: Place) -> Value {
    match (place, text.as_str()) {
        (Place::Flag, "true") => Value::Bool(true),
        (Place::Flag, "false") => Value::Bool(false),
        // Whether it is a number that is accepted, the validator decides.
        (Place::Number, number) if looks_like_a_number(number) => Value::Number(text),
        _ => Value::String(text),
    }
}

fn looks_like_a_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "LIMIT" => Some("25".into()),
            "NAME" => Some("alice".into()),
            "EMPTY" => Some("".into()),
            "DOLLAR" => Some("$NAME ${NAME}".into()),
            #[cfg(unix)]
            "BYTES" => Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])),
            _ => None,
        }
    }

    #[test]
    fn variables_and_their_defaults_are_replaced_once() {
        let cases = [
            ("${NAME}", "alice"),
            ("a-${NAME}-${LIMIT}", "a-alice-25"),
            ("${MISSING:-x y}", "x y"),
            ("${MISSING:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NAME:-x}", "alice"),
            ("${NAME:-}", "alice"),
            ("${MISSING:-a:-b}", "a:-b"),
            ("$$", "$"),
            ("$${NAME}", "${NAME}"),
            ("$$$${NAME}", "$${NAME}"),
            ("$$${NAME}", "$alice"),
            // A value is not looked at again.
            ("${DOLLAR}", "$NAME ${NAME}"),
            ("é${NAME}é", "éaliceé"),
        ];
        for (text, expected) in cases {
            let found = replace(text, &environment).map(|found| found.text);
            assert_eq!(found, Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let cases = [
            ("${MISSING}", "MISSING is not set"),
            ("$NAME", "followed by neither"),
            ("5$", "followed by neither"),
            ("${NAME", "has no `}`"),
            ("${}", "is not the name"),
            ("${1}", "is not the name"),
            ("${NAME-x}", "is not the name"),
            ("${ NAME }", "is not the name"),
            ("${MISSING:-${NAME}}", "the default of MISSING has a `$`"),
            ("${BYTES}", "is not UTF-8"),
            ("${BYTES:-x}", "is not UTF-8"),
        ];
        for (text, expected) in cases {
            let Err((message, accepted)) = replace(text, &environment) else { panic!("{text}") };
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!accepted.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_variables_add_is_bounded() {
        let long = |_: &str| Some(OsString::from("x".repeat(1 << 20)));
        let item = || Node::unplaced(Value::String("${LONG}".to_owned()));
        let mut document = Node::unplaced(Value::List((0..200).map(|_| item()).collect()));
        let problems = substitute(&mut document, &long).problems;
        assert!(problems[0].message.contains("grows too large"), "{}", problems[0]);
        assert_eq!((problems[0].path.as_str(), problems.len()), ("[128]", 72));
    }
}
