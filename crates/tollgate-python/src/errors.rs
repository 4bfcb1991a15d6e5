//! Errors of the crates below as exceptions.

use std::error::Error;
use std::fmt::Write as _;

use pyo3::PyErr;
use pyo3::exceptions::{PyException, PyFileNotFoundError, PyOSError, PyValueError};
use tollgate::shared::ConnectError;
use tollgate_catalog::CatalogError;

pyo3::create_exception!(
    tollgate,
    StoreError,
    PyException,
    "The store did not decide, and no failure mode did either."
);

/// `error` and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

pub(crate) fn store_error(error: &tollgate_store::StoreError) -> PyErr {
    StoreError::new_err(with_causes(error))
}

pub(crate) fn connect_error(error: &ConnectError) -> PyErr {
    match error {
        ConnectError::Catalog(error) => catalog_error(error),
        ConnectError::Url { .. } => PyValueError::new_err(with_causes(error)),
        _ => StoreError::new_err(with_causes(error)),
    }
}

pub(crate) fn catalog_error(error: &CatalogError) -> PyErr {
    let text = with_causes(error);
    match error {
        CatalogError::Unreadable { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
            _ => PyOSError::new_err(text),
        },
        _ => PyValueError::new_err(text),
    }
}
