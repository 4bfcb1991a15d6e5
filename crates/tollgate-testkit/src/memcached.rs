//! Real memcached servers for tests. Each is a process with its own port, and is killed when it is dropped.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::redis::{KEEPER, free_port, wait_for};

/// How long a command of a test may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A real memcached server.
#[derive(Debug)]
pub struct MemcachedServer {
    keeper: Child,
    pid: String,
    port: u16,
}

impl MemcachedServer {
    /// A server that evicts nothing, with 64 MB.
    pub fn start() -> Self {
        Self::start_with(&["-M"])
    }

    /// A server with these arguments of `memcached`, such as `["-m", "1"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments)
    }

    /// The same on this port, which must be free.
    pub fn start_on(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        // The first argument is a folder that the keeper removes at the end; memcached has none.
        command.args(["-c", KEEPER, "sh", "", "memcached", "-l", "127.0.0.1", "-U", "0"]);
        command.args(["-p", &port.to_string(), "-u", "nobody"]).args(arguments);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let server = Self { keeper, pid: pid.trim().to_owned(), port };
        wait_for("memcached to start (scripts/setup installs it)", || {
            server.try_command("version").is_ok()
        });
        server
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `memcached://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("memcached://127.0.0.1:{}", self.port)
    }

    /// The lines of the answer to a command without data; an error of memcached fails the test.
    pub fn command(&self, command: &str) -> Vec<String> {
        self.try_command(command).unwrap()
    }

    fn try_command(&self, command: &str) -> std::io::Result<Vec<String>> {
        // The answer to `mn` ends that of the command.
        self.lines(&format!("{command}\r\nmn"), "MN")
    }

    /// The lines of an answer that ends with the line `end`.
    fn lines(&self, command: &str, end: &str) -> std::io::Result<Vec<String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "{command}\r\n")?;
        let mut lines = Vec::new();
        for line in BufReader::new(stream).lines() {
            match line?.trim_end() {
                line if line == end => return Ok(lines),
                "END" => {}
                line => lines.push(line.to_owned()),
            }
        }
        Err(std::io::Error::other(format!("memcached closed the connection after {lines:?}")))
    }

    /// Stores `value` under `key` for a minute, whatever is there.
    pub fn set(&self, key: &str, value: &str) {
        let stored = self.command(&format!("set {key} 0 60 {}\r\n{value}", value.len()));
        assert_eq!(stored, ["STORED"], "{key}");
    }

    /// Stores values of up to 512 bytes until none fits any more, of whatever size.
    pub fn fill(&self) {
        const AT_ONCE: usize = 500;
        let mut number = 0_u64;
        for length in (1..=512).rev().step_by(32) {
            let value = "x".repeat(length);
            loop {
                let mut sets = String::new();
                for _ in 0..AT_ONCE {
                    number += 1;
                    // Writing to a `String` cannot fail.
                    let _ = write!(sets, "set filler-{number} 0 0 {length}\r\n{value}\r\n");
                }
                let answers = self.lines(&format!("{sets}mn"), "MN").unwrap();
                if answers.iter().any(|answer| answer.starts_with("SERVER_ERROR")) {
                    break;
                }
            }
        }
    }

    /// A number of `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.command("stats");
        let named = |line: &String| line.strip_prefix(&format!("STAT {name} "))?.parse().ok();
        stats.iter().find_map(named).unwrap()
    }

    /// The seconds until the value under `key` expires: -1 if it never does, `None` if there is no value.
    pub fn life_s(&self, key: &str) -> Option<i64> {
        let found = self.command(&format!("mg {key} t"));
        found.first()?.strip_prefix("HD t")?.parse().ok()
    }

    /// The keys that have a value, each with the seconds until it expires; `None` if it never does.
    pub fn keys(&self) -> Vec<(String, Option<i64>)> {
        let now = i64::try_from(self.stat("time")).unwrap();
        let field = |line: &str, name: &str| {
            let fields = line.split(' ').filter_map(|field| field.strip_prefix(name));
            fields.map(str::to_owned).next()
        };
        let of = |line: &String| {
            // Every other letter that keys of the store have is written as it is.
            let key = field(line, "key=")?.replace("%3A", ":");
            let expires: i64 = field(line, "exp=")?.parse().ok()?;
            Some((key, (expires >= 0).then_some(expires - now)))
        };
        // It takes the connection over, so nothing can be sent behind it.
        self.lines("lru_crawler metadump all", "END").unwrap().iter().filter_map(of).collect()
    }

    /// Pauses the process: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
        // Its threads stop one after the other.
        let is_stopped = |thread: &std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        wait_for("memcached to stop", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
            threads.map_while(Result::ok).all(|thread| is_stopped(&thread))
        });
    }

    /// Resumes a paused process.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Ends the process at once, with SIGKILL.
    pub fn kill(&self) {
        self.signal("KILL");
        wait_for("memcached to end", || self.try_command("version").is_err());
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }
}

impl Drop for MemcachedServer {
    fn drop(&mut self) {
        // Its parent process ends the server; the test may have killed it already.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
