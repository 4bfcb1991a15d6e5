//! The nodes share what they count.

use super::{Probe, admitted, span, unless_slow};
use crate::report::{Finding, Promise};
use crate::target::{CheckError, Target};
use crate::timeline::Timeline;

/// Sends checks of one subject to the nodes in turn, until each of them would have admitted the whole limit if it counted
/// alone.
pub(super) async fn run<T: Target, C: Timeline>(
    probe: &Probe<'_, T, C>,
) -> Result<Finding, CheckError> {
    let nodes = probe.target.nodes();
    let checks = probe.limit() * nodes + nodes;
    let records = probe.at_once(&probe.subject("nodes"), checks).await?;
    let detail = format!("{} of {checks} were admitted by {nodes} together", admitted(&records));
    let finding = probe.judged(Promise::Nodes, &records, detail);
    Ok(unless_slow(finding, span(&records), probe.rule()))
}
