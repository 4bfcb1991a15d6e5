//! A run against servers.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::args::VerifyArgs;
use crate::error::VerifyError;
use crate::experiments::run_experiments;
use crate::http_target::HttpTarget;
use crate::policy::TestPolicy;
use crate::report::{Outcome, Report};
use crate::timeline::{MachineTime, Timeline};

/// How a run ended.
#[derive(Debug)]
pub struct Verified {
    /// What was found, or why nothing was.
    pub result: Result<Report, VerifyError>,
    /// What failed after that: the policy of the run may be left, or the report was not written.
    pub failures: Vec<VerifyError>,
}

impl Verified {
    /// The exit code of the process: that of the result, unless it is a report without a broken promise and something
    /// failed after it.
    pub fn exit_code(&self) -> u8 {
        match &self.result {
            Err(error) => error.exit_code(),
            Ok(report) if report.outcome() == Outcome::Broken => report.exit_code(),
            Ok(report) => self.failures.first().map_or(report.exit_code(), VerifyError::exit_code),
        }
    }
}

/// Verifies the servers of `args`. When `interrupted` returns, the run ends early, and cleans up all the same, for a few
/// seconds at most. When it returns a second time, the run ends at once.
///
/// Needs a Tokio runtime with time and IO.
pub async fn run(
    args: &VerifyArgs,
    token: Option<&str>,
    interrupted: impl AsyncFnMut(),
) -> Verified {
    run_in(args, token, interrupted, &MachineTime::new()).await
}

/// The same in a time of the caller's: that of the servers' stores.
pub async fn run_in(
    args: &VerifyArgs,
    token: Option<&str>,
    interrupted: impl AsyncFnMut(),
    time: &impl Timeline,
) -> Verified {
    let verified = verify(args, token, interrupted, time).await;
    verified.unwrap_or_else(|error| Verified { result: Err(error), failures: Vec::new() })
}

/// The error is one from before the first call.
async fn verify(
    args: &VerifyArgs,
    token: Option<&str>,
    mut interrupted: impl AsyncFnMut(),
    time: &impl Timeline,
) -> Result<Verified, VerifyError> {
    // Opened first: a run of minutes must not end without a place for its report.
    let report = args.report.as_deref().map(ReportFile::open).transpose()?;
    let started = time.now();
    let mut target = HttpTarget::new(&args.servers)?;
    let run = run_id().map_err(VerifyError::System)?;
    let mut chosen = None;
    let mut is_interrupted = false;
    let found = {
        let verifying = pin!(async {
            let policy = chosen.insert(TestPolicy::choose(&target, args, token, &run).await?);
            target.policy_id = Some(policy.id.clone());
            policy.create(&target, token).await?;
            policy.await_every_node(&target, time).await?;
            let (findings, checks) = run_experiments(&policy.settings, &target, time).await?;
            Ok((policy.id.clone(), policy.settings.rule, findings, checks))
        });
        match select(verifying, pin!(interrupted())).await {
            Either::Left((found, _)) => found,
            Either::Right(((), _)) => {
                is_interrupted = true;
                Err(VerifyError::Interrupted)
            }
        }
    };
    let mut failures = Vec::new();
    if let Some(policy) = chosen {
        let given_up = async {
            if !is_interrupted {
                interrupted().await;
            }
            interrupted().await;
        };
        failures.extend(policy.clean_up(&target, token, given_up).await.err());
    }
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let result = found.map(|(policy_id, rule, findings, checks)| Report {
        servers: target.nodes.into_iter().map(|node| node.name).collect(),
        policy_id,
        limit: rule.limit,
        window_ms: ms(rule.window),
        checks,
        took_ms: ms(time.now().since(started)),
        findings,
    });
    if let (Some(file), Ok(report)) = (report, &result) {
        failures.extend(file.write(report).err());
    }
    Ok(Verified { result, failures })
}

/// The file of `--report`, which keeps what it has until a report replaces it. Without a report, a new file is removed.
struct ReportFile<'a> {
    path: &'a Path,
    file: File,
    is_new_and_empty: bool,
}

impl<'a> ReportFile<'a> {
    fn open(path: &'a Path) -> Result<Self, VerifyError> {
        let mut options = OpenOptions::new();
        let (file, is_new_and_empty) = match options.write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.create_new(false).create(true).open(path), false)
            }
            file => (file, true),
        };
        let failed = |source| VerifyError::File { path: path.to_owned(), source };
        Ok(Self { path, file: file.map_err(failed)?, is_new_and_empty })
    }

    fn write(mut self, report: &Report) -> Result<(), VerifyError> {
        // A pipe has no length.
        _ = self.file.set_len(0);
        self.is_new_and_empty = false;
        let written = self.file.write_all((report.to_json() + "\n").as_bytes());
        written.map_err(|source| VerifyError::File { path: self.path.to_owned(), source })
    }
}

impl Drop for ReportFile<'_> {
    fn drop(&mut self) {
        if self.is_new_and_empty {
            _ = std::fs::remove_file(self.path);
        }
    }
}

/// A name that no earlier run had.
fn run_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:012x}", u64::from_be_bytes(bytes) >> 16))
}
