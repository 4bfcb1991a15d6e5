//! Tollgate over gRPC.
//!
//! - `envoy.service.ratelimit.v3.RateLimitService`, for Envoy and everything that speaks its protocol;
//! - `tollgate.v1.RateLimiter`: checks, batches and leases, as over HTTP;
//! - `grpc.health.v1.Health` and `grpc.reflection`.
//!
//! Each call parses, asks one use case of `tollgate-service` and renders, like a handler of the HTTP interface, so that the two
//! cannot drift. [`Grpc::handle`] answers HTTP/2 requests; this crate has no listener and no clock for decisions, and knows
//! neither HTTP/1.1 nor JSON.

mod observer;
pub mod proto;
mod rate_limit;
mod status;
mod undecoded;
mod v1;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tollgate_core::{Clock as _, MonotonicClock, Timestamp};
use tollgate_service::{RateLimitService, Uncovered};
use tollgate_store::Store;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;
use tower_service::Service;

pub use self::observer::{GrpcCall, GrpcObserver};
use self::proto::tollgate::v1::rate_limiter_server::RateLimiterServer;
use self::rate_limit::EnvoyRateLimit;
use self::undecoded::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use self::v1::TollgateV1;
/// The body of an answer.
pub use tonic::body::Body as GrpcBody;

/// The least bound of a message of Envoy: 60 KiB of headers, its default bound, in each of 64 descriptors.
const MIN_ENVOY_BYTES: usize = 4 << 20;

/// What can be configured.
#[derive(Clone, Copy, Debug)]
pub struct GrpcOptions {
    /// What a descriptor gets that no policy covers.
    pub unmatched: Uncovered,
    /// The longest message of Envoy, in bytes; at least 4 MiB are accepted, because Envoy lets a request pass after an error.
    pub max_message_bytes: usize,
    /// The longest message of a call of Tollgate's own, which may be a batch, in bytes.
    pub max_batch_bytes: usize,
}

/// Answers gRPC requests over the limits of a service.
pub struct Grpc<S: Store> {
    envoy: RateLimitServiceServer<EnvoyRateLimit<S>>,
    tollgate: RateLimiterServer<TollgateV1<S>>,
    /// The services that few requests are for, by name.
    others: Vec<(&'static str, OtherService)>,
    health: HealthReporter,
    longest: Longest,
}

/// The longest messages, in bytes.
#[derive(Clone, Copy)]
struct Longest {
    envoy: usize,
    tollgate: usize,
}

/// What every call needs.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<RateLimitService<S>>,
    pub(crate) observer: Arc<dyn GrpcObserver>,
    pub(crate) unmatched: Uncovered,
    /// Only measures the duration of calls.
    clock: MonotonicClock,
}

impl<S> Shared<S> {
    /// Begins to measure `call`.
    pub(crate) fn begin(&self, call: GrpcCall) -> Begun<'_> {
        Begun { observer: &*self.observer, clock: &self.clock, call, at: self.clock.now() }
    }
}

/// A call that has begun.
pub(crate) struct Begun<'s> {
    observer: &'s dyn GrpcObserver,
    clock: &'s MonotonicClock,
    call: GrpcCall,
    at: Timestamp,
}

impl Begun<'_> {
    /// The answer of the call; if there is one, tells how long it took.
    pub(crate) fn end<T>(self, answer: Result<T, Status>) -> Result<tonic::Response<T>, Status> {
        let answer = answer?;
        let took = self.clock.now().as_ns().saturating_sub(self.at.as_ns());
        self.observer.took(self.call, took);
        Ok(tonic::Response::new(answer))
    }
}

impl<S: Store> Grpc<S> {
    /// Serves the limits of `service`; `observer` sees what is decided. Fails only if this crate was built wrongly.
    pub async fn new(
        service: Arc<RateLimitService<S>>,
        observer: Arc<dyn GrpcObserver>,
        options: GrpcOptions,
    ) -> Result<Self, ReflectionError> {
        let GrpcOptions { unmatched, max_message_bytes, max_batch_bytes } = options;
        let shared =
            Arc::new(Shared { service, observer, unmatched, clock: MonotonicClock::new() });
        let envoy = RateLimitServiceServer::new(EnvoyRateLimit(Arc::clone(&shared)));
        let tollgate = RateLimiterServer::new(TollgateV1(shared));
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<RateLimitServiceServer<EnvoyRateLimit<S>>>().await;
        reporter.set_serving::<RateLimiterServer<TollgateV1<S>>>().await;
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let others = vec![
            other_service(health),
            other_service(reflection().build_v1()?),
            other_service(reflection().build_v1alpha()?),
        ];
        let longest =
            Longest { envoy: max_message_bytes.max(MIN_ENVOY_BYTES), tollgate: max_batch_bytes };
        Ok(Self {
            envoy: envoy.max_decoding_message_size(longest.envoy),
            tollgate: tollgate.max_decoding_message_size(longest.tollgate),
            others,
            health: reporter,
            longest,
        })
    }

    /// Tells those who watch the health that this server is about to end.
    pub async fn set_draining(&self) {
        self.health.set_not_serving::<RateLimitServiceServer<EnvoyRateLimit<S>>>().await;
        self.health.set_not_serving::<RateLimiterServer<TollgateV1<S>>>().await;
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    }

    /// The answer to a request over HTTP/2.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split('/').next());
        let service = service.unwrap_or_default();
        if service == RateLimitServiceServer::<EnvoyRateLimit<S>>::NAME {
            let answer = infallible(self.envoy.clone().call(request).await);
            return status::explained(answer, self.longest.envoy, "--max-body-bytes");
        }
        if service == RateLimiterServer::<TollgateV1<S>>::NAME {
            let answer = infallible(self.tollgate.clone().call(request).await);
            return status::explained(answer, self.longest.tollgate, "--max-batch-body-bytes");
        }
        match self.others.iter().find(|(name, _)| *name == service) {
            Some((_, answer)) => answer(request.map(Body::new)).await,
            None => status::no_service(&self.names()).into_http(),
        }
    }

    /// The names of the services.
    fn names(&self) -> Vec<&'static str> {
        let own = [
            RateLimitServiceServer::<EnvoyRateLimit<S>>::NAME,
            RateLimiterServer::<TollgateV1<S>>::NAME,
        ];
        own.into_iter().chain(self.others.iter().map(|(name, _)| *name)).collect()
    }
}

impl<S: Store> fmt::Debug for Grpc<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("services", &self.names()).finish_non_exhaustive()
    }
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type OtherService = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// A service that is found by its name.
fn other_service<T>(service: T) -> (&'static str, OtherService)
where
    T: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    T: Clone + Send + Sync + 'static,
    T::Future: Send,
{
    let answer = move |request| {
        let mut service = service.clone();
        let answer: Answer = Box::pin(async move { infallible(service.call(request).await) });
        answer
    };
    (T::NAME, Box::new(answer))
}

fn infallible<T>(answer: Result<T, Infallible>) -> T {
    let Ok(answer) = answer;
    answer
}

/// The descriptors in this crate cannot be served.
#[derive(Debug)]
pub struct ReflectionError(tonic_reflection::server::Error);

impl fmt::Display for ReflectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the descriptors of the gRPC services are damaged")
    }
}

impl Error for ReflectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl From<tonic_reflection::server::Error> for ReflectionError {
    fn from(error: tonic_reflection::server::Error) -> Self {
        Self(error)
    }
}
