//! The command `tollgate`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// A request to the gateway allocates about 110 times; with this, it takes about 15 % less CPU time than with glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = tollgate_server::Cli::of_process().run();
    let mut output = std::io::stdout();
    let written = output.write_all(outcome.output.as_bytes()).and_then(|()| output.flush());
    // If the output cannot be written, there is no other place to report it.
    _ = std::io::stderr().write_all(outcome.error.as_bytes());
    match written {
        // A closed pipe is not an error: the reader has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            _ = writeln!(std::io::stderr(), "error: the output could not be written: {error}");
            ExitCode::FAILURE
        }
        _ => outcome.code,
    }
}
