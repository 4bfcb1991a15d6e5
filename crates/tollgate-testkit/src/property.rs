//! Property tests that the suite runs on behalf of a store's own tests.

use std::env;

use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, TestCaseResult, TestError, TestRunner,
};

/// The file with the seeds of failures, in the directory of the package under test. Commit it: earlier failures are
/// tried first from then on.
pub const REGRESSIONS: &str = "proptest-regressions/conformance.txt";

/// How many random values are tried for each property, unless the environment variable `PROPTEST_CASES` sets the
/// number.
const CASES: u32 = 1_000;

/// Tries `holds` on 1,000 random values of `strategy`, or as many as `PROPTEST_CASES` says. A failure is minimized,
/// printed with its seed, and kept in [`REGRESSIONS`].
pub fn for_all<S: Strategy>(
    name: &'static str,
    strategy: &S,
    holds: impl Fn(S::Value) -> TestCaseResult,
) {
    for_many(name, CASES, strategy, holds);
}

/// [`for_all`] on `cases` random values, unless `PROPTEST_CASES` says otherwise.
pub fn for_many<S: Strategy>(
    name: &'static str,
    cases: u32,
    strategy: &S,
    holds: impl Fn(S::Value) -> TestCaseResult,
) {
    let config = Config {
        cases: if env::var_os("PROPTEST_CASES").is_some() {
            Config::default().cases
        } else {
            cases
        },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        test_name: Some(name),
        ..Config::default()
    };
    match TestRunner::new(config).run(strategy, holds) {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("{name}: {reason}\nfor {value:?}"),
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
    }
}
