//! Why a store could not decide.

use std::error::Error;
use std::fmt;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store did not answer, or not in time; it may later.
    Unavailable,
    /// The store answered what it must not; asking again does not help.
    Unexpected,
}

/// A store could not decide a check. (A denial is not an error.)
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    context: String,
    may_have_charged: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind`, with what was being done.
    pub fn new(kind: StoreErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), may_have_charged: false, source: None }
    }

    /// The same error, of a call whose charge may have been recorded.
    #[must_use]
    pub fn after_send(mut self) -> Self {
        self.may_have_charged = true;
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the charge may have been recorded although no answer came.
    pub fn may_have_charged(&self) -> bool {
        self.may_have_charged
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
