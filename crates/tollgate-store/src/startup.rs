//! What an examination of a networked store at the start of a server can find.

use std::error::Error;
use std::fmt;

use crate::StoreError;

/// A problem that only a wrong configuration of this node or of the store can cause, and its remedy. Contains no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfiguration {
    problem: String,
    remedy: String,
}

impl Misconfiguration {
    /// A problem, and what an operator can do about it.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Misconfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl Error for Misconfiguration {}

/// Why a store cannot be used.
#[derive(Debug)]
pub enum StartProblem {
    /// Waiting does not help.
    Misconfigured(Misconfiguration),
    /// It is unavailable, or not ready yet.
    Unavailable(StoreError),
}

impl fmt::Display for StartProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misconfigured(problem) => problem.fmt(f),
            Self::Unavailable(error) => error.fmt(f),
        }
    }
}

impl Error for StartProblem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Misconfigured(_) => None,
            Self::Unavailable(error) => error.source(),
        }
    }
}

impl From<StoreError> for StartProblem {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

/// A setting of a store that endangers exact limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl Warning {
    /// A warning with what is wrong and what to do about it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Warning {}
