//! One limit per user and model.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use tollgate::{Amount, Counting, Unit, Window};

use crate::arguments::{
    Given, id, invalid, limit_and_window, max_keys, quota, quoted, shown_seconds, single_cost,
    text, wrong_type,
};
use crate::clock::{LimiterClock, StoreClock};
use crate::counts::metrics_dict;
use crate::decision::Decision;

/// Limits the requests of each user and model in any window, exactly. In memory, for one process.
#[pyclass(frozen, subclass, weakref, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limiter: tollgate::RateLimiter<StoreClock>,
    clock: LimiterClock,
    /// What `repr` shows of the limit.
    shown: String,
}

/// How a limiter counts over a window.
fn counting(algorithm: Given<'_>, limit: u64) -> PyResult<impl FnOnce(Window) -> Counting + use<>> {
    let refill = Amount::new(limit).unwrap_or(Amount::MAX);
    let algorithm = algorithm.value();
    let given = algorithm.as_ref().map(|algorithm| text("algorithm", algorithm)).transpose()?;
    let algorithm = given.unwrap_or("sliding_window_log");
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

/// The unit of a limit whose checks have a cost.
fn named_unit(unit: &Bound<'_, PyAny>) -> PyResult<Unit> {
    let name = text("unit", unit)?;
    let unit = Unit::parse(name).filter(Unit::has_cost);
    let problem = || format!("is {}", quoted(name));
    unit.ok_or_else(|| invalid("unit", &problem(), Unit::ACCEPTED_IN_COSTS))
}

/// The arguments of a check.
#[inline]
fn asked<'a>(
    user: &'a Bound<'_, PyAny>,
    model: &'a Bound<'_, PyAny>,
    cost: Given<'_>,
) -> PyResult<(&'a str, &'a str, u32)> {
    Ok((text("user", user)?, text("model", model)?, single_cost(cost)?))
}

#[pymethods]
impl RateLimiter {
    #[new]
    #[pyo3(signature = (max_requests=Given::Nothing, window_seconds=Given::Nothing, *, algorithm=Given::Nothing, unit=Given::Nothing,
        name=Given::Nothing, max_keys=Given::Nothing, clock=None),
        text_signature = "(max_requests=100, window_seconds=3600, *, algorithm='sliding_window_log', unit='requests', \
        name='default', max_keys=10000000, clock=None)")]
    #[expect(clippy::too_many_arguments, reason = "the keyword arguments are the interface")]
    fn new(
        py: Python<'_>,
        max_requests: Given<'_>,
        window_seconds: Given<'_>,
        algorithm: Given<'_>,
        unit: Given<'_>,
        name: Given<'_>,
        max_keys: Given<'_>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (max_requests, window_seconds) =
            (max_requests.or(py, 100)?, window_seconds.or(py, 3_600)?);
        let quota = quota(("max_requests", &max_requests), ("window_seconds", &window_seconds))?;
        let counting = counting(algorithm, quota.limit)?;
        let unit = unit.value().map_or(Ok(Unit::Requests), |unit| named_unit(&unit))?;
        let name = name.value().map_or(Ok("default".to_owned()), |name| id("name", &name))?;
        let (clock, of_store) = LimiterClock::new(clock)?;
        let shown =
            format!("{name:?}: {} {} in {}", quota.limit, unit.name(), shown_seconds(quota));
        let limiter = tollgate::RateLimiter::builder(quota.limit, quota.window)
            .counting(counting)
            .unit(unit)
            .name(name)
            .max_keys(self::max_keys(max_keys.value().as_ref())?)
            .build_with_clock(of_store)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        Ok(Self { limiter, clock, shown })
    }

    /// The limiter with the limit of `config`; `options` are those of the constructor.
    #[classmethod]
    #[pyo3(signature = (config, **options))]
    fn from_config<'py>(
        cls: &Bound<'py, PyType>,
        config: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let accepted = "a tollgate.RateLimitConfig";
        let limit =
            limit_and_window(config)?.ok_or_else(|| wrong_type("config", config, accepted))?;
        cls.call(limit, options)
    }

    /// Whether a request by `user` for `model` may pass now. If it may, it is charged; a denial changes nothing.
    #[pyo3(signature = (user, model, cost=Given::Nothing), text_signature = "($self, user, model, cost=1)")]
    fn allow(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
        cost: Given<'_>,
    ) -> PyResult<bool> {
        let (user, model, cost) = asked(user, model, cost)?;
        self.clock.tick(py)?;
        match cost {
            1 => Ok(self.limiter.allow(user, model)),
            cost => Ok(self.limiter.check_cost(user, model, cost).allowed()),
        }
    }

    /// The same as `allow`, with the whole decision.
    #[pyo3(signature = (user, model, cost=Given::Nothing), text_signature = "($self, user, model, cost=1)")]
    fn check(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
        cost: Given<'_>,
    ) -> PyResult<Decision> {
        let (user, model, cost) = asked(user, model, cost)?;
        self.clock.tick(py)?;
        Ok(Decision(self.limiter.check_cost(user, model, cost)))
    }

    /// The decision that `check` would make now; charges nothing.
    #[pyo3(signature = (user, model, cost=Given::Nothing), text_signature = "($self, user, model, cost=1)")]
    fn peek(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
        cost: Given<'_>,
    ) -> PyResult<Decision> {
        let (user, model, cost) = asked(user, model, cost)?;
        self.clock.tick(py)?;
        Ok(Decision(self.limiter.peek(user, model, cost)))
    }

    /// What `user` has used of `model` in the window that ends now.
    fn get_request_count(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let (user, model) = (text("user", user)?, text("model", model)?);
        self.clock.tick(py)?;
        Ok(self.limiter.request_count(user, model))
    }

    /// Clears what `user` has used, of all models.
    fn reset_user(&self, py: Python<'_>, user: &Bound<'_, PyAny>) -> PyResult<()> {
        let user = text("user", user)?;
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

    fn __repr__(&self) -> String {
        format!("<RateLimiter {}>", self.shown)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.traverse(&visit)
    }
}
