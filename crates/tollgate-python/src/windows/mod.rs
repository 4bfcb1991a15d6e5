//! The windows of the package `limits`: what its storages keep, for `tollgate.limits`.
//!
//! Each strategy of `limits` has usage of its own, as in its storage in memory: a fixed window is a counter that starts with its first
//! hit; a moving window is the exact log of the core; a sliding window counter is the counter of the core, rounded down as `limits`
//! rounds it. A call decides under one lock, so no two hits pass where one fits.
//!
//! This module must not know the package: the class of the storage is in Python.

mod expiring;
mod logs;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use tollgate::{Amount, Clock as _, ManualClock, Timestamp, Window};
use tollgate_core::counting::counter::Counter;

use crate::arguments::{amount, invalid, max_keys, seconds, text, window};
use crate::clock::{LimiterClock, StoreClock};
use expiring::Expiring;
use logs::Logs;

const ACCEPTED_EXPIRIES: &str = "a number of seconds above 0";

/// The usage of the three strategies of `limits`, by key. In memory, for one process.
#[pyclass(frozen, module = "tollgate._tollgate")]
#[derive(Debug)]
pub(crate) struct WindowStore {
    clock: LimiterClock,
    of_clock: StoreClock,
    max_keys: usize,
    /// Locked while Python's lock is held and no Python code runs, so that a fork does not find it locked.
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    /// The time of the last call: it does not step back.
    now: ManualClock,
    fixed: Expiring<u64>,
    sliding: Expiring<(Window, Counter)>,
    moving: Logs,
}

impl Windows {
    fn new(now: ManualClock, max_keys: usize) -> Self {
        Self {
            fixed: Expiring::new(max_keys),
            sliding: Expiring::new(max_keys),
            moving: Logs::new(now.clone(), max_keys),
            now,
        }
    }

    fn counter(&self, key: &str, window: Window, now: Timestamp) -> Counter {
        let kept = self.sliding.get(key, now).filter(|kept| kept.value.0 == window);
        kept.map(|kept| kept.value.1).unwrap_or_default().at(window, now)
    }
}

/// What counts of `counter` at `now`, rounded down.
fn weighted(counter: Counter, window: Window, now: Timestamp) -> u64 {
    let faded = u128::from(counter.previous) * u128::from(left_ns(counter, window, now))
        / u128::from(window.as_ns());
    counter.current.saturating_add(u64::try_from(faded).unwrap_or(u64::MAX))
}

/// What is left of the window of `counter`, in nanoseconds.
fn left_ns(counter: Counter, window: Window, now: Timestamp) -> u64 {
    window.as_ns().saturating_sub(now.ns_since(counter.start))
}

fn as_seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

impl WindowStore {
    /// The windows, and the time of this call.
    fn lock(&self, py: Python<'_>) -> PyResult<(MutexGuard<'_, Windows>, Timestamp)> {
        self.clock.tick(py)?;
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.of_clock.now().max(windows.now.now());
        windows.now.set(now);
        Ok((windows, now))
    }
}

#[pymethods]
impl WindowStore {
    #[new]
    #[pyo3(signature = (*, max_keys=None, clock=None))]
    fn new(
        max_keys: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let max_keys = self::max_keys(max_keys)?;
        let (clock, of_clock) = LimiterClock::new(clock)?;
        let windows = Mutex::new(Windows::new(ManualClock::default(), max_keys));
        Ok(Self { clock, of_clock, max_keys, windows })
    }

    /// Adds `amount` to the fixed window of `key`, which lasts `expiry` seconds from its first hit, and returns what it then holds.
    fn incr(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        expiry: &Bound<'_, PyAny>,
        amount: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let key = text("key", key)?;
        let amount = self::amount("amount", amount)?.get();
        let length = seconds("expiry", expiry, ACCEPTED_EXPIRIES)?;
        if length.is_zero() {
            return Err(invalid("expiry", "is 0", ACCEPTED_EXPIRIES));
        }
        let (mut windows, now) = self.lock(py)?;
        if let Some(count) = windows.fixed.get_mut(key, now) {
            *count = count.saturating_add(amount);
            return Ok(*count);
        }
        windows.fixed.set(key, now.after(length), amount, now);
        Ok(amount)
    }

    /// What the fixed window of `key` holds.
    fn get(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<u64> {
        let key = text("key", key)?;
        let (windows, now) = self.lock(py)?;
        Ok(windows.fixed.get(key, now).map_or(0, |found| found.value))
    }

    /// When the fixed window of `key` ends, in seconds since the Unix epoch; now if there is none.
    fn get_expiry(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<f64> {
        let key = text("key", key)?;
        let (windows, now) = self.lock(py)?;
        let end = windows.fixed.get(key, now).map_or(now, |found| found.end);
        Ok(as_seconds(end.as_ns()))
    }

    /// Clears all windows of `key`.
    fn clear(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = text("key", key)?;
        let (mut windows, _) = self.lock(py)?;
        windows.fixed.remove(key);
        windows.sliding.remove(key);
        windows.moving.clear(key);
        Ok(())
    }

    /// Clears all windows, and returns how many there were.
    fn reset(&self, py: Python<'_>) -> PyResult<usize> {
        let (mut windows, now) = self.lock(py)?;
        let number = windows.fixed.len(now) + windows.sliding.len(now) + windows.moving.len();
        *windows = Windows::new(windows.now.clone(), self.max_keys);
        Ok(number)
    }

    /// Adds `amount` to the moving window of `key` if at most `limit` are then in the last `expiry` seconds.
    fn acquire_moving(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        limit: &Bound<'_, PyAny>,
        expiry: &Bound<'_, PyAny>,
        amount: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let key = text("key", key)?;
        let limit = self::amount("limit", limit)?;
        let amount = self::amount("amount", amount)?;
        let window = window("expiry", expiry)?;
        let (mut windows, _) = self.lock(py)?;
        Ok(amount == Amount::ZERO || windows.moving.acquire(key, limit, window, amount))
    }

    /// The time of the oldest hit in the last `expiry` seconds, in seconds since the Unix epoch, and what the moving window of `key`
    /// holds; now and 0 if it is empty.
    fn get_moving(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        expiry: &Bound<'_, PyAny>,
    ) -> PyResult<(f64, u64)> {
        let key = text("key", key)?;
        let window = window("expiry", expiry)?;
        let (mut windows, _) = self.lock(py)?;
        let (start_ns, count) = windows.moving.window(key, window);
        Ok((as_seconds(start_ns), count))
    }

    /// Adds `amount` to the sliding window counter of `key` if it then holds at most `limit`.
    fn acquire_sliding(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        limit: &Bound<'_, PyAny>,
        expiry: &Bound<'_, PyAny>,
        amount: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let key = text("key", key)?;
        let limit = self::amount("limit", limit)?.get();
        let amount = self::amount("amount", amount)?.get();
        let window = window("expiry", expiry)?;
        let (mut windows, now) = self.lock(py)?;
        let counter = windows.counter(key, window, now);
        if weighted(counter, window, now).saturating_add(amount) > limit {
            return Ok(false);
        }
        let after = Counter { current: counter.current.saturating_add(amount), ..counter };
        if amount > 0 {
            windows.sliding.set(key, after.idle_at(window), (window, after), now);
        }
        Ok(true)
    }

    /// The sliding window counter of `key`: what the window before holds, for how many seconds that counts, what the current window
    /// holds, and for how many seconds that counts.
    fn get_sliding(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        expiry: &Bound<'_, PyAny>,
    ) -> PyResult<(u64, f64, u64, f64)> {
        let key = text("key", key)?;
        let window = window("expiry", expiry)?;
        let (windows, now) = self.lock(py)?;
        let counter = windows.counter(key, window, now);
        let left_ns = left_ns(counter, window, now);
        let previous_s = if counter.previous == 0 { 0.0 } else { as_seconds(left_ns) };
        let current_s = as_seconds(left_ns.saturating_add(window.as_ns()));
        Ok((counter.previous, previous_s, counter.current, current_s))
    }

    /// Clears the sliding window counter of `key`.
    fn clear_sliding(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = text("key", key)?;
        let (mut windows, _) = self.lock(py)?;
        windows.sliding.remove(key);
        Ok(())
    }

    /// Short: the command `flask limiter config` shows it in a table.
    #[expect(clippy::unused_self, reason = "a method of Python")]
    fn __repr__(&self) -> &'static str {
        "<WindowStore>"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.traverse(&visit)
    }
}
