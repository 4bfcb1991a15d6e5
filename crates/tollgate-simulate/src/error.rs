//! The errors of a simulation.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use tollgate_catalog::CatalogError;
use tollgate_core::PolicySetError;

use crate::verify::Difference;

/// Why a simulation ended without a result. Nothing was written.
#[derive(Debug)]
#[non_exhaustive]
pub enum SimulateError {
    /// A flag does not fit the other arguments.
    Flag {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The problem.
        problem: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A line of the trace is malformed or out of range.
    Trace(TraceError),
    /// The policy file contains no valid policies.
    Policies(CatalogError),
    /// The file contains no valid cases.
    Cases(CatalogError),
    /// A policy file cannot be read at all.
    PolicyFile {
        /// Where the file is named: an argument, or a field of a test file.
        named_by: String,
        /// The problem.
        error: CatalogError,
        /// What is accepted there.
        accepted: &'static str,
    },
    /// A trace has no check, so nothing can be compared.
    NoChecks {
        /// The trace.
        trace: String,
    },
    /// The catalog did not answer.
    CatalogUnavailable,
    /// The built-in policies cannot be compiled.
    PolicySet(PolicySetError),
    /// The caller ended it.
    Stopped,
    /// The reference model made a different decision.
    Difference(Box<Difference>),
    /// A file could not be read or written.
    File {
        /// The operation: `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl SimulateError {
    /// The exit code of the process: 2 for invalid input, 1 for other failures.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Flag { .. }
            | Self::Trace(_)
            | Self::Policies(_)
            | Self::Cases(_)
            | Self::PolicyFile { .. }
            | Self::NoChecks { .. }
            | Self::File { action: "read", .. } => 2,
            Self::Difference(_)
            | Self::PolicySet(_)
            | Self::CatalogUnavailable
            | Self::Stopped
            | Self::File { .. } => 1,
        }
    }

    /// The error about a policy file that cannot be read at all, with where the file is named. A problem inside it has its line.
    pub(crate) fn named_by(self, place: impl Into<String>, accepted: &'static str) -> Self {
        match self {
            Self::Policies(error) if !matches!(error, CatalogError::Invalid(_)) => {
                Self::PolicyFile { named_by: place.into(), error, accepted }
            }
            error => error,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::File { action: "read", path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::File { action: "write", path: path.to_owned(), source }
    }
}

impl fmt::Display for SimulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag, problem, accepted } => {
                write!(f, "{flag}: {problem}; accepted: {accepted}")
            }
            Self::Trace(error) => error.fmt(f),
            Self::Policies(error) | Self::Cases(error) => error.fmt(f),
            Self::PolicyFile { named_by, error, accepted } => match error.source() {
                // The cause is shown here, before what is accepted.
                Some(cause) => write!(f, "{named_by}: {error}: {cause}; accepted: {accepted}"),
                None => write!(f, "{named_by}: {error}"),
            },
            Self::NoChecks { trace } => write!(
                f,
                "{trace}: has no check, so nothing can be compared; accepted: a trace with a line below its header"
            ),
            Self::PolicySet(error) => error.fmt(f),
            Self::CatalogUnavailable => f.write_str(
                "the catalog's database did not answer, so the checks cannot be decided as a server would",
            ),
            Self::Stopped => f.write_str("it was stopped"),
            Self::Difference(difference) => difference.fmt(f),
            Self::File { action, path, .. } => write!(f, "cannot {action} {}", path.display()),
        }
    }
}

impl Error for SimulateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Policies(error) | Self::Cases(error) => error.source(),
            Self::Flag { .. }
            | Self::PolicyFile { .. }
            | Self::NoChecks { .. }
            | Self::Trace(_)
            | Self::PolicySet(_)
            | Self::CatalogUnavailable
            | Self::Stopped
            | Self::Difference(_) => None,
        }
    }
}

/// A line of a trace that is malformed or out of range: `file:line: column: problem; accepted: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The trace.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The problem.
    pub problem: LineProblem,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.problem)
    }
}

impl Error for TraceError {}

/// The problem of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The column by its name in the header; `header` or `line` if it is not a single column.
    pub column: String,
    /// The problem.
    pub problem: String,
    /// What is accepted.
    pub accepted: String,
}

impl LineProblem {
    pub(crate) fn new(
        column: impl Into<String>,
        problem: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        Self { column: column.into(), problem: problem.into(), accepted: accepted.into() }
    }
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; accepted: {}", self.column, self.problem, self.accepted)
    }
}

/// A value for a message: quoted, without control characters, and truncated if it is long.
pub(crate) fn shown(value: &str) -> String {
    const MAX_CHARS: usize = 40;
    match value.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}
