//! Why a directory did not do what it was asked.

use std::error::Error;
use std::fmt;

use super::{Id, Kind, Version};
use crate::problem::Problems;

/// A call of a directory failed, and changed nothing.
///
/// Each variant is one status of HTTP, named beside it.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirectoryError {
    /// There is no such record (404).
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// There is a record with this id already (409).
    Duplicate {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
    /// The record cannot be deleted or moved, because others refer to it (409).
    InUse {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// Who refers to it: the kind, and the id of one of them; `None` if everyone without a choice does.
        by: Option<(Kind, Id)>,
    },
    /// The record is not the version that the change was meant for (412).
    Stale {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// Its version now.
        current: Version,
    },
    /// What was given is wrong; every faulty field is in the list (422).
    Invalid(Problems),
    /// The directory is a file: who wants a change edits the file (405).
    ReadOnly,
    /// The database did not do it: locked, full, read-only or gone (503).
    Unavailable(Unavailable),
}

impl DirectoryError {
    /// Whether the same call may succeed later although nobody corrects it.
    pub fn retry_can_help(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { kind, id } => write!(f, "there is no {kind} with the id {id:?}"),
            Self::Duplicate { kind, id } => write!(
                f,
                "there is a {kind} with the id {:?} already; accepted: an id of its own for each",
                id.as_str()
            ),
            Self::InUse { kind, id, by: Some((user_kind, user)) } => write!(
                f,
                "the {kind} {:?} is in use, by the {user_kind} {:?} for one; accepted: one that \
                 nothing refers to",
                id.as_str(),
                user.as_str()
            ),
            Self::InUse { kind, id, by: None } => write!(
                f,
                "the {kind} {:?} is in use; accepted: one that nothing refers to",
                id.as_str()
            ),
            Self::Stale { kind, id, .. } => write!(
                f,
                "the {kind} {:?} has changed meanwhile; accepted: a change of the version it has now",
                id.as_str()
            ),
            Self::Invalid(problems) => problems.fmt(f),
            Self::ReadOnly => {
                f.write_str("the catalog is a file; accepted: changes of the file itself")
            }
            Self::Unavailable(unavailable) => unavailable.fmt(f),
        }
    }
}

impl Error for DirectoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(unavailable) => unavailable.source(),
            _ => None,
        }
    }
}

/// The database did not do what it was asked. Nothing is half-written.
#[derive(Debug)]
pub struct Unavailable {
    what: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Unavailable {
    /// `what` says what went wrong in words fit for a client; the source is for the log alone.
    #[cfg_attr(not(feature = "database"), expect(dead_code, reason = "only a database is away"))]
    pub(crate) fn new(what: &'static str, source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what, source }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}
