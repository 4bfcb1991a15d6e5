//! Processes that run on one processor core each, so that a server and its load do not disturb one another.

use std::process::{Command, Stdio};

/// The core of the servers that are measured, and of Redis.
pub(crate) const CORE_OF_SERVERS: u32 = 0;
/// The core of the load generator.
pub(crate) const CORE_OF_LOAD: u32 = 1;

/// A process that runs on one core until this is dropped.
pub(crate) struct Pinned(u32);

impl Pinned {
    pub(crate) fn all_threads_of(pid: u32, core: u32) -> Result<Self, String> {
        pin(pid, &core.to_string())?;
        Ok(Self(pid))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to undo.
        let _ = pin(self.0, "0-1023");
    }
}

fn pin(pid: u32, cores: &str) -> Result<(), String> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", cores, &pid.to_string()]);
    let status =
        command.stdout(Stdio::null()).status().map_err(|error| format!("taskset: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("taskset: no core {cores} for {pid}")) }
}
