//! The flags of `tollgate policies test`.

use std::path::PathBuf;

/// Decide the cases of test files in virtual time and show where the decisions are not those that the cases expect
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// The test files, ending in .yaml, .yml, .json or .toml
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Decide with this policy file in place of those that the test files name
    #[arg(long, value_name = "FILE")]
    pub policies: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
}

impl TestArgs {
    /// The help after the flags.
    pub const AFTER_HELP: &str = "\
A test file names a policy file, relative to itself, and lists cases:

  policies: policies.yaml
  cases:
    - name: the fourth request in a minute waits for the first
      given: [{userId: ann, modelId: gpt-4, times: 3, ago: 20s}]
      check: {userId: ann, modelId: gpt-4}
      expect: {allowed: false, policyId: per-minute, retryAfterMs: 40000}

A check has the fields of POST /rate-limit/check; with `reserve: true` it reserves a lease. `expect` has fields of the answer. \
In the policy file, but not in the test file, `${NAME}` is an environment variable, as for `serve`.

Exit code: 0 if every case passes, 1 if a decision is not the expected one, 2 if a file is bad.";
}
