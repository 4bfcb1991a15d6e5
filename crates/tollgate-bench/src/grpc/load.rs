//! The load generator: calls over HTTP/2, several in flight on each connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_grpc::GrpcBody;
use tollgate_grpc::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_grpc::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tower_service::Service;

use crate::key::Draw;
use crate::stopwatch::now;

/// The number of users: with a limit of 100 for each, 20 million calls are admitted.
const USERS: u64 = 200_000;

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// Load on one server.
pub(super) struct Load {
    callers: JoinSet<Result<u64, String>>,
    phase: Arc<AtomicU8>,
    measuring_since: Instant,
}

impl Load {
    /// Connects and starts to call; each caller makes the next call as soon as it gets an answer.
    pub(super) async fn start(
        address: SocketAddr,
        connections: u32,
        in_flight: u32,
        seed: u64,
    ) -> Result<Self, String> {
        let phase = Arc::new(AtomicU8::new(WARMING_UP));
        let mut callers = JoinSet::new();
        for connection in 0..connections {
            let client = connect(address).await?;
            for caller in 0..in_flight {
                let number = u64::from(connection * in_flight + caller);
                let seed = seed * u64::from(connections * in_flight) + number;
                let draw = Draw::new(seed, USERS);
                callers.spawn(call_until_the_end(client.clone(), draw, Arc::clone(&phase)));
            }
        }
        Ok(Self { callers, phase, measuring_since: now() })
    }

    /// Starts to count answers.
    pub(super) fn begin_measuring(&mut self) {
        self.measuring_since = now();
        // Relaxed: all callers are tasks of one thread.
        self.phase.store(MEASURING, Ordering::Relaxed);
    }

    /// Stops counting; the number of answers and how long they were counted.
    pub(super) async fn finish(mut self) -> Result<(u64, Duration), String> {
        let elapsed = self.measuring_since.elapsed();
        // Relaxed: see `begin_measuring`.
        self.phase.store(ENDING, Ordering::Relaxed);
        let mut calls = 0;
        while let Some(caller) = self.callers.join_next().await {
            calls += caller.map_err(|error| error.to_string())??;
        }
        Ok((calls, elapsed))
    }
}

/// Makes one call and returns the message of the answer.
pub(super) async fn ask_once(address: SocketAddr) -> Result<Vec<u8>, String> {
    let mut client = connect(address).await?;
    call(&mut client, 0).await.map(|answer| answer.encode_to_vec())
}

async fn call_until_the_end(
    mut client: Client,
    mut draw: Draw,
    phase: Arc<AtomicU8>,
) -> Result<u64, String> {
    let mut calls = 0;
    loop {
        call(&mut client, draw.next_index()).await?;
        // Relaxed: see `begin_measuring`.
        match phase.load(Ordering::Relaxed) {
            WARMING_UP => {}
            MEASURING => calls += 1,
            _ => return Ok(calls),
        }
    }
}

/// A call for the user with this number, which must be admitted.
async fn call(client: &mut Client, user: u64) -> Result<RateLimitResponse, String> {
    let entry = |key: &str, value| Entry { key: key.to_owned(), value };
    let entries =
        vec![entry("user", format!("user-{user:08}")), entry("model", "gpt-4".to_owned())];
    let descriptor = RateLimitDescriptor { entries, ..RateLimitDescriptor::default() };
    let domain = "models".to_owned();
    let request = RateLimitRequest { domain, descriptors: vec![descriptor], hits_addend: 0 };
    let answer = client.should_rate_limit(request).await.map_err(|status| status.to_string())?;
    let answer = answer.into_inner();
    if answer.overall_code() == Code::Ok {
        Ok(answer)
    } else {
        Err(format!("not admitted: {answer:?}"))
    }
}

type Client = RateLimitServiceClient<Channel>;

async fn connect(address: SocketAddr) -> Result<Client, String> {
    let failed = |error: &dyn std::error::Error| format!("{address}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    Ok(Client::with_origin(Channel(sender), Uri::from_static("http://127.0.0.1")))
}

/// One HTTP/2 connection.
#[derive(Clone)]
struct Channel(http2::SendRequest<GrpcBody>);

impl Service<Request<GrpcBody>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<GrpcBody>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
