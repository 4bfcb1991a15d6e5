//! Decides a case as a server would that has just started.

use serde_json::{Value as Json, json};
use tollgate_core::{Amount, Decision, LeaseUpdate, ManualClock, Quality};
use tollgate_service::RateLimitService;
use tollgate_store::{MemoryStore, StoreError};

use super::decision::{ExpectedLimit, value_of, value_of_limit};
use super::report::{CaseReport, DifferenceReport, LimitReport};
use super::{CaseCheck, Given, TestCase};
use crate::source::at_once;
use crate::{SimulateError, Source};

type Service = RateLimitService<MemoryStore<ManualClock>>;

/// Decides `case` with empty limits, and compares the decision with what it expects.
pub(super) fn case(source: &Source, case: &TestCase) -> Result<CaseReport, SimulateError> {
    let clock = ManualClock::default();
    let service = source.service(&clock);
    let mut notes = Vec::new();
    for given in &case.given {
        clock.set(given.at);
        notes.extend(use_up(&service, given)?);
    }
    clock.set(case.at);
    let decision = decide(&service, &case.check)?;
    let differences = differences(case, &decision);
    Ok(CaseReport {
        name: case.name.clone(),
        line: case.line,
        passed: differences.is_empty(),
        differences,
        limits: decision.limits().iter().map(LimitReport::new).collect(),
        notes,
    })
}

/// Sends the checks of `given`; says how many were denied, if any.
fn use_up(service: &Service, given: &Given) -> Result<Option<String>, SimulateError> {
    let (mut denied, mut by) = (0_u32, None);
    for _ in 0..given.times {
        let decision = if let (Some(ttl), Some(usage)) = (given.check.reserves_for, &given.settled)
        {
            let reserved = answered(service.reserve(&given.check.check.check(), ttl))?;
            if let Some(lease) = &reserved.lease {
                let (seq, quality) = (Amount::ONE, Quality::Exact);
                let settle = LeaseUpdate::Settle { seq, usage: usage.clone(), quality };
                answered(service.update_lease(&lease.id, &settle))?;
            }
            reserved.decision
        } else {
            decide(service, &given.check)?
        };
        if !decision.allowed() {
            denied += 1;
            by = Some(why(&decision));
        }
    }
    Ok(by.map(|by| {
        format!("given[{}]: {denied} of {} checks were denied, by {by}", given.index, given.times)
    }))
}

fn why(decision: &Decision) -> String {
    match (decision.headline(), decision.reason()) {
        (Some(headline), _) => headline.limit.policy_id().to_string(),
        (None, Some(reason)) => reason.name().to_owned(),
        (None, None) => String::new(),
    }
}

fn decide(service: &Service, case: &CaseCheck) -> Result<Decision, SimulateError> {
    let check = case.check.check();
    match case.reserves_for {
        Some(ttl) => answered(service.reserve(&check, ttl)).map(|reserved| reserved.decision),
        None => answered(service.check(&check)),
    }
}

/// The answer of the store in memory, which has it at once.
fn answered<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, SimulateError> {
    at_once(call).and_then(Result::ok).ok_or(SimulateError::CatalogUnavailable)
}

fn differences(case: &TestCase, decision: &Decision) -> Vec<DifferenceReport> {
    let mut differences = Vec::new();
    for expected in &case.expected {
        let got = value_of(decision, expected.field);
        add(&mut differences, expected.field.to_owned(), &expected.value, got);
    }
    let Some(limits) = &case.expected_limits else { return differences };
    let find = |limit: &ExpectedLimit| {
        let is_it = |id: &str| id == limit.policy_id;
        decision.limits().iter().find(|status| is_it(status.limit.policy_id().as_str()))
    };
    for limit in limits {
        let name = |field: &str| format!("limits[{}]{field}", limit.policy_id);
        let Some(status) = find(limit) else {
            add(&mut differences, name(""), &json!("takes part"), json!("does not take part"));
            continue;
        };
        for expected in &limit.values {
            let got = value_of_limit(status, expected.field);
            add(&mut differences, name(&format!(".{}", expected.field)), &expected.value, got);
        }
    }
    for status in decision.limits() {
        let id = status.limit.policy_id().as_str();
        if !limits.iter().any(|limit| limit.policy_id == id) {
            let field = format!("limits[{id}]");
            add(&mut differences, field, &json!("does not take part"), json!("takes part"));
        }
    }
    differences
}

fn add(differences: &mut Vec<DifferenceReport>, field: String, expected: &Json, got: Json) {
    if *expected != got {
        differences.push(DifferenceReport { field, expected: expected.clone(), got });
    }
}
