//! The flags of `tollgate simulate`.

use std::path::PathBuf;

use crate::trace::{MAX_USERS, TraceFormat};

/// Replay a trace of checks in virtual time and report what the policies would have done
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// The trace to replay
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,

    /// The policy file, whose tenants, users, tiers and models complete the checks as `serve` does; without it and
    /// without --catalog, 100 requests an hour per user and model
    #[arg(long, value_name = "FILE")]
    pub policies: Option<PathBuf>,
    /// The catalog to decide with, as for `serve`: `file:PATH`, `sqlite:FILE` or `postgres://…`
    #[arg(long, value_name = "URL", conflicts_with = "policies")]
    pub catalog: Option<String>,
    /// Count checks with unknown API keys under the key's hash, or deny them [default: count]
    #[arg(long, value_name = "WHAT", value_parser = ["count", "deny"])]
    pub unknown_api_keys: Option<String>,

    /// The format of the trace; by default the header of the trace determines it
    #[arg(long, value_enum)]
    pub format: Option<TraceFormat>,

    /// The number of users in the requests of an azure-llm-2023 trace [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USERS)))]
    pub users: Option<u32>,

    /// The seed for drawing the users and models of an azure-llm-2023 trace [default: 1]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Write one line for each check: index,allowed,policyId,retryAfterMs,line
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,

    /// Recompute every decision with the slow reference model and fail on a difference
    #[arg(long)]
    pub verify: bool,
}
