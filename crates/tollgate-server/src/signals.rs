//! The signals that end the server, and SIGHUP and SIGXFSZ, which do not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of SIGXFSZ: of Linux on most architectures, and of macOS.
const SIGXFSZ: i32 = 25;

/// Receives SIGTERM and SIGINT from the time of its creation.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// While this exists, a write beyond the largest size of a file (`ulimit -f`) fails instead of ending the process.
    _file_size: Signal,
}

impl Signals {
    /// Takes over the signals: from now on they no longer end the process directly.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// The name of the next signal to end. SIGHUP, which by convention reloads files, ends nothing.
    pub(crate) async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => tracing::info!(
                    "SIGHUP is ignored: a policy file is watched anyway, and other settings need a restart"
                ),
            }
        }
    }
}
