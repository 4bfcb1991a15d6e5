//! What callers pass, converted with errors that name the argument, the problem and what is accepted.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use tollgate::{Amount, Cost, PolicyId, Quota, Unit, Window};
use tollgate_core::subject::{ACCEPTED_IDS, check_id};

/// The most units in a cost, as in a request to a server.
const MAX_COST_UNITS: usize = 16;
/// The most keys of a store in memory, if the caller does not say.
const DEFAULT_MAX_KEYS: usize = 10_000_000;
/// What a text may be that nothing but memory limits.
const ACCEPTED_TEXTS: &str = "a str that UTF-8 can encode: one without lone surrogates";
/// The longest window, in seconds.
const MAX_WINDOW_SECONDS: u64 = 366 * 86_400;

/// An argument that may be left out. `None` is a value: a setting that is missing must not become a limit.
pub(crate) enum Given<'py> {
    /// It was left out.
    Nothing,
    /// It has this value.
    Value(Bound<'py, PyAny>),
}

impl<'py> Given<'py> {
    /// The value, or `default`.
    pub(crate) fn or(self, py: Python<'py>, default: u64) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Nothing => Ok(default.into_pyobject(py)?.into_any()),
            Self::Value(value) => Ok(value),
        }
    }

    /// The value, if there is one.
    pub(crate) fn value(self) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = std::convert::Infallible;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self::Value(value.to_owned()))
    }
}

/// A text in an error, shortened.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// A `ValueError` about `name`.
pub(crate) fn invalid(name: &str, problem: &str, accepted: &str) -> PyErr {
    PyValueError::new_err(format!("{name} {problem}; accepted: {accepted}"))
}

/// A `TypeError` about `name`, which has `value`.
pub(crate) fn wrong_type(name: &str, value: &Bound<'_, PyAny>, accepted: &str) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} is of the type {kind}; accepted: {accepted}"))
}

/// An integer from 0 to `most`.
pub(crate) fn integer(name: &str, value: &Bound<'_, PyAny>, most: u64) -> PyResult<u64> {
    integer_in(name, value, 0..=most)
}

/// An integer in `range`.
fn integer_in(name: &str, value: &Bound<'_, PyAny>, range: RangeInclusive<u64>) -> PyResult<u64> {
    let accepted = || format!("an integer from {} to {}", range.start(), range.end());
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(name, value, &accepted()));
    }
    match value.extract::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(invalid(name, &format!("is {}", shown(value)), &accepted())),
    }
}

/// `value` in an error. An integer can have millions of digits, which Python refuses to write.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const MOST: usize = 40;
    let text = value.str().map_or_else(|_| "too large".to_owned(), |text| text.to_string());
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An amount of a unit.
pub(crate) fn amount(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Amount> {
    let number = integer(name, value, Amount::MAX.get())?;
    Ok(Amount::new(number).unwrap_or(Amount::MAX))
}

/// The cost of a check in the unit of its only limit; 1 if it is not given.
#[inline]
pub(crate) fn single_cost(value: Given<'_>) -> PyResult<u32> {
    let Given::Value(value) = value else { return Ok(1) };
    let number = integer("cost", &value, u32::MAX.into())?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A length of time in seconds, an integer or a float, from 0 on.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>, accepted: &str) -> PyResult<Duration> {
    let is_number = value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>();
    if value.is_instance_of::<PyBool>() || !is_number {
        return Err(wrong_type(name, value, accepted));
    }
    let out_of_range = || invalid(name, &format!("is {}", shown(value)), accepted);
    if value.is_instance_of::<PyInt>() {
        return value.extract().map(Duration::from_secs).map_err(|_| out_of_range());
    }
    let number = value.extract::<f64>().map_err(|_| out_of_range())?;
    Duration::try_from_secs_f64(number).map_err(|_| out_of_range())
}

/// A window in seconds.
pub(crate) fn window(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Window> {
    let accepted = format!("a number of seconds from 0.001 to {MAX_WINDOW_SECONDS} (366 days)");
    let window = Window::new(seconds(name, value, &accepted)?);
    window.ok_or_else(|| invalid(name, &format!("is {}", shown(value)), &accepted))
}

/// A limit and its window, from two arguments.
pub(crate) fn quota(
    max_requests: (&str, &Bound<'_, PyAny>),
    window_seconds: (&str, &Bound<'_, PyAny>),
) -> PyResult<Quota> {
    let limit = integer(max_requests.0, max_requests.1, Amount::MAX.get())?;
    Ok(Quota::new(limit, window(window_seconds.0, window_seconds.1)?.as_duration()))
}

/// The window of `quota` in a `repr`.
pub(crate) fn shown_seconds(quota: Quota) -> String {
    format!("{} s", quota.window.as_secs_f64())
}

/// A quota as a pair or as a `RateLimitConfig`.
pub(crate) fn quota_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Quota> {
    let names = (format!("{name}.max_requests"), format!("{name}.window_seconds"));
    if let Ok((limit, window)) = value.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
        return quota((&names.0, &limit), (&names.1, &window));
    }
    match limit_and_window(value)? {
        Some((limit, window)) => quota((&names.0, &limit), (&names.1, &window)),
        None => Err(wrong_type(
            name,
            value,
            "a RateLimitConfig or a pair (max_requests, window_seconds)",
        )),
    }
}

/// The limit and the window of a `RateLimitConfig`; `None` if `value` does not have both.
pub(crate) fn limit_and_window<'py>(
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let (limit, window) =
        (value.getattr_opt("max_requests")?, value.getattr_opt("window_seconds")?);
    Ok(limit.zip(window))
}

/// The path of a file.
pub(crate) fn path(name: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let accepted = "the path of a file, as a str or an os.PathLike";
    let path = match value.extract::<PathBuf>() {
        Ok(path) => path,
        Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(value.py()) => {
            return Err(invalid(name, "has a lone surrogate", accepted));
        }
        Err(_) => return Err(wrong_type(name, value, accepted)),
    };
    match path.as_os_str().as_encoded_bytes() {
        [] => Err(invalid(name, "is empty", accepted)),
        bytes if bytes.contains(&0) => Err(invalid(name, "has a null character", accepted)),
        _ => Ok(path),
    }
}

/// The most keys of a store in memory; 10 million if it is not given.
pub(crate) fn max_keys(value: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    let Some(value) = value else { return Ok(DEFAULT_MAX_KEYS) };
    let number = integer_in("max_keys", value, 1..=u32::MAX.into())?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// A dict.
pub(crate) fn dict<'a, 'py>(
    name: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyDict>> {
    value.cast::<PyDict>().map_err(|_| wrong_type(name, value, "a dict"))
}

/// A unit that a cost may name.
fn cost_unit(name: &str, text: &str) -> PyResult<Unit> {
    let unit = Unit::parse(text).filter(Unit::has_cost);
    unit.ok_or_else(|| no_unit(name))
}

fn no_unit(name: &str) -> PyErr {
    invalid(name, "names no unit", Unit::ACCEPTED_IN_COSTS)
}

/// Amounts by unit.
pub(crate) fn amounts(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<(Unit, Amount)>> {
    let value = dict(name, value)?;
    if value.len() > MAX_COST_UNITS {
        let accepted = format!("at most {MAX_COST_UNITS} units");
        return Err(invalid(name, &format!("has {} units", value.len()), &accepted));
    }
    let mut amounts = Vec::with_capacity(value.len());
    for (unit, total) in value.iter() {
        let wrong = |_| wrong_type(&format!("a unit in {name}"), &unit, "str");
        let text = unit.cast::<PyString>().map_err(wrong)?;
        let place = format!("{name}[{}]", shown(text.as_any()));
        let text = text.to_str().map_err(|_| no_unit(&place))?;
        amounts.push((cost_unit(&place, text)?, amount(&place, &total)?));
    }
    Ok(amounts)
}

/// Checks amounts by unit. Raises as the limiters do.
#[pyfunction]
pub(crate) fn check_amounts(name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    amounts(name, value).map(drop)
}

/// A cost: requests as an integer, or amounts by unit. One request if it is not given.
pub(crate) fn cost(value: Option<&Bound<'_, PyAny>>) -> PyResult<Cost> {
    let mut cost = Cost::one_request();
    let Some(value) = value else { return Ok(cost) };
    if value.is_instance_of::<PyDict>() {
        for (unit, amount) in amounts("cost", value)? {
            cost.set(unit, amount);
        }
    } else if value.is_instance_of::<PyInt>() {
        cost.set(Unit::Requests, amount("cost", value)?);
    } else {
        return Err(wrong_type("cost", value, "an integer, or a dict of integers by unit"));
    }
    Ok(cost)
}

/// The text of `value`, which can be any.
#[inline]
pub(crate) fn text<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    text_of(name, value, ACCEPTED_TEXTS)
}

/// The text of `value`, of which `accepted` is accepted.
#[inline]
fn text_of<'a>(name: &str, value: &'a Bound<'_, PyAny>, accepted: &str) -> PyResult<&'a str> {
    let text = value.cast::<PyString>().map_err(|_| wrong_type(name, value, "str"))?;
    text.to_str().map_err(|_| invalid(name, "has a lone surrogate", accepted))
}

/// An id, as servers accept it.
pub(crate) fn id(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = text_of(name, value, ACCEPTED_IDS)?;
    match check_id(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(invalid(name, &problem.to_string(), ACCEPTED_IDS)),
    }
}

/// The id of a policy.
pub(crate) fn policy_id(name: &str, value: &Bound<'_, PyAny>) -> PyResult<PolicyId> {
    let text = text_of(name, value, ACCEPTED_IDS)?;
    PolicyId::new(text).map_err(|problem| invalid(name, &problem.to_string(), ACCEPTED_IDS))
}
