//! Reads the checks of a test file: the fields of a check over HTTP, with the rules of the server.

use tollgate_catalog::document::{Entry, Value};
use tollgate_catalog::reading::{At, Fields, Report};
use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Amount, Attribute, Timestamp, Ttl, Unit};

use super::{CaseCheck, Reported};
use crate::error::shown;
use crate::trace::{ACCEPTED_IPS, TraceCheck, address, custom};

/// The fields of a check. The last two are of a reservation.
pub(super) const CHECK_FIELDS: [&str; 11] = [
    "userId",
    "modelId",
    "tenantId",
    "apiKey",
    "service",
    "ip",
    "attributes",
    "cost",
    "requestId",
    "reserve",
    "ttlMs",
];

/// The fields with an id, and the attributes that they set.
const IDS: [(&str, Attribute); 5] = [
    ("userId", Attribute::User),
    ("modelId", Attribute::Model),
    ("tenantId", Attribute::Tenant),
    ("apiKey", Attribute::ApiKey),
    ("service", Attribute::Service),
];

const ACCEPTED_SUBJECT: &str =
    "at least one of userId, modelId, tenantId, apiKey, service, ip, attributes";
const ACCEPTED_COSTS: &str = "a map from units to whole numbers, such as `{tokens: 500}`";
const ACCEPTED_ATTRIBUTES: &str = "a map from names to texts, such as `{region: eu}`";
const ACCEPTED_NAMES: &str = "a name of 1 to 256 bytes other than `user`, `model`, `tenant`, `apiKey`, `service` and `ip`, \
     which have fields of their own, and not like one of a built-in attribute";

/// The check in the fields of the map at `at`; `None` if anything is wrong with it.
pub(super) fn check(report: &mut Report, at: &At<'_>, fields: Fields<'_>) -> Option<CaseCheck> {
    let mut check = TraceCheck::at(Timestamp::default());
    let mut is_good = true;
    for (field, attribute) in IDS {
        let Some(entry) = fields.given(field) else { continue };
        match id(report, &at.field(entry), &entry.node.value) {
            Some(value) => check.set(attribute, value),
            None => is_good = false,
        }
    }
    if let Some(entry) = fields.given("requestId") {
        check.request_id = id(report, &at.field(entry), &entry.node.value).map(str::to_owned);
        is_good &= check.request_id.is_some();
    }
    is_good &= ip(report, at, fields, &mut check).is_some();
    is_good &= attributes(report, at, fields, &mut check).is_some();
    is_good &= cost(report, at, fields, &mut check).is_some();
    let reserves_for = reservation(report, at, fields).ok()?;
    if is_good && check.attributes.is_empty() {
        report.problem(at, "names no subject", ACCEPTED_SUBJECT);
        return None;
    }
    is_good.then_some(CaseCheck { check, reserves_for })
}

fn id<'n>(report: &mut Report, at: &At<'_>, value: &'n Value) -> Option<&'n str> {
    let text = report.text(at, value, ACCEPTED_IDS)?;
    if let Err(problem) = check_id(text) {
        report.problem(at, problem.to_string(), ACCEPTED_IDS);
        return None;
    }
    Some(text)
}

fn ip(report: &mut Report, at: &At<'_>, fields: Fields<'_>, check: &mut TraceCheck) -> Option<()> {
    let Some(entry) = fields.given("ip") else { return Some(()) };
    let at = at.field(entry);
    let text = report.text(&at, &entry.node.value, ACCEPTED_IPS)?;
    let Some(address) = address(text) else {
        report.problem(&at, format!("{} is not an IP address", shown(text)), ACCEPTED_IPS);
        return None;
    };
    check.set(Attribute::Ip, address);
    Some(())
}

fn attributes(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    check: &mut TraceCheck,
) -> Option<()> {
    let Some(entry) = fields.given("attributes") else { return Some(()) };
    let at = at.field(entry);
    let entries = map(report, &at, entry, ACCEPTED_ATTRIBUTES)?;
    let mut is_good = true;
    for entry in report.distinct(&at, entries) {
        let value = id(report, &at.field(entry), &entry.node.value);
        let attribute = custom(&entry.key);
        if attribute.is_none() {
            report.problem(&at.key(entry), "is not the name of an attribute", ACCEPTED_NAMES);
        }
        match attribute.zip(value) {
            Some((attribute, value)) => check.set(attribute, value),
            None => is_good = false,
        }
    }
    is_good.then_some(())
}

fn cost(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    check: &mut TraceCheck,
) -> Option<()> {
    let Some(entry) = fields.given("cost") else { return Some(()) };
    for (unit, amount) in amounts(report, &at.field(entry), entry)? {
        check.cost.set(unit, amount);
    }
    Some(())
}

/// The amounts by unit in `entry`, which is at `at`; `None` if anything is wrong with them.
pub(super) fn amounts(
    report: &mut Report,
    at: &At<'_>,
    entry: &Entry,
) -> Option<Vec<(Unit, Amount)>> {
    let entries = map(report, at, entry, ACCEPTED_COSTS)?;
    let mut amounts = Vec::with_capacity(entries.len());
    for entry in report.distinct(at, entries) {
        let unit = Unit::parse(&entry.key).filter(Unit::has_cost);
        if unit.is_none() {
            report.problem(&at.key(entry), "is not a unit of costs", Unit::ACCEPTED_IN_COSTS);
        }
        amounts.extend(unit.zip(report.amount(&at.field(entry), &entry.node.value)));
    }
    (amounts.len() == entries.len()).then_some(amounts)
}

/// How long the lease of a check lives, if it reserves one.
fn reservation(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
) -> Result<Option<Ttl>, Reported> {
    let reserves = report.flag(at, fields, "reserve", false).ok_or(Reported)?;
    let Some(entry) = fields.given("ttlMs") else {
        return Ok(reserves.then(Ttl::default));
    };
    if !reserves {
        report.problem(&at.key(entry), "is only of a reservation", "`reserve: true` beside it");
        return Err(Reported);
    }
    let at = at.field(entry);
    let range = Ttl::MIN.as_ms()..=Ttl::MAX.as_ms();
    let ms = report.amount_within(&at, &entry.node.value, &range, Ttl::ACCEPTED);
    ms.and_then(Ttl::from_ms).map(Some).ok_or(Reported)
}

fn map<'n>(
    report: &mut Report,
    at: &At<'_>,
    entry: &'n Entry,
    accepted: &str,
) -> Option<&'n [Entry]> {
    if let Value::Map(entries) = &entry.node.value {
        return Some(entries);
    }
    report.mismatch(at, &entry.node.value, accepted);
    None
}
