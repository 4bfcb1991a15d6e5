//! Which answers no exact limiter could have given.
//!
//! A decision was made somewhere between the moments at which its check was sent and its answer had come. A record is
//! held against a server only if every choice of those moments breaks the rule: so a slow network hides faults, but
//! never makes one up.

use std::time::Duration;

use tollgate_core::Timestamp;

use crate::target::Answer;

/// A check of one subject and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was sent.
    pub sent: Timestamp,
    /// When the answer had come.
    pub received: Timestamp,
    /// The answer.
    pub answer: Answer,
}

impl Record {
    /// How long the answer took: within this time the decision was made.
    pub fn took(&self) -> Duration {
        self.received.since(self.sent)
    }
}

/// A limit: at most `limit` admissions in each interval of `window`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The most admissions.
    pub limit: u64,
    /// The length of the interval.
    pub window: Duration,
}

/// The clocks of two machines that follow NTP differ in speed by less than this part (0.1 %).
const SKEW: u32 = 1_000;
/// How exactly a server may note a time.
const RESOLUTION: Duration = Duration::from_micros(1);

/// What the two clocks may differ by after `elapsed`.
fn skew(elapsed: Duration) -> Duration {
    elapsed / SKEW + RESOLUTION
}

/// More admissions than the limit in less than a window: how many, and in how much time at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The admissions in an interval shorter than the window.
    pub admitted: u64,
    /// The longest time that they can be apart.
    pub within: Duration,
}

/// Finds the interval with the most admissions, if these are more than the limit. O(n²) of the admissions.
pub fn excess(rule: Rule, records: &[Record]) -> Option<Excess> {
    let admitted: Vec<_> = records.iter().filter(|record| record.answer.allowed).collect();
    let window = rule.window.saturating_sub(skew(rule.window));
    let intervals = admitted.iter().map(|first| {
        let end = first.sent.after(window);
        let inside = admitted.iter().filter(|one| one.sent >= first.sent && one.received < end);
        let last = inside.clone().map(|one| one.received).max();
        let within = last.map_or(Duration::ZERO, |last| last.since(first.sent));
        Excess { admitted: u64::try_from(inside.count()).unwrap_or(u64::MAX), within }
    });
    intervals.max_by_key(|found| found.admitted).filter(|found| found.admitted > rule.limit)
}

/// A denial although fewer admissions than the limit can have been in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongDenial {
    /// The most admissions that the window can have held.
    pub admitted: u64,
    /// The denial.
    pub denial: Record,
}

/// Finds the first denial that was wrong. O(n²) of the records.
pub fn wrong_denial(rule: Rule, records: &[Record]) -> Option<WrongDenial> {
    let window = rule.window + skew(rule.window);
    let denials = records.iter().filter(|record| !record.answer.allowed);
    let judged = denials.map(|denial| {
        let begin = denial.sent.before(window);
        let possible = records.iter().filter(|one| {
            one.answer.allowed && one.sent <= denial.received && one.received >= begin
        });
        let admitted = u64::try_from(possible.count()).unwrap_or(u64::MAX);
        WrongDenial { admitted, denial: *denial }
    });
    judged.filter(|judged| judged.admitted < rule.limit).min_by_key(|judged| judged.denial.sent)
}

/// The wait that a denial announced, and what it can have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The wait that the denial announced.
    pub announced: Duration,
    /// The shortest exact wait.
    pub least: Duration,
    /// The longest exact wait, rounded up to a millisecond.
    pub most: Duration,
}

/// Judges a denial of a full limit whose oldest admission is `first`: the exact wait is the time until `first` leaves the
/// window, rounded up to a millisecond.
pub fn wait(rule: Rule, first: &Record, denial: &Record) -> Wait {
    let slack = skew(denial.received.since(first.sent));
    let left_after = |elapsed: Duration| rule.window.saturating_sub(elapsed);
    let least = left_after(denial.received.since(first.sent)).saturating_sub(slack);
    let longest = left_after(denial.sent.since(first.received)) + slack;
    Wait { announced: denial.answer.retry_after, least, most: rounded_up(longest) }
}

impl Wait {
    /// Whether the announced wait is certainly too short.
    pub fn is_too_short(&self) -> bool {
        self.announced < self.least
    }

    /// Whether the announced wait is certainly too long.
    pub fn is_too_long(&self) -> bool {
        self.announced > self.most
    }
}

/// How exactly [`wait`] knows the wait.
pub fn uncertainty(first: &Record, denial: &Record) -> Duration {
    first.took() + denial.took() + 2 * skew(denial.received.since(first.sent))
}

fn rounded_up(duration: Duration) -> Duration {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
