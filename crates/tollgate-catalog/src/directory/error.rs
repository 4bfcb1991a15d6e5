//! The errors of a directory.

use std::error::Error;
use std::fmt;

use super::{Id, Kind, Version};
use crate::problem::Problems;

/// A call of a directory failed and changed nothing. The exception is a broken connection to the database: see
/// [`Unavailable`].
///
/// Each variant corresponds to one HTTP status, which is given with it.
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
    /// Several tenants have a user with this id, and the call does not say which it means (409).
    Ambiguous {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// Some of the tenants.
        tenants: Vec<Id>,
    },
    /// A record with this id already exists (409).
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
        /// What refers to it: the kind, and the id of one record; `None` if it is the default for all.
        by: Option<(Kind, Id)>,
    },
    /// The record does not have the version that the change expects (412).
    Stale {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
        /// Its current version.
        current: Version,
    },
    /// The input is invalid; the list has every invalid field (422).
    Invalid(Problems),
    /// The directory is a file, which must be edited instead (405).
    ReadOnly,
    /// The database failed: locked, full, read-only or unavailable (503).
    Unavailable(Unavailable),
}

impl DirectoryError {
    /// Whether the same call may succeed later without a correction.
    pub fn retry_can_help(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { kind, id } => write!(f, "there is no {kind} with the id {id:?}"),
            Self::Ambiguous { kind, id, tenants } => {
                let tenants = tenants.iter().map(|tenant| format!("{:?}", tenant.as_str()));
                write!(
                    f,
                    "several tenants have a {kind} {:?}; accepted: `tenantId` with one of them, such as {}",
                    id.as_str(),
                    tenants.collect::<Vec<_>>().join(" or ")
                )
            }
            Self::Duplicate { kind, id } => write!(
                f,
                "another {kind} already has the id {:?}; accepted: an id that is not in use",
                id.as_str()
            ),
            Self::InUse { kind, id, by: Some((user_kind, user)) } => write!(
                f,
                "the {kind} {:?} is in use, for example by the {user_kind} {:?}; change or delete \
                 what refers to it first",
                id.as_str(),
                user.as_str()
            ),
            Self::InUse { kind, id, by: None } => write!(
                f,
                "the {kind} {:?} is in use: it is the default, or other records refer to it",
                id.as_str()
            ),
            Self::Stale { kind, id, .. } => write!(
                f,
                "the {kind} {:?} has changed since you read it; read it again and repeat the change",
                id.as_str()
            ),
            Self::Invalid(problems) => problems.fmt(f),
            Self::ReadOnly => f.write_str("the catalog is a file; edit the file instead"),
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

/// The database failed. No change was written in part; if the connection broke during a commit, the whole change may
/// have been written.
#[derive(Debug)]
pub struct Unavailable {
    what: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Unavailable {
    /// `what` describes the problem in words that a client may see; the source is only for the log.
    #[cfg_attr(
        not(feature = "database"),
        expect(dead_code, reason = "only a database can be unavailable")
    )]
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
