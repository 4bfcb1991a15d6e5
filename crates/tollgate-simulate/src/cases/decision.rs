//! The fields of a decision that a case can expect, by their names over HTTP.

use serde_json::{Value as Json, json};
use tollgate_catalog::document::{Node, Value};
use tollgate_catalog::reading::{At, Fields, Report};
use tollgate_core::{Decision, LimitStatus, Reason};

/// What `expect` can name, besides `limits`.
pub const EXPECTED_FIELDS: [&str; 10] = [
    "allowed",
    "policyId",
    "reason",
    "scope",
    "unit",
    "limit",
    "count",
    "remaining",
    "retryAfterMs",
    "resetAfterMs",
];

/// What an item of `limits` can name, besides `policyId`.
pub const EXPECTED_LIMIT_FIELDS: [&str; 8] =
    ["allowed", "scope", "unit", "limit", "count", "remaining", "retryAfterMs", "resetAfterMs"];

const LIMITS: &str = "limits";
const POLICY_ID: &str = "policyId";

pub(super) const ACCEPTED: &str =
    "a map with fields of the answer to a check, such as `{allowed: false, retryAfterMs: 40000}`";
const ACCEPTED_LIMITS: &str =
    "a list with all limits that take part, such as `[{policyId: per-minute, count: 3}]`";
const ACCEPTED_NUMBERS: &str = "an integer from 0 to 9007199254740991, or null";
const ACCEPTED_TEXTS: &str = "a text or null";
const ACCEPTED_POLICY_IDS: &str = "the id of a policy";

/// The expected value of a field.
pub(super) struct ExpectedValue {
    pub(super) field: &'static str,
    pub(super) value: Json,
}

/// What is expected of the limit of a policy.
pub(super) struct ExpectedLimit {
    pub(super) policy_id: String,
    pub(super) values: Vec<ExpectedValue>,
}

/// What a case expects.
pub(super) struct Expectation {
    pub(super) values: Vec<ExpectedValue>,
    pub(super) limits: Option<Vec<ExpectedLimit>>,
}

/// The value of `field` in `decision`.
pub(super) fn value_of(decision: &Decision, field: &str) -> Json {
    let headline = decision.headline();
    match field {
        "allowed" => json!(decision.allowed()),
        "reason" => json!(decision.reason().map(Reason::name)),
        "retryAfterMs" => json!(decision.retry_after_ms()),
        POLICY_ID => json!(headline.map(|status| status.limit.policy_id().as_str())),
        _ => match headline {
            Some(status) => value_of_limit(status, field),
            // What an answer has without a limit.
            None => match field {
                "unit" => json!("requests"),
                "count" | "resetAfterMs" => json!(0),
                _ => Json::Null,
            },
        },
    }
}

/// The value of `field` in `status`.
pub(super) fn value_of_limit(status: &LimitStatus, field: &str) -> Json {
    match field {
        "allowed" => json!(status.allowed),
        "scope" => json!(status.limit.scope()),
        "unit" => json!(status.limit.unit().name()),
        "limit" => json!(status.limit.amount().get()),
        "count" => json!(status.count),
        "remaining" => json!(status.remaining),
        "retryAfterMs" => json!(status.retry_after_ms),
        "resetAfterMs" => json!(status.reset_after_ms),
        _ => Json::Null,
    }
}

/// What the map `node` at `at` expects; `None` if anything is wrong with it.
pub(super) fn expectation(report: &mut Report, at: &At<'_>, node: &Node) -> Option<Expectation> {
    let Value::Map(entries) = &node.value else {
        report.mismatch(at, &node.value, ACCEPTED);
        return None;
    };
    let known: Vec<&str> = EXPECTED_FIELDS.into_iter().chain([LIMITS]).collect();
    let fields = report.fields(at, entries, &known);
    if entries.is_empty() {
        report.problem(at, "expects nothing", ACCEPTED);
        return None;
    }
    let values = values(report, at, fields, &EXPECTED_FIELDS);
    let limits = match fields.get(LIMITS) {
        Some(entry) => limits(report, &at.field(entry), &entry.node).map(Some),
        None => Some(None),
    };
    Some(Expectation { values: values?, limits: limits? })
}

fn limits(report: &mut Report, at: &At<'_>, node: &Node) -> Option<Vec<ExpectedLimit>> {
    let Value::List(items) = &node.value else {
        report.mismatch(at, &node.value, ACCEPTED_LIMITS);
        return None;
    };
    let mut limits: Vec<ExpectedLimit> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = at.item(index, item);
        let Some(limit) = limit(report, &at, item) else { continue };
        if limits.iter().any(|known| known.policy_id == limit.policy_id) {
            report.problem(&at, format!("names {:?} again", limit.policy_id), "each policy once");
        } else {
            limits.push(limit);
        }
    }
    (limits.len() == items.len()).then_some(limits)
}

fn limit(report: &mut Report, at: &At<'_>, node: &Node) -> Option<ExpectedLimit> {
    let Value::Map(entries) = &node.value else {
        report.mismatch(
            at,
            &node.value,
            "a map with policyId, such as `{policyId: per-minute, count: 3}`",
        );
        return None;
    };
    let known: Vec<&str> = [POLICY_ID].into_iter().chain(EXPECTED_LIMIT_FIELDS).collect();
    let fields = report.fields(at, entries, &known);
    let values = values(report, at, fields, &EXPECTED_LIMIT_FIELDS);
    let Some(entry) = fields.get(POLICY_ID) else {
        report.problem(&at.missing(POLICY_ID), "is missing", ACCEPTED_POLICY_IDS);
        return None;
    };
    let policy_id = report.text(&at.field(entry), &entry.node.value, ACCEPTED_POLICY_IDS)?;
    Some(ExpectedLimit { policy_id: policy_id.to_owned(), values: values? })
}

fn values(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    names: &[&'static str],
) -> Option<Vec<ExpectedValue>> {
    let mut values = Vec::new();
    let mut is_good = true;
    for field in names {
        let Some(entry) = fields.get(field) else { continue };
        match value(report, &at.field(entry), field, &entry.node.value) {
            Some(value) => values.push(ExpectedValue { field, value }),
            None => is_good = false,
        }
    }
    is_good.then_some(values)
}

fn value(report: &mut Report, at: &At<'_>, field: &str, value: &Value) -> Option<Json> {
    match (field, value) {
        ("allowed", Value::Bool(allowed)) => Some(json!(allowed)),
        ("allowed", other) => {
            report.mismatch(at, other, "`true` or `false`");
            None
        }
        (_, Value::Null) => Some(Json::Null),
        ("reason", _) => reason(report, at, value),
        (POLICY_ID | "scope" | "unit", _) => {
            report.text(at, value, ACCEPTED_TEXTS).map(|text| json!(text))
        }
        _ => report.amount_described(at, value, ACCEPTED_NUMBERS).map(|amount| json!(amount.get())),
    }
}

fn reason(report: &mut Report, at: &At<'_>, value: &Value) -> Option<Json> {
    let names = || Reason::OF_LIMITS.into_iter().chain(Reason::OF_API_KEYS).map(Reason::name);
    let accepted = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let accepted = format!("{accepted}, or null");
    let name = report.text(at, value, &accepted)?;
    if !names().any(|known| known == name) {
        report.problem(at, format!("{name:?} is not a reason"), accepted);
        return None;
    }
    Some(json!(name))
}
