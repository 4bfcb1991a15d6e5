//! Answers requests: joins the dialects, the leases, the queue and the upstreams.
//!
//! A request is authenticated, parsed, reserved, queued, forwarded, metered and settled, in this order
//! (`docs/decisions/0016`). Whatever fails before the reservation leaves nothing behind. From then on, a guard (`LeaseGuard`) owns
//! the lease.

mod body;
mod caller_key;
mod exchange;
mod forward;
mod lease;
mod leases;
mod models;
mod request_body;
mod runs_to_end;
mod stream_bounds;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Body;
use tollgate_core::{Clock, MonotonicClock};
use tollgate_service::RateLimitService;
use tollgate_store::Store;

pub use self::body::GatewayBody;
use self::caller_key::{caller_of, key_in};
use self::leases::Leases;
pub use self::leases::{LeaseObserver, NoObserver};
use self::models::Models;
use self::request_body::BodyMemory;
use crate::admission::{Admission, Capacity};
use crate::config::{Dialect, GatewayConfig, UpstreamConfig};
use crate::dialect::Endpoint;
use crate::dialect::denial::Denial;
use crate::upstream::Upstreams;

/// A gateway: answers requests with what its upstreams answer.
#[derive(Debug)]
pub struct Gateway<S: Store> {
    config: GatewayConfig,
    models: Models,
    upstreams: Upstreams,
    admission: Arc<Admission>,
    leases: Arc<Leases<S>>,
    memory: BodyMemory,
    /// Only measures durations; decisions use the store's clock (R7).
    clock: MonotonicClock,
}

/// Why there can be no gateway.
#[derive(Debug)]
pub enum GatewayError {
    /// The store keeps no leases.
    NoLeases,
    /// The client for upstreams cannot be made.
    Client(io::Error),
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeases => f.write_str("the gateway needs a store that keeps leases"),
            Self::Client(_) => f.write_str("the gateway cannot connect to upstreams over TLS"),
        }
    }
}

impl Error for GatewayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Client(source) => Some(source),
            Self::NoLeases => None,
        }
    }
}

/// Where a request goes.
enum Route<'a> {
    Model(Endpoint),
    ListModels,
    DescribeModel(&'a str),
    /// To the upstreams of a path that is only forwarded.
    PassThrough(&'a [usize]),
}

impl<S: Store> Gateway<S> {
    /// A gateway over the limits of `service`; `observer` is told about its leases. Call it in the runtime that serves it, and
    /// run [`Gateway::keep_leases`] there.
    pub fn new(
        config: GatewayConfig,
        service: Arc<RateLimitService<S>>,
        observer: Arc<dyn LeaseObserver>,
    ) -> Result<Self, GatewayError> {
        if !service.store().capabilities().leases {
            return Err(GatewayError::NoLeases);
        }
        let capacity = |upstream: &UpstreamConfig| Capacity {
            max_concurrency: upstream.max_concurrency,
            max_tokens: upstream.max_tokens_in_flight,
        };
        let capacities = config.upstreams.iter().map(capacity);
        Ok(Self {
            models: Models::new(&config.models),
            upstreams: Upstreams::new(&config.upstreams).map_err(GatewayError::Client)?,
            admission: Arc::new(Admission::new(capacities, config.queue.clone())),
            leases: Arc::new(Leases::new(service, observer)),
            memory: BodyMemory::new(config.max_body_memory_bytes, config.max_body_bytes),
            config,
            clock: MonotonicClock::new(),
        })
    }

    /// Keeps the leases of long answers alive; never returns.
    pub async fn keep_leases(&self) {
        self.leases.keep().await;
    }

    /// How many requests have a lease that is not settled.
    pub fn unsettled(&self) -> usize {
        self.leases.unfinished()
    }

    /// Waits until every lease is settled.
    pub async fn settled(&self) {
        self.leases.finished().await;
    }

    /// How many requests wait for an upstream.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// The answer to `request`. It never fails: an error is an answer in the client's dialect.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<GatewayBody<S>>
    where
        B: Body<Data = Bytes> + Send,
    {
        let dialect = dialect_of(&request);
        let answered = self.answer(request, dialect).await;
        answered.unwrap_or_else(|denial| denial.response(dialect).map(GatewayBody::whole))
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        dialect: Dialect,
    ) -> Result<Response<GatewayBody<S>>, Denial>
    where
        B: Body<Data = Bytes> + Send,
    {
        let started = self.clock.now();
        let (head, body) = request.into_parts();
        let route = self.route(&head.method, head.uri.path())?;
        let key = key_in(&head.headers)?;
        let caller = caller_of(self.leases.service(), key).await?;
        let arrived = exchange::Arrived { head: &head, key, caller, started };
        match route {
            // Boxed: it is large.
            Route::Model(endpoint) => Box::pin(self.model_request(endpoint, arrived, body)).await,
            Route::PassThrough(upstreams) => {
                Box::pin(self.pass_through(upstreams, dialect, arrived, body)).await
            }
            Route::ListModels => Ok(json(self.models.list(dialect))),
            Route::DescribeModel(id) => {
                let described = self.models.describe(id, dialect);
                described.map(json).ok_or_else(|| Denial::UnknownModel(id.to_owned()))
            }
        }
    }

    fn route<'a>(&'a self, method: &Method, path: &'a str) -> Result<Route<'a>, Denial> {
        if let Some(endpoint) = Endpoint::of_path(path) {
            return if *method == Method::POST {
                Ok(Route::Model(endpoint))
            } else {
                Err(Denial::Method)
            };
        }
        let models = match path.strip_prefix("/v1/models") {
            Some("") => Some(Route::ListModels),
            Some(id) => id.strip_prefix('/').map(Route::DescribeModel),
            None => None,
        };
        if let Some(route) = models {
            return if *method == Method::GET { Ok(route) } else { Err(Denial::Method) };
        }
        let known = self.config.pass_through.iter().find(|known| known.path == path);
        let known = known.ok_or(Denial::UnknownPath)?;
        Ok(Route::PassThrough(&known.upstreams))
    }
}

/// The dialect of the client: that of the path, or else the one whose fields it sends.
fn dialect_of<B>(request: &Request<B>) -> Dialect {
    match Endpoint::of_path(request.uri().path()) {
        Some(endpoint) => endpoint.dialect(),
        None if request.headers().contains_key("anthropic-version") => Dialect::Anthropic,
        None => Dialect::OpenAi,
    }
}

fn json<S: Store>(bytes: Bytes) -> Response<GatewayBody<S>> {
    let mut response = Response::new(GatewayBody::whole(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
