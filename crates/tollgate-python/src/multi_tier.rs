//! A limit per user and model, and one per model, by the model's tier.

use std::collections::HashMap;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString};
use tollgate::{Quota, TierReason};

use crate::arguments::{
    Given, id, invalid, max_keys, quota_of, shown_seconds, single_cost, text, wrong_type,
};
use crate::clock::{LimiterClock, StoreClock};
use crate::counts::metrics_dict;
use crate::decision::Decision;

/// A limit for each user on a model, and one for all users of the model together. Both depend on the model's tier.
#[pyclass(frozen, subclass, weakref, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct MultiTierRateLimiter {
    limiter: tollgate::MultiTierRateLimiter<StoreClock>,
    clock: LimiterClock,
    /// Its limits, as they are shown.
    shown: String,
}

/// The name of `reason` in Python.
fn reason_name(reason: TierReason) -> &'static str {
    match reason {
        TierReason::WithinLimits => "within_limits",
        TierReason::UserModelLimit => "user_model_limit",
        TierReason::ModelLimit => "model_limit",
    }
}

/// The tiers by their names.
fn mapping_items<'py>(tiers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let accepted = "tiers is not a mapping; accepted: a dict of tollgate.Tier by name";
    tiers.cast::<PyMapping>().map_err(|_| PyTypeError::new_err(accepted))?.items()
}

/// The name of a tier: it is part of the ids of its policies, and may be empty.
fn tier_name(name: &Bound<'_, PyAny>) -> PyResult<String> {
    const PLACE: &str = "a name in tiers";
    if text(PLACE, name)?.is_empty() { Ok(String::new()) } else { id(PLACE, name) }
}

/// The names of the models of a tier.
fn models(place: &str, tier: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let (place, models) = (format!("{place}.models"), tier.getattr("models")?);
    let names = if models.is_instance_of::<PyString>() { None } else { models.try_iter().ok() };
    let accepted = "a sequence of the names of models";
    let names = names.ok_or_else(|| wrong_type(&place, &models, accepted))?;
    names
        .enumerate()
        .map(|(at, model)| Ok(text(&format!("{place}[{at}]"), &model?)?.to_owned()))
        .collect()
}

#[pymethods]
impl MultiTierRateLimiter {
    #[new]
    #[pyo3(signature = (per_user_model=Given::Nothing, per_model=Given::Nothing, tiers=None, *, max_keys=Given::Nothing, clock=None),
        text_signature = "(per_user_model=(100, 3600), per_model=(10000, 3600), tiers=None, *, max_keys=10000000, clock=None)")]
    fn new(
        per_user_model: Given<'_>,
        per_model: Given<'_>,
        tiers: Option<&Bound<'_, PyAny>>,
        max_keys: Given<'_>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let quota = |name, value: Given<'_>, default| {
            value.value().map_or(Ok(Quota::per_hour(default)), |value| quota_of(name, &value))
        };
        let per_user_model = quota("per_user_model", per_user_model, 100)?;
        let per_model = quota("per_model", per_model, 10_000)?;
        let mut builder = tollgate::MultiTierRateLimiter::builder(per_user_model, per_model)
            .max_keys(self::max_keys(max_keys.value().as_ref())?);
        let shown = |quota: Quota| format!("{} in {}", quota.limit, shown_seconds(quota));
        let (of_user, of_model) = (shown(per_user_model), shown(per_model));
        let mut tier_of = HashMap::new();
        let tiers = tiers.map(mapping_items).transpose()?;
        for item in tiers.iter().flatten() {
            let (name, tier) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let name = &tier_name(&name)?;
            let place = format!("tiers[{name:?}]");
            if !["per_user_model", "per_model", "models"]
                .iter()
                .all(|field| tier.hasattr(*field).unwrap_or(false))
            {
                return Err(PyTypeError::new_err(format!(
                    "{place} is not a Tier; accepted: a tollgate.Tier"
                )));
            }
            builder = builder.tier(
                name,
                quota_of(&format!("{place}.per_user_model"), &tier.getattr("per_user_model")?)?,
                quota_of(&format!("{place}.per_model"), &tier.getattr("per_model")?)?,
            );
            for model in models(&place, &tier)? {
                builder = builder.model(&model, name);
                if let Some(other) = tier_of.insert(model, name.to_owned()) {
                    let problem = format!("names a model that is in {other:?} already");
                    return Err(invalid(&format!("{place}.models"), &problem, "each model once"));
                }
            }
        }
        let tiers = tiers.map_or(0, |tiers| tiers.len());
        let shown = format!("{of_user} per user and model, {of_model} per model, {tiers} tiers");
        let (clock, of_store) = LimiterClock::new(clock)?;
        let limiter = builder
            .build_with_clock(of_store)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { limiter, clock, shown })
    }

    /// Whether a request may pass now, and why or why not. If it may, it is charged to both limits.
    fn allow(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
    ) -> PyResult<(bool, &'static str)> {
        let (user, model) = (text("user", user)?, text("model", model)?);
        self.clock.tick(py)?;
        let (allowed, reason) = self.limiter.allow(user, model);
        Ok((allowed, reason_name(reason)))
    }

    /// The decision about both limits; charges them if both admit.
    #[pyo3(signature = (user, model, cost=Given::Nothing), text_signature = "($self, user, model, cost=1)")]
    fn check(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        model: &Bound<'_, PyAny>,
        cost: Given<'_>,
    ) -> PyResult<Decision> {
        let (user, model) = (text("user", user)?, text("model", model)?);
        let cost = single_cost(cost)?;
        self.clock.tick(py)?;
        Ok(Decision(self.limiter.check_cost(user, model, cost)))
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

    /// What all users have used of `model` in the window that ends now.
    fn get_model_request_count(&self, py: Python<'_>, model: &Bound<'_, PyAny>) -> PyResult<u64> {
        let model = text("model", model)?;
        self.clock.tick(py)?;
        Ok(self.limiter.model_request_count(model))
    }

    /// Clears what `user` has used under the limits per user. It still counts under the limits of the models.
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

    fn __repr__(&self) -> String {
        format!("<MultiTierRateLimiter: {}>", self.shown)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.traverse(&visit)
    }
}
