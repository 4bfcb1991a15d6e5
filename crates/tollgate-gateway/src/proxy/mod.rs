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
mod record;
mod request_body;
mod runs_to_end;
mod stream_bounds;
mod waiting;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Body;
use tollgate_core::MonotonicClock;
use tollgate_service::RateLimitService;
use tollgate_store::Store;

pub use self::body::GatewayBody;
use self::caller_key::{caller_of, key_in};
use self::exchange::ReservedRequest;
use self::leases::Leases;
pub use self::leases::{LeaseObserver, NoObserver};
use self::models::Models;
use self::record::{Recorder, RequestRecord};
use self::request_body::BodyMemory;
use crate::admission::{Admission, Capacity};
use crate::config::{Dialect, GatewayConfig, UpstreamConfig};
use crate::dialect::Endpoint;
use crate::dialect::denial::Denial;
use crate::monitor::{GatewayMonitor, Purpose, RequestOutcome};
use crate::tracer::RequestTracer;
use crate::upstream::Upstreams;

/// The milliseconds that the gateway itself took until its answer began: from the arrival of the head of the request, without the
/// time in the queue and without the time that upstreams took. Receiving the body, the catalog and the store count.
const OVERHEAD: HeaderName = HeaderName::from_static("x-tollgate-overhead-ms");
/// What only this gateway writes, besides the fields of denials.
#[cfg(test)]
pub(crate) const OWN_FIELDS: [HeaderName; 2] = [OVERHEAD, exchange::CLAMPED];

/// A gateway: answers requests with what its upstreams answer.
#[derive(Debug)]
pub struct Gateway<S: Store> {
    config: GatewayConfig,
    models: Models,
    upstreams: Arc<Upstreams>,
    admission: Arc<Admission>,
    leases: Arc<Leases<S>>,
    memory: BodyMemory,
    monitor: GatewayMonitor,
    recorder: Arc<Recorder>,
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
            Self::NoLeases => f.write_str("the store keeps no leases, which the gateway needs"),
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
    /// A gateway over the limits of `service`; `observer` is told about its leases, and `tracer` finds the traces of its
    /// requests. Call it in the runtime that serves it, and run [`Gateway::keep_leases`] there.
    pub fn new(
        config: GatewayConfig,
        service: Arc<RateLimitService<S>>,
        observer: Arc<dyn LeaseObserver>,
        tracer: Option<Arc<dyn RequestTracer>>,
    ) -> Result<Self, GatewayError> {
        if !service.store().capabilities().leases {
            return Err(GatewayError::NoLeases);
        }
        let capacity = |upstream: &UpstreamConfig| Capacity {
            max_concurrency: upstream.max_concurrency,
            max_tokens: upstream.max_tokens_in_flight,
        };
        let capacities = config.upstreams.iter().map(capacity);
        let admission = Arc::new(Admission::new(capacities, config.queue.clone()));
        let upstreams = Upstreams::new(&config.upstreams).map_err(GatewayError::Client)?;
        let upstreams = Arc::new(upstreams);
        let monitor = GatewayMonitor::new(&config, Arc::clone(&admission), Arc::clone(&upstreams));
        let recorder = Recorder {
            counters: Arc::clone(monitor.counters()),
            upstreams: config.upstreams.iter().map(|upstream| upstream.id.clone()).collect(),
            logs: config.access_log,
            clock: MonotonicClock::new(),
            tracer,
        };
        Ok(Self {
            models: Models::new(&config.models),
            upstreams,
            admission,
            leases: Arc::new(Leases::new(service, observer)),
            memory: BodyMemory::new(config.max_body_memory_bytes, config.max_body_bytes),
            monitor,
            recorder: Arc::new(recorder),
            config,
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

    /// What operators see of it.
    pub fn monitor(&self) -> &GatewayMonitor {
        &self.monitor
    }

    /// How many requests wait for an upstream.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// Refuses whoever waits for an upstream, and whoever comes, with 503, and gives back what they have reserved. Call it before
    /// running answers are stopped: what waits would get their places otherwise, and be charged.
    pub fn close_queue(&self) {
        self.admission.close();
    }

    /// The answer to `request`. It never fails: an error is an answer in the client's dialect.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>) -> Response<GatewayBody<S>>
    where
        B: Body<Data = Bytes> + Send,
    {
        let (head, body) = request.into_parts();
        let purpose = purpose_of(&head);
        let mut record = RequestRecord::new(Arc::clone(&self.recorder), &head.method, purpose);
        match self.answer(&head, body, purpose.dialect(), &mut record).await {
            // Boxed: it is large.
            Ok(Step::Forward(reserved)) => {
                Box::pin(self.forward_model(head, *reserved, record)).await
            }
            Ok(Step::Answer(response)) => begun(Ok(response), purpose.dialect(), record),
            Err(denial) => begun(Err(denial), purpose.dialect(), record),
        }
    }

    async fn answer<B>(
        &self,
        head: &Parts,
        body: B,
        dialect: Dialect,
        record: &mut RequestRecord,
    ) -> Result<Step<S>, Denial>
    where
        B: Body<Data = Bytes> + Send,
    {
        let route = self.route(&head.method, head.uri.path())?;
        let key = key_in(&head.headers)?;
        let caller = caller_of(self.leases.service(), key).await?;
        let arrived = exchange::Arrived { head, key, caller, record };
        let response = match route {
            Route::Model(endpoint) => {
                let reserved = Box::pin(self.reserve_model(endpoint, arrived, body)).await?;
                return Ok(Step::Forward(Box::new(reserved)));
            }
            Route::PassThrough(upstreams) => {
                Box::pin(self.pass_through(upstreams, dialect, arrived, body)).await?
            }
            Route::ListModels => {
                arrived.record.is_for_models();
                json(self.models.list(dialect))
            }
            Route::DescribeModel(id) => {
                arrived.record.is_for_models();
                let described = self.models.describe(id, dialect);
                json(described.ok_or_else(|| Denial::UnknownModel(id.to_owned()))?)
            }
        };
        Ok(Step::Answer(response))
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

/// How a request goes on.
enum Step<S: Store> {
    /// With this answer.
    Answer(Response<GatewayBody<S>>),
    /// To an upstream.
    Forward(Box<ReservedRequest<S>>),
}

/// The beginning of the answer, or of the denial in `dialect`. Its body keeps the record.
fn begun<S: Store>(
    answered: Result<Response<GatewayBody<S>>, Denial>,
    dialect: Dialect,
    mut record: RequestRecord,
) -> Response<GatewayBody<S>> {
    let mut response = answered.unwrap_or_else(|denial| {
        record.ends(RequestOutcome::of(&denial));
        denial.response(dialect).map(GatewayBody::whole)
    });
    let overhead = record.answers(response.status());
    response.headers_mut().insert(OVERHEAD, milliseconds(overhead));
    response.body_mut().keep(record);
    response
}

/// What a request is for. If its path does not tell the dialect of the client, the fields that it sends do.
fn purpose_of(head: &Parts) -> Purpose {
    match Endpoint::of_path(head.uri.path()) {
        Some(endpoint) => Purpose::Endpoint(endpoint),
        None if head.headers.contains_key("anthropic-version") => {
            Purpose::Other(Dialect::Anthropic)
        }
        None => Purpose::Other(Dialect::OpenAi),
    }
}

fn milliseconds(duration: Duration) -> HeaderValue {
    let us = duration.as_micros();
    let text = format!("{}.{:03}", us / 1_000, us % 1_000);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

fn json<S: Store>(bytes: Bytes) -> Response<GatewayBody<S>> {
    let mut response = Response::new(GatewayBody::whole(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_with_microseconds() {
        assert_eq!(milliseconds(Duration::from_micros(1_023)), "1.023");
    }
}
