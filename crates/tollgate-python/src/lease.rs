//! Leases: context managers that settle what they reserved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use tollgate::leases::{LeaseState, StoreLease};
use tollgate::shared::{RedisStore, Surrounded};
use tollgate::{Amount, Totals, Ttl, Unit};
use tollgate_store::{MemoryStore, Store, StoreError};

use crate::arguments::{amounts, invalid, seconds};
use crate::at_once::at_once;
use crate::clock::{LimiterClock, StoreClock};
use crate::decision::Decision;
use crate::errors::store_error;
use crate::shared::event_loop::{future_of, future_with};
use crate::shared::runtime::wait;

const ACCEPTED_TTL: &str = "a number of seconds from 0.1 to 3600";

/// The guard of a lease, by its store.
pub(crate) enum Guard {
    Memory(StoreLease<MemoryStore<StoreClock>>),
    Shared(StoreLease<Surrounded<RedisStore>>),
}

/// What is to become of a lease.
enum Operation {
    Extend { ttl: Option<Ttl>, wanted: Totals },
    Settle(Totals),
    Release,
    Abandon,
}

impl Operation {
    fn ends(&self) -> bool {
        !matches!(self, Self::Extend { .. })
    }
}

type Amounts = Vec<(Unit, Amount)>;

impl Guard {
    async fn carry_out(
        &mut self,
        observed: &Amounts,
        operation: Operation,
    ) -> Result<Option<LeaseState>, StoreError> {
        match self {
            Self::Memory(lease) => carry_out(lease, observed, operation).await,
            Self::Shared(lease) => carry_out(lease, observed, operation).await,
        }
    }
}

async fn carry_out<S: Store>(
    lease: &mut StoreLease<S>,
    observed: &Amounts,
    operation: Operation,
) -> Result<Option<LeaseState>, StoreError> {
    for (unit, total) in observed {
        lease.observe(unit.clone(), *total);
    }
    match operation {
        Operation::Extend { ttl, wanted } => lease.extend(ttl, wanted).await,
        Operation::Settle(usage) => lease.settle(usage).await,
        Operation::Release => lease.release().await,
        Operation::Abandon => lease.abandon().await,
    }
}

/// An admitted check that holds what it reserved until it is settled, released or expires.
///
/// Leaving its `with` block settles it with what was observed: exactly, or as a lower bound if the block raised.
#[pyclass(frozen, weakref, module = "tollgate")]
pub(crate) struct Lease {
    guard: Arc<tokio::sync::Mutex<Guard>>,
    /// Only used while Python's lock is held.
    observed: Mutex<Amounts>,
    has_ended: Arc<AtomicBool>,
    /// The clock of a store in memory; `None` if the store is shared.
    clock: Option<Arc<LimiterClock>>,
    decision: tollgate::Decision,
    /// The process that reserved it.
    process: u32,
    id: String,
    state_at_reservation: &'static str,
}

/// How long a lease is to live; 30 seconds if it is not given.
pub(crate) fn ttl(value: Option<&Bound<'_, PyAny>>) -> PyResult<Ttl> {
    Ok(optional_ttl(value)?.unwrap_or_default())
}

fn optional_ttl(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Ttl>> {
    let Some(value) = value else { return Ok(None) };
    let length = seconds("ttl", value, ACCEPTED_TTL)?;
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let out_of_range = || invalid("ttl", &format!("is {} s", length.as_secs_f64()), ACCEPTED_TTL);
    Ttl::from_ms(ms).map(Some).ok_or_else(out_of_range)
}

/// How long the lease of a server is to live, in milliseconds; `None` if it is not given.
#[pyfunction]
pub(crate) fn ttl_ms(ttl: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    Ok(optional_ttl(ttl)?.map(Ttl::as_ms))
}

fn totals(amounts: &Amounts) -> Totals {
    let one = |totals: Totals, (unit, total): &(Unit, Amount)| totals.with(unit.clone(), *total);
    amounts.iter().fold(Totals::none(), one)
}

/// The exception of a reservation that was denied.
///
/// No code in Python runs for it: the class has only what C makes. A daemon thread that runs such code below Rust aborts the
/// process when the interpreter ends meanwhile.
pub(crate) fn denied(py: Python<'_>, decision: tollgate::Decision) -> PyErr {
    static EXCEPTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let raised = EXCEPTION
        .import(py, "tollgate._errors", "RateLimitExceeded")
        .and_then(|exception| exception.call1((Py::new(py, Decision(decision))?,)));
    raised.map_or_else(|error| error, PyErr::from_value)
}

impl Lease {
    pub(crate) fn new(
        guard: Guard,
        decision: tollgate::Decision,
        clock: Option<Arc<LimiterClock>>,
    ) -> Self {
        let (id, status) = match &guard {
            Guard::Memory(lease) => (lease.id(), lease.status_at_reservation()),
            Guard::Shared(lease) => (lease.id(), lease.status_at_reservation()),
        };
        Self {
            id: id.as_str().to_owned(),
            state_at_reservation: status.name(),
            guard: Arc::new(tokio::sync::Mutex::new(guard)),
            observed: Mutex::default(),
            has_ended: Arc::default(),
            clock,
            decision,
            process: std::process::id(),
        }
    }

    /// Whether another process has reserved it, from which this one was forked, and it is in a store that both share.
    fn is_of_parent(&self) -> bool {
        self.clock.is_none() && self.process != std::process::id()
    }

    fn refuse_ended(&self) -> PyResult<()> {
        // Relaxed: both sides hold Python's lock, or have waited for the work.
        if self.has_ended.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("the lease has been settled or released already"));
        }
        Ok(())
    }

    fn observed(&self) -> Amounts {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The work of `operation`, which owns what it needs.
    fn work(
        &self,
        py: Python<'_>,
        operation: Operation,
    ) -> PyResult<impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send + use<>> {
        self.refuse_ended()?;
        if self.is_of_parent() {
            let message = "the lease belongs to the process that reserved it, and a fork has it too; accepted: ending it there";
            return Err(PyRuntimeError::new_err(message));
        }
        if let Some(clock) = &self.clock {
            clock.tick(py)?;
        }
        let (guard, has_ended) = (Arc::clone(&self.guard), Arc::clone(&self.has_ended));
        let (observed, ends) = (self.observed(), operation.ends());
        Ok(async move {
            let state = guard.lock().await.carry_out(&observed, operation).await?;
            if ends {
                has_ended.store(true, Ordering::Relaxed);
            }
            Ok(state)
        })
    }

    fn run<'py>(
        &self,
        py: Python<'py>,
        operation: Operation,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let work = self.work(py, operation)?;
        let state = if self.clock.is_some() {
            at_once(work)?
        } else {
            wait(py, work)?.map_err(|error| store_error(&error))?
        };
        state.map(|state| state_dict(py, &state)).transpose()
    }

    fn run_async<'py>(&self, py: Python<'py>, operation: Operation) -> PyResult<Bound<'py, PyAny>> {
        if self.clock.is_some() {
            let state = self.run(py, operation)?;
            return future_with(py, state.into_pyobject(py)?);
        }
        future_of(py, self.work(py, operation)?, |py, state| {
            let state = state.map_err(|error| store_error(&error))?;
            let state = state.map(|state| state_dict(py, &state)).transpose()?;
            Ok(state.into_pyobject(py)?.unbind())
        })
    }

    /// What leaving the block does.
    fn leaving(&self, has_raised: bool) -> Option<Operation> {
        // In a fork, the parent has the block too, and ends the lease.
        if self.has_ended.load(Ordering::Relaxed) || self.is_of_parent() {
            return None;
        }
        let settle = || Operation::Settle(totals(&self.observed()));
        Some(if has_raised { Operation::Abandon } else { settle() })
    }
}

#[pymethods]
impl Lease {
    /// Its id, valid wherever the store is used: whoever knows it can settle the lease.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// The decision of its reservation.
    #[getter]
    fn decision(&self) -> Decision {
        Decision(self.decision.clone())
    }

    /// `live`, unless the same `request_id` reserved it before and it has ended since: then it allows no new work.
    #[getter]
    fn state_at_reservation(&self) -> &'static str {
        self.state_at_reservation
    }

    /// Remembers that so much of each unit was used in all so far, for the next extension or the end.
    ///
    /// `totals` is a dict of integers by unit, such as `{"output_tokens": 120}`. Nothing is sent.
    fn observe(&self, totals: &Bound<'_, PyAny>) -> PyResult<()> {
        let new = amounts("totals", totals)?;
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        for (unit, total) in new {
            match observed.iter_mut().find(|(known, _)| *known == unit) {
                Some((_, old)) => *old = total,
                None => observed.push((unit, total)),
            }
        }
        Ok(())
    }

    /// Lets it live for `ttl` seconds from now (0.1 to 3600), or as long again as before, and asks for `wanted` in all.
    ///
    /// `wanted` is a dict of integers by unit, such as `{"output_tokens": 2000}`. Returns the lease as a dict (`LeaseState`), whose
    /// `proceed` is False if what was wanted was not admitted; None if the store has no such lease any more. Raises
    /// `RuntimeError` if the lease has been ended here, and `StoreError` if the store does not answer.
    #[pyo3(signature = (ttl=None, wanted=None))]
    fn extend<'py>(
        &self,
        py: Python<'py>,
        ttl: Option<&Bound<'_, PyAny>>,
        wanted: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.run(py, extension(ttl, wanted)?)
    }

    /// Settles it with `usage`, all that was used by unit. A unit that is not named stays as reserved.
    ///
    /// `usage` is a dict of integers by unit, such as `{"output_tokens": 300}`. Returns and raises what `extend` does; after a
    /// `StoreError` it may be called again, and counts once.
    fn settle<'py>(
        &self,
        py: Python<'py>,
        usage: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.run(py, Operation::Settle(totals(&amounts("usage", usage)?)))
    }

    /// Gives everything back, as if the check had not been made. Returns and raises what `extend` does.
    fn release<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.run(py, Operation::Release)
    }

    /// `extend` for the running event loop: returns a future of what it returns. A future that is cancelled does not take the
    /// extension back. Raises `RuntimeError` if no event loop runs in this thread.
    #[pyo3(signature = (ttl=None, wanted=None))]
    fn extend_async<'py>(
        &self,
        py: Python<'py>,
        ttl: Option<&Bound<'_, PyAny>>,
        wanted: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.run_async(py, extension(ttl, wanted)?)
    }

    /// `settle` for the running event loop: returns a future of what it returns, as `extend_async` does.
    fn settle_async<'py>(
        &self,
        py: Python<'py>,
        usage: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.run_async(py, Operation::Settle(totals(&amounts("usage", usage)?)))
    }

    /// `release` for the running event loop: returns a future of what it returns, as `extend_async` does.
    fn release_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.run_async(py, Operation::Release)
    }

    /// What leaving the block of `async with` does.
    fn leave_async<'py>(&self, py: Python<'py>, has_raised: bool) -> PyResult<Bound<'py, PyAny>> {
        match self.leaving(has_raised) {
            Some(operation) => self.run_async(py, operation),
            None => future_with(py, py.None().into_bound(py)),
        }
    }

    fn __enter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        slf.get().refuse_ended()?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc_value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let _ = (exc_value, traceback);
        let has_raised = !exc_type.is_none();
        if let Some(operation) = self.leaving(has_raised) {
            match self.run(py, operation) {
                // The exception of the block goes on; a signal handler's exception replaces it.
                Err(error) if has_raised && error.is_instance_of::<PyException>(py) => {
                    let log = py.import("tollgate._leases")?.getattr("log_failed_settlement")?;
                    log.call1((error.value(py),))?;
                }
                result => drop(result?),
            }
        }
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let state = if self.has_ended.load(Ordering::Relaxed) { "ended" } else { "open" };
        // Without its id: whoever knows it can settle the lease.
        let limits = self.decision.limits().len();
        let Some(headline) = self.decision.headline() else {
            return format!("<Lease {state}, in {limits} limits>");
        };
        let (policy, unit) = (headline.limit.policy_id().as_str(), headline.limit.unit().name());
        let (count, limit) = (headline.count, headline.limit.amount());
        format!("<Lease {state}, in {limits} limits: {count} of {limit} {unit} by {policy:?}>")
    }
}

fn extension(
    ttl: Option<&Bound<'_, PyAny>>,
    wanted: Option<&Bound<'_, PyAny>>,
) -> PyResult<Operation> {
    let wanted = wanted.map(|wanted| amounts("wanted", wanted)).transpose()?.unwrap_or_default();
    Ok(Operation::Extend { ttl: optional_ttl(ttl)?, wanted: totals(&wanted) })
}

/// A lease that nobody ended settles as a lower bound: in memory at once, in a shared store by the thread of the module.
impl Drop for Lease {
    fn drop(&mut self) {
        if self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        if self.is_of_parent() {
            // Its connection is not dropped here either: that would wait for threads of the parent.
            std::mem::forget(Arc::clone(&self.guard));
            return;
        }
        let observed = self.observed();
        let Ok(mut guard) = self.guard.try_lock() else { return };
        match &mut *guard {
            // Without its caller, nobody hears of an error. The clock in Python, if there is one, shows its last time.
            Guard::Memory(lease) => drop(at_once(carry_out(lease, &observed, Operation::Abandon))),
            Guard::Shared(lease) => {
                for (unit, total) in observed {
                    lease.observe(unit, total);
                }
            }
        }
    }
}

/// A lease after an update, with the names of a server's answer.
fn state_dict<'py>(py: Python<'py>, state: &LeaseState) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("state", state.status().name())?;
    dict.set_item("proceed", state.proceed)?;
    dict.set_item("ttlMs", state.ttl.as_ms())?;
    let holds = state.holds.iter().map(|hold| {
        let of_limit = PyDict::new(py);
        of_limit.set_item("policyId", hold.policy_id.as_str())?;
        of_limit.set_item("unit", hold.unit.name())?;
        of_limit.set_item("limit", hold.limit.get())?;
        of_limit.set_item("count", hold.usage)?;
        of_limit.set_item("charged", hold.charged)?;
        of_limit.set_item("debt", hold.debt())?;
        Ok(of_limit)
    });
    dict.set_item("limits", PyList::new(py, holds.collect::<PyResult<Vec<_>>>()?)?)?;
    Ok(dict)
}
