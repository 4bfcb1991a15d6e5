//! The experiments, one for each promise.

mod denials;
mod limit;
mod nodes;
mod retry;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tollgate_core::Timestamp;

use crate::judge::{self, Record, Rule};
use crate::report::{Finding, Outcome, Promise};
use crate::target::{Ask, CheckError, Target};
use crate::timeline::Timeline;

/// How many checks of a burst are under way at the same time.
const AT_ONCE: usize = 16;

/// What the experiments test.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The limit of each subject.
    pub rule: Rule,
    /// The beginning of the names of all subjects.
    pub prefix: String,
}

impl Settings {
    /// Every subject that the experiments use.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = String> {
        let retries = (0..retry::ROUNDS).map(retry::name);
        let windows = (0..window::PHASES).map(window::name);
        let others = ["limit", "burst", "denials", "nodes"].map(str::to_owned);
        retries.chain(windows).chain(others).map(|name| format!("{}-{name}", self.prefix))
    }
}

/// Runs the experiments one after another: a finding for each promise, and the number of checks that were sent. With one
/// node there is no finding about sharing. Takes about five windows.
pub async fn run_experiments<T: Target, C: Timeline>(
    settings: &Settings,
    target: &T,
    time: &C,
) -> Result<(Vec<Finding>, u64), CheckError> {
    let probe = Probe { settings, target, time, checks: AtomicU64::new(0) };
    let mut findings = vec![
        limit::run(&probe).await?,
        denials::run(&probe).await?,
        retry::run(&probe).await?,
        window::run(&probe).await?,
    ];
    if target.nodes() > 1 {
        findings.push(nodes::run(&probe).await?);
    }
    Ok((findings, probe.checks.into_inner()))
}

/// Sends checks and notes the times.
struct Probe<'a, T, C> {
    settings: &'a Settings,
    target: &'a T,
    time: &'a C,
    checks: AtomicU64,
}

impl<T: Target, C: Timeline> Probe<'_, T, C> {
    fn rule(&self) -> Rule {
        self.settings.rule
    }

    fn limit(&self) -> usize {
        usize::try_from(self.rule().limit).unwrap_or(usize::MAX)
    }

    fn subject(&self, name: &str) -> String {
        format!("{}-{name}", self.settings.prefix)
    }

    /// Sends the check with this number: the nodes take turns.
    async fn check(&self, number: usize, subject: &str) -> Result<Record, CheckError> {
        let node = number % self.target.nodes();
        // Relaxed: nothing else depends on it.
        self.checks.fetch_add(1, Ordering::Relaxed);
        let sent = self.time.now();
        let answer = self.target.check(node, subject, Ask::Charge).await?;
        Ok(Record { sent, received: self.time.now(), answer })
    }

    async fn one_by_one(&self, subject: &str, checks: usize) -> Result<Vec<Record>, CheckError> {
        let mut records = Vec::with_capacity(checks);
        for number in 0..checks {
            records.push(self.check(number, subject).await?);
        }
        Ok(records)
    }

    async fn at_once(&self, subject: &str, checks: usize) -> Result<Vec<Record>, CheckError> {
        let checks = (0..checks).map(|number| self.check(number, subject));
        stream::iter(checks).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// As many checks as the limit: the first alone, so that its time is known well.
    async fn fill(&self, subject: &str) -> Result<Vec<Record>, CheckError> {
        let mut records = self.one_by_one(subject, 1).await?;
        records.extend(self.at_once(subject, self.limit() - 1).await?);
        Ok(records)
    }

    async fn sleep_until(&self, time: Timestamp) {
        self.time.sleep_until(time).await;
    }

    /// What the records of one subject show of `promise`: `detail`, if nothing speaks against it.
    fn judged(&self, promise: Promise, records: &[Record], detail: String) -> Finding {
        let rule = self.rule();
        let broken = match (judge::excess(rule, records), judge::wrong_denial(rule, records)) {
            (Some(excess), _) => Some(format!(
                "{} were admitted within {}, the limit is {}",
                excess.admitted,
                shown(excess.within),
                rule.limit,
            )),
            (None, Some(wrong)) => Some(format!(
                "a check was denied although the window held at most {} of {} admissions",
                wrong.admitted, rule.limit,
            )),
            (None, None) => None,
        };
        let outcome = if broken.is_some() { Outcome::Broken } else { Outcome::Kept };
        Finding { promise, outcome, detail: broken.unwrap_or(detail) }
    }
}

/// The same finding, unless `took` was so long that a fault could hide: then a promise that seems kept was not tested.
fn unless_slow(mut finding: Finding, took: Duration, rule: Rule) -> Finding {
    if finding.outcome == Outcome::Kept && took > rule.window / 2 {
        finding.outcome = Outcome::NotTested;
        finding.detail = format!(
            "the checks took {}, which is too long for a window of {}; run this nearer to the servers, or with a longer \
             --window-seconds",
            shown(took),
            shown(rule.window),
        );
    }
    finding
}

/// From the first sent to the last received.
fn span(records: &[Record]) -> Duration {
    let first = records.iter().map(|record| record.sent).min();
    let last = records.iter().map(|record| record.received).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last)| last.since(first))
}

fn admitted(records: &[Record]) -> usize {
    records.iter().filter(|record| record.answer.allowed).count()
}

/// A time for people.
fn shown(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
    }
}
