//! The flags of `tollgate verify`.

use std::path::PathBuf;

/// Prove from outside that a running deployment enforces limits exactly
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct VerifyArgs {
    /// The address of a node, such as `http://127.0.0.1:8000`; once for each node, to verify that they share their counts
    #[arg(long = "server", value_name = "URL", required = true)]
    pub servers: Vec<String>,

    /// The window of the policy that is made for the run: the run takes about five windows
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub window_seconds: u64,

    /// The limit of that policy: the run sends about a hundred times as many checks
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    pub limit: u64,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
The checks have only the attribute tollgate_verify, with values made for the run, so they spend no limit of anybody. \
With a write token in TOLLGATE_ADMIN_TOKEN, a policy is created for them and deleted at the end, also after Ctrl-C; it \
overrides policies that would apply to everybody. Without a token, the deployment needs a policy that counts per \
tollgate_verify, in a sliding window, and no policy for everybody may apply to these checks.

Exit codes: 0, every promise is kept; 1, a promise is broken; 2, the arguments are wrong, or the servers cannot be \
verified; 3, no promise is broken, but not all were tested; 130, interrupted.";
