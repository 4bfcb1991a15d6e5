//! How a policy counts: its fields `algorithm` and `windowSeconds`.

use tollgate_core::counting::{counter, log};
use tollgate_core::{Counting, Policy, Window};

use super::number::{self, ACCEPTED_WINDOWS};
use super::report::{At, Fields, Names, Report};
use crate::document::Value;

/// How the policy at `at` counts; `None` if anything is wrong with it. A policy that `counts_nothing` because it bans or
/// exempts may leave the window out.
pub(super) fn counting(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    counts_nothing: bool,
) -> Option<Counting> {
    let window = window(report, at, fields, counts_nothing);
    let over = report.named(at, fields, "algorithm", &ALGORITHMS, logged);
    Some(over?(window?))
}

/// The values of `algorithm`: each counts over the window of the policy.
const ALGORITHMS: Names<fn(Window) -> Counting> = Names {
    parse: |name| match name {
        log::NAME => Some(logged),
        counter::NAME => Some(|window| Counting::Counter { window }),
        _ => None,
    },
    known: &Counting::NAMES,
    accepted: Counting::ACCEPTED,
};

/// What a policy that gives no `algorithm` does.
fn logged(window: Window) -> Counting {
    Counting::Log { window }
}

/// The window; an hour where it may be left out.
fn window(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    may_be_missing: bool,
) -> Option<Window> {
    let Some(entry) = fields.get("windowSeconds") else {
        if may_be_missing {
            return Some(Policy::default_policy().counting.window());
        }
        let accepted = format!("{ACCEPTED_WINDOWS}; only a limit of null or 0 needs none");
        report.problem(&at.missing("windowSeconds"), "is missing", accepted);
        return None;
    };
    let at = at.field(entry);
    match &entry.node.value {
        Value::Number(text) => match number::window(text) {
            Ok(window) => Some(window),
            Err(problem) => {
                report.problem(&at, problem, ACCEPTED_WINDOWS);
                None
            }
        },
        other => {
            report.mismatch(&at, other, ACCEPTED_WINDOWS);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_counting_is_read_by_its_name() {
        let window = Policy::default_policy().counting.window();
        for name in Counting::NAMES {
            let over = (ALGORITHMS.parse)(name).unwrap();
            assert_eq!(over(window).name(), name);
            assert!(ALGORITHMS.accepted.contains(name), "{name}");
        }
        assert_eq!(logged(window).name(), Counting::NAMES[0]);
    }
}
