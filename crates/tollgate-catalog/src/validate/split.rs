//! How nodes take parts of a policy's limit ahead of time: its field `split` (R22).

use tollgate_core::counting::log;
use tollgate_core::{Amount, Counting, OverLimit, Split};

use super::number;
use super::report::{At, Fields, Report};
use crate::document::{Entry, Value};

const ACCEPTED: &str = "a map with `share`, such as `{share: 0.05}`";

/// The other fields of the policy that are valid.
pub(super) struct Beside {
    pub(super) counting: Option<Counting>,
    /// `None` if it exempts.
    pub(super) limit: Option<Amount>,
    pub(super) over_limit: Option<OverLimit>,
}

/// Something is wrong, and was reported.
pub(super) struct Refused;

/// The split in the field `split`, if there is one. It is refused if anything is wrong with it, or if the policy cannot be split.
pub(super) fn split(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    beside: &Beside,
) -> Result<Option<Split>, Refused> {
    let Some(entry) = fields.get("split") else { return Ok(None) };
    let split = map(report, &at.field(entry), entry);
    let problem = beside.problem(split);
    if let Some((message, accepted)) = problem {
        report.problem(&at.key(entry), message, accepted);
        return Err(Refused);
    }
    split.map(Some).ok_or(Refused)
}

fn map(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Split> {
    let Value::Map(entries) = &entry.node.value else {
        report.mismatch(at, &entry.node.value, ACCEPTED);
        return None;
    };
    let fields = report.fields(at, entries, &["share"]);
    let Some(entry) = fields.get("share") else {
        report.problem(&at.missing("share"), "is missing", Split::ACCEPTED_SHARES);
        return None;
    };
    let at = at.field(entry);
    let Value::Number(text) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, Split::ACCEPTED_SHARES);
        return None;
    };
    let split = number::share(text).and_then(|share| {
        let problem = if share.millionths() == 0 { "is nothing" } else { "is above 0.5" };
        Split::new(share).ok_or_else(|| format!("{text} {problem}"))
    });
    split.map_err(|problem| report.problem(&at, problem, Split::ACCEPTED_SHARES)).ok()
}

impl Beside {
    /// Why the policy cannot be split, and what is accepted.
    fn problem(&self, split: Option<Split>) -> Option<(String, String)> {
        let message =
            |message: &str, accepted: &str| Some((message.to_owned(), accepted.to_owned()));
        let counting = self.counting?;
        let Counting::Log { window } = counting else {
            let message =
                format!("is given beside `{}`, of which no parts can be taken", counting.name());
            return Some((message, format!("`{}`, or no `split`", log::NAME)));
        };
        let Some(limit) = self.limit.filter(|limit| *limit != Amount::ZERO) else {
            return message(
                "is given beside a limit of which nothing can be taken",
                "a limit above 0, or no `split`",
            );
        };
        if self.over_limit == Some(OverLimit::Charge) {
            return message(
                "is given beside `overLimit: charge`, which records every check where all nodes see it",
                "`overLimit: deny`, or no `split`",
            );
        }
        if Split::counted(window).is_none() {
            let message = format!("is given beside a window of {} s", window.as_seconds());
            return Some((message, format!("{}, or no `split`", Split::ACCEPTED_WINDOWS)));
        }
        if split.is_some_and(|split| !split.divides(limit)) {
            let least = Split::LEAST_CHECKS;
            let message = format!("would give parts of fewer than {least} of a limit of {limit}");
            let accepted = format!("a share of at least {least} of the limit, or no `split`");
            return Some((message, accepted));
        }
        None
    }
}
