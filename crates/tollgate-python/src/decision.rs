//! Decisions: the fields of a server's answer as attributes, and `to_dict` with the names of the answer.

use http::HeaderMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};
use tollgate::{Amount, Reason, Window};
use tollgate_core::OverLimit;

use crate::decision_state::{DecisionState, StatusState};

/// The answer to a check: the numbers of the binding limit, and every limit that took part.
#[pyclass(frozen, eq, weakref, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct Decision(pub(crate) tollgate::Decision);

/// The verdict of one limit.
#[pyclass(frozen, eq, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct LimitStatus(pub(crate) tollgate::LimitStatus);

/// Decisions are the same if they show the same: what a store needs of a limit besides is lost when one is pickled.
impl PartialEq for Decision {
    fn eq(&self, other: &Self) -> bool {
        DecisionState::of(&self.0) == DecisionState::of(&other.0)
    }
}

impl PartialEq for LimitStatus {
    fn eq(&self, other: &Self) -> bool {
        StatusState::of(&self.0) == StatusState::of(&other.0)
    }
}

/// What pickle keeps of an object: a function, and its arguments.
type Reduced<'py> = (&'static Py<PyAny>, (u64, Bound<'py, PyDict>));

/// The function of the module called `name`, which makes an object again.
fn restoring<'a>(
    py: Python<'_>,
    function: &'a PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'a Py<PyAny>> {
    function.import(py, "tollgate._tollgate", name)?;
    function.get(py).ok_or_else(|| PyRuntimeError::new_err("the module has lost a function"))
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The length of a window in seconds: an int if it is whole, else a float.
#[derive(IntoPyObject)]
enum Seconds {
    Whole(u64),
    Fraction(f64),
}

impl From<Window> for Seconds {
    fn from(window: Window) -> Self {
        let ns = window.as_ns();
        if ns.is_multiple_of(NS_PER_SECOND) {
            Self::Whole(ns / NS_PER_SECOND)
        } else {
            Self::Fraction(window.as_seconds())
        }
    }
}

#[pymethods]
impl Decision {
    /// Whether the request may pass.
    #[getter]
    fn allowed(&self) -> bool {
        self.0.allowed()
    }

    /// The most of the unit in a window; None if the check meets no limit.
    #[getter]
    fn limit(&self) -> Option<u64> {
        self.0.headline().map(|status| status.limit.amount().get())
    }

    /// The usage after this decision.
    #[getter]
    fn count(&self) -> u64 {
        self.0.headline().map_or(0, |status| status.count)
    }

    /// What is left after this decision; None if the check meets no limit.
    #[getter]
    fn remaining(&self) -> Option<u64> {
        self.0.headline().map(|status| status.remaining)
    }

    /// The length of the window in seconds; of a calendar, of the current period.
    #[getter]
    fn window_seconds(&self) -> Option<Seconds> {
        self.0.headline().and_then(tollgate::LimitStatus::window).map(Seconds::from)
    }

    /// The shortest wait in milliseconds after which the same check is admitted: 0 if it is admitted now, None if never.
    #[getter]
    fn retry_after_ms(&self) -> Option<u64> {
        self.0.retry_after_ms()
    }

    /// When the usage would be 0 again, in milliseconds.
    #[getter]
    fn reset_after_ms(&self) -> u64 {
        self.0.headline().map_or(0, |status| status.reset_after_ms)
    }

    /// The policy that sets the limit.
    #[getter]
    fn policy_id(&self) -> Option<&str> {
        self.0.headline().map(|status| status.limit.policy_id().as_str())
    }

    /// What the limit counts per, such as `USER_MODEL`.
    #[getter]
    fn scope(&self) -> Option<&str> {
        self.0.headline().map(|status| status.limit.scope())
    }

    /// What is counted.
    #[getter]
    fn unit(&self) -> &str {
        self.0.headline().map_or("requests", |status| status.limit.unit().name())
    }

    /// Why the check was denied; None if it was allowed.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.0.reason().map(Reason::name)
    }

    /// Whether the decision was made without the store.
    #[getter]
    fn degraded(&self) -> bool {
        self.0.degraded()
    }

    /// Every limit that took part, including shadow limits.
    #[getter]
    fn limits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let limits = self.0.limits().iter().map(|status| Py::new(py, LimitStatus(status.clone())));
        PyTuple::new(py, limits.collect::<PyResult<Vec<_>>>()?)
    }

    /// The JSON of a server's answer as a dict, with the same names.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("allowed", self.allowed())?;
        dict.set_item("limit", self.limit())?;
        dict.set_item("count", self.count())?;
        dict.set_item("remaining", self.remaining())?;
        dict.set_item("windowSeconds", self.window_seconds())?;
        dict.set_item("retryAfterMs", self.retry_after_ms())?;
        dict.set_item("resetAfterMs", self.reset_after_ms())?;
        dict.set_item("policyId", self.policy_id())?;
        dict.set_item("scope", self.scope())?;
        dict.set_item("unit", self.unit())?;
        dict.set_item("reason", self.reason())?;
        dict.set_item("degraded", self.degraded())?;
        let limits = self.0.limits().iter().map(|status| limit_dict(py, status));
        dict.set_item("limits", PyList::new(py, limits.collect::<PyResult<Vec<_>>>()?)?)?;
        Ok(dict)
    }

    /// The header fields of a server's answer: `ratelimit-policy`, `ratelimit` and, on a denial, `retry-after`.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut fields = HeaderMap::new();
        tollgate_http::apply(&self.0, &mut fields);
        let dict = PyDict::new(py);
        for (name, value) in &fields {
            // They are written in ASCII.
            dict.set_item(name.as_str(), value.to_str().unwrap_or_default())?;
        }
        Ok(dict)
    }

    fn __bool__(&self) -> bool {
        self.0.allowed()
    }

    /// A decision never changes, so a copy is the same one.
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, memo: &Bound<'_, PyAny>) -> Py<Self> {
        let _ = memo;
        slf
    }

    /// What pickle keeps: all that it shows. It can be read by the same version of these names (`decision_state`).
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let function = restoring(py, &FUNCTION, "restore_decision")?;
        Ok((function, DecisionState::of(&self.0).write(py)?))
    }

    fn __repr__(&self) -> String {
        let verdict = if self.0.allowed() { "allowed" } else { "denied" };
        let Some(headline) = self.0.headline() else { return format!("<Decision {verdict}>") };
        let (count, limit) = (headline.count, headline.limit.amount());
        format!(
            "<Decision {verdict}: {count} of {limit} by {:?}>",
            headline.limit.policy_id().as_str()
        )
    }
}

#[pymethods]
impl LimitStatus {
    /// The policy that sets it.
    #[getter]
    fn policy_id(&self) -> &str {
        self.0.limit.policy_id().as_str()
    }

    /// What it counts per.
    #[getter]
    fn scope(&self) -> &str {
        self.0.limit.scope()
    }

    /// What it counts.
    #[getter]
    fn unit(&self) -> &str {
        self.0.limit.unit().name()
    }

    /// How it counts.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.0.limit.counting().name()
    }

    /// `enforce`, or `shadow`: it decides and counts but never denies.
    #[getter]
    fn mode(&self) -> &'static str {
        self.0.limit.mode().name()
    }

    /// `charge` if the cost of a denied check is recorded, otherwise `deny`.
    #[getter]
    fn over_limit(&self) -> &'static str {
        self.0.limit.over_limit().name()
    }

    /// Whether it admits the check by itself.
    #[getter]
    fn allowed(&self) -> bool {
        self.0.allowed
    }

    /// The most of its unit in a window; of a token bucket, the most at once.
    #[getter]
    fn limit(&self) -> u64 {
        self.0.limit.amount().get()
    }

    /// What a token bucket gets back per window; otherwise None.
    #[getter]
    fn refill(&self) -> Option<u64> {
        self.0.limit.counting().refill().map(Amount::get)
    }

    /// The usage after this decision.
    #[getter]
    fn count(&self) -> u64 {
        self.0.count
    }

    /// What is left after this decision.
    #[getter]
    fn remaining(&self) -> u64 {
        self.0.remaining
    }

    /// By how much the usage is above the limit.
    #[getter]
    fn debt(&self) -> u64 {
        self.0.debt()
    }

    /// The length of the window in seconds; None for concurrency.
    #[getter]
    fn window_seconds(&self) -> Option<Seconds> {
        self.0.window().map(Seconds::from)
    }

    /// The period of a calendar; otherwise None.
    #[getter]
    fn calendar(&self) -> Option<&'static str> {
        self.0.limit.counting().calendar().map(|(calendar, _)| calendar.name())
    }

    /// The time zone of a calendar; otherwise None.
    #[getter]
    fn time_zone(&self) -> Option<&str> {
        self.0.limit.counting().calendar().map(|(_, zone)| zone.name())
    }

    /// The shortest wait in milliseconds after which it admits the same check; None if it never will.
    #[getter]
    fn retry_after_ms(&self) -> Option<u64> {
        self.0.retry_after_ms
    }

    /// When its usage would be 0 again, in milliseconds.
    #[getter]
    fn reset_after_ms(&self) -> u64 {
        self.0.reset_after_ms
    }

    /// The priority class of the check, if `limit` is only the share of this class; otherwise None.
    #[getter]
    fn priority(&self) -> Option<&'static str> {
        self.0.limit.class_share().map(|share| share.class.name())
    }

    /// The share of the class; None if `limit` is the whole limit of the policy.
    #[getter]
    fn share(&self) -> Option<f64> {
        self.0.limit.class_share().map(|share| f64::from(share.share.millionths()) / 1e6)
    }

    /// The JSON of this limit in a server's answer as a dict, with the same names.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        limit_dict(py, &self.0)
    }

    /// The status of a limit never changes, so a copy is the same one.
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, memo: &Bound<'_, PyAny>) -> Py<Self> {
        let _ = memo;
        slf
    }

    /// What pickle keeps: all that it shows.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let function = restoring(py, &FUNCTION, "restore_limit_status")?;
        Ok((function, StatusState::of(&self.0).write_alone(py)?))
    }

    fn __repr__(&self) -> String {
        let verdict = if self.0.allowed { "allows" } else { "denies" };
        let (count, limit) = (self.0.count, self.0.limit.amount());
        format!("<LimitStatus {:?} {verdict}: {count} of {limit}>", self.policy_id())
    }
}

/// One limit, with the members that a server's answer has.
fn limit_dict<'py>(
    py: Python<'py>,
    status: &tollgate::LimitStatus,
) -> PyResult<Bound<'py, PyDict>> {
    let (limit, dict) = (&*status.limit, PyDict::new(py));
    dict.set_item("policyId", limit.policy_id().as_str())?;
    dict.set_item("scope", limit.scope())?;
    dict.set_item("unit", limit.unit().name())?;
    dict.set_item("algorithm", limit.counting().name())?;
    dict.set_item("mode", limit.mode().name())?;
    if limit.over_limit() != OverLimit::Deny {
        dict.set_item("overLimit", limit.over_limit().name())?;
    }
    dict.set_item("allowed", status.allowed)?;
    dict.set_item("limit", limit.amount().get())?;
    if let Some(refill) = limit.counting().refill() {
        dict.set_item("refill", refill.get())?;
    }
    dict.set_item("count", status.count)?;
    dict.set_item("remaining", status.remaining)?;
    if status.debt() > 0 {
        dict.set_item("debt", status.debt())?;
    }
    dict.set_item("windowSeconds", status.window().map(Seconds::from))?;
    if let Some((calendar, zone)) = limit.counting().calendar() {
        dict.set_item("calendar", calendar.name())?;
        dict.set_item("timeZone", zone.name())?;
    }
    dict.set_item("retryAfterMs", status.retry_after_ms)?;
    dict.set_item("resetAfterMs", status.reset_after_ms)?;
    if let Some(share) = limit.class_share() {
        dict.set_item("priority", share.class.name())?;
        dict.set_item("share", f64::from(share.share.millionths()) / 1e6)?;
    }
    Ok(dict)
}
