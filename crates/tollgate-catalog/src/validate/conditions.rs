//! The conditions of a policy: its field `match`.

use tollgate_core::matching::{ACCEPTED_ADDRESS_PATTERNS, ACCEPTED_PATTERNS};
use tollgate_core::{Accepted, Attribute, Condition, Pattern, Per, Policy};

use super::attributes;
use super::report::{At, Fields, Report, shown};
use crate::document::{Entry, Node, Value};

const ACCEPTED_CONDITIONS: &str = "a text, a list of texts, `{present: true}` or `{absent: true}`";
const ACCEPTED_TESTS: &str = "`{present: true}` or `{absent: true}`";

/// The conditions of the policy at `at`; `None` if anything is wrong with them.
pub(super) fn conditions(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
) -> Option<Vec<Condition>> {
    let Some(entry) = fields.get("match") else { return Some(Vec::new()) };
    let at = at.field(entry);
    let Value::Map(entries) = &entry.node.value else {
        let accepted = format!("a map from attributes to {ACCEPTED_CONDITIONS}");
        report.mismatch(&at, &entry.node.value, accepted);
        return None;
    };
    if entries.len() > Policy::MAX_CONDITIONS {
        let message = format!("has {} conditions", entries.len());
        report.problem(&at, message, format!("at most {}", Policy::MAX_CONDITIONS));
        return None;
    }
    let distinct = report.distinct(&at, entries);
    let found: Vec<_> =
        distinct.into_iter().filter_map(|entry| condition(report, &at, entry)).collect();
    // If one had a problem, fewer were found.
    (found.len() == entries.len()).then_some(found)
}

/// Reports each of `conditions` that asks for no value of an attribute of `per`: without that attribute, nothing is counted.
pub(super) fn contradictions(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    per: &Per,
    conditions: &[Condition],
) {
    let Some(entry) = fields.get("match") else { return };
    let Value::Map(entries) = &entry.node.value else { return };
    let at = at.field(entry);
    let absent = conditions.iter().filter(|one| one.accepted == Accepted::Absent);
    for condition in absent.filter(|one| per.attributes().contains(&one.attribute)) {
        let name = condition.attribute.name();
        let Some(entry) = entries.iter().find(|entry| entry.key == name) else { continue };
        let message = format!("matches nothing: the policy counts per `{name}`");
        report.problem(&at.field(entry), message, "a condition that a value can meet");
    }
}

fn condition(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Condition> {
    let attribute = attributes::parse(&entry.key);
    if let Err(problem) = &attribute {
        report.problem(&at.key(entry), problem, attributes::accepted());
    }
    let at = at.field(entry);
    let known = attribute.as_ref().ok();
    let accepted = match &entry.node.value {
        Value::List(items) => patterns(report, &at, items, known).map(Accepted::AnyOf),
        Value::Map(entries) => presence(report, &at, entries),
        value => pattern(report, &at, value, ACCEPTED_CONDITIONS, known)
            .map(|pattern| Accepted::AnyOf(vec![pattern])),
    };
    Some(Condition { attribute: attribute.ok()?, accepted: accepted? })
}

/// `{present: true}` or `{absent: true}`.
fn presence(report: &mut Report, at: &At<'_>, entries: &[Entry]) -> Option<Accepted> {
    let [entry] = entries else {
        let message = match entries.len() {
            0 => "is an empty map".to_owned(),
            count => format!("is a map with {count} keys"),
        };
        report.problem(at, message, ACCEPTED_TESTS);
        return None;
    };
    let accepted = match entry.key.as_str() {
        "present" => Accepted::Present,
        "absent" => Accepted::Absent,
        _ => {
            let name = Value::String(entry.key.clone());
            let message = format!("{} is no such condition", shown(&name));
            report.problem(&at.key(entry), message, ACCEPTED_CONDITIONS);
            return None;
        }
    };
    if entry.node.value != Value::Bool(true) {
        let message = format!("is {}", shown(&entry.node.value));
        report.problem(&at.field(entry), message, format!("`true`: {ACCEPTED_TESTS}"));
        return None;
    }
    Some(accepted)
}

fn patterns(
    report: &mut Report,
    at: &At<'_>,
    items: &[Node],
    attribute: Option<&Attribute>,
) -> Option<Vec<Pattern>> {
    if items.is_empty() {
        report.problem(at, "is an empty list, which nothing matches", "at least one text");
        return None;
    }
    if items.len() > Policy::MAX_CONDITION_VALUES {
        let message = format!("has {} values", items.len());
        report.problem(at, message, format!("at most {}", Policy::MAX_CONDITION_VALUES));
        return None;
    }
    let items_at = items.iter().enumerate().map(|(index, item)| (at.item(index, item), item));
    let patterns: Vec<_> = items_at
        .filter_map(|(at, item)| pattern(report, &at, &item.value, ACCEPTED_PATTERNS, attribute))
        .collect();
    (patterns.len() == items.len()).then_some(patterns)
}

/// The pattern of a condition on `attribute`, in the form that checks use; otherwise it would silently match nothing.
fn pattern(
    report: &mut Report,
    at: &At<'_>,
    value: &Value,
    accepted: &str,
    attribute: Option<&Attribute>,
) -> Option<Pattern> {
    let text = report.text(at, value, accepted)?;
    // The attribute has a problem of its own; any name will do to find those of the text.
    let attribute = attribute.unwrap_or(&Attribute::Model);
    let accepted = match attribute {
        Attribute::Ip => ACCEPTED_ADDRESS_PATTERNS,
        _ => ACCEPTED_PATTERNS,
    };
    match Pattern::parse(attribute, text) {
        Ok(pattern) => Some(pattern),
        Err(problem) => {
            report.problem(at, format!("{} {problem}", shown(value)), accepted);
            None
        }
    }
}
