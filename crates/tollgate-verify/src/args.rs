//! The flags of `tollgate verify`.

use std::path::PathBuf;
use std::time::Duration;

use crate::judge::Rule;

/// Prove from outside that a running deployment enforces limits exactly
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct VerifyArgs {
    /// The address of a node, such as `http://127.0.0.1:8000`; once for each node, to verify that they share their counts
    #[arg(long = "server", value_name = "URL", required = true)]
    pub servers: Vec<String>,

    /// The window of the policy that is made for the run, which takes at least five windows [default: 2]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub window_seconds: Option<u64>,

    /// The limit of that policy: the run sends about fifty times as many checks, and 1,500 at least [default: 40]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1_000))]
    pub limit: Option<u64>,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl VerifyArgs {
    /// The rule of a policy that is made for the run.
    pub(crate) fn rule(&self) -> Rule {
        let window = Duration::from_secs(self.window_seconds.unwrap_or(DEFAULT_WINDOW_SECONDS));
        Rule { limit: self.limit.unwrap_or(DEFAULT_LIMIT), window }
    }

    /// The first flag that asks for another rule than `rule`, with its value.
    pub(crate) fn other_than(&self, rule: Rule) -> Option<String> {
        let limit = self.limit.filter(|limit| *limit != rule.limit);
        let seconds = self.window_seconds;
        let seconds = seconds.filter(|seconds| Duration::from_secs(*seconds) != rule.window);
        let limit = limit.map(|limit| format!("--limit {limit}"));
        limit.or_else(|| seconds.map(|seconds| format!("--window-seconds {seconds}")))
    }
}

const DEFAULT_LIMIT: u64 = 40;
const DEFAULT_WINDOW_SECONDS: u64 = 2;

const AFTER_HELP: &str = "\
The checks have only the attribute tollgate_verify, with values made for the run, so they spend no limit of anybody.

If the deployment has a policy that counts per tollgate_verify, in a sliding window, and no other policy applies to these \
checks, that policy is tested. Otherwise, or if --limit or --window-seconds asks for another one, a policy is created for \
the run and deleted at the end, also after Ctrl-C; it overrides those that would apply. That needs a write token in \
TOLLGATE_ADMIN_TOKEN.

An https:// server needs a certificate of an authority that this system trusts, or of one in the PEM file SSL_CERT_FILE or \
the directories SSL_CERT_DIR, which replace those of the system. Proxies in HTTP_PROXY are not used.

Exit codes: 0, every promise is kept; 1, a promise is broken; 2, the arguments are wrong, or the servers cannot be \
verified; 3, no promise is broken, but not all were tested; 130, interrupted.";
