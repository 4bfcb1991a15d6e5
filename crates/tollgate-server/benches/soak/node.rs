//! A `tollgate serve` in a separate process, and the resources of the process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tempfile::TempDir;

use crate::limits;

/// How many of the last log lines are kept.
const MAX_LOG_LINES: usize = 100_000;

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
}

impl Node {
    /// A server over the store at `url` that denies what the store does not decide.
    pub(crate) fn start(url: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("tollgate: {error}");
        let directory = TempDir::new().map_err(failed)?;
        fs::write(directory.path().join("policies.yaml"), limits::policies()).map_err(failed)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json"]);
        command.args([
            "--catalog",
            "file:policies.yaml",
            "--on-store-error",
            "deny",
            "--store",
            url,
        ]);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOLLGATE_")) {
            command.env_remove(name);
        }
        let command =
            command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stderr = child.stderr.take().ok_or("tollgate: no standard error")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let mut first = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            first.push(line);
            said["http"].as_str()?.strip_prefix("http://")?.parse().ok()
        });
        let Some(address) = address else {
            // It may have ended already.
            _ = child.kill();
            _ = child.wait();
            return Err(format!("tollgate does not serve: {}", first.join("\n")));
        };
        let log = Arc::new(Mutex::new(first));
        let noted = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines {
                let mut log = noted.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() < MAX_LOG_LINES {
                    log.push(line);
                }
            }
        });
        Ok(Self { child, address, log, _directory: directory })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines of its log so far that contain `text`.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The resident memory of the process in KiB; `None` if it has ended.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The open file descriptors of the process; `None` if it has ended.
pub(crate) fn descriptors(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}
