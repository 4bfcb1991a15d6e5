//! Decisions as plain values, so that pickle can send them to another process.
//!
//! A state is what a decision shows: numbers, texts and None by name, and the version of these names. What a store needs of a limit
//! besides is left out. A state is read by making the decision anew with the code of the core, from the limits and their verdicts,
//! and comparing it with what was read: so a state that was damaged is refused, or is that of another decision, but never
//! that of an impossible one.

use std::num::NonZeroU32;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tollgate::{Amount, Attribute, Counting, Mode, Policy, PolicyId, Reason, Unit};
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{
    Charge, ClassShare, Limit, OverLimit, Per, PriorityClass, Share, Shares, Subject, Visibility,
};

use crate::arguments::invalid;

mod reader;

use reader::Reader;

/// The version of the names and values that are written, and the only one that is read.
const VERSION: u64 = 1;
/// The most limits of a decision that is read; far above what a check meets.
const MAX_LIMITS: usize = 100_000;
const NS_PER_MS: u64 = 1_000_000;
/// The longest wait that a decision has: that of all nanoseconds, rounded up.
const MAX_MS: u64 = u64::MAX.div_ceil(NS_PER_MS);

/// What a decision shows.
#[derive(Debug, PartialEq)]
pub(crate) struct DecisionState {
    degraded: bool,
    /// The place of the binding limit.
    headline: Option<usize>,
    /// Why no limit was evaluated.
    refused: Option<Reason>,
    limits: Vec<StatusState>,
}

/// What a decision shows of one limit.
#[derive(Debug, PartialEq)]
pub(crate) struct StatusState {
    policy_id: PolicyId,
    per: Per,
    unit: Unit,
    amount: Amount,
    counting: Counting,
    mode: Mode,
    over_limit: OverLimit,
    visibility: Visibility,
    class_share: Option<ClassShare>,
    allowed: bool,
    count: u64,
    retry_after_ms: Option<u64>,
    reset_after_ms: u64,
    is_without_store: bool,
    period_s: Option<NonZeroU32>,
}

impl DecisionState {
    pub(crate) fn of(decision: &tollgate::Decision) -> Self {
        let limits = decision.limits();
        let headline = decision.headline();
        let place =
            headline.and_then(|one| limits.iter().position(|limit| std::ptr::eq(limit, one)));
        Self {
            degraded: decision.degraded(),
            headline: place,
            refused: if limits.is_empty() { decision.reason() } else { None },
            limits: limits.iter().map(StatusState::of).collect(),
        }
    }

    /// The arguments with which [`restore_decision`] makes it again.
    pub(crate) fn write<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyDict>)> {
        let state = PyDict::new(py);
        state.set_item("degraded", self.degraded)?;
        state.set_item("headline", self.headline)?;
        state.set_item("refused", self.refused.map(Reason::name))?;
        let limits = self.limits.iter().map(|limit| limit.write(py));
        state.set_item("limits", PyList::new(py, limits.collect::<PyResult<Vec<_>>>()?)?)?;
        Ok((VERSION, state))
    }

    fn read(state: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut state = Reader::new("state".to_owned(), state)?;
        let read = Self {
            degraded: state.boolean("degraded")?,
            headline: state
                .optional_integer("headline", MAX_LIMITS as u64)?
                .and_then(|place| usize::try_from(place).ok()),
            refused: state.optional_name("refused", "a reason", |name| {
                let mut known = Reason::OF_LIMITS.into_iter().chain(Reason::OF_API_KEYS);
                known.find(|reason| reason.name() == name)
            })?,
            limits: state.list("limits", MAX_LIMITS, StatusState::read)?,
        };
        state.end()?;
        Ok(read)
    }

    /// The decision. It is made by the core, which chooses the binding limit.
    fn decision(&self) -> PyResult<tollgate::Decision> {
        let decision = match self.refused {
            Some(reason) => tollgate::Decision::refused(reason),
            None => assemble(self.limits.iter().enumerate().map(|(place, limit)| {
                // Of waits that end in the same millisecond, that of the binding limit was the longest.
                (limit, if Some(place) == self.headline { NS_PER_MS } else { 1 })
            }))?,
        };
        let decision = decision.with_degraded(self.degraded);
        if Self::of(&decision) == *self { Ok(decision) } else { Err(impossible()) }
    }
}

impl StatusState {
    pub(crate) fn of(status: &tollgate::LimitStatus) -> Self {
        let limit = &*status.limit;
        Self {
            policy_id: limit.policy_id().clone(),
            per: limit.per().clone(),
            unit: limit.unit().clone(),
            amount: limit.amount(),
            counting: limit.counting(),
            mode: limit.mode(),
            over_limit: limit.over_limit(),
            visibility: limit.visibility(),
            class_share: limit.class_share(),
            allowed: status.allowed,
            count: status.count,
            retry_after_ms: status.retry_after_ms,
            reset_after_ms: status.reset_after_ms,
            is_without_store: status.reason() == Some(Reason::StoreUnavailable),
            period_s: status.period_s(),
        }
    }

    /// As part of [`DecisionState::write`].
    fn write<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = PyDict::new(py);
        state.set_item("policy_id", self.policy_id.as_str())?;
        let per = self.per.attributes().iter().map(Attribute::name);
        state.set_item("per", PyList::new(py, per.collect::<Vec<_>>())?)?;
        state.set_item("unit", self.unit.name())?;
        state.set_item("amount", self.amount.get())?;
        state.set_item("algorithm", self.counting.name())?;
        // That of a calendar is known by its name.
        let calendar = self.counting.calendar();
        let window = self.counting.window().filter(|_| calendar.is_none());
        state.set_item("window_ns", window.map(tollgate::Window::as_ns))?;
        state.set_item("refill", self.counting.refill().map(Amount::get))?;
        state.set_item("calendar", calendar.map(|(calendar, _)| calendar.name()))?;
        state.set_item("time_zone", calendar.map(|(_, zone)| zone.name()))?;
        state.set_item("mode", self.mode.name())?;
        state.set_item("over_limit", self.over_limit.name())?;
        state.set_item("visibility", self.visibility.name())?;
        let share = self.class_share;
        state.set_item("priority", share.map(|share| share.class.name()))?;
        state.set_item("share_millionths", share.map(|share| share.share.millionths()))?;
        state.set_item("whole_amount", share.map(|share| share.whole.get()))?;
        state.set_item("allowed", self.allowed)?;
        state.set_item("count", self.count)?;
        state.set_item("retry_after_ms", self.retry_after_ms)?;
        state.set_item("reset_after_ms", self.reset_after_ms)?;
        state.set_item("is_without_store", self.is_without_store)?;
        state.set_item("period_s", self.period_s.map(NonZeroU32::get))?;
        Ok(state)
    }

    /// The arguments with which [`restore_limit_status`] makes it again.
    pub(crate) fn write_alone<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyDict>)> {
        Ok((VERSION, self.write(py)?))
    }

    fn read(place: String, state: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut state = Reader::new(place, state)?;
        let read = Self {
            policy_id: state.policy_id("policy_id")?,
            per: state.per("per")?,
            unit: state.name("unit", Unit::ACCEPTED, Unit::parse)?,
            amount: state.amount("amount")?,
            counting: state.counting()?,
            mode: state.name("mode", Mode::ACCEPTED, Mode::parse)?,
            over_limit: state.name("over_limit", OverLimit::ACCEPTED, OverLimit::parse)?,
            visibility: state.name("visibility", Visibility::ACCEPTED, Visibility::parse)?,
            class_share: read_class_share(&mut state)?,
            allowed: state.boolean("allowed")?,
            count: state.integer("count", u64::MAX)?,
            retry_after_ms: state.optional_integer("retry_after_ms", MAX_MS)?,
            reset_after_ms: state.integer("reset_after_ms", MAX_MS)?,
            is_without_store: state.boolean("is_without_store")?,
            period_s: state
                .optional_integer("period_s", u32::MAX.into())?
                .map(|seconds| u32::try_from(seconds).ok().and_then(NonZeroU32::new))
                .map(|seconds| seconds.ok_or_else(impossible))
                .transpose()?,
        };
        state.end()?;
        Ok(read)
    }

    /// The limit, as far as a decision shows it.
    fn limit(&self) -> Option<Arc<Limit>> {
        let whole = self.class_share.map_or(self.amount, |share| share.whole);
        let mut policy = Policy {
            id: self.policy_id.clone(),
            per: self.per.clone(),
            unit: self.unit.clone(),
            limit: Some(whole),
            counting: self.counting,
            mode: self.mode,
            over_limit: self.over_limit,
            visibility: self.visibility,
            ..Policy::default_policy()
        };
        let Some(ClassShare { class, share, .. }) = self.class_share else {
            return Limit::of(&policy).map(Arc::new);
        };
        policy.shares = Shares::default();
        policy.shares.set(class, share);
        let limit = Limit::of_classes(&policy)?[class.index()].with_amount(self.amount);
        Some(Arc::new(limit))
    }

    /// The verdict, with a wait that ends so many nanoseconds into its last millisecond.
    fn verdict(&self, ns_of_last_ms: u64) -> Verdict {
        let wait = match self.retry_after_ms {
            None => Wait::Never,
            _ if self.is_without_store => Wait::Unknown,
            Some(0) => Wait::None,
            Some(ms) => Wait::Ns((ms - 1).saturating_mul(NS_PER_MS).saturating_add(ns_of_last_ms)),
        };
        let reset_after_ns = self.reset_after_ms.saturating_mul(NS_PER_MS);
        let verdict = Verdict::new(self.allowed, self.count, wait, reset_after_ns);
        Verdict { period_s: self.period_s, ..verdict }
    }

    fn status(&self) -> PyResult<tollgate::LimitStatus> {
        let decision = assemble([(self, NS_PER_MS)].into_iter())?;
        let status = decision.limits().first().filter(|status| Self::of(status) == *self);
        status.cloned().ok_or_else(impossible)
    }
}

fn read_class_share(state: &mut Reader<'_>) -> PyResult<Option<ClassShare>> {
    let class = state.optional_name("priority", PriorityClass::ACCEPTED, PriorityClass::parse)?;
    let share = state.optional_integer("share_millionths", u32::MAX.into())?;
    let whole = state.optional_amount("whole_amount")?;
    let share = share.map(|share| u32::try_from(share).ok().and_then(Share::of_millionths));
    match (class, share, whole) {
        (None, None, None) => Ok(None),
        (Some(class), Some(Some(share)), Some(whole)) => {
            Ok(Some(ClassShare { class, share, whole }))
        }
        _ => Err(impossible()),
    }
}

/// The decision of the limits, each with the nanoseconds that its wait has in the last millisecond.
fn assemble<'a>(
    limits: impl Iterator<Item = (&'a StatusState, u64)>,
) -> PyResult<tollgate::Decision> {
    let parts = limits.map(|(state, ns)| Some((state.limit()?, state.verdict(ns))));
    let (limits, verdicts): (Vec<_>, Vec<_>) =
        parts.collect::<Option<Vec<_>>>().ok_or_else(impossible)?.into_iter().unzip();
    let (subject, cost) = (Subject::empty(), Amount::ONE);
    let charges = limits.iter().map(|limit| Charge { limit, subject: &subject, cost });
    Ok(tollgate::Decision::assemble(&charges.collect::<Vec<_>>(), &verdicts))
}

fn impossible() -> PyErr {
    invalid("state", "is that of no decision", "what pickle has written of one, unchanged")
}

fn check_version(version: &Bound<'_, PyAny>) -> PyResult<()> {
    let accepted = format!("{VERSION}; read it with the version of Tollgate that wrote it");
    match crate::arguments::integer("version", version, u64::MAX)? {
        VERSION => Ok(()),
        other => Err(invalid("version", &format!("of a pickled decision is {other}"), &accepted)),
    }
}

/// Makes a decision again that was pickled.
#[pyfunction]
pub(crate) fn restore_decision(
    version: &Bound<'_, PyAny>,
    state: &Bound<'_, PyAny>,
) -> PyResult<crate::decision::Decision> {
    check_version(version)?;
    Ok(crate::decision::Decision(DecisionState::read(state)?.decision()?))
}

/// Makes the status of a limit again that was pickled.
#[pyfunction]
pub(crate) fn restore_limit_status(
    version: &Bound<'_, PyAny>,
    state: &Bound<'_, PyAny>,
) -> PyResult<crate::decision::LimitStatus> {
    check_version(version)?;
    let state = StatusState::read("state".to_owned(), state)?;
    Ok(crate::decision::LimitStatus(state.status()?))
}
