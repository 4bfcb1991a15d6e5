//! The results of test files: as JSON, and for people.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;
use tollgate_core::{LimitStatus, Mode};

use crate::SimulateError;
use crate::report_text::{grouped, write_indented};

/// The results of all test files.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    /// The cases that passed.
    pub passed: usize,
    /// The cases whose decision is not the expected one.
    pub failed: usize,
    /// The files, in the order of the arguments, without those that cannot be used.
    pub files: Vec<TestFileReport>,
    /// Why files cannot be used.
    #[serde(skip)]
    pub errors: Vec<SimulateError>,
}

/// The results of a test file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestFileReport {
    /// The file.
    pub file: String,
    /// The policy file that decided.
    pub policies: String,
    /// The cases, in their order.
    pub cases: Vec<CaseReport>,
}

/// The result of a case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line of the file where it begins.
    pub line: Option<usize>,
    /// Whether the decision is the expected one.
    pub passed: bool,
    /// The fields that are not as expected.
    pub differences: Vec<DifferenceReport>,
    /// The limits that took part.
    pub limits: Vec<LimitReport>,
    /// What may explain a difference: given checks that were denied.
    pub notes: Vec<String>,
}

/// A field that is not as expected.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DifferenceReport {
    /// The field, such as `retryAfterMs` or `limits[per-minute].count`.
    pub field: String,
    /// What the case expects.
    pub expected: Json,
    /// What the decision has.
    pub got: Json,
}

/// A limit that took part.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// The policy.
    pub policy_id: String,
    /// Whether it admits the check by itself.
    pub allowed: bool,
    /// Its mode.
    pub mode: &'static str,
    /// The most of its unit.
    pub limit: u64,
    /// Its unit.
    pub unit: String,
    /// The usage after the decision.
    pub count: u64,
    #[serde(skip)]
    is_shadow: bool,
}

impl LimitReport {
    pub(super) fn new(status: &LimitStatus) -> Self {
        let limit = &status.limit;
        Self {
            policy_id: limit.policy_id().to_string(),
            allowed: status.allowed,
            mode: limit.mode().name(),
            limit: limit.amount().get(),
            unit: limit.unit().to_string(),
            count: status.count,
            is_shadow: limit.mode() == Mode::Shadow,
        }
    }
}

impl TestReport {
    pub(super) fn count(&mut self) {
        let cases = self.files.iter().flat_map(|file| &file.cases);
        let (passed, failed): (Vec<_>, Vec<_>) = cases.partition(|case| case.passed);
        (self.passed, self.failed) = (passed.len(), failed.len());
    }

    /// The results as JSON.
    pub fn to_json(&self) -> String {
        // Numbers, texts and lists: nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The exit code of the process: 2 if a file cannot be used, 1 if a case failed, else 0.
    pub fn exit_code(&self) -> u8 {
        match (self.errors.is_empty(), self.failed) {
            (false, _) => 2,
            (true, 0) => 0,
            (true, _) => 1,
        }
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{}, with {}", file.file, file.policies)?;
            for case in &file.cases {
                case.fmt(f)?;
            }
            writeln!(f)?;
        }
        if self.files.is_empty() {
            return Ok(());
        }
        let cases = self.passed + self.failed;
        writeln!(f, "cases: {cases}, passed: {}, failed: {}", self.passed, self.failed)
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.passed {
            return writeln!(f, "  ok    {}", self.name);
        }
        let line = self.line.map(|line| format!(" (line {line})")).unwrap_or_default();
        writeln!(f, "  FAIL  {}{line}", self.name)?;
        let rows = self
            .differences
            .iter()
            .map(|one| [one.field.clone(), one.expected.to_string(), one.got.to_string()]);
        write_indented(f, 8, ["field", "expected", "got"], rows.collect(), &[])?;
        match self.limits.as_slice() {
            [] => writeln!(f, "        No limit took part.")?,
            limits => {
                let limits: Vec<_> = limits.iter().map(LimitReport::to_string).collect();
                writeln!(f, "        limits: {}", limits.join("; "))?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "        {note}"))
    }
}

/// Such as `per-minute 3 of 3 requests, denies`.
impl fmt::Display for LimitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, limit) = (grouped(self.count), grouped(self.limit));
        write!(f, "{} {count} of {limit} {}", self.policy_id, self.unit)?;
        match (self.allowed, self.is_shadow) {
            (true, _) => Ok(()),
            (false, false) => f.write_str(", denies"),
            (false, true) => f.write_str(", would deny"),
        }
    }
}
