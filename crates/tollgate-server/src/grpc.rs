//! Mounts gRPC: a listener of its own, with the same bounds of connections as HTTP.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, StatusCode, Version, header};
use tokio::time::{Sleep, sleep};
use tollgate_core::{Decision, LeaseUpdate};
use tollgate_grpc::{Grpc, GrpcBody, GrpcCall, GrpcObserver, GrpcOptions};
use tollgate_service::{Reservation, Unsettled};
use tollgate_store::LeaseState;

use crate::app::{App, Backend};
use crate::config::ServeConfig;
use crate::gateway::{LeaseMetrics, Serving};
use crate::metrics::{Call, Metrics};
use crate::net::{Drained, HeldMemory, Listener, RequestHandler, RequestMemory};
use crate::start_error::StartError;
use crate::traced::{Protocol, Traced};

/// gRPC that is ready to serve.
pub(crate) struct MountedGrpc<S: Backend> {
    answers: Arc<Traced<Answers<S>>>,
    listener: Listener,
}

impl<S: Backend> MountedGrpc<S> {
    /// Listens for gRPC over the limits of `app`, if `config` says where.
    pub(crate) async fn new(
        config: &ServeConfig,
        app: &App<S>,
    ) -> Result<Option<Self>, StartError> {
        let Some(address) = config.grpc else { return Ok(None) };
        let failed = |source: io::Error| StartError::Listen { set_by: "--grpc", address, source };
        let listener = Listener::bind(address).await.map_err(failed)?;
        let metrics = Arc::clone(&app.metrics);
        let leases = LeaseMetrics::of(app);
        let options = GrpcOptions {
            unmatched: config.grpc_unmatched,
            max_message_bytes: config.limits.max_body_bytes,
            max_batch_bytes: config.limits.max_batch_body_bytes,
        };
        let observer = Arc::new(GrpcMetrics { metrics, leases });
        let grpc = Grpc::new(Arc::clone(&app.service), observer, options).await;
        let grpc = grpc.map_err(StartError::Grpc)?;
        let (memory, timeout) = (app.memory.clone(), config.limits.body_timeout);
        let answers = Answers { grpc, memory, timeout };
        let answers = Arc::new(Traced::new(answers, app.otlp.clone(), Protocol::Grpc));
        Ok(Some(Self { answers, listener }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until `stop` completes, and then answers what is in flight.
    pub(crate) async fn serve(self, serving: Serving, stop: impl Future<Output = ()>) -> Drained {
        let Serving { limits, heads, metrics, drain_timeout } = serving;
        let draining = Arc::clone(&self.answers);
        let stop = async move {
            stop.await;
            draining.inner().grpc.set_draining().await;
        };
        self.listener.serve(self.answers, (limits, heads), metrics, stop, drain_timeout).await
    }
}

struct Answers<S: Backend> {
    grpc: Grpc<S>,
    memory: RequestMemory,
    timeout: Duration,
}

impl<S: Backend> RequestHandler for Answers<S> {
    type Body = Either<GrpcBody, Full<Bytes>>;

    async fn handle(&self, request: Request<Incoming>, _: IpAddr) -> Response<Self::Body> {
        if request.version() != Version::HTTP_2 {
            return not_http2().map(Either::Right);
        }
        let (memory, timeout) = (&self.memory, self.timeout);
        let request = request.map(|body| BoundedBody::new(body, memory, timeout));
        self.grpc.handle(request).await.map(Either::Left)
    }
}

/// The answer to a request that is not gRPC.
fn not_http2() -> Response<Full<Bytes>> {
    let text = "This port speaks gRPC, over HTTP/2 without TLS (h2c). The HTTP interface is at the address of --http.\n";
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// The body of a request, which must arrive in time and within the memory for unfinished requests. The length of a message is
/// bounded where it is decoded.
struct BoundedBody {
    body: Incoming,
    held: HeldMemory,
    bytes: usize,
    /// Set when the body is waited for, so that a request that arrives in one piece needs no timer.
    deadline: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
}

impl BoundedBody {
    fn new(body: Incoming, memory: &RequestMemory, timeout: Duration) -> Self {
        Self { body, held: memory.part(), bytes: 0, deadline: None, timeout }
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        deadline.as_mut().poll(context).is_ready()
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyProblem;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyProblem>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.is_late(context) {
            return Poll::Ready(Some(Err(BodyProblem::Late)));
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = frame.map_err(BodyProblem::Broken)?;
        if let Some(data) = frame.data_ref() {
            let bytes = self.bytes.saturating_add(data.len());
            if self.held.grow_to(bytes).is_err() {
                return Poll::Ready(Some(Err(BodyProblem::NoMemory)));
            }
            self.bytes = bytes;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why the body of a request ended early.
#[derive(Debug)]
enum BodyProblem {
    Broken(hyper::Error),
    Late,
    NoMemory,
}

impl fmt::Display for BodyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken(_) => "the request broke off",
            Self::Late => "the request did not arrive in time",
            Self::NoMemory => {
                "unfinished requests use all of the memory reserved for them; try again"
            }
        })
    }
}

impl Error for BodyProblem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::Late | Self::NoMemory => None,
        }
    }
}

/// Counts what is decided over gRPC like the calls over HTTP.
#[derive(Debug)]
struct GrpcMetrics {
    metrics: Arc<Metrics>,
    leases: LeaseMetrics,
}

impl GrpcObserver for GrpcMetrics {
    fn decided(&self, decision: &Decision) {
        self.metrics.decided(decision);
    }

    fn unmatched(&self) {
        self.metrics.unmatched_descriptors.inc();
    }

    fn store_failed(&self) {
        self.metrics.store_errors.inc();
    }

    fn reserved(&self, reservation: &Reservation) {
        self.metrics.leases.reserved(reservation);
    }

    fn updated(&self, update: &LeaseUpdate, state: Option<&LeaseState>) {
        self.metrics.leases.updated(update, state);
    }

    fn unsettled(&self, unsettled: &Unsettled) {
        self.leases.count_unsettled(unsettled);
    }

    fn took(&self, call: GrpcCall, ns: u64) {
        let call = match call {
            GrpcCall::ShouldRateLimit => Call::ShouldRateLimit,
            GrpcCall::Check => Call::Check,
            GrpcCall::Peek => Call::Peek,
            GrpcCall::CheckBatch => Call::Batch,
            GrpcCall::Reserve => Call::Reserve,
            GrpcCall::UpdateLease => Call::UpdateLease,
            GrpcCall::SettleBatch => Call::SettleBatch,
        };
        self.metrics.took(call, ns);
    }
}
