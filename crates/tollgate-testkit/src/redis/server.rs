//! One `redis-server`, or one Sentinel.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to start. Far longer than needed, so that only a server that never starts fails a test.
const START: Duration = Duration::from_mins(2);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a command of a test may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The variable that names the program to start in place of `redis-server`, such as Valkey.
const PROGRAM_VARIABLE: &str = "TOLLGATE_TEST_REDIS_SERVER";

/// Runs a server until its standard input ends, which happens however this process ends: a server in a `static` is
/// never dropped.
pub(crate) const KEEPER: &str = r#"folder=$1; shift; "$@" >/dev/null & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; rm -rf "$folder""#;

/// A real Redis server that keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    keeper: Child,
    pid: String,
    port: u16,
    _folder: TempDir,
}

impl RedisServer {
    /// A server with default settings.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with additional settings, as arguments of `redis-server`: `["--maxmemory", "10mb"]`.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(free_port(), settings)
    }

    /// A server that also listens on a Unix socket, and the path of the socket.
    pub fn start_with_socket() -> (Self, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let (mut command, port) = (kept(&folder), free_port());
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--dir"]).arg(folder.path());
        command.arg("--unixsocket").arg(&path);
        (Self::spawn(command, port, folder), path)
    }

    /// A server that also uses TLS, on another port of `localhost`; that port, and the file with the certificate to
    /// trust.
    pub fn start_with_tls() -> (Self, u16, TempDir, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = (files.path().join("server.crt"), files.path().join("server.key"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let server = Self::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-cert-file",
            &text(&certificate),
            "--tls-key-file",
            &text(&key),
        ]);
        (server, port, files, certificate)
    }

    /// A server on this port, which must be free.
    pub fn start_on(port: u16, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = kept(&folder);
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--dir"]).arg(folder.path()).args(settings);
        Self::spawn(command, port, folder)
    }

    /// A Sentinel that monitors `primary` under the name `main`.
    pub fn start_sentinel(primary: u16, quorum: u8) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\nsentinel monitor main 127.0.0.1 {primary} {quorum}\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = kept(&folder);
        command.arg(&file).args(["--sentinel", "--dir"]).arg(folder.path());
        Self::spawn(command, port, folder)
    }

    fn spawn(mut command: Command, port: u16, folder: TempDir) -> Self {
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        let mut output = BufReader::new(keeper.stdout.take().unwrap());
        output.read_line(&mut pid).unwrap();
        let server = Self { keeper, pid: pid.trim().to_owned(), port, _folder: folder };
        wait_for("redis-server to start (scripts/setup installs it)", || {
            // A server that requires a password has also started.
            let said = server.try_command(&["PING"]);
            said.is_ok() || said.is_err_and(|error| error.starts_with("NOAUTH"))
        });
        server
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The answer to a command, as lines; an error of Redis fails the test.
    pub fn command(&self, arguments: &[&str]) -> Vec<String> {
        self.try_command(arguments).unwrap()
    }

    /// The answer to a command, as lines, or the error of Redis.
    pub fn try_command(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(text)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(text)?;
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            // Writing to a `String` cannot fail.
            let _ = write!(request, "${}\r\n{argument}\r\n", argument.len());
        }
        stream.write_all(request.as_bytes()).map_err(text)?;
        let mut lines = Vec::new();
        read_answer(&mut BufReader::new(stream), &mut lines)?;
        Ok(lines)
    }

    /// Pauses the process: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes a paused process.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Ends the process at once, with SIGKILL.
    pub fn kill(&self) {
        self.signal("KILL");
        wait_for("redis-server to end", || self.try_command(&["PING"]).is_err());
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid.clone()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> Option<String> {
        let lines = self.command(&["INFO", "everything"]);
        let fields = lines.iter().flat_map(|text| text.lines());
        fields
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == field)
            .map(|(_, value)| value.trim().to_owned())
    }

    /// Waits until its only replica has confirmed every write so far, of whichever connection. (WAIT is about the writes of
    /// the connection that sends it.)
    pub fn wait_until_replicated(&self) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let written = number(self.info("master_repl_offset").as_deref());
        wait_for("the replica to have every write", || {
            let replica = self.info("slave0").unwrap_or_default();
            let confirmed = replica.split(',').find_map(|field| field.strip_prefix("offset="));
            number(confirmed).is_some_and(|confirmed| Some(confirmed) >= written)
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Its parent process ends the server; the test may have killed it already.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The start of a command that runs the server for as long as this process lives.
fn kept(folder: &TempDir) -> Command {
    let program = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(folder.path()).arg(program);
    command
}

fn read_answer(stream: &mut impl BufRead, lines: &mut Vec<String>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut line = String::new();
    stream.read_line(&mut line).map_err(text)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or("the connection was closed")?;
    match kind {
        "-" => return Err(rest.to_owned()),
        "$" if rest != "-1" => {
            let length: usize = rest.parse().map_err(|_| line.to_owned())?;
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).map_err(text)?;
            lines.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        "*" => {
            for _ in 0..rest.parse().unwrap_or(0) {
                read_answer(stream, lines)?;
            }
        }
        _ => lines.push(rest.to_owned()),
    }
    Ok(())
}

/// A free port on 127.0.0.1 whose Cluster bus port (10,000 above) is valid.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let bus = port.checked_add(10_000);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

/// Checks every few milliseconds whether `is_so` holds; fails the test if it takes too long.
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let looks = START.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if is_so() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    panic!("waited {START:?} for {what}");
}
