//! The layers of the configuration: flags override the environment, which overrides the file, which overrides the
//! defaults.
//!
//! A setting has one key, such as `max_keys`; its flag is `--max-keys`, its variable `TOLLGATE_MAX_KEYS` and its name
//! in the file `max_keys`. Every layer provides text, so that one parser and one message work for all three. This is
//! implemented here because libraries for layered configuration do not know the line of a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Secret;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The flag of the key.
    Flag(&'static str),
    /// The environment variable of the key.
    Variable(&'static str),
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{}", key.replace('_', "-")),
            Self::Variable(key) => f.write_str(&variable(key)),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// `text` without the line ends behind it: values are often kept in files that end with one.
pub(super) fn without_line_end(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}

/// The environment variable of `key`.
pub(crate) fn variable(key: &str) -> String {
    format!("TOLLGATE_{}", key.to_ascii_uppercase())
}

/// The problems of the configuration, one per line, with the place and what is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// Adds a `problem` at `place`.
    pub(crate) fn add(&mut self, place: &dyn fmt::Display, problem: &str, accepted: &str) {
        self.problems.push(format!("{place}: {problem}; accepted: {accepted}"));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Why a text is not a valid value of a setting. The text itself is shown only if it cannot be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) problem: String,
    pub(crate) accepted: &'static str,
}

/// `problem` without the `text` that it quotes, if that is a URL: a URL in the wrong place may contain a password.
fn without_url(problem: String, text: &str) -> String {
    if text.contains("://") {
        problem.replace(&format!("{text:?}"), "the given URL")
    } else {
        problem
    }
}

/// The given texts, by layer and key.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    flags: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, String>,
    file: BTreeMap<String, (String, Place)>,
    error: ConfigError,
}

impl Layers {
    /// The layers `flags`, `environment` and `file`; `keys` are the accepted keys. Other variables are ignored:
    /// Kubernetes sets some for any service that is called `tollgate`.
    pub(crate) fn new(
        keys: &[&'static str],
        flags: impl IntoIterator<Item = (&'static str, Option<String>)>,
        environment: impl Fn(&str) -> Option<OsString>,
        file: Option<(&Path, &str)>,
    ) -> Self {
        let flags =
            flags.into_iter().filter_map(|(key, value)| Some((key, without_line_end(value?))));
        let flags = flags.collect();
        let mut layers = Self { flags, ..Self::default() };
        for key in keys {
            let Some(value) = environment(&variable(key)) else { continue };
            match value.into_string() {
                Ok(text) => _ = layers.variables.insert(key, without_line_end(text)),
                Err(_) => layers.error.add(&variable(key), "is not UTF-8", "text in UTF-8"),
            }
        }
        if let Some((path, text)) = file {
            layers.read_file(keys, path, text);
        }
        layers
    }

    fn read_file(&mut self, keys: &[&'static str], path: &Path, text: &str) {
        let line_of = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            before.split(|byte| *byte == b'\n').count()
        };
        let place = |offset| Place::File(path.to_owned(), line_of(offset));
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let problem = format!("is not TOML: {}", error.message());
                self.error.add(&place(offset), &problem, "TOML 1.1, one `key = value` a line");
                return;
            }
        };
        for (key, value) in table {
            let key_place = place(key.span().start);
            let key = key.into_inner();
            if !keys.contains(&&*key) {
                let problem = without_url(format!("the key {key:?} is unknown"), &key);
                self.error.add(&key_place, &problem, &keys.join(", "));
                continue;
            }
            let value_place = place(value.span().start);
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                DeValue::Boolean(flag) => flag.to_string(),
                other => {
                    let problem = format!("{key}: is a TOML {}", other.type_str());
                    self.error.add(&value_place, &problem, "a string or a decimal integer");
                    continue;
                }
            };
            self.file.insert(key.into_owned(), (text, value_place));
        }
    }

    /// The secret in the variable `name`; messages show nothing but the required length.
    pub(crate) fn secret(&mut self, name: &str, value: Option<OsString>) -> Option<Secret> {
        let text = without_line_end(value?.into_string().unwrap_or_default());
        if text.len() >= Secret::MIN_BYTES {
            return Some(Secret::new(text));
        }
        let accepted = format!("at least {} bytes of UTF-8", Secret::MIN_BYTES);
        self.error.add(&name, "is too short, or not UTF-8", &accepted);
        None
    }

    /// The text for `key` from the topmost layer that sets it, and its place.
    fn text(&self, key: &'static str) -> Option<(&str, Place)> {
        if let Some(text) = self.flags.get(key) {
            return Some((text, Place::Flag(key)));
        }
        if let Some(text) = self.variables.get(key) {
            return Some((text, Place::Variable(key)));
        }
        self.file.get(key).map(|(text, place)| (&**text, place.clone()))
    }

    /// The value of `key`, or `default` if no layer sets it. If `parse` refuses a value, the problem is added.
    pub(crate) fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Refused>,
    ) -> T {
        let Some((text, place)) = self.text(key) else { return default };
        match parse(text) {
            Ok(value) => value,
            Err(refused) => {
                let problem = without_url(refused.problem, text);
                self.refuse_value(key, &place, &problem, refused.accepted);
                default
            }
        }
    }

    /// Adds a problem of the value of `key` that other values cause.
    pub(crate) fn refuse_key(&mut self, key: &'static str, problem: &str, accepted: &str) {
        match self.place(key) {
            Some(place) => self.refuse_value(key, &place, problem, accepted),
            None => self.error.add(&format_args!("the default of {key}"), problem, accepted),
        }
    }

    /// A line of a file does not name the key, as a flag and a variable do.
    fn refuse_value(&mut self, key: &str, place: &Place, problem: &str, accepted: &str) {
        let named = match place {
            Place::File(..) => format!("{key}: {problem}"),
            _ => problem.to_owned(),
        };
        self.error.add(place, &named, accepted);
    }

    /// Where the value of `key` was set, if it was.
    pub(crate) fn place(&self, key: &'static str) -> Option<Place> {
        self.text(key).map(|(_, place)| place)
    }

    /// Adds a problem of something else than a key.
    pub(crate) fn refuse(&mut self, place: &dyn fmt::Display, problem: &str, accepted: &str) {
        self.error.add(place, problem, accepted);
    }

    /// `value`, if there was no problem.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.error.is_empty() { Ok(value) } else { Err(self.error) }
    }
}
