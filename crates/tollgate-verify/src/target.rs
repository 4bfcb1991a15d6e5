//! What is verified: something that answers checks.

use std::time::Duration;

/// The parts of an answer to a check that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the check was admitted.
    pub allowed: bool,
    /// The wait that a denial announces, in whole milliseconds.
    pub retry_after: Duration,
    /// The usage after the check.
    pub count: u64,
}

/// What a check asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To be charged for one request.
    Charge,
    /// Only what a check would be told.
    Peek,
}

/// A deployment of one node or several, in which one limit applies to each subject of the experiments, and nobody else
/// sends checks for them.
pub trait Target: Sync {
    /// How many nodes can be asked separately, at least one.
    fn nodes(&self) -> usize;

    /// Sends a check of cost 1 for `subject` to the node of this index.
    fn check(
        &self,
        node: usize,
        subject: &str,
        ask: Ask,
    ) -> impl Future<Output = Result<Answer, CheckError>> + Send;
}

/// Why a check has no answer that can be judged: the node, the problem, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError {
    /// The node, as the user named it.
    pub node: String,
    /// The problem, and what to do about it.
    pub problem: String,
}
