//! The rules of a policy about how much a lease reserves that does not say.

use tollgate_core::{Amount, ReserveRule, ReserveRules, Share, Unit};

use super::number::{self, ACCEPTED_SHARES};
use super::policy::Ceiling;
use super::report::{At, Fields, Report, shown};
use crate::document::{Entry, Value};

const ACCEPTED: &str = "a map from units to what is reserved of them, such as \
     `{output_tokens: {quantile: 0.95, atLeast: 64, atMost: 4096}}`";
const ACCEPTED_RULE: &str = "a map with atMost and optionally quantile (0.95) and atLeast (1)";
const ACCEPTED_UNITS: &str = "a unit that a cost names, except `requests`: `tokens`, `input_tokens`, `output_tokens` or a \
     name of your own";
const ACCEPTED_AMOUNTS: &str = "an integer from 1 to 9007199254740991";
const FIELDS: [&str; 3] = ["quantile", "atLeast", "atMost"];

/// The rules in the field `reserve`; `None` if anything is wrong with them.
pub(super) fn rules(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    limit: Option<Ceiling>,
) -> Option<ReserveRules> {
    let Some(entry) = fields.get("reserve") else { return Some(ReserveRules::new()) };
    if matches!(limit, Some(Ceiling::Exempt)) {
        let message = "cannot be combined with a limit of null, which exempts";
        report.problem(&at.key(entry), message, "what a limit reserves, or nothing");
    }
    let at = at.field(entry);
    let Value::Map(entries) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED);
        return None;
    };
    let mut rules = ReserveRules::new();
    for entry in report.distinct(&at, entries) {
        let unit = unit(report, &at, entry);
        let rule = rule(report, &at, entry);
        rules.extend(unit.zip(rule));
    }
    (rules.len() == entries.len() && !matches!(limit, Some(Ceiling::Exempt))).then_some(rules)
}

fn unit(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Unit> {
    let unit = Unit::parse(&entry.key).filter(|unit| unit.has_cost() && *unit != Unit::Requests);
    if unit.is_none() {
        let name = Value::String(entry.key.clone());
        let message = format!("{} is no unit of which something is reserved", shown(&name));
        report.problem(&at.key(entry), message, ACCEPTED_UNITS);
    }
    unit
}

fn rule(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<ReserveRule> {
    let at = at.field(entry);
    let Value::Map(entries) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED_RULE);
        return None;
    };
    let fields = report.fields(&at, entries, &FIELDS);
    let quantile = match fields.get("quantile") {
        Some(entry) => quantile(report, &at.field(entry), entry),
        None => Some(ReserveRule::DEFAULT_QUANTILE),
    };
    let at_least = match fields.get("atLeast") {
        Some(entry) => amount(report, &at.field(entry), entry),
        None => Some(Amount::ONE),
    };
    let at_most = if let Some(entry) = fields.get("atMost") {
        amount(report, &at.field(entry), entry)
    } else {
        report.problem(&at, "has no atMost", ACCEPTED_RULE);
        None
    };
    let rule = ReserveRule { quantile: quantile?, at_least: at_least?, at_most: at_most? };
    if rule.at_least > rule.at_most {
        let message = format!("has {} as atLeast, above atMost", rule.at_least);
        report.problem(&at, message, format!("at most {}", rule.at_most));
        return None;
    }
    Some(rule)
}

fn quantile(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Share> {
    let Value::Number(text) = &entry.node.value else {
        report.mismatch(at, &entry.node.value, ACCEPTED_SHARES);
        return None;
    };
    number::share(text).map_err(|problem| report.problem(at, problem, ACCEPTED_SHARES)).ok()
}

fn amount(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Amount> {
    let Value::Number(text) = &entry.node.value else {
        report.mismatch(at, &entry.node.value, ACCEPTED_AMOUNTS);
        return None;
    };
    match number::amount(text) {
        Ok(Amount::ZERO) => {
            report.problem(at, "is 0", ACCEPTED_AMOUNTS);
            None
        }
        Ok(amount) => Some(amount),
        Err(problem) => {
            report.problem(at, problem, ACCEPTED_AMOUNTS);
            None
        }
    }
}
