//! The flags of `tollgate policies diff`.

use std::path::PathBuf;

use tollgate_service::UnknownApiKeys;

use super::CompareOptions;
use crate::trace::{MAX_USERS, TraceFormat};

/// Replay a trace through two policy files and say who would lose or gain, and how much
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// The policy file in force; of a server with a database, what `GET /admin/export` returns
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The policy file to compare with it
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// The trace to replay: traffic that `serve --record` wrote, or another trace that `simulate` reads; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,

    /// The format of the trace; by default the header of the trace determines it
    #[arg(long, value_enum)]
    pub format: Option<TraceFormat>,
    /// The number of users in the requests of an azure-llm-2023 trace [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USERS)))]
    pub users: Option<u32>,
    /// The seed for drawing the users and models of an azure-llm-2023 trace [default: 1]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Count checks with unknown API keys under the key's hash, or deny them [default: count]
    #[arg(long, value_name = "WHAT", value_parser = ["count", "deny"])]
    pub unknown_api_keys: Option<String>,

    /// How many losers and winners of each kind to name [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub top: Option<u32>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl DiffArgs {
    /// The help after the flags.
    pub const AFTER_HELP: &str = "\
Exit code: 0 if both files make the same decisions, 1 if a decision differs, 2 if a file is bad or the trace has no check.

Environment variables stand in policy files, as for `serve`: `${NAME}` or `${NAME:-default}`.";

    pub(super) fn top(&self) -> usize {
        let given = self.top.and_then(|top| usize::try_from(top).ok());
        given.unwrap_or(CompareOptions::default().top)
    }

    pub(super) fn unknown_api_keys(&self) -> UnknownApiKeys {
        crate::source::unknown_api_keys_of(self.unknown_api_keys.as_deref())
    }
}
