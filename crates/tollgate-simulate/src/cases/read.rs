//! Reads a test file into cases, or into a list of all its problems.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_catalog::document::{Entry, Node, Value};
use tollgate_catalog::reading::{self, At, Fields, Names, Report};
use tollgate_catalog::{CatalogError, Problems};
use tollgate_core::{Timestamp, Totals};
use tollgate_service::UnknownApiKeys;

use super::decision::{self, Expectation};
use super::read_check::{self, CHECK_FIELDS};
use super::{Given, Reported, TestCase, TestFile};
use crate::trace::parse_time;

/// The most cases of one file.
const MAX_CASES: usize = 10_000;
/// The most times that a check is repeated.
const MAX_TIMES: u64 = 1_000_000;
const ACCEPTED_TIMES: &str = "an integer from 0 to 1000000";
/// When a check is that does not say: 2026-01-01T00:00:00Z.
const DEFAULT_AT: Timestamp = Timestamp::from_ms(1_767_225_600_000);

const FILE_FIELDS: [&str; 3] = ["policies", "unknownApiKeys", "cases"];
const CASE_FIELDS: [&str; 5] = ["name", "at", "given", "check", "expect"];
const GIVEN_ONLY: [&str; 4] = ["times", "ago", "at", "settle"];

const ACCEPTED_FILE: &str = "a map with `policies`, the policy file, and `cases`";
pub(super) const ACCEPTED_POLICIES: &str = "the path of a policy file, relative to the test file";
const ACCEPTED_CASES: &str = "a list of cases, such as `{name, given, check, expect}`";
const ACCEPTED_CASE: &str = "a map with `name`, `check`, `expect` and optionally `at` and `given`";
const ACCEPTED_NAME: &str = "a text that says what the case shows";
const ACCEPTED_CHECK: &str =
    "a map with the fields of a check, such as `{userId: ann, modelId: gpt-4}`";
const ACCEPTED_GIVEN: &str =
    "a list of checks that came before, each optionally with times, ago or at, and settle";

const UNKNOWN_API_KEYS: Names<UnknownApiKeys> = Names {
    parse: |name| match name {
        "count" => Some(UnknownApiKeys::Count),
        "deny" => Some(UnknownApiKeys::Deny),
        _ => None,
    },
    known: &["count", "deny"],
    accepted: "`count` or `deny`",
};

/// The test file at `path`; `needs_policies` says whether it must name its policy file.
pub(super) fn test_file(path: &Path, needs_policies: bool) -> Result<TestFile, CatalogError> {
    let name = path.display().to_string();
    let document = reading::read_file(path)?;
    parse(&name, document.as_ref(), needs_policies).map_err(CatalogError::Invalid)
}

fn parse(name: &str, document: Option<&Node>, needs_policies: bool) -> Result<TestFile, Problems> {
    let mut report = Report::default();
    let file = document.and_then(|document| file(&mut report, document, needs_policies));
    if document.is_none() {
        report.problem(&At::root(None), "is empty", ACCEPTED_FILE);
    }
    match file {
        Some(file) => report.into_result(name, file),
        None => Err(report.into_problems(name)),
    }
}

/// `None` only if a problem was reported.
fn file(report: &mut Report, document: &Node, needs_policies: bool) -> Option<TestFile> {
    let root = At::root(document.position);
    let Value::Map(entries) = &document.value else {
        report.mismatch(&root, &document.value, ACCEPTED_FILE);
        return None;
    };
    let fields = report.fields_beside(&root, entries, &FILE_FIELDS, |name| name.starts_with("x-"));
    let policies = match fields.given("policies") {
        Some(entry) => {
            let text = report.text(&root.field(entry), &entry.node.value, ACCEPTED_POLICIES);
            Some(text.map(PathBuf::from))
        }
        None if needs_policies => {
            let accepted = format!("{ACCEPTED_POLICIES}, here or as --policies");
            report.problem(&root.missing("policies"), "is missing", accepted);
            None
        }
        None => Some(None),
    };
    let unknown_api_keys =
        report.named(&root, fields, "unknownApiKeys", &UNKNOWN_API_KEYS, UnknownApiKeys::Count);
    let cases = cases(report, &root, fields);
    Some(TestFile { policies: policies?, unknown_api_keys: unknown_api_keys?, cases: cases? })
}

fn cases(report: &mut Report, root: &At<'_>, fields: Fields<'_>) -> Option<Vec<TestCase>> {
    let Some(entry) = fields.get("cases") else {
        report.problem(&root.missing("cases"), "is missing", ACCEPTED_CASES);
        return None;
    };
    let at = root.field(entry);
    let items = match &entry.node.value {
        Value::List(items) if !items.is_empty() => items,
        Value::List(_) => {
            report.problem(&at, "is empty", ACCEPTED_CASES);
            return None;
        }
        other => {
            report.mismatch(&at, other, ACCEPTED_CASES);
            return None;
        }
    };
    if let Some(beyond) = items.get(MAX_CASES) {
        let message = format!("is one of {} cases", items.len());
        report.problem(&at.item(MAX_CASES, beyond), message, format!("at most {MAX_CASES} cases"));
        return None;
    }
    let cases: Vec<_> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| case(report, &at.item(index, item), item))
        .collect();
    (cases.len() == items.len()).then_some(cases)
}

fn case(report: &mut Report, at: &At<'_>, item: &Node) -> Option<TestCase> {
    let Value::Map(entries) = &item.value else {
        report.mismatch(at, &item.value, ACCEPTED_CASE);
        return None;
    };
    let fields = report.fields(at, entries, &CASE_FIELDS);
    let name = required(report, at, fields, "name", ACCEPTED_NAME)
        .and_then(|entry| report.text(&at.field(entry), &entry.node.value, ACCEPTED_NAME));
    let moment = match fields.given("at") {
        Some(entry) => time(report, &at.field(entry), &entry.node.value),
        None => Some(DEFAULT_AT),
    };
    let check = required(report, at, fields, "check", ACCEPTED_CHECK).and_then(|entry| {
        let at = at.field(entry);
        let entries = checks_fields(report, &at, &entry.node)?;
        let fields = report.fields(&at, entries, &CHECK_FIELDS);
        read_check::check(report, &at, fields)
    });
    let given = given(report, at, fields, moment);
    let expectation = required(report, at, fields, "expect", decision::ACCEPTED)
        .and_then(|entry| decision::expectation(report, &at.field(entry), &entry.node));
    let Expectation { values: expected, limits: expected_limits } = expectation?;
    Some(TestCase {
        name: name?.to_owned(),
        line: item.position.map(|at| at.line),
        at: moment?,
        given: given?,
        check: check?,
        expected,
        expected_limits,
    })
}

fn required<'n>(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'n>,
    name: &str,
    accepted: &str,
) -> Option<&'n Entry> {
    let entry = fields.get(name);
    if entry.is_none() {
        report.problem(&at.missing(name), "is missing", accepted);
    }
    entry
}

fn checks_fields<'n>(report: &mut Report, at: &At<'_>, node: &'n Node) -> Option<&'n [Entry]> {
    if let Value::Map(entries) = &node.value {
        return Some(entries);
    }
    report.mismatch(at, &node.value, ACCEPTED_CHECK);
    None
}

/// The checks before the one at `check_at`, in the order of their times. Without that time, they are only validated.
fn given(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    check_at: Option<Timestamp>,
) -> Option<Vec<Given>> {
    let Some(entry) = fields.given("given") else { return Some(Vec::new()) };
    let at = at.field(entry);
    let Value::List(items) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED_GIVEN);
        return None;
    };
    let check_at = check_at.unwrap_or(DEFAULT_AT);
    let mut all: Vec<_> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| one_given(report, &at.item(index, item), index, item, check_at))
        .collect();
    // A stable sort: checks of one time stay in the order of the file.
    all.sort_by_key(|given| given.at);
    (all.len() == items.len()).then_some(all)
}

fn one_given(
    report: &mut Report,
    at: &At<'_>,
    index: usize,
    item: &Node,
    check_at: Timestamp,
) -> Option<Given> {
    let entries = checks_fields(report, at, item)?;
    let known: Vec<&str> = CHECK_FIELDS.into_iter().chain(GIVEN_ONLY).collect();
    let fields = report.fields(at, entries, &known);
    let check = read_check::check(report, at, fields);
    let times = times(report, at, fields);
    let moment = moment(report, at, fields, check_at);
    let settled = settled(report, at, fields);
    Some(Given { index, check: check?, at: moment?, times: times?, settled: settled.ok()? })
}

fn times(report: &mut Report, at: &At<'_>, fields: Fields<'_>) -> Option<u32> {
    let Some(entry) = fields.given("times") else { return Some(1) };
    let at = at.field(entry);
    let times = report.amount_within(&at, &entry.node.value, &(0..=MAX_TIMES), ACCEPTED_TIMES)?;
    u32::try_from(times).ok()
}

/// When a given check is: `ago`, before the check at `check_at`, or `at`.
fn moment(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    check_at: Timestamp,
) -> Option<Timestamp> {
    match (fields.given("ago"), fields.given("at")) {
        (Some(_), Some(entry)) => {
            report.problem(&at.key(entry), "is given beside ago", "one of ago and at");
            None
        }
        (Some(entry), None) => {
            let at = at.field(entry);
            let ago = report.duration(&at, &entry.node.value)?;
            if ago > Duration::from_nanos(check_at.as_ns()) {
                report.problem(&at, "is before 1970", "a duration that begins later");
                return None;
            }
            Some(check_at.before(ago))
        }
        (None, Some(entry)) => {
            let at = at.field(entry);
            let moment = time(report, &at, &entry.node.value)?;
            if moment > check_at {
                report.problem(&at, "is after the check", "a time before that of the check");
                return None;
            }
            Some(moment)
        }
        (None, None) => Some(check_at),
    }
}

/// What the leases of a given check used in the end, if it says.
fn settled(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
) -> Result<Option<Totals>, Reported> {
    let Some(entry) = fields.given("settle") else { return Ok(None) };
    let is_reservation =
        fields.get("reserve").is_some_and(|entry| entry.node.value == Value::Bool(true));
    if !is_reservation {
        report.problem(&at.key(entry), "is only of a reservation", "`reserve: true` beside it");
        return Err(Reported);
    }
    let amounts = read_check::amounts(report, &at.field(entry), entry).ok_or(Reported)?;
    let totals = amounts.into_iter();
    Ok(Some(totals.fold(Totals::none(), |totals, (unit, amount)| totals.with(unit, amount))))
}

/// A time as in a trace.
fn time(report: &mut Report, at: &At<'_>, value: &Value) -> Option<Timestamp> {
    let text = match value {
        Value::String(text) | Value::Number(text) | Value::Date(text) => text,
        other => {
            report.mismatch(at, other, "a time such as 2026-01-15T10:00:00Z");
            return None;
        }
    };
    parse_time("", text)
        .map_err(|refused| report.problem(at, refused.problem, refused.accepted))
        .ok()
}
