//! Reads checks and amounts, with the bounds of the HTTP interface.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Amount, Attribute, Check, Cost, Subject, Totals, Unit};
use tollgate_service::MAX_BATCH_CHECKS;
use tonic::Status;

use super::invalid;
use crate::proto::tollgate::v1::{CheckBatchRequest, CheckRequest};
use crate::status::Problems;

/// The most attributes of one check.
const MAX_ATTRIBUTES: usize = 32;
/// The most units of one cost.
const MAX_UNITS: usize = 16;

const ACCEPTED_ATTRIBUTES: &str = "at most 32 attributes";
const ACCEPTED_UNITS: &str = "at most 16 units";
const ACCEPTED_AMOUNT: &str = "0 to 9007199254740991";
const ACCEPTED_BATCH: &str = "at most 1000 elements";
const ACCEPTED_IP: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";
const ACCEPTED_SUBJECT: &str =
    "at least one of user_id, model_id, tenant_id, api_key, service, ip, attributes";

// The texts above contain these numbers.
const _: () = assert!(MAX_ATTRIBUTES == 32 && MAX_UNITS == 16 && MAX_BATCH_CHECKS == 1_000);
const _: () = assert!(Amount::MAX.get() == 9_007_199_254_740_991);

/// A check that was read.
#[derive(Debug)]
pub(super) struct CheckRead<'a> {
    built_in: [(&'static Attribute, Cow<'a, str>); 6],
    attributes: &'a HashMap<String, String>,
    cost: Cost,
    request_id: &'a str,
}

impl<'a> CheckRead<'a> {
    /// Reads `request`.
    pub(super) fn of(request: &'a CheckRequest) -> Result<Self, Status> {
        let mut problems = Problems::default();
        let read = Self::read(request, "", &mut problems);
        problems.or(read)
    }

    /// Reads `request`, whose place is `at`, such as `checks[3].`.
    pub(super) fn read(request: &'a CheckRequest, at: &str, problems: &mut Problems) -> Self {
        let before = problems.len();
        let mut id = |field: &str, value: &'a str| {
            if !value.is_empty()
                && let Err(problem) = check_id(value)
            {
                problems.add(&format_args!("{at}{field}"), &problem, ACCEPTED_IDS);
            }
            Cow::Borrowed(value)
        };
        let built_in = [
            (&Attribute::User, id("user_id", &request.user_id)),
            (&Attribute::Model, id("model_id", &request.model_id)),
            (&Attribute::Tenant, id("tenant_id", &request.tenant_id)),
            (&Attribute::ApiKey, id("api_key", &request.api_key)),
            (&Attribute::Service, id("service", &request.service)),
        ];
        id("request_id", &request.request_id);
        let ip = address(&request.ip, at, problems);
        let [user, model, tenant, key, service] = built_in;
        let built_in = [user, model, tenant, key, service, (&Attribute::Ip, ip)];
        check_attributes(&request.attributes, at, problems);
        let mut cost = Cost::one_request();
        amounts(&request.cost, &format_args!("{at}cost"), problems, |unit, amount| {
            cost.set(unit, amount);
        });
        let has_subject = built_in.iter().any(|(_, value)| !value.is_empty());
        if !has_subject && request.attributes.is_empty() && problems.len() == before {
            let place = if at.is_empty() { "the check" } else { at.trim_end_matches('.') };
            problems.add(&place, &"names no subject", ACCEPTED_SUBJECT);
        }
        Self { built_in, attributes: &request.attributes, cost, request_id: &request.request_id }
    }

    /// The check for the use case.
    pub(super) fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        for (attribute, value) in self.built_in.iter().filter(|(_, value)| !value.is_empty()) {
            subject.set(attribute, value);
        }
        for (name, value) in self.attributes {
            subject.set_named(name, value);
        }
        let check = Check::of(subject).at_cost(self.cost.clone());
        Check { request_id: Some(self.request_id).filter(|id| !id.is_empty()), ..check }
    }
}

/// Reads the checks of a batch.
pub(super) fn read_batch(request: &CheckBatchRequest) -> Result<Vec<CheckRead<'_>>, Status> {
    let count = request.checks.len();
    if count > MAX_BATCH_CHECKS {
        return Err(invalid("checks", &format!("has {count} elements"), ACCEPTED_BATCH));
    }
    let mut problems = Problems::default();
    let checks = request.checks.iter().enumerate();
    let read = checks
        .map(|(place, check)| CheckRead::read(check, &format!("checks[{place}]."), &mut problems));
    let read = read.collect();
    problems.or(read)
}

fn address<'a>(value: &'a str, at: &str, problems: &mut Problems) -> Cow<'a, str> {
    if let Ok(address) = value.parse::<IpAddr>() {
        return Cow::Owned(address.to_canonical().to_string());
    }
    if !value.is_empty() {
        problems.add(&format_args!("{at}ip"), &"is not an IP address", ACCEPTED_IP);
    }
    Cow::Borrowed("")
}

fn check_attributes(attributes: &HashMap<String, String>, at: &str, problems: &mut Problems) {
    let count = attributes.len();
    if count > MAX_ATTRIBUTES {
        let problem = format!("has {count} elements");
        problems.add(&format_args!("{at}attributes"), &problem, ACCEPTED_ATTRIBUTES);
        return;
    }
    for (name, value) in attributes {
        let field = format!("{at}attributes[{name:?}]");
        if let Err(problem) = check_id(name) {
            problems.add(&field, &format!("has a name that {problem}"), ACCEPTED_IDS);
        } else if let Some(accepted) = own_field(name) {
            problems.add(&field, &"is not an attribute: it has a field of its own", accepted);
        } else if let Some(like) = Attribute::resembled_by(name) {
            let problem = format!("resembles the built-in attribute `{like}`, but is not the same");
            problems.add(&field, &problem, own_field(like).unwrap_or(like));
        }
        if let Err(problem) = check_id(value) {
            problems.add(&field, &problem, ACCEPTED_IDS);
        }
    }
}

/// The field of the check to use instead of this attribute.
fn own_field(attribute: &str) -> Option<&'static str> {
    Some(match attribute {
        "user" => "the field user_id of the check",
        "model" => "the field model_id of the check",
        "tenant" => "the field tenant_id of the check",
        "apiKey" => "the field api_key of the check",
        "service" => "the field service of the check",
        "ip" => "the field ip of the check",
        _ => return None,
    })
}

/// Reads amounts by unit.
pub(super) fn amounts(
    from: &HashMap<String, u64>,
    field: &dyn fmt::Display,
    problems: &mut Problems,
    mut set: impl FnMut(Unit, Amount),
) {
    if from.len() > MAX_UNITS {
        problems.add(field, &format!("has {} elements", from.len()), ACCEPTED_UNITS);
        return;
    }
    for (name, value) in from {
        let field = format!("{field}[{name:?}]");
        let amount = Amount::new(*value);
        if amount.is_none() {
            problems.add(&field, &"is too large", ACCEPTED_AMOUNT);
        }
        match Unit::parse(name) {
            None => problems.add(&field, &"is not a unit", Unit::ACCEPTED_IN_COSTS),
            Some(unit) if !unit.has_cost() => {
                problems.add(&field, &Unit::NO_COST, Unit::ACCEPTED_IN_COSTS);
            }
            Some(unit) => set(unit, amount.unwrap_or(Amount::ZERO)),
        }
    }
}

/// Reads totals by unit.
pub(super) fn totals(from: &HashMap<String, u64>, field: &str, problems: &mut Problems) -> Totals {
    let mut totals = Totals::none();
    amounts(from, &field, problems, |unit, amount| totals.set(unit, amount));
    totals
}
