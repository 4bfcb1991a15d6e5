//! Calls of a store in memory.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tollgate_store::StoreError;

use crate::errors::store_error;

/// The answer of a call that has nothing to wait for: the store is in memory, and the file has been read.
pub(crate) fn at_once<T>(call: impl Future<Output = Result<T, StoreError>>) -> PyResult<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.map_err(|error| store_error(&error)),
        Poll::Pending => Err(PyRuntimeError::new_err(
            "a limiter in memory waited for something; this is a bug in Tollgate, please report it",
        )),
    }
}
