//! Denials cost nothing.

use std::time::Duration;

use super::{Probe, admitted, unless_slow};
use crate::report::{Finding, Promise};
use crate::target::{CheckError, Target};
use crate::timeline::Timeline;

/// Fills a limit, and sends denials until shortly before the admissions leave the window. When they have left it, the
/// whole limit must be free.
pub(super) async fn run<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
) -> Result<Finding, CheckError> {
    let (limit, rule) = (probe.limit(), probe.rule());
    let subject = probe.subject("denials");
    let started = probe.time.now();
    let mut records = probe.fill(&subject).await?;
    let filled = probe.time.now();
    let denials = 3 * limit;
    let until_last = rule.window * 4 / 5;
    for number in 0..denials {
        let share = u32::try_from(number).unwrap_or(u32::MAX);
        let pace = until_last / u32::try_from(denials).unwrap_or(u32::MAX);
        probe.sleep_until(filled.after(pace * share)).await;
        records.push(probe.check(number, &subject).await?);
    }
    let is_free = filled.after(rule.window + rule.window / 500 + Duration::from_millis(2));
    probe.sleep_until(is_free).await;
    let after = probe.at_once(&subject, limit).await?;
    let detail = format!(
        "a window after the limit was full, and after {} denials, {} of {limit} were admitted",
        records.len() - admitted(&records),
        admitted(&after),
    );
    records.extend(after);
    let finding = probe.judged(Promise::Denials, &records, detail);
    Ok(unless_slow(finding, filled.since(started), rule))
}
