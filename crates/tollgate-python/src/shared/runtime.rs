//! The runtime of the module: one thread, which sends what is asked of Redis.
//!
//! It is made when it is first needed and lives as long as the process, so nothing waits for it when the interpreter ends. Threads
//! do not survive a fork, so a child makes its own. What is remembered here and in the other modules for a process is locked only
//! while Python's lock is held, so a fork never finds it locked.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: Mutex<OfProcess<&'static Runtime>> = Mutex::new(OfProcess::none());

/// A value that belongs to one process: after a fork, the child has none.
#[derive(Debug)]
pub(super) struct OfProcess<T>(Option<(u32, T)>);

impl<T> OfProcess<T> {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// The value of this process, made by `make` if it has none. That of the parent is forgotten, not dropped: what it would stop
    /// or wait for is in the parent.
    pub(super) fn get_or_make<E>(
        &mut self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&mut T, E> {
        let process = std::process::id();
        if let Some((of, value)) = self.0.take() {
            if of == process {
                self.0 = Some((of, value));
            } else {
                std::mem::forget(value);
            }
        }
        let value = match self.0.take() {
            Some((_, value)) => value,
            None => make()?,
        };
        Ok(&mut self.0.insert((process, value)).1)
    }
}

/// A child that drops what it has of its parent would wait for threads that it does not have.
impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if let Some((of, value)) = self.0.take()
            && of != std::process::id()
        {
            std::mem::forget(value);
        }
    }
}

/// How often a thread that waits sees whether Python has a signal for it.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// Waits for `work` without Python's lock. A signal handler that raises, such as that of Ctrl-C, ends the waiting.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let (runtime, mut work) = (runtime()?, pin!(work));
    loop {
        let waited = py.detach(|| {
            runtime.block_on(async { tokio::time::timeout(SIGNALS_EVERY, work.as_mut()).await })
        });
        match waited {
            Ok(done) => return Ok(done),
            Err(_) => py.check_signals()?,
        }
    }
}

/// The runtime of this process.
pub(crate) fn runtime() -> PyResult<&'static Runtime> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let made = runtime.get_or_make(|| {
        let built = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tollgate")
            .enable_all()
            .build()
            .map_err(|error| {
                PyRuntimeError::new_err(format!("no thread can be started: {error}"))
            })?;
        let runtime: &'static Runtime = Box::leak(Box::new(built));
        Ok::<_, PyErr>(runtime)
    });
    made.copied()
}
