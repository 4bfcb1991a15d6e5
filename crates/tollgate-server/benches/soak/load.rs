//! The clients: each sends checks by a schedule that does not wait for answers, and records the answers.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::limits::{Charge, Draw};
use crate::node::Node;
use crate::plan::Plan;

/// The number of open connections, over all nodes.
const CLIENTS: u32 = 60;
/// How long an answer may take before the client considers it lost: far longer than P3 allows.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to one check, with times since the soak began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckOutcome {
    pub(crate) node: usize,
    pub(crate) due: Duration,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
    pub(crate) degraded: bool,
    pub(crate) allowed: bool,
}

/// A charge of a check that was admitted: it was made between `sent` and `received`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) charge: Charge,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
}

/// The records of all clients.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) answers: Vec<CheckOutcome>,
    pub(crate) admissions: Vec<Admission>,
    /// Checks that were not answered, or not with 200: the first few as text.
    pub(crate) failures: Vec<String>,
}

impl Records {
    fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.admissions.extend(other.admissions);
        self.failures.extend(other.failures);
    }
}

/// Sends checks to `nodes` from `begin` until the plan's load is over.
pub(crate) async fn run(plan: Plan, nodes: &[Node], start: Instant) -> Records {
    let interval = Duration::from_secs(1) * CLIENTS / plan.checks_per_second;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let node = number as usize % nodes.len();
        let client = Client {
            node,
            address: nodes[node].address,
            draw: Draw::new(number.into()),
            start,
            connection: None,
            records: Records::default(),
        };
        let first = start + interval * number / CLIENTS;
        clients.spawn(client.run(first, interval, start + plan.load));
    }
    let mut records = Records::default();
    while let Some(client) = clients.join_next().await {
        match client {
            Ok(noted) => records.add(noted),
            Err(error) => records.failures.push(format!("a client: {error}")),
        }
    }
    records
}

/// A client with one connection, which is made again if it is lost.
struct Client {
    node: usize,
    address: SocketAddr,
    draw: Draw,
    start: Instant,
    connection: Option<SendRequest<Full<Bytes>>>,
    records: Records,
}

impl Client {
    async fn run(mut self, first: Instant, interval: Duration, end: Instant) -> Records {
        let mut due = first;
        while due < end {
            sleep_until(due).await;
            if let Err(problem) = self.check(due).await {
                self.connection = None;
                self.records.failures.push(format!("{:?}: {problem}", due - self.start));
            }
            due += interval;
        }
        self.records
    }

    async fn check(&mut self, due: Instant) -> Result<(), String> {
        let check = self.draw.check();
        let sent = self.start.elapsed();
        let asked = tokio::time::timeout(PATIENCE, self.ask(check.body));
        let (status, body) = asked.await.map_err(|_| format!("no answer in {PATIENCE:?}"))??;
        let received = self.start.elapsed();
        if status != 200 {
            return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
        }
        let said: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let member = |name: &str| said[name].as_bool().ok_or(format!("no {name} in {said}"));
        let (allowed, degraded) = (member("allowed")?, member("degraded")?);
        let (node, due) = (self.node, due - self.start);
        self.records.answers.push(CheckOutcome { node, due, sent, received, degraded, allowed });
        if allowed {
            let admission = |charge| Admission { charge, sent, received };
            self.records.admissions.extend(check.charges.into_iter().map(admission));
        }
        Ok(())
    }

    async fn ask(&mut self, body: String) -> Result<(u16, Bytes), String> {
        let text = |error: hyper::Error| error.to_string();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await.map_err(text)?;
        let request = Request::post("/rate-limit/check")
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(text)?.to_bytes();
        self.connection = Some(connection);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(self.address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A check as bytes, for clients that write it themselves.
pub(crate) fn request_bytes(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /rate-limit/check HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The status and the body of `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", address.to_string());
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
