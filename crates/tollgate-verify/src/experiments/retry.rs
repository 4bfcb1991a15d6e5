//! A denial announces the shortest wait after which the check is admitted.

use std::time::Duration;

use super::{Probe, admitted, shown};
use crate::judge::{self, Record, Wait};
use crate::report::{Finding, Outcome, Promise};
use crate::target::{CheckError, Target};
use crate::timeline::Timeline;

/// The most subjects that are tried.
pub(super) const ROUNDS: usize = 8;
/// The denials of each.
const DENIALS: usize = 32;
/// When a wait that was rounded down would have been missed with less than this probability, the denials are enough.
const MISSED: f64 = 1e-4;
const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn name(round: usize) -> String {
    format!("retry-{round}")
}

/// Fills limits, and compares the waits that denials announce with the time until the first admission leaves the window.
/// Then sends a check after the announced wait.
pub(super) async fn run<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
) -> Result<Finding, CheckError> {
    let mut seen = Seen { denials: 0, finest: Duration::MAX, missed: 1.0, wrong: None };
    let mut later = Vec::new();
    for round in 0..ROUNDS {
        let subject = probe.subject(&name(round));
        let filled = probe.fill(&subject).await?;
        let Some(first) = filled.first().filter(|_| admitted(&filled) == filled.len()) else {
            continue;
        };
        let denials = probe.one_by_one(&subject, DENIALS).await?;
        // Only while the first admission is certainly in the window does the wait depend on it.
        let end = first.sent.after(probe.rule().window * 9 / 10);
        let mut judged = denials.iter().filter(|one| !one.answer.allowed && one.received < end);
        for denial in judged.clone() {
            seen.judge(judge::wait(probe.rule(), first, denial), judge::uncertainty(first, denial));
        }
        later.extend(judged.next_back().map(|denial| (subject, *denial)));
        if seen.missed < MISSED {
            break;
        }
    }
    for (subject, denial) in later {
        seen.check_promise(probe, &subject, denial).await?;
    }
    Ok(seen.finding(probe.rule().window))
}

struct Seen {
    denials: u32,
    /// How exactly the wait of one denial was known.
    finest: Duration,
    /// The probability that a wait that was rounded down would not have been noticed.
    missed: f64,
    wrong: Option<String>,
}

impl Seen {
    fn judge(&mut self, wait: Wait, uncertainty: Duration) {
        self.denials += 1;
        self.finest = self.finest.min(uncertainty);
        let part = uncertainty.as_secs_f64() / MILLISECOND.as_secs_f64();
        self.missed *= part.min(1.0);
        let Wait { announced, least, most } = wait;
        let announced = announced.as_millis();
        if wait.is_too_short() {
            let least = shown(least);
            self.wrong = Some(format!(
                "a denial announced {announced} ms, but the limit was full for at least {least} more"
            ));
        } else if wait.is_too_long() && self.wrong.is_none() {
            let most = most.as_millis();
            self.wrong = Some(format!(
                "a denial announced {announced} ms, but a check would have been admitted after {most} ms at the latest"
            ));
        }
    }

    /// Sends a check after the wait that `denial` announced.
    async fn check_promise<T: Target, C: Timeline>(
        &mut self,
        probe: &Probe<'_, T, C>,
        subject: &str,
        denial: Record,
    ) -> Result<(), CheckError> {
        probe.sleep_until(denial.received.after(denial.answer.retry_after)).await;
        let then = probe.check(0, subject).await?;
        if !then.answer.allowed && self.wrong.is_none() {
            self.wrong = Some(format!(
                "a denial announced {} ms; a check sent {} after it was denied",
                denial.answer.retry_after.as_millis(),
                shown(then.sent.since(denial.received)),
            ));
        }
        Ok(())
    }

    fn finding(self, window: Duration) -> Finding {
        let Self { denials, finest, wrong, .. } = self;
        let is_coarse = denials == 0 || finest > window / 10;
        let (outcome, detail) = match wrong {
            Some(wrong) => (Outcome::Broken, wrong),
            None if is_coarse => {
                let detail = "the answers take too long for this window; run this nearer to the servers, or with a longer \
                              --window-seconds";
                (Outcome::NotTested, detail.to_owned())
            }
            None => {
                let detail = format!(
                    "{denials} denials announced it, to within the {} that the answers took",
                    shown(finest),
                );
                (Outcome::Kept, detail)
            }
        };
        Finding { promise: Promise::Retry, outcome, detail }
    }
}
