//! Results for tasks of an event loop of asyncio.
//!
//! Each loop has a bridge. A call puts a future of the loop in it and starts its work in the [runtime](super::runtime). When the work
//! is done, its result goes into a list, and a byte into a pipe that the loop reads; then the loop sets the results of all futures
//! that are done. So the runtime's thread never takes Python's lock, and a loop with many tasks is woken once for many of them.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::runtime::{OfProcess, runtime};

/// The most results that are set before the loop gets its turn: far below a millisecond of work.
const MAX_RESULTS_AT_ONCE: usize = 256;

/// Makes the result of a future, in the thread of the loop.
type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

static BRIDGES: Mutex<OfProcess<Vec<Bridge>>> = Mutex::new(OfProcess::none());

struct Bridge {
    event_loop: Py<PyWeakrefReference>,
    results: Py<Results>,
}

/// The futures of one loop, and the results that they wait for. A part of the module only because the loop calls it.
#[pyclass(frozen)]
pub(crate) struct Results {
    /// By number. Only used while Python's lock is held.
    waiting: Mutex<Waiting>,
    done: Arc<Done>,
    /// The end of the pipe that the loop reads.
    reader: UnixStream,
}

#[derive(Default)]
struct Waiting {
    next_number: u64,
    futures: HashMap<u64, Py<PyAny>>,
}

/// What is done and not yet taken over by the loop.
struct Done {
    outcomes: Mutex<Vec<(u64, Outcome)>>,
    /// Whether a byte is in the pipe since the loop last looked.
    is_woken: AtomicBool,
    writer: UnixStream,
}

impl Done {
    fn push(&self, number: u64, outcome: Outcome) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
        self.wake();
    }

    fn wake(&self) {
        // SeqCst: the loop clears the flag before it takes the list, so what is pushed after that wakes it again.
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            // A pipe that is full wakes the loop too, and one that is closed has no loop.
            let _ = (&self.writer).write(&[1]);
        }
    }
}

#[pymethods]
impl Results {
    /// Sets the results that are there. The loop calls it when the pipe has a byte.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let mut bytes = [0; 64];
        while matches!((&self.reader).read(&mut bytes), Ok(read) if read == bytes.len()) {}
        // SeqCst: see `Done::wake`. After the pipe is empty: a byte that is read after this would leave the flag set and the pipe
        // empty, and nothing would wake the loop again.
        self.done.is_woken.store(false, Ordering::SeqCst);
        let outcomes = {
            let mut done = self.done.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let now = done.len().min(MAX_RESULTS_AT_ONCE);
            let rest = done.split_off(now);
            std::mem::replace(&mut *done, rest)
        };
        for (number, outcome) in outcomes {
            let future = self.lock().futures.remove(&number);
            if let Some(future) = future {
                settle(future.bind(py), outcome)?;
            }
        }
        if !self.done.outcomes.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.done.wake();
        }
        Ok(())
    }
}

impl Results {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

/// Gives `future` its result, unless its task was cancelled.
fn settle(future: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match outcome(py) {
        Ok(value) => future.call_method1(pyo3::intern!(py, "set_result"), (value,))?,
        Err(error) => future.call_method1(pyo3::intern!(py, "set_exception"), (error,))?,
    };
    Ok(())
}

/// The loop that runs in this thread.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

/// The bridge of `event_loop`, made and registered with it if it has none.
fn results_of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Results>> {
    let py = event_loop.py();
    let find = |bridges: &mut OfProcess<Vec<Bridge>>| {
        let bridges = bridges.get_or_make(|| Ok::<_, PyErr>(Vec::new()))?;
        let found = bridges.iter().find(|bridge| {
            bridge.event_loop.bind(py).upgrade().is_some_and(|alive| alive.is(event_loop))
        });
        Ok::<_, PyErr>(found.map(|bridge| bridge.results.clone_ref(py).into_bound(py)))
    };
    // No Python code runs while the list is locked, except the end of objects without a finaliser.
    if let Some(found) = find(&mut BRIDGES.lock().unwrap_or_else(PoisonError::into_inner))? {
        return Ok(found);
    }
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    let descriptor = reader.as_raw_fd();
    let done =
        Arc::new(Done { outcomes: Mutex::default(), is_woken: AtomicBool::new(false), writer });
    let results = Bound::new(py, Results { waiting: Mutex::default(), done, reader })?;
    event_loop.call_method1(pyo3::intern!(py, "add_reader"), (descriptor, &results))?;
    let bridge = Bridge {
        event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
        results: results.clone().unbind(),
    };
    let ended = remove_ended(py)?;
    let mut bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
    bridges.get_or_make(|| Ok::<_, PyErr>(Vec::new()))?.push(bridge);
    drop(bridges);
    drop(ended);
    Ok(results)
}

/// Takes the bridges of loops that are closed or gone out of the list. They hold futures that nobody waits for.
fn remove_ended(py: Python<'_>) -> PyResult<Vec<Bridge>> {
    let take = || {
        let mut bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
        let bridges = bridges.get_or_make(|| Ok::<_, PyErr>(Vec::new()))?;
        Ok::<_, PyErr>(std::mem::take(bridges))
    };
    let (mut open, mut ended) = (Vec::new(), Vec::new());
    for bridge in take()? {
        let event_loop = bridge.event_loop.bind(py).upgrade();
        let is_open = match event_loop {
            Some(event_loop) => !event_loop.call_method0("is_closed")?.is_truthy()?,
            None => false,
        };
        if is_open { open.push(bridge) } else { ended.push(bridge) }
    }
    let mut bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
    bridges.get_or_make(|| Ok::<_, PyErr>(Vec::new()))?.extend(open);
    Ok(ended)
}

/// A future of the running loop that has its result already.
pub(crate) fn future_with<'py>(
    py: Python<'py>,
    result: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let future = running_loop(py)?.call_method0(pyo3::intern!(py, "create_future"))?;
    future.call_method1(pyo3::intern!(py, "set_result"), (result,))?;
    Ok(future)
}

/// A future of the running loop for what `work` returns. The work goes on if the future is cancelled.
///
/// `work` must own no Python object: its thread does not take Python's lock.
pub(crate) fn future_of<T: Send + 'static>(
    py: Python<'_>,
    work: impl Future<Output = T> + Send + 'static,
    convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
) -> PyResult<Bound<'_, PyAny>> {
    let event_loop = running_loop(py)?;
    let results = results_of(&event_loop)?;
    let runtime = runtime()?;
    let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
    let number = {
        let mut waiting = results.get().lock();
        waiting.next_number += 1;
        let number = waiting.next_number;
        waiting.futures.insert(number, future.clone().unbind());
        number
    };
    let done = Arc::clone(&results.get().done);
    // No `async` block: it would hold `work` twice, and each call allocates its task.
    runtime.spawn(work.map(move |value| done.push(number, Box::new(move |py| convert(py, value)))));
    Ok(future)
}
