//! Values that other documents than policy files have too.

use std::time::Duration;

use tollgate_core::{Amount, Window};

use super::report::{At, Report};
use super::{duration, number};
use crate::document::Value;

const ACCEPTED_AMOUNTS: &str = "an integer from 0 to 9007199254740991";

impl Report {
    /// The amount at `at`.
    pub fn amount(&mut self, at: &At<'_>, value: &Value) -> Option<Amount> {
        let Value::Number(text) = value else {
            self.mismatch(at, value, ACCEPTED_AMOUNTS);
            return None;
        };
        number::amount(text).map_err(|problem| self.problem(at, problem, ACCEPTED_AMOUNTS)).ok()
    }

    /// The duration at `at`, such as `1h30m`.
    pub fn duration(&mut self, at: &At<'_>, value: &Value) -> Option<Duration> {
        let Value::String(text) = value else {
            self.mismatch(at, value, duration::ACCEPTED_DURATIONS);
            return None;
        };
        let refused = |problem| self.problem(at, problem, duration::ACCEPTED_DURATIONS);
        duration::window(text).map(Window::as_duration).map_err(refused).ok()
    }
}
