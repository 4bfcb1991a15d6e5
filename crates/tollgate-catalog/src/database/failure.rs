//! What a failure of the database means to the caller.

use crate::directory::{DirectoryError, Unavailable};
use crate::error::CatalogError;
use crate::problem::Problems;

/// Why something could not be read or written.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database failed.
    Database(Unavailable),
    /// The data in it, or the data to be written, is invalid.
    Invalid(Problems),
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Database(unavailable)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl From<Failure> for DirectoryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(unavailable) => Self::Unavailable(unavailable),
            Failure::Invalid(problems) => Self::Invalid(problems),
        }
    }
}

impl From<Failure> for CatalogError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(unavailable) => Self::Database(unavailable),
            Failure::Invalid(problems) => Self::Invalid(problems),
        }
    }
}

impl From<Unavailable> for DirectoryError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Problems> for DirectoryError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl From<sqlx::Error> for DirectoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(unavailable(error))
    }
}

/// Describes `error` in words that a client may see. The transaction that it ended was rolled back, unless the
/// connection broke during its commit.
pub(super) fn unavailable(error: sqlx::Error) -> Unavailable {
    let code =
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    // SQLite's codes are numbers whose low byte is the primary code; PostgreSQL's have five characters.
    let primary =
        if code.len() == 5 { None } else { code.parse().ok().map(|code: u32| code & 0xff) };
    let what = match (primary, &*code) {
        (Some(5 | 6), _) | (_, "55P03" | "40001" | "40P01") => "the database is locked; try again",
        (Some(8), _) | (_, "25006") => "the database is read-only",
        (Some(13), _) | (_, "53100") => "the database is full",
        (Some(11 | 26), _) | (_, "XX001" | "XX002") => "the database is damaged",
        (Some(10 | 14), _) => "the database file cannot be read or written",
        _ if matches!(error, sqlx::Error::PoolTimedOut) => {
            "the database is busy or unavailable; try again"
        }
        _ if matches!(error, sqlx::Error::Io(_)) => "the database is unavailable; try again",
        _ => "the database failed",
    };
    Unavailable::new(what, Some(Box::new(error)))
}
