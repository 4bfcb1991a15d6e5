//! The shares of a policy: how much of its limit each priority class may use.

use tollgate_core::{PriorityClass, Shares};

use super::number::{self, ACCEPTED_SHARES};
use super::report::{At, Report, did_you_mean, shown};
use crate::document::{Entry, Value};

const ACCEPTED: &str =
    "a map from priority classes (internal, premium, standard, batch) to numbers from 0 to 1";

/// The shares in the field `entry` of a policy at `at`; `None` if anything is wrong with them.
pub(super) fn shares(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Shares> {
    let at = at.field(entry);
    let Value::Map(entries) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED);
        return None;
    };
    let mut shares = Shares::default();
    let mut is_whole = true;
    for entry in report.distinct(&at, entries) {
        is_whole &= share(report, &at, entry, &mut shares).is_some();
    }
    is_whole &= shares.given().count() == entries.len();
    if let Some((less_important, more_important)) = shares.inversion() {
        let message = format!(
            "give `{}` more than `{}`, which is more important",
            less_important.name(),
            more_important.name()
        );
        report.problem(&at, message, "for each class at least the share of every less important one (internal > premium > standard > batch)");
        return None;
    }
    is_whole.then_some(shares)
}

fn share(report: &mut Report, at: &At<'_>, entry: &Entry, shares: &mut Shares) -> Option<()> {
    let class = PriorityClass::parse(&entry.key);
    if class.is_none() {
        let near = did_you_mean(&entry.key, &PriorityClass::ALL.map(PriorityClass::name));
        let name = Value::String(entry.key.clone());
        let message = format!("{} is not a priority class{near}", shown(&name));
        report.problem(&at.key(entry), message, PriorityClass::ACCEPTED);
    }
    let at = at.field(entry);
    let Value::Number(text) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED_SHARES);
        return None;
    };
    match number::share(text) {
        Ok(share) => shares.set(class?, share),
        Err(problem) => {
            report.problem(&at, problem, ACCEPTED_SHARES);
            return None;
        }
    }
    Some(())
}
