//! The weights of a policy: how much a token of some kind counts.

use tollgate_core::{TokenKind, Unit, Weights};

use super::number::{self, ACCEPTED_WEIGHTS};
use super::policy::Ceiling;
use super::report::{At, Fields, Report, did_you_mean, shown};
use crate::document::{Entry, Value};

const ACCEPTED: &str =
    "a map from kinds of tokens to how much one counts, such as `{cached_input_tokens: 0.1}`";

/// The weights in the field `weights`; `None` if anything is wrong with them.
pub(super) fn weights(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    unit: Option<&Unit>,
    limit: Option<Ceiling>,
) -> Option<Weights> {
    let Some(entry) = fields.get("weights") else { return Some(Weights::default()) };
    let exempts = matches!(limit, Some(Ceiling::Exempt));
    if exempts {
        let message = "cannot be combined with a limit of null, which exempts";
        report.problem(&at.key(entry), message, "weights of a limit, or none");
    }
    let kinds = unit.map(TokenKind::within);
    if let (Some(unit), Some([])) = (unit, kinds.as_deref()) {
        let message = format!("cannot be combined with the unit `{unit}`, which has no kinds");
        let accepted = "weights beside the unit `tokens`, `input_tokens` or `output_tokens`";
        report.problem(&at.key(entry), message, accepted);
        return None;
    }
    let at = at.field(entry);
    let Value::Map(entries) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED);
        return None;
    };
    let mut weights = Weights::default();
    for entry in report.distinct(&at, entries) {
        let kind = unit.and_then(|unit| kind(report, &at, entry, unit));
        let at = at.field(entry);
        let weight = match &entry.node.value {
            Value::Number(text) => number::weight(text)
                .map_err(|problem| report.problem(&at, problem, ACCEPTED_WEIGHTS))
                .ok(),
            other => {
                report.mismatch(&at, other, ACCEPTED_WEIGHTS);
                None
            }
        };
        if let (Some(kind), Some(weight)) = (kind, weight) {
            weights.set(kind, weight);
        }
    }
    (weights.given().count() == entries.len() && !exempts).then_some(weights)
}

fn kind(report: &mut Report, at: &At<'_>, entry: &Entry, unit: &Unit) -> Option<TokenKind> {
    let within = TokenKind::within(unit);
    let kind = TokenKind::parse(&entry.key).filter(|kind| within.contains(kind));
    if kind.is_none() {
        let names: Vec<_> = within.iter().map(|kind| kind.name()).collect();
        let near = did_you_mean(&entry.key, &names);
        let name = Value::String(entry.key.clone());
        let message = format!("{} is no kind of `{unit}`{near}", shown(&name));
        let accepted = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        report.problem(&at.key(entry), message, accepted);
    }
    kind
}
