//! A node: a server over a store, in a separate process.

use std::process::Command;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::process::{Process, serve};
use super::{Client, until};

/// Enough time on a busy machine, for what a test does while no store fails.
pub(crate) const PATIENT: [&str; 2] = ["--store-timeout-ms", "10000"];

/// A `tollgate serve` in a separate process, killed when it is dropped.
pub(crate) struct Node {
    process: Process,
    _directory: TempDir,
}

impl Node {
    /// A node over the store at `url`.
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        Self::start_with(arguments, |command, _| {
            command.args(["--store", url]);
        })
    }

    /// A node over the store at `url` with the policies of `yaml`.
    pub(crate) fn start_with_policies(url: &str, arguments: &[&str], yaml: &str) -> Self {
        Self::start_with(arguments, |command, directory| {
            std::fs::write(directory.path().join("policies.yaml"), yaml).unwrap();
            command.args(["--store", url, "--catalog", "file:policies.yaml"]);
        })
    }

    /// A node whose command and directory are prepared before it starts.
    pub(crate) fn start_with(
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command, &TempDir),
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = serve(&directory);
        command.args(arguments);
        prepare(&mut command, &directory);
        let process = Process::start(&mut command);
        Self { process, _directory: directory }
    }

    /// A client with a separate connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.process.address).await
    }

    /// A number of `/metrics`.
    pub(crate) async fn counted(&self, series: &str) -> u64 {
        let (_, text) = self.client().await.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// How many lines of the log so far contain `text`.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.process.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Sets the largest size of the files that the process writes, in bytes or `unlimited`.
    pub(crate) fn limit_files(&self, size: &str) {
        self.process.limit_files(size);
    }

    /// Asks the process to end, and does not wait.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal("-TERM");
    }

    /// A connection with most of a request, which stays in flight until the rest is sent.
    pub(crate) async fn half_request(&self) -> TcpStream {
        const IN_FLIGHT: &str = "tollgate_http_requests_in_flight";
        let mut stream = TcpStream::connect(&self.process.address).await.unwrap();
        let head = "POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 9\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The request that asks is one too.
        until("the request is in flight", async || self.counted(IN_FLIGHT).await == 2).await;
        stream
    }

    /// Kills the process and returns its whole log.
    pub(crate) fn end(self) -> String {
        self.process.end("-KILL").1
    }

    /// Asks the process to end; returns its exit code and its whole log.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.process.end("-TERM")
    }
}
