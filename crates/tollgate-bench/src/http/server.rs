//! A server in a separate process: started, observed and ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::stopwatch::now;

/// How long a server may take to print its address.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// How many lines of a program that does not start are shown.
const LAST_LINES: usize = 10;
/// The text before the port when a server prints its address.
const HOST: &str = "127.0.0.1:";

/// A running server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// What it prints after its address.
    lines: Receiver<String>,
    /// Its working directory, so that it finds no configuration and leaves nothing behind.
    _directory: TempDir,
}

impl Server {
    /// Starts `program`, which prints `127.0.0.1:` and its port when it listens.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self, String> {
        Self::start_with(name, program, arguments, &[])
    }

    /// The same, with these variables and no others.
    pub(crate) fn start_with(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let mut started = Started::spawn(program, arguments, variables)?;
        match address_in(&started.lines, "") {
            Ok(address) => Ok(started.at(name, address)),
            Err(problem) => {
                end(&mut started.child);
                Err(format!("{}: {problem}", program.display()))
            }
        }
    }

    /// The same, on one core.
    pub(crate) fn start_on_core(
        name: &'static str,
        core: u32,
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let (core, program) = (core.to_string(), program.to_string_lossy());
        let mut all = vec!["-c", &core, &program];
        all.extend(arguments);
        Self::start_with(name, Path::new("taskset"), &all, variables)
    }

    /// The same for a program that is told to listen at `address` and does not print it: it has started when `answers`.
    pub(crate) fn start_at(
        (name, address): (&'static str, SocketAddr),
        core: u32,
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        answers: impl Fn() -> bool,
    ) -> Result<Self, String> {
        let (core, path) = (core.to_string(), program.to_string_lossy());
        let mut all = vec!["-c", &core, &path];
        all.extend(arguments);
        let mut started = Started::spawn(Path::new("taskset"), &all, variables)?;
        let deadline = now() + START_TIMEOUT;
        loop {
            if answers() {
                return Ok(started.at(name, address));
            }
            let ended = started.child.try_wait().map_err(|error| format!("{path}: {error}"))?;
            if ended.is_some() || now() > deadline {
                end(&mut started.child);
                let problem = ended.map_or_else(
                    || format!("did not answer within {} s", START_TIMEOUT.as_secs()),
                    |status| format!("ended with {status}"),
                );
                return Err(format!("{path}: {problem}: {:?}", last_lines(&started.lines)));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address in the first line with `marker` that it prints after the line with its own address.
    pub(crate) fn address_after(&self, marker: &str) -> Result<SocketAddr, String> {
        address_in(&self.lines, marker)
    }

    /// The memory that it occupies, in MB.
    pub(crate) fn resident_mb(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kb.map(|kb| kb * 1_024.0 / 1e6).ok_or_else(|| format!("{path}: has no VmRSS"))
    }

    /// The CPU time of its threads, in user and kernel mode.
    pub(crate) fn cpu_time(&self) -> Result<Duration, String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let failed = |error: std::io::Error| format!("{tasks}: {error}");
        let mut total_ns = 0;
        for task in fs::read_dir(&tasks).map_err(failed)? {
            let path = task.map_err(failed)?.path().join("schedstat");
            // A thread may have ended since the list was read.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let run_ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            total_ns += run_ns.unwrap_or_default();
        }
        if total_ns == 0 {
            return Err(format!("{tasks}: no run time; the kernel keeps no schedstat"));
        }
        Ok(Duration::from_nanos(total_ns))
    }
}

/// A process that may not listen yet.
struct Started {
    child: Child,
    lines: Receiver<String>,
    directory: TempDir,
}

impl Started {
    fn spawn(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let directory = tempfile::tempdir().map_err(failed)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (sender, lines) = channel();
        read_lines(child.stdout.take(), sender.clone());
        read_lines(child.stderr.take(), sender);
        Ok(Self { child, lines, directory })
    }

    fn at(self, name: &'static str, address: SocketAddr) -> Server {
        let Self { child, lines, directory } = self;
        Server { name, child, address, lines, _directory: directory }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    _ = child.kill();
    _ = child.wait();
}

/// Sends each line of `stream` to the channel, and continues to read when nobody receives, so that the server never
/// blocks.
fn read_lines(stream: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            _ = sender.send(line);
        }
    });
}

/// The first address in a line with `marker`; the lines themselves if there is none.
fn address_in(lines: &Receiver<String>, marker: &str) -> Result<SocketAddr, String> {
    let mut said = String::new();
    while let Ok(line) = lines.recv_timeout(START_TIMEOUT) {
        if let Some(address) = address_in_line(&line).filter(|_| line.contains(marker)) {
            return Ok(address);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(format!("did not print its address, but: {said:?}"))
}

/// The last lines that a program printed.
fn last_lines(lines: &Receiver<String>) -> String {
    let all: Vec<String> = lines.try_iter().collect();
    all[all.len().saturating_sub(LAST_LINES)..].join("\n")
}

fn address_in_line(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once(HOST)?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let port: u16 = after[..digits].parse().ok()?;
    (port != 0).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_line() {
        for (line, port) in [
            ("http://127.0.0.1:4711", Some(4711)),
            (r#"{"http":"http://127.0.0.1:80/","message":"serving"}"#, Some(80)),
            ("asked for 127.0.0.1:0", None),
            ("0.0.0.0:80", None),
        ] {
            assert_eq!(address_in_line(line).map(|address| address.port()), port, "{line}");
        }
    }
}
