//! No interval of a window's length holds more than the limit, wherever it begins.

use futures_util::future::try_join_all;
use tollgate_core::Timestamp;

use super::{Probe, admitted};
use crate::judge::Record;
use crate::report::{Finding, Outcome, Promise};
use crate::target::{CheckError, Target};
use crate::timeline::Timeline;

/// The subjects: each begins a part of a window after the one before it, so that usage that is forgotten at some moment
/// is forgotten soon after one of them has filled its limit.
pub(super) const PHASES: usize = 4;
/// How many checks of a subject can be under way at the same time.
const CLIENTS: usize = 4;
/// The checks of a subject in a window, as a multiple of the limit.
const LOAD: usize = 4;
/// The least checks in a window.
const LEAST_CHECKS: usize = 160;

pub(super) fn name(phase: usize) -> String {
    format!("window-{phase}")
}

/// Sends more checks than the limit for more than two windows.
pub(super) async fn run<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
) -> Result<Finding, CheckError> {
    let started = probe.time.now();
    let phases = (0..PHASES).map(|phase| {
        let offset = probe.rule().window * small(phase) / small(PHASES);
        under_load(probe, probe.subject(&name(phase)), started.after(offset))
    });
    let phases = try_join_all(phases).await?;
    let (checks, most): (Vec<_>, Vec<_>) =
        phases.iter().map(|records| (records.len(), admitted(records))).unzip();
    let detail = format!(
        "{PHASES} subjects sent {} checks for more than two windows; {} were admitted",
        checks.iter().sum::<usize>(),
        most.iter().sum::<usize>(),
    );
    let mut findings =
        phases.iter().map(|records| probe.judged(Promise::Window, records, detail.clone()));
    let broken = findings.find(|finding| finding.outcome == Outcome::Broken);
    Ok(broken.unwrap_or(Finding { promise: Promise::Window, outcome: Outcome::Kept, detail }))
}

async fn under_load<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
    subject: String,
    start: Timestamp,
) -> Result<Vec<Record>, CheckError> {
    let window = probe.rule().window;
    let in_a_window = (LOAD * probe.limit()).max(LEAST_CHECKS);
    let checks = in_a_window * 9 / 4;
    let subject = &subject;
    let clients = (0..CLIENTS).map(|client| async move {
        let mut records = Vec::new();
        for number in (client..checks).step_by(CLIENTS) {
            probe.sleep_until(start.after(window * small(number) / small(in_a_window))).await;
            records.push(probe.check(number, subject).await?);
        }
        Ok(records)
    });
    Ok(try_join_all(clients).await?.concat())
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
