//! A small model server for demonstrations and tests: it speaks both dialects, streams at a set pace, obeys caps, reports its
//! usage, and fails in the ways that it is told to.
//!
//! It needs no model: an answer is a number of equal words. One word is one token.

mod answers;
mod pieces;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::answers::Answer;
use self::pieces::Pieces;

/// The field of a request that overrides [`Behaviour`]: `tokens=50, pace-ms=5, fail=cut`.
pub const BEHAVIOUR_FIELD: &str = "x-mock";

/// The field of a request whose value, `name=value; name=value`, are fields of its answer.
pub const FIELDS_FIELD: &str = "x-mock-fields";

/// Where it answers that it is well, as vLLM does: an empty 200.
pub const HEALTH_PATH: &str = "/health";

/// How a mock model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// How many tokens an answer has, if no cap ends it.
    pub tokens: u64,
    /// The time between two tokens of a stream.
    pub pace: Duration,
    /// How many tokens of a prompt it says to have read from a cache.
    pub cached: u64,
    /// How many tokens of an answer it says to be reasoning.
    pub reasoning: u64,
    /// How it fails.
    pub failure: Option<Failure>,
}

impl Behaviour {
    /// 20 tokens at once.
    pub const WELL: Self =
        Self { tokens: 20, pace: Duration::ZERO, cached: 0, reasoning: 0, failure: None };
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::WELL
    }
}

/// How a mock model fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It answers with this status.
    Status(u16),
    /// The connection breaks before the answer begins.
    Close,
    /// The connection breaks between the head of the answer and its first byte.
    CloseAfterHead,
    /// The connection breaks in the middle of the answer.
    Cut,
    /// The stream ends without its final event.
    NoFinal,
    /// No usage is reported.
    NoUsage,
    /// It generates all its tokens, whatever the cap is.
    IgnoresCap,
}

impl Behaviour {
    /// The behaviour that `fields` ask for; what they do not say stays.
    fn overridden(mut self, fields: &HeaderMap) -> Self {
        let text = fields.get(BEHAVIOUR_FIELD).and_then(|value| value.to_str().ok());
        for part in text.unwrap_or_default().split(',') {
            let Some((name, value)) = part.trim().split_once('=') else { continue };
            match (name, value, value.parse::<u64>()) {
                ("tokens", _, Ok(tokens)) => self.tokens = tokens,
                ("pace-ms", _, Ok(ms)) => self.pace = Duration::from_millis(ms),
                ("cached", _, Ok(cached)) => self.cached = cached,
                ("reasoning", _, Ok(reasoning)) => self.reasoning = reasoning,
                ("fail", "close", _) => self.failure = Some(Failure::Close),
                ("fail", "close-after-head", _) => self.failure = Some(Failure::CloseAfterHead),
                ("fail", "cut", _) => self.failure = Some(Failure::Cut),
                ("fail", "no-final", _) => self.failure = Some(Failure::NoFinal),
                ("fail", "no-usage", _) => self.failure = Some(Failure::NoUsage),
                ("fail", "ignores-cap", _) => self.failure = Some(Failure::IgnoresCap),
                ("fail", _, Ok(status)) => {
                    self.failure = u16::try_from(status).ok().map(Failure::Status);
                }
                _ => {}
            }
        }
        self
    }
}

/// What a mock model has done so far.
#[derive(Debug, Default)]
pub struct Record {
    requests: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    aborted: AtomicU64,
    active: AtomicU64,
    last: Mutex<Option<(HeaderMap, Value)>>,
}

// Relaxed throughout: each is a count by itself.
impl Record {
    /// The requests.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The tokens of the prompts.
    pub fn input_tokens(&self) -> u64 {
        self.input_tokens.load(Ordering::Relaxed)
    }

    /// The tokens that were generated.
    pub fn output_tokens(&self) -> u64 {
        self.output_tokens.load(Ordering::Relaxed)
    }

    /// The streams whose readers went away.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    /// The streams that are being generated.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// The fields and the body of the last request.
    pub fn last(&self) -> Option<(HeaderMap, Value)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running mock model; it stops when it is dropped.
#[derive(Debug)]
pub struct MockModel {
    address: SocketAddr,
    record: Arc<Record>,
    _tasks: JoinSet<()>,
}

impl MockModel {
    /// Starts one at `address`; port 0 takes a free one.
    pub async fn start(address: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, behaviour, Arc::clone(&record)));
        Ok(Self { address, record, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

async fn accept(listener: TcpListener, behaviour: Behaviour, record: Arc<Record>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        _ = stream.set_nodelay(true);
        let record = Arc::clone(&record);
        let answer = service_fn(move |request| answer(request, behaviour, Arc::clone(&record)));
        connections.spawn(async move {
            // An error is the caller's, or one that was asked for.
            _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type MockBody = Either<Full<Bytes>, Pieces>;

/// Breaks the connection.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was to break")
    }
}

impl std::error::Error for Broken {}

async fn answer(
    request: Request<Incoming>,
    behaviour: Behaviour,
    record: Arc<Record>,
) -> Result<Response<MockBody>, Broken> {
    let (head, body) = request.into_parts();
    if head.uri.path() == HEALTH_PATH {
        return Ok(Response::new(Either::Left(Full::default())));
    }
    let behaviour = behaviour.overridden(&head.headers);
    let fields = asked_fields(&head.headers);
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    record.requests.fetch_add(1, Ordering::Relaxed);
    if let Ok(mut last) = record.last.lock() {
        *last = Some((head.headers, json.clone()));
    }
    match behaviour.failure {
        Some(Failure::Close) => return Err(Broken),
        Some(Failure::Status(status)) => return Ok(failed(status)),
        _ => {}
    }
    let input = (body.len() as u64).div_ceil(4);
    let Some(answer) = Answer::of(head.uri.path(), &json, input, behaviour) else {
        return Ok(failed(404));
    };
    record.input_tokens.fetch_add(input, Ordering::Relaxed);
    let content_type = if answer.is_stream { "text/event-stream" } else { "application/json" };
    let body = if answer.is_stream || behaviour.failure == Some(Failure::CloseAfterHead) {
        Either::Right(Pieces::new(answer, behaviour, record))
    } else {
        record.output_tokens.fetch_add(answer.output(), Ordering::Relaxed);
        Either::Left(Full::new(answer.whole().into()))
    };
    let mut response = Response::new(body);
    *response.headers_mut() = fields;
    let fields = response.headers_mut();
    fields.insert("content-type", http::HeaderValue::from_static(content_type));
    fields.insert("openai-organization", http::HeaderValue::from_static("operator"));
    Ok(response)
}

/// The fields of the answer that [`FIELDS_FIELD`] asks for.
fn asked_fields(fields: &HeaderMap) -> HeaderMap {
    let text = fields.get(FIELDS_FIELD).and_then(|value| value.to_str().ok());
    let pairs = text.unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
    let parsed = pairs.filter_map(|(name, value)| {
        Some((name.parse::<http::HeaderName>().ok()?, value.parse::<http::HeaderValue>().ok()?))
    });
    parsed.collect()
}

fn failed(status: u16) -> Response<MockBody> {
    let body = r#"{"error":{"message":"as asked","type":"mock"}}"#;
    let mut response = Response::new(Either::Left(Full::new(Bytes::from_static(body.as_bytes()))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response.headers_mut().insert("retry-after", http::HeaderValue::from_static("2"));
    response
}
