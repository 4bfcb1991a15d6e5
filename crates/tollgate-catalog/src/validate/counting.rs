//! How a policy counts: its fields `algorithm`, `windowSeconds` or `window`, `burst`, `calendar` and `timeZone`, none of which a
//! limit of concurrency has.

use tollgate_core::counting::{bucket, counter, log};
use tollgate_core::{Amount, Calendar, Counting, Policy, Unit, Window, Zone};

use super::duration::{self, ACCEPTED_DURATIONS};
use super::number::{self, ACCEPTED_WINDOWS};
use super::policy::Ceiling;
use super::report::{At, Fields, Names, Report, did_you_mean, shown};
use crate::document::{Entry, Value};

/// What `burst` accepts.
const ACCEPTED_BURSTS: &str = "an integer from 1 to 9007199254740991";

/// The fields that a policy with `unit: concurrency` does not have.
pub const NOT_OF_CONCURRENCY: [&str; 9] = [
    "windowSeconds",
    "window",
    "calendar",
    "timeZone",
    "algorithm",
    "burst",
    "split",
    "overLimit",
    "onExpire",
];

/// How the policy at `at` counts `unit`, and the amount of its limit; `None` if anything is wrong with them. A policy that
/// `counts_nothing`, because it bans or exempts, may leave the window out.
pub(super) fn counting(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    unit: Option<&Unit>,
    limit: Option<Ceiling>,
    counts_nothing: bool,
) -> Option<(Counting, Option<Amount>)> {
    if unit == Some(&Unit::Concurrency) {
        return concurrency(report, at, fields).then_some((Counting::Concurrency, limit?.amount()));
    }
    if let Some(entry) = fields.get("calendar") {
        let counting = calendar(report, at, fields, entry);
        return Some((counting?, limit?.amount()));
    }
    if let Some(entry) = fields.get("timeZone") {
        let accepted = format!("`calendar` ({}) beside it, or no timeZone", Calendar::ACCEPTED);
        report.problem(&at.key(entry), "is only for calendars", accepted);
    }
    let window = window(report, at, fields, counts_nothing);
    let way = report.named(at, fields, "algorithm", &ALGORITHMS, Way::Log);
    let burst = match fields.get("burst") {
        Some(entry) => Some(burst(report, at, entry, way)?),
        None => None,
    };
    let (way, window, limit) = (way?, window?, limit?.amount());
    match way {
        Way::Log => Some((Counting::Log { window }, limit)),
        Way::Counter => Some((Counting::Counter { window }, limit)),
        Way::Bucket => {
            // Nothing is taken from a bucket that bans, so its refill does not matter.
            let refill = limit.filter(|limit| *limit != Amount::ZERO);
            let capacity = refill.and(burst).or(limit);
            let refill = refill.unwrap_or(Amount::ONE);
            if let Some(problem) = too_slow(window, refill, capacity) {
                let at = match fields.get("burst") {
                    Some(entry) => at.field(entry),
                    None => at.missing("burst"),
                };
                report.problem(&at, problem.0, problem.1);
                return None;
            }
            Some((Counting::Bucket { window, refill }, capacity))
        }
    }
}

/// Whether the policy at `at` has no field that only a limit over a window has (R16). Those that it has are reported.
fn concurrency(report: &mut Report, at: &At<'_>, fields: Fields<'_>) -> bool {
    let mut is_alone = true;
    for entry in NOT_OF_CONCURRENCY.into_iter().filter_map(|field| fields.get(field)) {
        is_alone = false;
        let message = "is given beside `unit: concurrency`, which counts the leases that are alive";
        let accepted = format!("no `{}`: a limit of concurrency has no window", entry.key);
        report.problem(&at.key(entry), message, accepted);
    }
    is_alone
}

/// Counting by the periods that `entry` names; `None` if anything is wrong with it, or if there is a field beside it that says
/// how else to count.
fn calendar(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    entry: &Entry,
) -> Option<Counting> {
    let calendar = report.named(at, fields, "calendar", &CALENDARS, Calendar::Day);
    let zone = match fields.get("timeZone") {
        Some(entry) => zone(report, at, entry),
        None => Some(Zone::utc()),
    };
    let mut is_alone = true;
    for other in ["windowSeconds", "window", "algorithm", "burst"] {
        let Some(other) = fields.get(other) else { continue };
        is_alone = false;
        // If both are given, report the later one.
        let is_later = other.key_position > entry.key_position;
        let (later, earlier) = if is_later { (other, entry) } else { (entry, other) };
        let message = format!("is given beside `{}`", earlier.key);
        let accepted = format!(
            "only one of `calendar` and `{}`: a calendar is a window and a way of counting",
            other.key
        );
        report.problem(&at.key(later), message, accepted);
    }
    let (calendar, zone) = (calendar?, zone?);
    is_alone.then_some(Counting::Calendar { calendar, zone })
}

/// The values of `calendar`.
const CALENDARS: Names<Calendar> = Names {
    parse: Calendar::parse,
    known: &[
        Calendar::Hour.name(),
        Calendar::Day.name(),
        Calendar::Week.name(),
        Calendar::Month.name(),
    ],
    accepted: Calendar::ACCEPTED,
};

/// The time zone of a calendar.
fn zone(report: &mut Report, at: &At<'_>, entry: &Entry) -> Option<Zone> {
    let at = at.field(entry);
    let name = report.text(&at, &entry.node.value, Zone::ACCEPTED)?;
    let zone = Zone::named(name);
    if zone.is_none() {
        let near = did_you_mean(name, &Zone::names().collect::<Vec<_>>());
        let message = format!("{} is not a time zone{near}", shown(&entry.node.value));
        report.problem(&at, message, Zone::ACCEPTED);
    }
    zone
}

/// The ways of counting, as `algorithm` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Log,
    Counter,
    Bucket,
}

/// The values of `algorithm`.
const ALGORITHMS: Names<Way> = Names {
    parse: |name| match name {
        log::NAME => Some(Way::Log),
        counter::NAME => Some(Way::Counter),
        bucket::NAME => Some(Way::Bucket),
        _ => None,
    },
    known: &Counting::NAMES,
    accepted: Counting::ACCEPTED,
};

/// The capacity of a token bucket.
fn burst(report: &mut Report, at: &At<'_>, entry: &Entry, way: Option<Way>) -> Option<Amount> {
    if matches!(way, Some(Way::Log | Way::Counter)) {
        let accepted = format!("`algorithm: {}`, or no burst", bucket::NAME);
        report.problem(&at.key(entry), "is only for token buckets", accepted);
        return None;
    }
    let at = at.field(entry);
    let Value::Number(text) = &entry.node.value else {
        report.mismatch(&at, &entry.node.value, ACCEPTED_BURSTS);
        return None;
    };
    match number::amount(text) {
        Ok(Amount::ZERO) => {
            report.problem(&at, "0 would admit nothing", ACCEPTED_BURSTS);
            None
        }
        Ok(burst) => Some(burst),
        Err(problem) => {
            report.problem(&at, problem, ACCEPTED_BURSTS);
            None
        }
    }
}

/// What is wrong with a bucket of `capacity`, and what is accepted: a store must be able to wait until it is full, and to
/// count what is refilled beside it.
fn too_slow(window: Window, refill: Amount, capacity: Option<Amount>) -> Option<(String, String)> {
    let (refill, capacity) = (refill.get(), capacity?.get());
    let most_by_time = u128::from(refill) * Window::MAX.as_nanos() / u128::from(window.as_ns());
    let most = most_by_time.min(u128::from(Amount::MAX.get() - refill));
    (u128::from(capacity) > most).then(|| {
        let problem = format!("a bucket of {capacity} takes too long to fill, or is too large");
        let accepted = format!(
            "at most {most} here: full within 366 days, and with the limit at most {}",
            Amount::MAX
        );
        (problem, accepted)
    })
}

/// The window: exactly one of `windowSeconds` and `window`; an hour where both may be left out.
fn window(
    report: &mut Report,
    at: &At<'_>,
    fields: Fields<'_>,
    may_be_missing: bool,
) -> Option<Window> {
    match (fields.get("windowSeconds"), fields.get("window")) {
        (None, None) if may_be_missing => Policy::default_policy().counting.window(),
        (None, None) => {
            let accepted = format!(
                "{ACCEPTED_WINDOWS}, or `window` (such as 90s or 1h30m), or `calendar` in their place; only a limit of null or 0 needs none"
            );
            report.problem(&at.missing("windowSeconds"), "is missing", accepted);
            None
        }
        (Some(seconds), None) => in_seconds(report, &at.field(seconds), &seconds.node.value),
        (None, Some(length)) => with_units(report, &at.field(length), &length.node.value),
        (Some(seconds), Some(length)) => {
            in_seconds(report, &at.field(seconds), &seconds.node.value);
            with_units(report, &at.field(length), &length.node.value);
            // If both are given, report the later one.
            let (later, earlier) = if seconds.key_position > length.key_position {
                (seconds, length)
            } else {
                (length, seconds)
            };
            let message = format!("is given beside `{}`", earlier.key);
            report.problem(&at.key(later), message, "only one of `windowSeconds` and `window`");
            None
        }
    }
}

/// The window in `windowSeconds`.
fn in_seconds(report: &mut Report, at: &At<'_>, value: &Value) -> Option<Window> {
    let Value::Number(text) = value else {
        let accepted = match value {
            Value::String(_) => format!("{ACCEPTED_WINDOWS}; `window` takes one with units"),
            _ => ACCEPTED_WINDOWS.to_owned(),
        };
        report.mismatch(at, value, accepted);
        return None;
    };
    number::window(text).map_err(|problem| report.problem(at, problem, ACCEPTED_WINDOWS)).ok()
}

/// The window in `window`.
fn with_units(report: &mut Report, at: &At<'_>, value: &Value) -> Option<Window> {
    let Value::String(text) = value else {
        let accepted = match value {
            Value::Number(_) => {
                format!("{ACCEPTED_DURATIONS}; `windowSeconds` takes a number of seconds")
            }
            _ => ACCEPTED_DURATIONS.to_owned(),
        };
        report.mismatch(at, value, accepted);
        return None;
    };
    duration::window(text).map_err(|problem| report.problem(at, problem, ACCEPTED_DURATIONS)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_counting_is_read_by_its_name() {
        let ways = [Way::Log, Way::Counter, Way::Bucket];
        for (name, way) in Counting::NAMES.into_iter().zip(ways) {
            assert_eq!((ALGORITHMS.parse)(name), Some(way));
            assert!(ALGORITHMS.accepted.contains(name), "{name}");
        }
    }

    #[test]
    fn a_bucket_must_be_full_in_a_year() {
        let window = Policy::default_policy().counting.window().unwrap();
        let amount = |amount| Amount::new(amount).unwrap();
        let hours = 366 * 24;
        assert_eq!(too_slow(window, amount(2), Some(amount(2 * hours))), None);
        let (problem, accepted) = too_slow(window, amount(2), Some(amount(2 * hours + 1))).unwrap();
        assert!(problem.contains("17569"), "{problem}");
        assert!(accepted.contains("at most 17568 here"), "{accepted}");
        assert!(too_slow(window, Amount::MAX, Some(Amount::ONE)).is_some());
        assert_eq!(too_slow(window, amount(2), None), None);
    }
}
