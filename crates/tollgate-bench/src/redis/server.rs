//! A Redis server for a benchmark, and the simplest possible client: one connection, requests in batches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How often to try to connect to the server while it starts, and the pause between two attempts.
const MAX_ATTEMPTS: u32 = 6_000;
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// A `redis-server` that keeps nothing on disk, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("redis-server: {error}");
        let folder = tempfile::tempdir().map_err(problem)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(problem)?;
        let port = listener.local_addr().map_err(problem)?.port();
        drop(listener);
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--dir"]).arg(folder.path());
        let child = command.stdout(Stdio::null()).spawn().map_err(problem)?;
        let server = Self { child, port, _folder: folder };
        for _ in 0..MAX_ATTEMPTS {
            if let Ok(mut client) = Client::connect(port)
                && client.ask(&[b"PING"]).is_ok()
            {
                return Ok(server);
            }
            std::thread::sleep(ATTEMPT_EVERY);
        }
        Err(format!("redis-server has not started on port {port}"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The answer to one command; the parts of a list are joined.
    pub(crate) fn ask(&mut self, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut request = Vec::new();
        write_command(&mut request, parts);
        self.ask_all(&request, 1)
    }

    /// The answer to the last of `count` commands in `requests`.
    pub(crate) fn ask_all(&mut self, requests: &[u8], count: usize) -> Result<Vec<u8>, String> {
        self.stream.get_mut().write_all(requests).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        for _ in 0..count {
            answer.clear();
            self.read(&mut answer)?;
        }
        Ok(answer)
    }

    fn read(&mut self, answer: &mut Vec<u8>) -> Result<(), String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|error| error.to_string())?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or("Redis closed the connection")?;
        match kind {
            "-" => return Err(rest.to_owned()),
            "$" if rest != "-1" => {
                let length: usize = rest.parse().map_err(|_| line.to_owned())?;
                let start = answer.len();
                answer.resize(start + length, 0);
                let bytes = &mut answer[start..];
                self.stream.read_exact(bytes).map_err(|error| error.to_string())?;
                let mut end = [0; 2];
                self.stream.read_exact(&mut end).map_err(|error| error.to_string())?;
            }
            "*" => {
                for _ in 0..rest.parse().unwrap_or(0) {
                    self.read(answer)?;
                }
            }
            _ => answer.extend_from_slice(rest.as_bytes()),
        }
        Ok(())
    }

    /// The time of all scripts since the statistics were reset, in microseconds.
    pub(crate) fn script_us(&mut self) -> Result<f64, String> {
        self.command_stat("evalsha", "usec")
    }

    /// The time of one call of `command`, on the average.
    pub(crate) fn us_of_one(&mut self, command: &str) -> Result<f64, String> {
        self.command_stat(command, "usec_per_call")
    }

    fn command_stat(&mut self, command: &str, field: &str) -> Result<f64, String> {
        let info = self.ask(&[b"INFO", b"commandstats"])?;
        let text = String::from_utf8_lossy(&info);
        let (line, field) = (format!("cmdstat_{command}:"), format!("{field}="));
        let line = text.lines().find_map(|one| one.strip_prefix(&line));
        let value = line.and_then(|line| line.split(',').find_map(|f| f.strip_prefix(&field)));
        value.and_then(|value| value.parse().ok()).ok_or(format!("INFO names no {command}"))
    }

    /// The version of Redis.
    pub(crate) fn version(&mut self) -> Result<String, String> {
        let info = self.ask(&[b"INFO", b"server"])?;
        let text = String::from_utf8_lossy(&info);
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version.map(str::to_owned).ok_or("INFO names no version".to_owned())
    }
}

/// Appends a command in the Redis protocol.
pub(crate) fn write_command(request: &mut Vec<u8>, parts: &[&[u8]]) {
    request.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
}
