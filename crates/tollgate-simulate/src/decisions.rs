//! The decisions file: one line for each check, in the order of their times.

use tollgate_core::Decision;

use crate::SimulateError;
use crate::output::OutputFile;

const HEADER: [&str; 5] = ["index", "allowed", "policyId", "retryAfterMs", "line"];

/// Writes `index,allowed,policyId,retryAfterMs,line`: the index from 0 in the order of times, the headline's policy (empty
/// without one), the wait in milliseconds (0 if admitted, empty if no wait helps), and the line in the trace.
pub(crate) struct DecisionsFile {
    csv: csv::Writer<OutputFile>,
    index: u64,
}

impl DecisionsFile {
    pub(crate) fn new(output: OutputFile) -> Result<Self, SimulateError> {
        let mut file = Self { csv: csv::Writer::from_writer(output), index: 0 };
        file.write(HEADER)?;
        Ok(file)
    }

    pub(crate) fn add(&mut self, line: u64, decision: &Decision) -> Result<(), SimulateError> {
        let index = self.index.to_string();
        self.index += 1;
        let allowed = if decision.allowed() { "true" } else { "false" };
        let policy_id = decision.headline().map_or("", |limit| limit.limit.policy_id().as_str());
        let retry_after_ms = decision.retry_after_ms().map(|ms| ms.to_string()).unwrap_or_default();
        self.write([&index, allowed, policy_id, &retry_after_ms, &line.to_string()])
    }

    /// The completed file.
    pub(crate) fn finish(mut self) -> Result<OutputFile, SimulateError> {
        if let Err(source) = self.csv.flush() {
            return Err(self.failed(source));
        }
        let path = self.csv.get_ref().path().to_owned();
        self.csv.into_inner().map_err(|error| SimulateError::write(&path, error.into_error()))
    }

    fn write(&mut self, record: [&str; 5]) -> Result<(), SimulateError> {
        self.csv.write_record(record).map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, source: std::io::Error) -> SimulateError {
        SimulateError::write(self.csv.get_ref().path(), source)
    }
}
