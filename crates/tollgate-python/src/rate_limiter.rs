//! One limit per user and model.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use tollgate::{Amount, Counting, Unit, Window};

use crate::arguments::{Given, invalid, max_keys, quota, quoted, single_cost};
use crate::clock::{LimiterClock, StoreClock};
use crate::counts::metrics_dict;
use crate::decision::Decision;

/// Limits the requests of each user and model in any window, exactly. In memory, for one process.
#[pyclass(frozen, subclass, weakref, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limiter: tollgate::RateLimiter<StoreClock>,
    clock: LimiterClock,
}

/// How a limiter counts over a window.
fn counting(algorithm: &str, limit: u64) -> PyResult<impl FnOnce(Window) -> Counting> {
    let refill = Amount::new(limit).unwrap_or(Amount::MAX);
    let named = match algorithm {
        "sliding_window_log" => 0,
        "sliding_window_counter" => 1,
        "token_bucket" => 2,
        _ => {
            return Err(invalid(
                "algorithm",
                &format!("is {}", quoted(algorithm)),
                Counting::ACCEPTED,
            ));
        }
    };
    Ok(move |window| match named {
        0 => Counting::Log { window },
        1 => Counting::Counter { window },
        _ => Counting::Bucket { window, refill },
    })
}

#[pymethods]
impl RateLimiter {
    #[new]
    #[pyo3(signature = (max_requests=Given::Nothing, window_seconds=Given::Nothing, *, algorithm="sliding_window_log", unit="requests",
        name="default", max_keys=None, clock=None),
        text_signature = "(max_requests=100, window_seconds=3600, *, algorithm='sliding_window_log', unit='requests', \
        name='default', max_keys=10000000, clock=None)")]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments are the interface")]
    fn new(
        py: Python<'_>,
        max_requests: Given<'_>,
        window_seconds: Given<'_>,
        algorithm: &str,
        unit: &str,
        name: &str,
        max_keys: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (max_requests, window_seconds) =
            (max_requests.or(py, 100)?, window_seconds.or(py, 3_600)?);
        let quota = quota(("max_requests", &max_requests), ("window_seconds", &window_seconds))?;
        let unit = Unit::parse(unit).filter(Unit::has_cost).ok_or_else(|| {
            invalid("unit", &format!("is {}", quoted(unit)), Unit::ACCEPTED_IN_COSTS)
        })?;
        let (clock, of_store) = LimiterClock::new(clock)?;
        let limiter = tollgate::RateLimiter::builder(quota.limit, quota.window)
            .counting(counting(algorithm, quota.limit)?)
            .unit(unit)
            .name(name)
            .max_keys(self::max_keys(max_keys)?)
            .build_with_clock(of_store)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        Ok(Self { limiter, clock })
    }

    /// The limiter with the limit of `config`; `options` are those of the constructor.
    #[classmethod]
    #[pyo3(signature = (config, **options))]
    fn from_config<'py>(
        cls: &Bound<'py, PyType>,
        config: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        cls.call((config.getattr("max_requests")?, config.getattr("window_seconds")?), options)
    }

    /// Whether a request by `user` for `model` may pass now. If it may, it is charged; a denial changes nothing.
    #[pyo3(signature = (user, model, cost=None), text_signature = "($self, user, model, cost=1)")]
    fn allow(
        &self,
        py: Python<'_>,
        user: &str,
        model: &str,
        cost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.clock.tick(py)?;
        match single_cost(cost)? {
            1 => Ok(self.limiter.allow(user, model)),
            cost => Ok(self.limiter.check_cost(user, model, cost).allowed()),
        }
    }

    /// The same as `allow`, with the whole decision.
    #[pyo3(signature = (user, model, cost=None), text_signature = "($self, user, model, cost=1)")]
    fn check(
        &self,
        py: Python<'_>,
        user: &str,
        model: &str,
        cost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        self.clock.tick(py)?;
        Ok(Decision(self.limiter.check_cost(user, model, single_cost(cost)?)))
    }

    /// The decision that `check` would make now; charges nothing.
    #[pyo3(signature = (user, model, cost=None), text_signature = "($self, user, model, cost=1)")]
    fn peek(
        &self,
        py: Python<'_>,
        user: &str,
        model: &str,
        cost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        self.clock.tick(py)?;
        Ok(Decision(self.limiter.peek(user, model, single_cost(cost)?)))
    }

    /// What `user` has used of `model` in the window that ends now.
    fn get_request_count(&self, py: Python<'_>, user: &str, model: &str) -> PyResult<u64> {
        self.clock.tick(py)?;
        Ok(self.limiter.request_count(user, model))
    }

    /// Clears what `user` has used, of all models.
    fn reset_user(&self, py: Python<'_>, user: &str) -> PyResult<()> {
        self.clock.tick(py)?;
        self.limiter.reset_user(user);
        Ok(())
    }

    /// How many checks were allowed and denied, and how many keys are held.
    fn get_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.limiter.metrics(), Some(&self.limiter.stats()))
    }

    /// Counts checks from 0 again, and returns the metrics until now.
    fn reset_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.limiter.reset_metrics(), Some(&self.limiter.stats()))
    }

    /// Frees the memory of idle keys, which new keys otherwise do bit by bit.
    fn sweep(&self, py: Python<'_>) -> PyResult<()> {
        self.clock.tick(py)?;
        self.limiter.sweep();
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.traverse(&visit)
    }
}
