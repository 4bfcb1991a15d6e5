//! One model of a document for all formats, with the position of every value and key.
//!
//! Numbers keep the text in which they were written, so that nothing is rounded before it is checked. Maps keep their
//! entries as written, including duplicate keys, which the validator refuses. Documents are bounded in length, depth
//! and the memory to which they expand.
//!
//! This module knows nothing about policies.

mod json;
mod line_index;
mod toml;
mod write;
mod yaml;

use std::path::Path;

pub use self::write::{to_json, to_yaml};

use crate::problem::{DocumentProblem, Position};

/// The longest document, in bytes: 16 MiB, room for 100,000 policies of 160 bytes.
pub const MAX_DOCUMENT_BYTES: usize = 16 << 20;

/// The deepest nesting of lists and maps. Policies need five levels.
pub const MAX_DEPTH: usize = 32;

/// The most memory to which a document may expand, as counted by [`Budget`]; YAML aliases copy the node that they name.
pub(crate) const MAX_EXPANDED_BYTES: usize = 8 * MAX_DOCUMENT_BYTES;

/// A value, with its position if it was parsed from a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub position: Option<Position>,
    /// The value itself.
    pub value: Value,
}

impl Node {
    /// A value that was not parsed from a text.
    pub fn unplaced(value: Value) -> Self {
        Self { position: None, value }
    }
}

/// The value of a [`Node`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value. TOML has none.
    Null,
    /// True or false.
    Bool(bool),
    /// A number as it was written (for TOML without underscores).
    Number(String),
    /// A date or time as it was written; only TOML has them.
    Date(String),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the document.
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub key_position: Option<Position>,
    /// The value.
    pub node: Node,
}

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// YAML 1.2, core schema, one document, without tags; with the merge key `<<` of YAML 1.1.
    Yaml,
    /// JSON, strictly RFC 8259.
    Json,
    /// TOML 1.0 or 1.1.
    Toml,
}

impl Format {
    /// The extensions that [`Format::of_path`] accepts, for messages.
    pub const ACCEPTED_EXTENSIONS: &str = ".yaml, .yml, .json or .toml";

    /// The format that the extension of `path` stands for.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "yaml" | "yml" => Self::Yaml,
            "json" => Self::Json,
            "toml" => Self::Toml,
            _ => return None,
        })
    }
}

/// Parses `text`; `None` if it contains no value at all, for example only comments.
///
/// A leading byte-order mark is skipped. A malformed text gives the problems that its parser finds: YAML and JSON stop
/// at the first, TOML continues.
pub fn read(text: &str, format: Format) -> Result<Option<Node>, Vec<DocumentProblem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(vec![too_long(text.len())]);
    }
    match format {
        Format::Yaml => yaml::read(text).map_err(|problem| vec![problem]),
        Format::Json => json::read(text).map_err(|problem| vec![problem]),
        Format::Toml => toml::read(text),
    }
}

/// The problem of a document that has `bytes` bytes or more.
pub(crate) fn too_long(bytes: usize) -> DocumentProblem {
    DocumentProblem::of_text(
        None,
        format!("the document has at least {bytes} bytes"),
        format!("at most {MAX_DOCUMENT_BYTES} bytes"),
    )
}

/// How much a document may still expand.
struct Budget {
    bytes_left: usize,
}

impl Budget {
    /// What a node counts besides its text. (It takes more memory; the count does not have to be exact to bound it.)
    const NODE_BYTES: usize = 16;

    fn new() -> Self {
        Self { bytes_left: MAX_EXPANDED_BYTES }
    }

    /// Counts one node with `text_bytes` of text.
    fn take(
        &mut self,
        text_bytes: usize,
        position: Option<Position>,
    ) -> Result<(), DocumentProblem> {
        self.take_all(Self::NODE_BYTES.saturating_add(text_bytes), position)
    }

    /// Counts `bytes`, the total of complete nodes.
    fn take_all(
        &mut self,
        bytes: usize,
        position: Option<Position>,
    ) -> Result<(), DocumentProblem> {
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            return Err(DocumentProblem::of_text(
                position,
                "the document grows too large here",
                format!("at most {MAX_EXPANDED_BYTES} bytes with every alias expanded"),
            ));
        };
        self.bytes_left = left;
        Ok(())
    }

    /// What has been taken so far.
    fn taken(&self) -> usize {
        MAX_EXPANDED_BYTES - self.bytes_left
    }
}

/// Checks that a list or map that starts at `position`, inside `depth` others, is not nested too deeply.
fn check_depth(depth: usize, position: Option<Position>) -> Result<(), DocumentProblem> {
    if depth < MAX_DEPTH { Ok(()) } else { Err(too_deep(position)) }
}

/// The problem of a document that is nested too deeply at `position`.
fn too_deep(position: Option<Position>) -> DocumentProblem {
    let accepted = format!("at most {MAX_DEPTH} nested lists and maps");
    DocumentProblem::of_text(position, "the document is nested too deeply here", accepted)
}

#[cfg(test)]
mod tests;
