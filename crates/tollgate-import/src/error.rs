//! What is wrong with a document that cannot be imported.

use std::error::Error;
use std::fmt;

use tollgate_catalog::{DocumentProblem, Position};

/// The problems of a document that is not of its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The problems, never none.
    pub problems: Vec<DocumentProblem>,
}

impl ImportError {
    pub(crate) fn of(problems: Vec<DocumentProblem>) -> Self {
        Self { problems }
    }

    /// One problem of the value `path` at `position`.
    pub(crate) fn at(
        position: Option<Position>,
        path: &str,
        message: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        let (path, message, accepted) = (path.to_owned(), message.into(), accepted.into());
        Self::of(vec![DocumentProblem { position, path, message, accepted }])
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl Error for ImportError {}
