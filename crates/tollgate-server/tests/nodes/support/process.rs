//! The program `tollgate` in a separate process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::common::tollgate;

/// The command of a server on a free port.
pub(crate) fn serve(directory: &TempDir) -> Command {
    let mut command = tollgate(directory);
    command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json"]);
    command
}

/// A server in a separate process; killed when it is dropped.
pub(super) struct Process {
    child: Child,
    /// The address at which it serves.
    pub(super) address: String,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a command made by [`serve`], and waits until it prints its address.
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut first = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            first.push(line);
            let url = said["http"].as_str()?;
            assert_eq!(said["docs"], format!("{url}/docs"));
            Some(url.strip_prefix("http://")?.to_owned())
        });
        let address = address.unwrap_or_else(|| panic!("it says where it serves: {first:?}"));
        let log = Arc::new(Mutex::new(first));
        let noted = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.lock().unwrap().push(line);
            }
        });
        Self { child, address, log, reading: Some(reading) }
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sets the largest size of the files that it writes, in bytes or `unlimited`.
    pub(super) fn limit_files(&self, size: &str) {
        let (pid, size) = (self.child.id().to_string(), format!("--fsize={size}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &size]).status().unwrap().success());
    }

    /// Sends a signal, such as `-TERM`.
    pub(super) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Sends a signal that ends it; returns the exit code, if it had one, and the whole log.
    pub(super) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let code = self.child.wait().unwrap().code();
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        (code, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The exit code and output of a command made by [`serve`] that does not start; fails the test if it serves.
pub(crate) fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        if line.contains(r#""message":"serving""#) {
            _ = child.kill();
        }
        said.push(line);
    }
    (child.wait().unwrap().code(), said.join("\n"))
}
