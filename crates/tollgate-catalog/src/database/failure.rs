//! What a failure of the database means to the caller.

use std::error::Error;
use std::fmt;

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
    Unavailable::new(what, Some(Box::new(DriverError(error))))
}

/// An error of the driver. The driver puts the text of a cause into that of the error, so whoever shows all causes would show
/// it twice; this one's causes are those that its text does not contain.
#[derive(Debug)]
pub(super) struct DriverError<E>(pub(super) E);

impl<E: Error> fmt::Display for DriverError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: Error> Error for DriverError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let told = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause.filter(|error| told.contains(&error.to_string())) {
            cause = error.source();
        }
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nested(&'static str, Option<Box<Nested>>);

    impl fmt::Display for Nested {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Nested {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    /// `error` with all its causes, as the log and the command line show them.
    fn chain(error: &dyn Error) -> String {
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    #[test]
    fn the_text_of_a_cause_is_shown_once() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused by x");
        let error = unavailable(sqlx::Error::Io(io));
        let expected = "the database is unavailable; try again: error communicating with database: refused by x";
        assert_eq!(chain(&error), expected);
        let told = Nested("no TLS: bad key", Some(Box::new(Nested("bad key", None))));
        assert_eq!(chain(&DriverError(told)), "no TLS: bad key");
        let inner = Nested("expired", None);
        let cause = Nested("bad key", Some(Box::new(inner)));
        let untold = Nested("no TLS: bad key", Some(Box::new(cause)));
        assert_eq!(chain(&DriverError(untold)), "no TLS: bad key: expired");
    }
}
