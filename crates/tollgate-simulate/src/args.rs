//! The flags of `tollgate simulate`.

use std::path::PathBuf;

use tollgate_core::Amount;

use crate::leases::LeaseOptions;
use crate::trace::{MAX_USERS, TraceFormat};

/// Replay a trace of checks in virtual time and report what the policies would have done
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// The trace to replay; `-` for standard input
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

    /// Also replay the trace with leases: each line reserves its output tokens before the answer and settles them after it.
    /// Compares a fixed reservation, the client's cap and what was learned from earlier answers. Needs a trace that says how
    /// much output the answers had: azure-llm-2023, or a csv with the column outputTokens (and maxOutputTokens for the cap,
    /// durationMs for the time that an answer took)
    #[arg(long)]
    pub leases: bool,
    /// The fixed reservation of output tokens; also that of a line without a cap, and until 20 answers were learned from
    /// [default: 1024]
    #[arg(long, value_name = "TOKENS", requires = "leases", value_parser = clap::value_parser!(u64).range(0..=Amount::MAX.get()))]
    pub reserve: Option<u64>,
    /// A learned reservation is enough for this part of the answers, 0 to 1 [default: 0.95]
    #[arg(long, value_name = "PART", requires = "leases", value_parser = quantile)]
    pub quantile: Option<f64>,
    /// How fast answers are written that have no durationMs [default: 50]
    #[arg(long, value_name = "N", requires = "leases", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens_per_second: Option<u32>,

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

impl SimulateArgs {
    /// The leases to compare, if any.
    pub(crate) fn lease_options(&self) -> Option<LeaseOptions> {
        self.leases.then(|| LeaseOptions {
            reserve: self.reserve.and_then(Amount::new).unwrap_or(DEFAULT_RESERVE),
            quantile: self.quantile.unwrap_or(DEFAULT_QUANTILE),
            tokens_per_second: self.tokens_per_second.unwrap_or(DEFAULT_TOKENS_PER_SECOND),
        })
    }
}

const DEFAULT_RESERVE: Amount = match Amount::new(1_024) {
    Some(amount) => amount,
    None => Amount::MAX,
};
const DEFAULT_QUANTILE: f64 = 0.95;
const DEFAULT_TOKENS_PER_SECOND: u32 = 50;

fn quantile(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "accepted: a number from 0 to 1".to_owned())
}
