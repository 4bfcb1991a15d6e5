//! Limits shared with servers and other processes, in Redis or Valkey.

mod connection;
pub(crate) mod event_loop;
pub(crate) mod runtime;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tollgate::leases::{Reservation, StoreLease};
use tollgate::shared::{BreakerState, RedisStore, RedisUrl, ResilienceOptions, Surrounded};
use tollgate::{Counting, Policy, Quota, Ttl, Window};
use tollgate_core::FailureMode;

use crate::arguments::{invalid, path, policy_id, quota, quoted, seconds, text, wrong_type};
use crate::check::OwnedCheck;
use crate::counts::{Counts, metrics_dict};
use crate::decision::Decision;
use crate::lease::{Guard, Lease, denied, ttl};
use connection::{Connection, Connections, Failure, Settings, Source};
use event_loop::future_of;
use runtime::wait;

/// Decides checks in Redis or Valkey: what `RedisRateLimiter` and `AsyncRedisRateLimiter` have in common.
#[pyclass(frozen, weakref, module = "tollgate._tollgate")]
pub(crate) struct SharedLimiter {
    connections: Connections,
    counts: Arc<Counts>,
    /// Its limits and the Redis, as they are shown.
    shown: String,
}

/// A policy per user and model. One with the same id in a server counts together with it.
fn policy(quota: Quota, algorithm: &Bound<'_, PyAny>, name: &Bound<'_, PyAny>) -> PyResult<Policy> {
    let algorithm = text("algorithm", algorithm)?;
    let window = Window::new(quota.window)
        .ok_or_else(|| invalid("window_seconds", "is out of range", "0.001 to 31622400"))?;
    let mut policy = Policy {
        id: policy_id("name", name)?,
        limit: tollgate::Amount::new(quota.limit),
        ..Policy::default_policy()
    };
    policy.counting = match algorithm {
        "sliding_window_log" => Counting::Log { window },
        "sliding_window_counter" => Counting::Counter { window },
        "token_bucket" => {
            let refill = tollgate::Amount::new(quota.limit).unwrap_or(tollgate::Amount::MAX);
            Counting::Bucket { window, refill }
        }
        _ => {
            return Err(invalid(
                "algorithm",
                &format!("is {}", quoted(algorithm)),
                Counting::ACCEPTED,
            ));
        }
    };
    Ok(policy)
}

/// The secret of servers, which is as long as they accept.
fn bytes(secret: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    const LEAST_BYTES: usize = 16;
    let wrong = |_| wrong_type("api_key_secret", secret, "bytes");
    let bytes = secret.cast::<PyBytes>().map_err(wrong)?.as_bytes();
    if bytes.len() < LEAST_BYTES {
        let accepted = format!("at least {LEAST_BYTES} bytes, as in servers");
        return Err(invalid("api_key_secret", &format!("has {} bytes", bytes.len()), &accepted));
    }
    Ok(bytes.to_vec())
}

/// What decides without the store.
fn resilience(
    on_store_error: &Bound<'_, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<ResilienceOptions> {
    let on_store_error = text("on_store_error", on_store_error)?;
    let mut options = ResilienceOptions::default();
    options.on_store_error = FailureMode::parse(on_store_error).ok_or_else(|| {
        invalid("on_store_error", &format!("is {}", quoted(on_store_error)), FailureMode::ACCEPTED)
    })?;
    if let Some(timeout) = timeout {
        let accepted = "a number of seconds from 0.01 to 60";
        let timeout = seconds("timeout", timeout, accepted)?;
        if !(Duration::from_millis(10)..=Duration::from_mins(1)).contains(&timeout) {
            return Err(invalid("timeout", &format!("is {} s", timeout.as_secs_f64()), accepted));
        }
        options.timeout = Some(timeout);
    }
    Ok(options)
}

/// The accepted sources of policies.
const SOURCES: &str = "policies, or both catalog and api_key_secret, or none of them";

#[pymethods]
impl SharedLimiter {
    #[new]
    #[pyo3(signature = (url, max_requests, window_seconds, algorithm, name, policies, catalog, api_key_secret, on_store_error,
        timeout))]
    #[expect(clippy::too_many_arguments, reason = "only the classes in Python call it")]
    fn new(
        url: &Bound<'_, PyAny>,
        max_requests: &Bound<'_, PyAny>,
        window_seconds: &Bound<'_, PyAny>,
        algorithm: &Bound<'_, PyAny>,
        name: &Bound<'_, PyAny>,
        policies: Option<&Bound<'_, PyAny>>,
        catalog: Option<&Bound<'_, PyAny>>,
        api_key_secret: Option<&Bound<'_, PyAny>>,
        on_store_error: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let url = text("client", url)?;
        let redis = url.parse::<RedisUrl>().map_err(|problem| {
            let problem = format!("has no URL of Redis: {}", problem.problem());
            invalid("client", &problem, RedisUrl::ACCEPTED)
        })?;
        let policies = policies.map(|policies| path("policies", policies)).transpose()?;
        let catalog = catalog.map(|catalog| text("catalog", catalog)).transpose()?;
        let api_key_secret = api_key_secret.map(bytes).transpose()?;
        let source = match (policies, catalog, api_key_secret) {
            (None, None, None) => {
                let quota =
                    quota(("max_requests", max_requests), ("window_seconds", window_seconds))?;
                Source::Fixed(Box::new(policy(quota, algorithm, name)?))
            }
            (Some(path), None, None) => Source::File(path),
            (None, Some(url), Some(api_key_secret)) => {
                Source::Database { url: url.to_owned(), api_key_secret }
            }
            (None, Some(_), None) => {
                return Err(invalid("api_key_secret", "is missing beside catalog", SOURCES));
            }
            (None, None, Some(_)) => {
                return Err(invalid("catalog", "is missing beside api_key_secret", SOURCES));
            }
            (Some(_), ..) => {
                return Err(invalid(
                    "policies",
                    "is given beside catalog or api_key_secret",
                    SOURCES,
                ));
            }
        };
        let options = resilience(on_store_error, timeout)?;
        let shown = format!("{}, in {redis}", shown_source(&source));
        let connections = Connections::new(Settings { url: url.to_owned(), source, options });
        Ok(Self { connections, counts: Arc::default(), shown })
    }

    /// Connects, and reads the policies, unless that is done.
    fn connect(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, |connection| async move { connection.limiter().await.map(drop) })
    }

    /// The same for an event loop.
    fn connect_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let connection = self.connections.current();
        let work = async move { connection.limiter().await.map(drop) };
        future_of(py, work, |py, done| Ok(done.map(|()| py.None())?))
    }

    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn check(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let check = OwnedCheck::parse("check", user, model, others)?.costing(cost)?;
        self.wait(
            py,
            |connection| async move { decide(&connection, &check, Some(&self.counts)).await },
        )
        .map(Decision)
    }

    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn peek(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let check = OwnedCheck::parse("peek", user, model, others)?.costing(cost)?;
        self.wait(py, |connection| async move { decide(&connection, &check, None).await })
            .map(Decision)
    }

    #[pyo3(signature = (user=None, model=None, **others))]
    fn reset(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let check = OwnedCheck::parse("reset", user, model, others)?;
        self.wait(py, |connection| async move { reset(&connection, &check).await })
    }

    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn check_async<'py>(
        &self,
        py: Python<'py>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let check = OwnedCheck::parse("check", user, model, others)?.costing(cost)?;
        let connection = self.connections.current();
        let counts = Arc::clone(&self.counts);
        let work = async move { decide(&connection, &check, Some(&counts)).await };
        future_of(py, work, decision)
    }

    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn peek_async<'py>(
        &self,
        py: Python<'py>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let check = OwnedCheck::parse("peek", user, model, others)?.costing(cost)?;
        let connection = self.connections.current();
        future_of(py, async move { decide(&connection, &check, None).await }, decision)
    }

    #[pyo3(signature = (user=None, model=None, **others))]
    fn reset_async<'py>(
        &self,
        py: Python<'py>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let check = OwnedCheck::parse("reset", user, model, others)?;
        let connection = self.connections.current();
        future_of(py, async move { reset(&connection, &check).await }, |py, reset| {
            Ok(reset?.into_pyobject(py)?.unbind())
        })
    }

    #[pyo3(signature = (user, models, **others))]
    fn reset_user(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        models: &Bound<'_, PyAny>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let checks = OwnedCheck::of_user("reset_user", user, models, others)?;
        self.wait(py, |connection| async move { reset_user(&connection, &checks).await })
    }

    #[pyo3(signature = (user, models, **others))]
    fn reset_user_async<'py>(
        &self,
        py: Python<'py>,
        user: &Bound<'_, PyAny>,
        models: &Bound<'_, PyAny>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let checks = OwnedCheck::of_user("reset_user", user, models, others)?;
        let connection = self.connections.current();
        future_of(py, async move { reset_user(&connection, &checks).await }, |py, reset| {
            Ok(reset?.into_pyobject(py)?.unbind())
        })
    }

    #[pyo3(signature = (user=None, model=None, cost=None, *, ttl=None, **others))]
    fn reserve(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        ttl: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Lease> {
        let check = OwnedCheck::parse("reserve", user, model, others)?.costing(cost)?;
        let ttl = self::ttl(ttl)?;
        let reserved = self.wait(py, |connection| async move {
            reserve(&connection, &check, ttl, &self.counts).await
        })?;
        lease(py, reserved)
    }

    #[pyo3(signature = (user=None, model=None, cost=None, *, ttl=None, **others))]
    fn reserve_async<'py>(
        &self,
        py: Python<'py>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        ttl: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let check = OwnedCheck::parse("reserve", user, model, others)?.costing(cost)?;
        let (ttl, connection) = (self::ttl(ttl)?, self.connections.current());
        let counts = Arc::clone(&self.counts);
        let work = async move { reserve(&connection, &check, ttl, &counts).await };
        future_of(py, work, |py, reserved| Ok(Py::new(py, lease(py, reserved?)?)?.into_any()))
    }

    fn get_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.counts.metrics(), None)
    }

    fn reset_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.counts.reset(), None)
    }

    /// Whether the store decides: `closed`, or `open` and `half_open` while it fails. None before the first call.
    fn breaker_state(&self) -> Option<&'static str> {
        self.connections.current().begun().map(|limiter| match limiter.breaker_state() {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        })
    }

    fn __repr__(&self) -> String {
        format!("<SharedLimiter {}>", self.shown)
    }
}

/// The limits of a `repr`. The URL of a database may have a password.
fn shown_source(source: &Source) -> String {
    match source {
        Source::Fixed(policy) => {
            let limit = policy.limit.map_or(0, tollgate::Amount::get);
            let window_s = policy.counting.window().map_or(0.0, Window::as_seconds);
            format!("{:?}: {limit} requests in {window_s} s", policy.id.as_str())
        }
        Source::File(path) => format!("with the policies of {}", path.display()),
        Source::Database { .. } => "with the policies of a database".to_owned(),
    }
}

impl SharedLimiter {
    /// Waits for `call` without Python's lock.
    fn wait<T: Send, C: Future<Output = Result<T, Failure>> + Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(Connection) -> C,
    ) -> PyResult<T> {
        Ok(wait(py, call(self.connections.current()))??)
    }
}

/// Charges `check`, or only peeks at it if it is not to be counted.
async fn decide(
    connection: &Connection,
    check: &OwnedCheck,
    counts: Option<&Counts>,
) -> Result<tollgate::Decision, Failure> {
    let limiter = connection.limiter().await?;
    let check = check.check();
    let Some(counts) = counts else { return Ok(limiter.peek(&check).await?) };
    let decision = limiter.check(&check).await?;
    counts.count(decision.allowed());
    Ok(decision)
}

type Reserved = Reservation<StoreLease<Surrounded<RedisStore>>>;

async fn reserve(
    connection: &Connection,
    check: &OwnedCheck,
    ttl: Ttl,
    counts: &Counts,
) -> Result<Reserved, Failure> {
    let reserved = connection.limiter().await?.reserve(&check.check(), ttl).await?;
    counts.count(reserved.decision.allowed());
    Ok(reserved)
}

/// The lease of a reservation, or the exception of its denial.
fn lease(py: Python<'_>, reserved: Reserved) -> PyResult<Lease> {
    match reserved.lease {
        Some(lease) => Ok(Lease::new(Guard::Shared(lease), reserved.decision, None)),
        None => Err(denied(py, reserved.decision)),
    }
}

async fn reset(connection: &Connection, check: &OwnedCheck) -> Result<Vec<String>, Failure> {
    let limiter = connection.limiter().await?;
    let reset = limiter.reset(&check.check()).await?;
    Ok(reset.iter().map(|id| id.as_str().to_owned()).collect())
}

async fn reset_user(
    connection: &Connection,
    checks: &[OwnedCheck],
) -> Result<Vec<String>, Failure> {
    let limiter = connection.limiter().await?;
    let mut reset = BTreeSet::new();
    for check in checks {
        reset.extend(limiter.reset_user(&check.check()).await?);
    }
    Ok(reset.iter().map(|id| id.as_str().to_owned()).collect())
}

/// The result of a future of a decision.
fn decision(py: Python<'_>, decision: Result<tollgate::Decision, Failure>) -> PyResult<Py<PyAny>> {
    Ok(Py::new(py, Decision(decision?))?.into_any())
}
