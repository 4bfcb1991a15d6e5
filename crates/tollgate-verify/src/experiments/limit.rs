//! A subject is admitted exactly up to its limit.

use super::{Probe, admitted, span, unless_slow};
use crate::report::{Finding, Outcome, Promise};
use crate::target::{CheckError, Target};
use crate::timeline::Timeline;

/// Sends more checks than the limit one after another, and four times as many at once for another subject.
pub(super) async fn run<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
) -> Result<Finding, CheckError> {
    let (limit, rule) = (probe.limit(), probe.rule());
    let sequence = probe.one_by_one(&probe.subject("limit"), limit + 5).await?;
    let burst = probe.at_once(&probe.subject("burst"), 4 * limit).await?;
    let detail = format!(
        "{} of {} were admitted one after another, {} of {} at once",
        admitted(&sequence),
        sequence.len(),
        admitted(&burst),
        burst.len(),
    );
    let of_sequence = probe.judged(Promise::Limit, &sequence, detail.clone());
    if of_sequence.outcome == Outcome::Broken {
        return Ok(of_sequence);
    }
    let of_burst = probe.judged(Promise::Limit, &burst, detail);
    Ok(unless_slow(of_burst, span(&sequence).max(span(&burst)), rule))
}
