//! The location of a database: for SQLite, checks that its file is still the one that was opened.

use std::path::PathBuf;

use crate::directory::Unavailable;

/// The file of a SQLite database, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Server,
    File { path: PathBuf, identity: Option<(u64, u64)> },
}

impl Location {
    /// The file at `path` in its current state.
    pub(super) fn of_file(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self::File { path, identity }
    }

    /// Fails if the file was deleted, moved or replaced: everything written into it from then on would be lost, without
    /// an error from SQLite.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        match self {
            Self::File { path, identity: opened } if identity(path) != *opened => {
                Err(Unavailable::new("the database file was deleted, moved or replaced", None))
            }
            _ => Ok(()),
        }
    }
}

/// Identifies a file, to distinguish it from another one at the same path.
#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// On other systems an open file cannot be deleted.
#[cfg(not(unix))]
fn identity(_: &std::path::Path) -> Option<(u64, u64)> {
    None
}
