//! A separate directory for each test, with a trace and the files written beside it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tollgate_catalog::{Format, policy_file};
use tollgate_core::PolicySet;
use tollgate_simulate::{Report, SimulateArgs, SimulateError, simulate};

pub(crate) struct Fixture {
    dir: TempDir,
    pub(crate) args: SimulateArgs,
}

impl Fixture {
    /// A directory with the trace `text` in `trace.csv`.
    pub(crate) fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace.csv");
        std::fs::write(&trace, text).unwrap();
        Self { dir, args: args(trace) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Requests `report.json` and `decisions.csv`.
    pub(crate) fn with_outputs(mut self) -> Self {
        self.args.report = Some(self.path("report.json"));
        self.args.decisions = Some(self.path("decisions.csv"));
        self
    }

    pub(crate) fn verified(mut self) -> Self {
        self.args.verify = true;
        self
    }

    pub(crate) fn run(&self, policies: &PolicySet) -> Result<Report, SimulateError> {
        simulate(&self.args, PolicySet::new(policies.policies().to_vec()).unwrap())
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names of all files, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn args(trace: PathBuf) -> SimulateArgs {
    SimulateArgs {
        trace,
        policies: None,
        catalog: None,
        unknown_api_keys: None,
        format: None,
        users: None,
        seed: None,
        report: None,
        decisions: None,
        verify: false,
        leases: false,
        reserve: None,
        quantile: None,
        tokens_per_second: None,
    }
}

/// One of the two Azure traces: `code` or `conv`.
pub(crate) fn azure(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/azure-llm-inference-2023");
    dir.join(format!("AzureLLMInferenceTrace_{name}.csv"))
}

/// The policies in `yaml`; the default policy if the text is empty.
pub(crate) fn policies(yaml: &str) -> PolicySet {
    let policies = policy_file::parse("policies.yaml", yaml, Format::Yaml);
    PolicySet::new(policies.unwrap_or_else(|problems| panic!("{problems}"))).unwrap()
}
