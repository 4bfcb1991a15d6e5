//! The verdict: from the clients' own records, from the used resources, and from the keys.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::faults::{Fault, Period};
use crate::limits::Limit;
use crate::load::{Admission, Records};
use crate::resources::Sample;

/// The tolerance for clocks that run at different speeds, and for Redis's time within a millisecond.
const CLOCK_SLACK: Duration = Duration::from_millis(2);
/// P14: the time from the end of a fault until the store decides again.
const RECOVERY: Duration = Duration::from_secs(2);

/// From this delay on, the machine is too busy to judge deadlines: a fifth of the store's deadline.
const BUSY: Duration = Duration::from_millis(20);

/// One line of the verdict.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) question: String,
    pub(crate) found: String,
    pub(crate) accepted: String,
    /// `None`: reported, not judged.
    pub(crate) passed: Option<bool>,
}

impl Finding {
    pub(crate) fn judged(
        question: impl Into<String>,
        found: impl Into<String>,
        accepted: impl Into<String>,
        passed: bool,
    ) -> Self {
        let (question, found, accepted) = (question.into(), found.into(), accepted.into());
        Self { question, found, accepted, passed: Some(passed) }
    }

    pub(crate) fn told(question: impl Into<String>, found: impl Into<String>) -> Self {
        let (question, found) = (question.into(), found.into());
        Self { question, found, accepted: String::new(), passed: None }
    }
}

/// The same period as times since the soak began.
#[derive(Clone, Copy, Debug)]
struct Span {
    fault: Fault,
    began: Duration,
    ended: Duration,
}

fn spans(periods: &[Period], start: Instant) -> Vec<Span> {
    let span = |period: &Period| Span {
        fault: period.fault,
        began: period.began - start,
        ended: period.ended - start,
    };
    periods.iter().map(span).collect()
}

/// No interval of a window's length held more than the limit, as far as the clients can tell: a charge certainly lies
/// in an interval if its check was sent and answered in it.
pub(crate) fn limits(records: &Records, periods: &[Period], start: Instant) -> Vec<Finding> {
    let spans = spans(periods, start);
    let restarts: Vec<_> = spans.iter().filter(|span| span.fault == Fault::Restart).collect();
    let mut of_each: BTreeMap<(Limit, u8), Vec<Admission>> = BTreeMap::new();
    for admission in &records.admissions {
        let key = (admission.charge.limit, admission.charge.subject);
        of_each.entry(key).or_default().push(*admission);
    }
    for admissions in of_each.values_mut() {
        admissions.sort_unstable_by_key(|admission| admission.sent);
    }
    let mut findings = Vec::new();
    for limit in Limit::ALL {
        let subjects = || of_each.iter().filter(|((of, _), _)| *of == limit);
        let most = subjects().map(|(_, admissions)| most_between(admissions, limit, &restarts));
        let most = most.max().unwrap_or_default();
        let bound = limit.most_in_a_window();
        // A soak that never comes near a limit shows nothing about it. Not all of a full window needs to lie in it for
        // certain.
        let least = limit.amount() - limit.amount() / 10;
        let passed = (least..=bound).contains(&most);
        findings.push(Finding::judged(
            format!("{}: most in any {} s", limit.name(), limit.window().as_secs()),
            format!("{most} over {} subjects", subjects().count()),
            format!("{least} to {bound}"),
            passed,
        ));
    }
    if !restarts.is_empty() {
        let most = |limit: Limit| {
            let subjects = of_each.iter().filter(move |((of, _), _)| *of == limit);
            subjects.map(|(_, admissions)| most_in(admissions, limit)).max().unwrap_or_default()
        };
        let most = Limit::ALL.map(|limit| (most(limit), 2 * limit.most_in_a_window()));
        findings.push(Finding::judged(
            "the same across a restart that lost all usage",
            most.map(|(most, _)| most.to_string()).join(", "),
            most.map(|(_, bound)| format!("≤ {bound}")).join(", "),
            most.iter().all(|(most, bound)| most <= bound),
        ));
    }
    findings
}

/// The most in any interval without a restart.
fn most_between(admissions: &[Admission], limit: Limit, restarts: &[&Span]) -> u64 {
    let ends = restarts.iter().map(|span| span.began).chain([Duration::MAX]);
    let begins = [Duration::ZERO].into_iter().chain(restarts.iter().map(|span| span.ended));
    let between = begins.zip(ends).map(|(from, to)| {
        let lies = |one: &&Admission| from <= one.sent && one.received <= to;
        let admissions: Vec<_> = admissions.iter().filter(lies).copied().collect();
        most_in(&admissions, limit)
    });
    between.max().unwrap_or_default()
}

/// The most that certainly lies in any interval of a window's length; `admissions` are in the order of `sent`.
fn most_in(admissions: &[Admission], limit: Limit) -> u64 {
    let length = limit.window().saturating_sub(CLOCK_SLACK);
    let from = |first: usize| {
        let end = admissions[first].sent + length;
        let later = admissions[first..].iter().take_while(|one| one.sent < end);
        let within = later.filter(|one| one.received < end);
        within.map(|one| u64::from(one.charge.cost)).sum()
    };
    (0..admissions.len()).map(from).max().unwrap_or_default()
}

/// Every check was answered; none was admitted without the store; the store decided again after every fault.
pub(crate) fn answers(
    records: &Records,
    periods: &[Period],
    start: Instant,
    samples: &[Sample],
    end: Duration,
    nodes: usize,
) -> Vec<Finding> {
    let spans = spans(periods, start);
    let answers = &records.answers;
    let degraded = answers.iter().filter(|answer| answer.degraded).count();
    let excess = answers.iter().filter(|answer| answer.degraded && answer.allowed).count();
    let failures = records.failures.len();
    let first = records.failures.first().map(|first| format!(" ({first})")).unwrap_or_default();
    let mut findings = vec![
        Finding::judged(
            "checks without an answer of status 200",
            format!("{failures} of {}{first}", answers.len() + failures),
            "0",
            failures == 0,
        ),
        Finding::judged(
            "admitted while degraded (mode deny)",
            excess.to_string(),
            "0",
            excess == 0,
        ),
        Finding::told("degraded decisions in all", format!("{degraded} of {}", answers.len())),
        quiet(records, &spans, samples, end),
    ];
    findings.extend(recovery(records, &spans, end, nodes));
    findings.push(latency(records));
    findings
}

/// Degraded decisions at times without a fault and with a machine that was not too busy.
fn quiet(records: &Records, spans: &[Span], samples: &[Sample], end: Duration) -> Finding {
    let mut faultless = Vec::new();
    let mut from = RECOVERY;
    for span in spans {
        faultless.push(from..span.began);
        from = span.ended + RECOVERY;
    }
    faultless.push(from..end);
    // A delay on a busy machine says nothing about the nodes.
    let calm: Vec<_> = samples
        .windows(2)
        .filter(|pair| pair.iter().all(|sample| sample.overslept < BUSY))
        .map(|pair| pair[0].at..pair[1].at)
        .collect();
    let lies = |at: Duration, ranges: &[Range<Duration>]| ranges.iter().any(|r| r.contains(&at));
    let is_quiet = |at: Duration| lies(at, &faultless) && lies(at, &calm);
    let answers = records.answers.iter();
    let checks: Vec<_> =
        answers.filter(|answer| is_quiet(answer.sent) && is_quiet(answer.received)).collect();
    let degraded = checks.iter().filter(|answer| answer.degraded).count();
    let most = checks.len() / 100;
    Finding::judged(
        "degraded though no fault was or had been for 2 s",
        format!("{degraded} of {} on a calm machine", checks.len()),
        format!("≤ {most} (1 in 100)"),
        degraded <= most,
    )
}

/// The time from each fault to each node's first decision by the store.
fn recovery(records: &Records, spans: &[Span], end: Duration, nodes: usize) -> Vec<Finding> {
    let mut longest: BTreeMap<&str, Option<Duration>> = BTreeMap::new();
    for (index, span) in spans.iter().enumerate() {
        let next = spans.get(index + 1).map_or(end, |next| next.began);
        let of_node = |node: usize| {
            let asked = records.answers.iter().filter(|answer| answer.node == node);
            let after = asked.filter(|a| a.sent >= span.ended && a.received < next && !a.degraded);
            after.map(|answer| answer.received.saturating_sub(span.ended)).min()
        };
        let took: Option<Vec<_>> = (0..nodes).map(of_node).collect();
        let took = took.and_then(|took| took.into_iter().max());
        let entry = longest.entry(span.fault.name()).or_insert(Some(Duration::ZERO));
        *entry = entry.zip(took).map(|(longest, took)| longest.max(took));
    }
    let finding = |(name, took): (&str, Option<Duration>)| {
        Finding::judged(
            format!("enforcing again after: {name}"),
            took.map_or("never".to_owned(), |took| format!("{} ms", took.as_millis())),
            "before the next fault",
            took.is_some(),
        )
    };
    longest.into_iter().map(finding).collect()
}

/// The latency from when a check was due: P3 bounds it, but a busy machine adds to it.
fn latency(records: &Records) -> Finding {
    let mut latencies: Vec<_> =
        records.answers.iter().map(|answer| answer.received.saturating_sub(answer.due)).collect();
    latencies.sort_unstable();
    let at = |per_mille: usize| {
        let index = (latencies.len() * per_mille / 1_000).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or_default().as_micros()
    };
    let ms = |us: u128| format!("{}.{:03} ms", us / 1_000, us % 1_000);
    Finding::told(
        "latency: median, 99.9 %, longest",
        format!("{}, {}, {}", ms(at(500)), ms(at(999)), ms(at(1_000))),
    )
}

/// The resources used in the last quarter are no more than in the second one.
pub(crate) fn flat(
    question: &str,
    unit: &str,
    series: &[(Duration, u64)],
    slack: u64,
    end: Duration,
) -> Finding {
    let quarter = |index: u32| {
        let (from, to) = (end * index / 4, end * (index + 1) / 4);
        let mut values: Vec<_> = series
            .iter()
            .filter(|(at, _)| (from..=to).contains(at))
            .map(|(_, value)| *value)
            .collect();
        values.sort_unstable();
        // The median of the quarter, because a fault raises the value for a while.
        values.get(values.len() / 2).copied()
    };
    let (second, last) = (quarter(1), quarter(3));
    let found = match (second, last) {
        (Some(second), Some(last)) => format!("{second} → {last} {unit}"),
        _ => "not looked at".to_owned(),
    };
    let bound = second.map(|second| second + second / 10 + slack);
    let accepted = bound.map_or(String::new(), |bound| format!("≤ {bound} {unit}"));
    let passed = last.zip(bound).is_some_and(|(last, bound)| last <= bound);
    Finding::judged(question, found, accepted, passed)
}
