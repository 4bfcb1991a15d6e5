//! A server in a process of its own, and a client with one connection.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Time enough on a busy machine: for the tests in which no store fails.
pub(crate) const PATIENT: [&str; 2] = ["--store-timeout-ms", "10000"];

/// A `tollgate serve` in a process of its own, killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Node {
    /// A node over the store at `url`.
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        Self::start_with(url, arguments, |_, _| {})
    }

    /// A node over the store at `url` by the policies of `yaml`.
    pub(crate) fn start_with_policies(url: &str, arguments: &[&str], yaml: &str) -> Self {
        Self::start_with(url, arguments, |command, directory| {
            std::fs::write(directory.path().join("policies.yaml"), yaml).unwrap();
            command.args(["--catalog", "file:policies.yaml"]);
        })
    }

    /// A node whose command and directory are changed before it starts.
    pub(crate) fn start_with(
        url: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command, &TempDir),
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = tollgate(&directory);
        command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--store", url]);
        command.args(arguments).stderr(Stdio::piped());
        prepare(&mut command, &directory);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut first = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            first.push(line);
            let http = said["http"].as_str()?.strip_prefix("http://")?;
            Some(http.parse().unwrap())
        });
        let address = address.unwrap_or_else(|| panic!("it says where it serves: {first:?}"));
        let log = Arc::new(Mutex::new(first));
        let noted = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.lock().unwrap().push(line);
            }
        });
        Self { child, address, log, reading: Some(reading), _directory: directory }
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// How many lines of the log so far contain `text`.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// Ends the process and gives all that it has logged.
    pub(crate) fn end(mut self) -> String {
        self.kill();
        self.reading.take().map(JoinHandle::join);
        self.log.lock().unwrap().join("\n")
    }

    fn kill(&mut self) {
        // It may have ended by itself, which the test sees.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, with no configuration of its surroundings.
pub(crate) fn tollgate(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(directory.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
    command
}

/// What a check was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) degraded: bool,
    pub(crate) reason: Option<String>,
}

/// A client with one connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: address.to_string() }
    }

    /// Checks `user` and `model`. Every check is answered with 200.
    pub(crate) async fn check(&mut self, user: &str, model: &str) -> Decision {
        self.check_body(&format!(r#"{{"userId":"{user}","modelId":"{model}"}}"#)).await
    }

    /// Checks what `body` says.
    pub(crate) async fn check_body(&mut self, body: &str) -> Decision {
        let (status, text) = self.send("POST", "/rate-limit/check", body).await;
        assert_eq!(status, 200, "{text}");
        let said: Value = serde_json::from_str(&text).unwrap();
        Decision {
            allowed: said["allowed"].as_bool().unwrap(),
            degraded: said["degraded"].as_bool().unwrap(),
            reason: said["reason"].as_str().map(str::to_owned),
        }
    }

    /// The status and the body that `path` answers.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        self.send("GET", path, "").await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("host", &self.host);
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
