//! `tollgate policies test`: decides the cases of a test file in virtual time, and compares the decisions with what the
//! cases expect.
//!
//! Each case begins with empty limits. Its checks pass through the use cases of the server, so the catalog completes them
//! and policies reserve for them. Every problem of a test file is found before its first case is decided.

mod args;
mod decide;
mod decision;
mod read;
mod read_check;
mod report;

use std::path::{Path, PathBuf};

use tollgate_core::{Timestamp, Totals, Ttl};
use tollgate_service::UnknownApiKeys;

pub use args::TestArgs;
pub use decision::{EXPECTED_FIELDS, EXPECTED_LIMIT_FIELDS};
use decision::{ExpectedLimit, ExpectedValue};
pub use report::{CaseReport, DifferenceReport, TestFileReport, TestReport};

use crate::trace::TraceCheck;
use crate::{SimulateError, Source};

/// What is in a test file.
struct TestFile {
    /// The path of the policy file, as the test file gives it.
    policies: Option<PathBuf>,
    unknown_api_keys: UnknownApiKeys,
    cases: Vec<TestCase>,
}

/// A case: checks that came before, a check, and the decision that is expected.
struct TestCase {
    name: String,
    line: Option<usize>,
    at: Timestamp,
    /// In the order of their times.
    given: Vec<Given>,
    check: CaseCheck,
    expected: Vec<ExpectedValue>,
    /// The limits that take part, if the case says.
    expected_limits: Option<Vec<ExpectedLimit>>,
}

/// A check, or the reservation of a lease.
struct CaseCheck {
    check: TraceCheck,
    /// How long the lease lives, if it reserves.
    reserves_for: Option<Ttl>,
}

/// A check that came before, some number of times at once.
struct Given {
    /// Its index in the file.
    index: usize,
    check: CaseCheck,
    at: Timestamp,
    times: u32,
    /// What its leases used in the end.
    settled: Option<Totals>,
}

/// A value is not accepted, and the report says why.
struct Reported;

/// Runs the test files of `args`. A file that cannot be used is an error beside the reports of the others.
pub fn test(args: &TestArgs) -> TestReport {
    let mut report = TestReport::default();
    for file in &args.files {
        match test_file(file, args.policies.as_deref()) {
            Ok(tested) => report.files.push(tested),
            Err(error) => report.errors.push(error),
        }
    }
    report.count();
    report
}

fn test_file(path: &Path, policies: Option<&Path>) -> Result<TestFileReport, SimulateError> {
    let file = read::test_file(path, policies.is_none()).map_err(SimulateError::Cases)?;
    // The policy file is named from where the test file is.
    let beside = |named: &PathBuf| path.parent().unwrap_or(Path::new("")).join(named);
    let (named_by, accepted) = match policies {
        Some(_) => ("--policies".to_owned(), "the path of a policy file"),
        None => (format!("{}: policies", path.display()), read::ACCEPTED_POLICIES),
    };
    let policies = policies.map(Path::to_owned).or_else(|| file.policies.as_ref().map(beside));
    let policies = policies.unwrap_or_default();
    let source = Source::file(&policies, file.unknown_api_keys)
        .map_err(|error| error.named_by(named_by, accepted))?;
    let cases = file.cases.iter().map(|case| decide::case(&source, case));
    Ok(TestFileReport {
        file: path.display().to_string(),
        policies: policies.display().to_string(),
        cases: cases.collect::<Result<_, _>>()?,
    })
}
