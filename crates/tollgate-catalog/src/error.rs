//! Why a catalog could not provide policies.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use crate::directory::Unavailable;
use crate::document::{Format, MAX_DOCUMENT_BYTES};
use crate::problem::Problems;

/// A catalog could not be read, or its content is invalid.
#[derive(Debug)]
#[non_exhaustive]
pub enum CatalogError {
    /// The extension of the file belongs to no known format.
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
    /// The policies are invalid.
    Invalid(Problems),
    /// A watched file has become empty. This counts as an unfinished write, never as a request for the built-in policy
    /// alone, which is written `policies: []`.
    BecameEmpty {
        /// The file.
        path: PathBuf,
    },
    /// A watched file kept changing while it was read.
    Unsettled {
        /// The file.
        path: PathBuf,
    },
    /// The parser failed on the content, which is a bug in it.
    ReaderFailed {
        /// The file.
        path: PathBuf,
    },
    /// The URL names no usable database.
    DatabaseUrl,
    /// The URL of a PostgreSQL database has an option that the driver does not know.
    DatabaseOption,
    /// The URL asks for a SQLite database in memory.
    DatabaseInMemory,
    /// The database server could not be reached or used at the start.
    DatabaseServer {
        /// Its host and port.
        at: String,
        /// Why.
        source: Unavailable,
    },
    /// The database failed.
    Database(Unavailable),
    /// The API keys in the database were hashed with another secret, so none of them would be recognized.
    OtherApiKeySecret,
    /// The thread that watches the file could not be started.
    NoWatcher {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CatalogError {
    /// Whether reading the same file again may succeed without a correction.
    pub fn retry_can_help(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::BecameEmpty { .. }
            | Self::Unsettled { .. }
            | Self::DatabaseServer { .. }
            | Self::Database(_)
            | Self::NoWatcher { .. } => true,
            Self::UnknownFormat { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::DatabaseUrl
            | Self::DatabaseOption
            | Self::DatabaseInMemory
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
                "{}: has become empty; accepted: policies; `policies: []` is the built-in policy alone, and one policy with \
                 `enabled: false` alone limits nothing",
                path.display()
            ),
            Self::Unsettled { path } => {
                write!(f, "{}: kept changing while it was read", path.display())
            }
            Self::ReaderFailed { path } => {
                write!(f, "{}: the parser failed on this file; this is a bug in Tollgate, please report it", path.display())
            }
            Self::DatabaseUrl => f.write_str(
                "the URL of the catalog cannot be read as that of a database; accepted: sqlite:FILE or \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            ),
            Self::DatabaseOption => f.write_str(
                "the URL of the catalog has an option that PostgreSQL's driver does not know; accepted: sslmode, sslrootcert, sslcert, \
                 sslkey, host, hostaddr, port, dbname, user, password, options and statement-cache-capacity",
            ),
            Self::DatabaseInMemory => f.write_str(
                "the URL of the catalog asks for a SQLite database in memory, which would be empty at every start; \
                 accepted: sqlite:FILE",
            ),
            Self::DatabaseServer { at, .. } => {
                write!(f, "the catalog: PostgreSQL at {at} cannot be used")
            }
            Self::Database(unavailable) => write!(f, "the catalog: {unavailable}"),
            Self::OtherApiKeySecret => f.write_str(
                "the API keys in the database were created with another secret, so none of them would be recognized; \
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
            Self::DatabaseServer { source: unavailable, .. } | Self::Database(unavailable) => {
                unavailable.source()
            }
            _ => None,
        }
    }
}

impl From<Unavailable> for CatalogError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Database(unavailable)
    }
}
