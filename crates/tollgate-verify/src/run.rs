//! A run against servers.

use std::fs;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::args::VerifyArgs;
use crate::error::VerifyError;
use crate::experiments::run_experiments;
use crate::http_target::HttpTarget;
use crate::policy::TestPolicy;
use crate::report::Report;
use crate::timeline::{MachineTime, Timeline};

/// Verifies the servers of `args`. When `interrupted` returns, the run ends early, and cleans up all the same.
///
/// Needs a Tokio runtime with time and IO.
pub async fn run(
    args: &VerifyArgs,
    token: Option<&str>,
    interrupted: impl Future<Output = ()>,
) -> Result<Report, VerifyError> {
    run_in(args, token, interrupted, &MachineTime::new()).await
}

/// The same in a time of the caller's: that of the servers' stores.
pub async fn run_in(
    args: &VerifyArgs,
    token: Option<&str>,
    interrupted: impl Future<Output = ()>,
    time: &impl Timeline,
) -> Result<Report, VerifyError> {
    let started = time.now();
    let mut target = HttpTarget::new(&args.servers)?;
    let run = run_id().map_err(VerifyError::System)?;
    let policy = TestPolicy::find_or_make(&target, args, token, &run).await?;
    target.policy_id = Some(policy.id.clone());
    let result = {
        let verifying = pin!(async {
            policy.await_every_node(&target, time).await?;
            Ok(run_experiments(&policy.settings, &target, time).await?)
        });
        match select(verifying, pin!(interrupted)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(VerifyError::Interrupted),
        }
    };
    let cleaned = policy.clean_up(&target, token).await;
    let (findings, checks) = result?;
    cleaned?;
    let rule = policy.settings.rule;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let report = Report {
        servers: target.nodes.into_iter().map(|node| node.name).collect(),
        policy_id: policy.id,
        limit: rule.limit,
        window_ms: ms(rule.window),
        checks,
        took_ms: ms(time.now().since(started)),
        findings,
    };
    if let Some(path) = &args.report {
        let failed = |source| VerifyError::File { path: path.clone(), source };
        fs::write(path, report.to_json() + "\n").map_err(failed)?;
    }
    Ok(report)
}

/// A name that no earlier run had.
fn run_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:012x}", u64::from_be_bytes(bytes) >> 16))
}
