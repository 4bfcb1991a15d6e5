//! Where limiters read the time: the machine, a [`ManualClock`], or a function in Python.

use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyType;
use tollgate::{Clock, MonotonicClock, Timestamp};

use crate::arguments::{invalid, seconds};

const ACCEPTED_TIMES: &str = "a number of seconds from 0 to 18446744073";
/// The last second of a [`Timestamp`].
const MAX_SECONDS: u64 = u64::MAX / 1_000_000_000;

/// A clock that only moves when it is told to, for tests.
///
/// It shows seconds since the Unix epoch, and starts at `now`.
#[pyclass(frozen, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct ManualClock(tollgate::ManualClock);

fn timestamp(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    Ok(Timestamp::default().after(length(name, value)?))
}

fn length(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let length = seconds(name, value, ACCEPTED_TIMES)?;
    if length.as_secs() >= MAX_SECONDS {
        return Err(invalid(name, "is too large", ACCEPTED_TIMES));
    }
    Ok(length)
}

#[pymethods]
impl ManualClock {
    #[new]
    #[pyo3(signature = (now=None))]
    fn new(now: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let now = now.map_or(Ok(Timestamp::default()), |now| timestamp("now", now))?;
        Ok(Self(tollgate::ManualClock::at(now)))
    }

    /// Moves the clock forward by `seconds`.
    fn advance(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let length = length("seconds", seconds)?;
        let end = Duration::from_nanos(self.0.now().as_ns()).saturating_add(length);
        if end.as_secs() >= MAX_SECONDS {
            return Err(invalid("seconds", "lead past the last time of a clock", ACCEPTED_TIMES));
        }
        self.0.set(self.0.now().after(length));
        Ok(())
    }

    /// Sets the clock to `now`, also back.
    fn set(&self, now: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.set(timestamp("now", now)?);
        Ok(())
    }

    /// The time that it shows, in seconds since the Unix epoch.
    fn now(&self) -> f64 {
        Duration::from_nanos(self.0.now().as_ns()).as_secs_f64()
    }

    fn __repr__(&self) -> String {
        format!("ManualClock({})", self.now())
    }
}

/// The clock of a store.
#[derive(Debug)]
pub(crate) enum StoreClock {
    Machine(MonotonicClock),
    Manual(tollgate::ManualClock),
}

impl Clock for StoreClock {
    #[inline]
    fn now(&self) -> Timestamp {
        match self {
            Self::Machine(clock) => clock.now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

/// The clock that a limiter was given.
///
/// A store reads its clock while it holds a lock, where no Python code may run: another thread could then wait for that lock
/// while it holds Python's. So a function in Python is called before the store is, and its time is put into a clock for the store.
#[derive(Debug)]
pub(crate) struct LimiterClock {
    called: Option<(Py<PyAny>, tollgate::ManualClock)>,
}

impl LimiterClock {
    /// The clock that `given` names, and that of the store.
    pub(crate) fn new(given: Option<&Bound<'_, PyAny>>) -> PyResult<(Self, StoreClock)> {
        let Some(given) = given else {
            return Ok((Self { called: None }, StoreClock::Machine(MonotonicClock::new())));
        };
        if let Ok(manual) = given.cast::<ManualClock>() {
            return Ok((Self { called: None }, StoreClock::Manual(manual.get().0.clone())));
        }
        // A class is called to make an object, not to tell the time.
        if !given.is_callable() || given.is_instance_of::<PyType>() {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "clock is not a clock; accepted: a ManualClock, or a function that returns seconds, such as time.time",
            ));
        }
        let clock = tollgate::ManualClock::default();
        let called = Some((given.clone().unbind(), clock.clone()));
        Ok((Self { called }, StoreClock::Manual(clock)))
    }

    /// Lets the store's clock show the time now. To be called before each call of the store.
    #[inline]
    pub(crate) fn tick(&self, py: Python<'_>) -> PyResult<()> {
        match &self.called {
            None => Ok(()),
            Some((function, clock)) => {
                clock.set(timestamp("the time of clock", &function.bind(py).call0()?)?);
                Ok(())
            }
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.called.as_ref().map_or(Ok(()), |(function, _)| visit.call(function))
    }
}
