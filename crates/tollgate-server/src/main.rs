//! The command `tollgate`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let outcome = tollgate_server::Cli::parse().run();
    // A closed pipe is no reason to fail: whoever read it has seen enough.
    _ = std::io::stdout().write_all(outcome.output.as_bytes());
    _ = std::io::stderr().write_all(outcome.error.as_bytes());
    outcome.code
}
