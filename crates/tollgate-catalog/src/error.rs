//! Why a catalog gave no policies.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use crate::directory::Unavailable;
use crate::document::{Format, MAX_DOCUMENT_BYTES};
use crate::problem::Problems;

/// A catalog could not be read, or what it holds was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum CatalogError {
    /// The extension of the file stands for no format.
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path names a directory, a pipe or a device.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is longer than [`MAX_DOCUMENT_BYTES`].
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The policies are wrong.
    Invalid(Problems),
    /// A watched file has become empty. That is taken for a write that has not come to its end, never for
    /// the wish to drop all policies, which is written `policies: []`.
    BecameEmpty {
        /// The file.
        path: PathBuf,
    },
    /// A watched file kept changing while it was read.
    Unsettled {
        /// The file.
        path: PathBuf,
    },
    /// The reader failed on what it was given, which is a bug in it.
    ReaderFailed {
        /// The file.
        path: PathBuf,
    },
    /// The URL names no database that can be used.
    DatabaseUrl,
    /// The database did not do it.
    Database(Unavailable),
    /// The API keys in the database were hashed with another secret: none of them would be known.
    OtherApiKeySecret,
    /// The thread that watches could not be started.
    NoWatcher {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CatalogError {
    /// Whether reading the same file again may succeed although nobody corrects it.
    pub fn retry_can_help(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::BecameEmpty { .. }
            | Self::Unsettled { .. }
            | Self::Database(_)
            | Self::NoWatcher { .. } => true,
            Self::UnknownFormat { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::DatabaseUrl
            | Self::OtherApiKeySecret
            | Self::Invalid(_)
            | Self::ReaderFailed { .. } => false,
        }
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat { path } => {
                let accepted = Format::ACCEPTED_EXTENSIONS;
                write!(f, "{}: unknown extension; accepted: {accepted}", path.display())
            }
            Self::Unreadable { path, .. } => write!(f, "{}: cannot be read", path.display()),
            Self::NotAFile { path } => {
                write!(f, "{}: is not a file; accepted: a regular file", path.display())
            }
            Self::TooLong { path } => {
                let accepted = MAX_DOCUMENT_BYTES;
                write!(f, "{}: is too long; accepted: at most {accepted} bytes", path.display())
            }
            Self::Invalid(problems) => problems.fmt(f),
            Self::BecameEmpty { path } => write!(
                f,
                "{}: has become empty; accepted: policies, or an empty list of them",
                path.display()
            ),
            Self::Unsettled { path } => {
                write!(f, "{}: kept changing while it was read", path.display())
            }
            Self::ReaderFailed { path } => {
                write!(f, "{}: the reader failed on it, which is a bug", path.display())
            }
            Self::DatabaseUrl => f.write_str(
                "the URL of the catalog names no database; accepted: sqlite:FILE or \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            ),
            Self::Database(unavailable) => write!(f, "the catalog: {unavailable}"),
            Self::OtherApiKeySecret => f.write_str(
                "the API keys in the database were made with another secret, so none of them would be known; \
                 accepted: the secret that they were made with",
            ),
            Self::NoWatcher { path, .. } => write!(f, "{}: cannot be watched", path.display()),
        }
    }
}

impl Error for CatalogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } | Self::NoWatcher { source, .. } => Some(source),
            Self::Database(unavailable) => unavailable.source(),
            _ => None,
        }
    }
}

impl From<Unavailable> for CatalogError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Database(unavailable)
    }
}
