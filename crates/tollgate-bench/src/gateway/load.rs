//! The load generator: chat completions over kept-alive connections, one in flight on each.
//!
//! It reads of an answer what it must: the status, the length, and where it ends. So it costs little compared with the servers.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::stopwatch::now;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// The beginning of an event of a stream.
const EVENT: &[u8] = b"data:";
/// The longest wait for the answers in flight when a measurement ends.
const LONGEST_ANSWER: Duration = Duration::from_mins(1);

/// Where requests go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) address: SocketAddr,
    pub(super) api_key: &'a str,
    /// Further header fields, a line each.
    pub(super) fields: &'a str,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    is_stream: bool,
    tokens: u32,
    pace_ms: u32,
}

impl Work {
    /// An answer of 20 tokens in one piece.
    pub(super) const WHOLE: Self = Self { is_stream: false, tokens: 20, pace_ms: 0 };
    /// A stream of 200 tokens, as fast as it goes.
    pub(super) const LONG_STREAM: Self = Self { is_stream: true, tokens: 200, pace_ms: 0 };
    /// A stream that lasts a second.
    pub(super) const SLOW_STREAM: Self = Self { is_stream: true, tokens: 20, pace_ms: 50 };

    pub(super) fn request(self, target: Target<'_>) -> Vec<u8> {
        let body = format!(
            r#"{{"model":"gpt-4","stream":{},"max_tokens":{},"messages":[{{"role":"user","content":"Tell me about rate limits."}}]}}"#,
            self.is_stream, self.tokens
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\n{}x-mock: tokens={}, pace-ms={}\r\ncontent-length: {}\r\n\r\n",
            target.address,
            target.api_key,
            target.fields,
            self.tokens,
            self.pace_ms,
            body.len()
        );
        (head + &body).into_bytes()
    }
}

/// Load on one server.
#[derive(Debug)]
pub(super) struct Load {
    connections: JoinSet<Result<Vec<Answered>, String>>,
    counts: Arc<Counts>,
    measuring_since: Instant,
}

/// What all connections share.
#[derive(Debug)]
struct Counts {
    phase: AtomicU8,
    /// The events of streams that arrived while measuring.
    events: AtomicU64,
}

impl Counts {
    fn phase(&self) -> u8 {
        // Relaxed: all connections are tasks of one thread.
        self.phase.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: u8) {
        // Relaxed: see `phase`.
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn add_events(&self, events: usize) {
        if self.phase() == MEASURING {
            // Relaxed: see `phase`.
            self.events.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// One answer.
#[derive(Clone, Copy, Debug)]
struct Answered {
    first_byte: Duration,
    whole: Duration,
}

/// The answers of a server while it was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) elapsed: Duration,
    /// The events of streams that arrived meanwhile, also those of streams that began before or ended later.
    pub(super) events: u64,
    /// Ascending.
    first_bytes: Vec<Duration>,
    /// Ascending.
    wholes: Vec<Duration>,
}

impl Outcome {
    pub(super) fn requests(&self) -> u64 {
        self.wholes.len() as u64
    }

    /// This percentile of the latencies of whole answers, in milliseconds.
    pub(super) fn latency_ms(&self, percent: usize) -> f64 {
        percentile_ms(&self.wholes, percent)
    }

    /// The same until the first byte of the body.
    pub(super) fn first_byte_ms(&self, percent: usize) -> f64 {
        percentile_ms(&self.first_bytes, percent)
    }
}

fn percentile_ms(ascending: &[Duration], percent: usize) -> f64 {
    let index = (ascending.len() * percent / 100).min(ascending.len().max(1) - 1);
    ascending.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

impl Load {
    /// Connects and starts to send: each connection as soon as it has an answer, or all together `per_second` requests a second, whether
    /// the server keeps up or not.
    pub(super) async fn start(
        target: Target<'_>,
        connections: u32,
        per_second: Option<f64>,
        work: Work,
    ) -> Result<Self, String> {
        let (phase, events) = (AtomicU8::new(WARMING_UP), AtomicU64::new(0));
        let counts = Arc::new(Counts { phase, events });
        let mut running = JoinSet::new();
        let interval =
            per_second.map(|rate| Duration::from_secs_f64(f64::from(connections) / rate));
        for connection in 0..connections {
            let asker = Asker::connect(target, work, Arc::clone(&counts)).await?;
            // Streams do not begin all at once.
            let begin =
                interval.unwrap_or(Duration::from_millis(u64::from(work.pace_ms * work.tokens)));
            let first = now() + begin * connection / connections;
            running.spawn(asker.ask_until_the_end(first, interval));
        }
        Ok(Self { connections: running, counts, measuring_since: now() })
    }

    /// Starts to count answers.
    pub(super) fn begin_measuring(&mut self) {
        self.measuring_since = now();
        self.counts.enter(MEASURING);
    }

    /// Stops counting; waits for requests in flight.
    pub(super) async fn finish(mut self) -> Result<Outcome, String> {
        let elapsed = self.measuring_since.elapsed();
        self.counts.enter(ENDING);
        let mut all = Vec::new();
        let end = now() + LONGEST_ANSWER;
        while let Some(connection) =
            tokio::time::timeout_at(end.into(), self.connections.join_next())
                .await
                .map_err(|_| format!("an answer took longer than {} s", LONGEST_ANSWER.as_secs()))?
        {
            all.extend(connection.map_err(|error| error.to_string())??);
        }
        let sorted = |of: fn(&Answered) -> Duration| {
            let mut durations: Vec<_> = all.iter().map(of).collect();
            durations.sort_unstable();
            durations
        };
        Ok(Outcome {
            elapsed,
            // Relaxed: see `Counts::phase`.
            events: self.counts.events.load(Ordering::Relaxed),
            first_bytes: sorted(|answered| answered.first_byte),
            wholes: sorted(|answered| answered.whole),
        })
    }
}

/// One connection.
struct Asker {
    address: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    counts: Arc<Counts>,
}

impl Asker {
    async fn connect(target: Target<'_>, work: Work, counts: Arc<Counts>) -> Result<Self, String> {
        let address = target.address;
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let request = work.request(target);
        Ok(Self { address, stream, request, answer: Vec::new(), counts })
    }

    /// The answers while measuring.
    async fn ask_until_the_end(
        mut self,
        first: Instant,
        interval: Option<Duration>,
    ) -> Result<Vec<Answered>, String> {
        let (mut answers, mut turn) = (Vec::new(), first);
        tokio::time::sleep_until(first.into()).await;
        loop {
            // What waits behind a slow answer counts as late.
            let asked = match interval {
                Some(_) => turn,
                None => now(),
            };
            let answered = self.ask(asked).await?;
            match self.counts.phase() {
                WARMING_UP => {}
                MEASURING => answers.push(answered),
                _ => {
                    // One that takes longer than the measurement is better than none.
                    if answers.is_empty() {
                        answers.push(answered);
                    }
                    return Ok(answers);
                }
            }
            if let Some(interval) = interval {
                turn += interval;
                tokio::time::sleep_until(turn.into()).await;
            }
        }
    }

    async fn ask(&mut self, asked: Instant) -> Result<Answered, String> {
        let address = self.address;
        let failed = |error: std::io::Error| format!("{address}: {error}");
        self.stream.write_all(&self.request).await.map_err(failed)?;
        let (head, first_byte) = self.read_answer(asked).await.map_err(failed)?;
        let whole = asked.elapsed();
        if !head.is_ok {
            return Err(format!("{address}: {}", String::from_utf8_lossy(&self.answer)));
        }
        Ok(Answered { first_byte, whole })
    }

    /// Reads one answer; returns its head, and when the first byte of its body came.
    async fn read_answer(&mut self, asked: Instant) -> std::io::Result<(Head, Duration)> {
        self.answer.clear();
        let (mut head, mut first_byte, mut searched) = (None, None, 0);
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
            let Some(head) = head else { continue };
            let new = &self.answer[searched..];
            self.counts.add_events(memmem::find_iter(new, EVENT).count());
            // An event that began at the end is found when the rest of its beginning arrives.
            searched = self.answer.len().saturating_sub(EVENT.len() - 1).max(searched);
            if self.answer.len() > head.bytes && first_byte.is_none() {
                first_byte = Some(asked.elapsed());
            }
            let is_whole = match head.length {
                Length::Bytes(bytes) => self.answer.len() >= head.bytes + bytes,
                Length::Chunks => self.answer[head.bytes..].ends_with(LAST_CHUNK),
            };
            if is_whole {
                return Ok((head, first_byte.unwrap_or_else(|| asked.elapsed())));
            }
            if self.answer.len() >= MAX_ANSWER_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

/// What the generator needs from an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Including its empty line.
    bytes: usize,
    length: Length,
    is_ok: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunks,
}

impl Head {
    /// `None` until the head is complete.
    fn parse(answer: &[u8]) -> Option<Self> {
        let end = memmem::find(answer, b"\r\n\r\n")?;
        let head = answer[..end].to_ascii_lowercase();
        let length = memmem::find(&head, b"content-length:").map(|at| {
            let value = head[at + 15..].split(|byte| *byte == b'\r').next().unwrap_or_default();
            let text = str::from_utf8(value).unwrap_or_default();
            text.trim().parse().map_or(Length::Bytes(0), Length::Bytes)
        });
        let length = length.unwrap_or(Length::Chunks);
        Some(Self { bytes: end + 4, length, is_ok: answer.starts_with(b"HTTP/1.1 200") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_its_answer_ends() {
        let whole = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 12\r\n\r\nhello";
        let head = Head { bytes: whole.len() - 5, length: Length::Bytes(12), is_ok: true };
        assert_eq!(Head::parse(whole), Some(head));
        assert_eq!(Head::parse(&whole[..head.bytes - 1]), None);
        let stream = b"HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = Head { bytes: stream.len(), length: Length::Chunks, is_ok: false };
        assert_eq!(Head::parse(stream), Some(head));
    }
}
