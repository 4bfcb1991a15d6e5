//! The distributed traces of requests, and of what they ask of upstreams.
//!
//! The gateway knows no protocol of traces: a [`RequestTracer`] finds the trace of the request that a thread works on.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Uri};

use crate::config::Dialect;
use crate::dialect::{Endpoint, Metered};
use crate::upstream::UpstreamFailure;

/// Finds traces. It is asked while requests wait, so it must not block.
pub trait RequestTracer: fmt::Debug + Send + Sync + 'static {
    /// The trace of the request that this thread works on; `None` if it is not traced.
    fn current(&self) -> Option<Arc<dyn RequestTrace>>;
}

/// The trace of one request. The request ends when nobody holds this any more.
pub trait RequestTrace: fmt::Debug + Send + Sync + 'static {
    /// The request is sent to an upstream with `fields`, which get those that continue the trace.
    fn sends(&self, call: &UpstreamCall<'_>, fields: &mut HeaderMap) -> Box<dyn UpstreamSpan>;

    /// Runs `work`, whose spans and log lines are of this trace.
    fn within(&self, work: &mut dyn FnMut());
}

/// A request to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamCall<'a> {
    /// The name of the upstream in the configuration.
    pub upstream: &'a str,
    /// Its address; the path is that of the configuration.
    pub base_url: &'a Uri,
    /// The method.
    pub method: &'a Method,
    /// What is asked for; `None` for a path that is only forwarded.
    pub endpoint: Option<Endpoint>,
    /// The dialect of the upstream.
    pub dialect: Dialect,
    /// The name of the model in the configuration, if it is for one.
    pub model: Option<&'a str>,
    /// How often the request was sent to another upstream before.
    pub resends: usize,
}

/// A request to an upstream that is traced. It ends when this is dropped.
pub trait UpstreamSpan: fmt::Debug + Send + Sync {
    /// The answer begins with this status.
    fn answered(&mut self, status: StatusCode);

    /// There is no answer that a client can have.
    fn failed(&mut self, failure: UpstreamFailure);

    /// The answer has used this.
    fn used(&mut self, metered: &Metered);
}
