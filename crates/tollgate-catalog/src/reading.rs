//! Reads other documents than policy files with the same messages: where a value is, what is wrong with it, what is
//! accepted, and which name is meant by a misspelled one.

use std::path::Path;

use crate::document::{self, Node};
use crate::error::CatalogError;
use crate::policy_file;

pub use crate::validate::{At, Fields, Names, Report};

/// The document in the file at `path`, whose extension determines its format; `None` if it contains no value. Environment
/// variables are not replaced.
pub fn read_file(path: &Path) -> Result<Option<Node>, CatalogError> {
    let format = policy_file::format_of(path)?;
    let bytes = policy_file::read_bytes(path)?;
    let text = policy_file::utf8(path, &bytes)?;
    document::read(text, format).map_err(|problems| policy_file::invalid(path, problems))
}
