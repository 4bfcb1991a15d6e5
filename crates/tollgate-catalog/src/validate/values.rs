//! Values that other documents than policy files have too.

use std::ops::RangeInclusive;
use std::time::Duration;

use tollgate_core::{Amount, Window};

use super::report::{At, Report};
use super::{duration, number};
use crate::document::Value;

const ACCEPTED_AMOUNTS: &str = "an integer from 0 to 9007199254740991";

impl Report {
    /// The amount at `at`.
    pub fn amount(&mut self, at: &At<'_>, value: &Value) -> Option<Amount> {
        self.amount_described(at, value, ACCEPTED_AMOUNTS)
    }

    /// The same; `accepted` says what is accepted, if that is more than amounts.
    pub fn amount_described(
        &mut self,
        at: &At<'_>,
        value: &Value,
        accepted: &str,
    ) -> Option<Amount> {
        let Value::Number(text) = value else {
            self.mismatch(at, value, accepted);
            return None;
        };
        number::amount(text).map_err(|problem| self.problem(at, problem, accepted)).ok()
    }

    /// The amount at `at`, if it is in `range`, which `accepted` describes.
    pub fn amount_within(
        &mut self,
        at: &At<'_>,
        value: &Value,
        range: &RangeInclusive<u64>,
        accepted: &str,
    ) -> Option<u64> {
        let amount = self.amount_described(at, value, accepted)?.get();
        if !range.contains(&amount) {
            self.problem(at, format!("{amount} is out of range"), accepted);
            return None;
        }
        Some(amount)
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
