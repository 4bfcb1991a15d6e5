//! The load generator: HTTP/1.1 over kept-alive connections, one request in flight on each.
//!
//! It builds requests by overwriting the user in a buffer, and reads only the status, the length and the beginning of
//! the body of answers, so that it costs little compared with the servers.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::key::Draw;
use crate::stopwatch::now;

/// The number of users: with a limit of 100 for each, 20 million checks are admitted.
const USERS: u64 = 200_000;
/// Digits of a user's number.
const USER_DIGITS: usize = 8;
/// Checks of one batch.
const BATCH: usize = 1_000;
/// The longest head of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// What comes before the id of a lease in an answer.
const BEFORE_ID: &[u8] = br#""lease":{"id":""#;
/// The beginning of every answer's body: the check was admitted.
const ADMITTED: &[u8] = br#"{"allowed":true,"#;

/// Load on one server.
#[derive(Debug)]
pub(super) struct Load {
    connections: JoinSet<Result<Vec<Duration>, String>>,
    phase: Arc<AtomicU8>,
    measuring_since: Instant,
}

/// What is sent, and counted as one.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// A check.
    Check,
    /// A reservation, and after its answer the settlement.
    Lease,
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// The answers of a server while it was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
    /// Ascending.
    latencies: Vec<Duration>,
}

impl Outcome {
    /// This percentile of the latencies, in microseconds.
    pub(super) fn latency_us(&self, percent: usize) -> f64 {
        self.latency_us_at(10 * percent)
    }

    /// This per-mille quantile of the latencies, in microseconds.
    pub(super) fn latency_us_at(&self, per_mille: usize) -> f64 {
        let index = (self.latencies.len() * per_mille / 1_000).min(self.latencies.len().max(1) - 1);
        self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    }
}

impl Load {
    /// Connects and starts to send; each connection sends the next request as soon as it gets an answer.
    pub(super) async fn start(
        address: SocketAddr,
        connections: u32,
        seed: u64,
    ) -> Result<Self, String> {
        Self::start_paced(address, connections, seed, None).await
    }

    /// The same, with this many users.
    pub(super) async fn start_among(
        address: SocketAddr,
        connections: u32,
        seed: u64,
        users: u64,
    ) -> Result<Self, String> {
        Self::begin(address, connections, seed, users, None, Asked::Check).await
    }

    /// The same as [`Load::start`], but with leases: each is reserved and settled.
    pub(super) async fn start_leases(
        address: SocketAddr,
        connections: u32,
        seed: u64,
    ) -> Result<Self, String> {
        Self::begin(address, connections, seed, USERS, None, Asked::Lease).await
    }

    /// Connects and starts to send `per_second` requests a second in total, whether the server keeps up or not: a
    /// request that waits behind a slow answer counts as late.
    pub(super) async fn start_paced(
        address: SocketAddr,
        connections: u32,
        seed: u64,
        per_second: Option<f64>,
    ) -> Result<Self, String> {
        Self::begin(address, connections, seed, USERS, per_second, Asked::Check).await
    }

    async fn begin(
        address: SocketAddr,
        connections: u32,
        seed: u64,
        users: u64,
        per_second: Option<f64>,
        asked: Asked,
    ) -> Result<Self, String> {
        let phase = Arc::new(AtomicU8::new(WARMING_UP));
        let mut running = JoinSet::new();
        let interval =
            per_second.map(|rate| Duration::from_secs_f64(f64::from(connections) / rate));
        for connection in 0..connections {
            let seed = seed * u64::from(connections) + u64::from(connection);
            let mut one = Asker::connect(address, seed, users).await?;
            if let Asked::Lease = asked {
                one.request = Request::to("/rate-limit/leases");
            }
            let schedule = interval.map(|interval| Schedule {
                next: now() + interval * connection / connections,
                interval,
            });
            running.spawn(one.ask_until_the_end(asked, schedule, Arc::clone(&phase)));
        }
        Ok(Self { connections: running, phase, measuring_since: now() })
    }

    /// Starts to count answers.
    pub(super) fn begin_measuring(&mut self) {
        self.measuring_since = now();
        // Relaxed: all connections are tasks of one thread.
        self.phase.store(MEASURING, Ordering::Relaxed);
    }

    /// Stops counting; waits for requests in flight.
    pub(super) async fn finish(mut self) -> Result<Outcome, String> {
        let elapsed = self.measuring_since.elapsed();
        // Relaxed: see `begin_measuring`.
        self.phase.store(ENDING, Ordering::Relaxed);
        let mut latencies = Vec::new();
        while let Some(connection) = self.connections.join_next().await {
            latencies.extend(connection.map_err(|error| error.to_string())??);
        }
        latencies.sort_unstable();
        Ok(Outcome { requests: latencies.len() as u64, elapsed, latencies })
    }
}

/// Sends one check and returns the body of the answer.
pub(super) async fn ask_once(address: SocketAddr) -> Result<String, String> {
    let mut asker = Asker::connect(address, 0, USERS).await?;
    let body = asker.ask().await?;
    String::from_utf8(body.to_vec()).map_err(|error| format!("{address}: {error}"))
}

/// Sends batches of [`BATCH`] checks of random users one after the other, and measures how long each takes, including
/// writing and reading the body.
pub(super) async fn ask_batches(address: SocketAddr, batches: usize) -> Result<Outcome, String> {
    let mut asker = Asker::connect(address, 0, USERS).await?;
    let (mut latencies, start) = (Vec::with_capacity(batches), now());
    for _ in 0..batches {
        let request = asker.batch();
        let sent_at = now();
        asker.send(&request).await?;
        latencies.push(sent_at.elapsed());
        let admitted = String::from_utf8_lossy(&asker.answer).matches(r#""allowed":true"#).count();
        if admitted < BATCH {
            return Err(format!("{address}: of {BATCH} checks {admitted} were admitted"));
        }
    }
    latencies.sort_unstable();
    Ok(Outcome { requests: batches as u64, elapsed: start.elapsed(), latencies })
}

/// The id of the user with this number.
pub(super) fn user_id(number: u64) -> String {
    format!("user-{number:0USER_DIGITS$}")
}

/// The time at which a connection sends, whatever was answered.
struct Schedule {
    next: Instant,
    interval: Duration,
}

impl Schedule {
    /// Waits for the next turn; returns when it is, or was.
    async fn wait(&mut self) -> Instant {
        let turn = self.next;
        tokio::time::sleep_until(turn.into()).await;
        self.next = turn + self.interval;
        turn
    }
}

/// One connection.
struct Asker {
    address: SocketAddr,
    stream: TcpStream,
    request: Request,
    draw: Draw,
    answer: Vec<u8>,
}

impl Asker {
    async fn connect(address: SocketAddr, seed: u64, users: u64) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (request, draw) = (Request::new(), Draw::new(seed, users));
        Ok(Self { address, stream, request, draw, answer: Vec::with_capacity(MAX_ANSWER_BYTES) })
    }

    /// The latencies of the answers while measuring.
    async fn ask_until_the_end(
        mut self,
        what: Asked,
        mut schedule: Option<Schedule>,
        phase: Arc<AtomicU8>,
    ) -> Result<Vec<Duration>, String> {
        let mut latencies = Vec::new();
        loop {
            let asked = match &mut schedule {
                Some(schedule) => schedule.wait().await,
                None => now(),
            };
            self.ask().await?;
            if let Asked::Lease = what {
                self.settle().await?;
            }
            // Relaxed: see `begin_measuring`.
            match phase.load(Ordering::Relaxed) {
                WARMING_UP => {}
                MEASURING => latencies.push(asked.elapsed()),
                _ => return Ok(latencies),
            }
        }
    }

    /// Sends one check for a random user; returns the body of the answer, which must admit.
    async fn ask(&mut self) -> Result<&[u8], String> {
        self.request.set_user(self.draw.next_index());
        let request = std::mem::take(&mut self.request.bytes);
        let sent = self.send(&request).await;
        self.request.bytes = request;
        let (address, head) = (self.address, sent?);
        let body = self.answer.get(head.bytes..).unwrap_or_default();
        if head.is_ok && body.starts_with(ADMITTED) {
            Ok(body)
        } else {
            Err(format!("{address}: not admitted: {}", String::from_utf8_lossy(&self.answer)))
        }
    }

    /// Settles the lease of the last answer.
    async fn settle(&mut self) -> Result<(), String> {
        let (address, body) = (self.address, r#"{"seq":1,"usage":{"requests":1}}"#);
        let answer = &self.answer;
        let begin = answer.windows(BEFORE_ID.len()).position(|window| window == BEFORE_ID);
        let id = begin
            .and_then(|begin| answer[begin + BEFORE_ID.len()..].split(|byte| *byte == b'"').next());
        let id =
            id.ok_or_else(|| format!("{address}: no lease: {}", String::from_utf8_lossy(answer)))?;
        let path = format!("/rate-limit/leases/{}/settle", String::from_utf8_lossy(id));
        let head = self.send((head_of(&path, body.len()) + body).as_bytes()).await?;
        if head.is_ok {
            return Ok(());
        }
        Err(format!("{address}: not settled: {}", String::from_utf8_lossy(&self.answer)))
    }

    /// Sends `request` and reads the answer to it.
    async fn send(&mut self, request: &[u8]) -> Result<Head, String> {
        let address = self.address;
        let failed = |error: std::io::Error| format!("{address}: {error}");
        self.stream.write_all(request).await.map_err(failed)?;
        self.read_answer().await.map_err(failed)
    }

    /// A request of [`BATCH`] checks.
    fn batch(&mut self) -> Vec<u8> {
        let check = |number| format!(r#"{{"userId":"{}","modelId":"gpt-4"}}"#, user_id(number));
        let checks: Vec<_> = (0..BATCH).map(|_| check(self.draw.next_index())).collect();
        let body = format!(r#"{{"checks":[{}]}}"#, checks.join(","));
        let head = head_of("/rate-limit/check/batch", body.len());
        (head + &body).into_bytes()
    }

    async fn read_answer(&mut self) -> std::io::Result<Head> {
        self.answer.clear();
        let mut head = None;
        loop {
            // Waiting first avoids a read that would block.
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.answer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            head = head.or_else(|| Head::parse(&self.answer));
            match head {
                Some(head) if self.answer.len() >= head.bytes + head.body_bytes => return Ok(head),
                None if self.answer.len() >= MAX_ANSWER_BYTES => {
                    return Err(ErrorKind::InvalidData.into());
                }
                _ => {}
            }
        }
    }
}

/// A request in which the user can be overwritten.
struct Request {
    bytes: Vec<u8>,
    user_at: usize,
}

impl Request {
    fn new() -> Self {
        Self::to("/rate-limit/check")
    }

    fn to(path: &str) -> Self {
        let zeros = "0".repeat(USER_DIGITS);
        let before_user = r#"{"userId":"user-"#;
        let body = format!(r#"{before_user}{zeros}","modelId":"gpt-4"}}"#);
        let head = head_of(path, body.len());
        let user_at = head.len() + before_user.len();
        Self { bytes: (head + &body).into_bytes(), user_at }
    }

    fn set_user(&mut self, mut number: u64) {
        for digit in self.bytes[self.user_at..][..USER_DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

fn head_of(path: &str, body_bytes: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {body_bytes}\r\n\r\n"
    )
}

/// What the generator needs from an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// The length of the head, including its empty line.
    bytes: usize,
    body_bytes: usize,
    is_ok: bool,
}

impl Head {
    /// `None` until the head is complete. An answer without a length has no body.
    fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = answer[..end].split(|byte| *byte == b'\n');
        let body_bytes = lines.find_map(content_length).unwrap_or_default();
        Some(Self { bytes: end + 4, body_bytes, is_ok: answer.starts_with(b"HTTP/1.1 20") })
    }
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_user_and_its_length() {
        let mut request = Request::new();
        request.set_user(4_711);
        let text = String::from_utf8(request.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"userId":"user-00004711","modelId":"gpt-4"}"#);
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    }

    #[test]
    fn a_head_is_parsed_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 12\r\n\r\nhello";
        let head = Head { bytes: answer.len() - 5, body_bytes: 12, is_ok: true };
        assert_eq!(Head::parse(answer), Some(head));
        assert_eq!(Head::parse(&answer[..head.bytes - 1]), None);
        let refused = Head::parse(b"HTTP/1.1 500 Oh\r\n\r\n").unwrap();
        assert_eq!((refused.is_ok, refused.body_bytes), (false, 0));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let latencies = (1..=200).map(Duration::from_micros).collect();
        let outcome = Outcome { requests: 200, elapsed: Duration::ZERO, latencies };
        for (percent, expected_us) in [(0, 1.0), (50, 101.0), (99, 199.0), (100, 200.0)] {
            assert!((outcome.latency_us(percent) - expected_us).abs() < 1e-6, "{percent}");
        }
        let none = Outcome { requests: 0, elapsed: Duration::ZERO, latencies: Vec::new() };
        assert!(none.latency_us(50).is_nan());
    }
}
