//! The trace of one request, and what runs within it.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use tollgate_core::{SystemWallClock, WallClock};

use crate::encoded_span::{EncodedSpan, SpanHead};
use crate::queue::SpanQueue;
use crate::sampling::Place;

/// The most spans within one request: a batch of checks makes many calls.
const MAX_CHILDREN: u32 = 128;

/// The request that a span describes, when it begins.
#[derive(Debug)]
pub struct ServerSpan {
    name: String,
    attributes: SmallVec<[(&'static str, &'static str); 5]>,
}

impl ServerSpan {
    /// An HTTP request to `route`, a template of the path; `None` for a path that is not known.
    pub fn http(method: &'static str, route: Option<&'static str>, version: &'static str) -> Self {
        let mut attributes = SmallVec::new();
        attributes.push(("http.request.method", method));
        attributes.push(("url.scheme", "http"));
        attributes.push(("network.protocol.version", version));
        let method = if method == OTHER { "HTTP" } else { method };
        let Some(route) = route else { return Self { name: method.to_owned(), attributes } };
        attributes.push(("http.route", route));
        // Tollgate's paths may hold ids of leases; the template never does.
        attributes.push(("url.path", route));
        Self { name: format!("{method} {route}"), attributes }
    }

    /// A call of gRPC to `method`, with its package and service; `None` for one that is not known.
    pub fn grpc(method: Option<&'static str>) -> Self {
        let method = method.unwrap_or(OTHER);
        let attributes =
            SmallVec::from_slice(&[("rpc.system.name", "grpc"), ("rpc.method", method)]);
        Self { name: method.to_owned(), attributes }
    }
}

/// What conventions write for a value that is not known.
const OTHER: &str = "_OTHER";

/// The trace of one request. The request ends, and is queued for the collector, when this is dropped.
pub struct RequestTrace {
    queue: Arc<SpanQueue>,
    trace_id: TraceId,
    trace_state: String,
    /// The span within which the next one begins.
    current: AtomicU64,
    children: AtomicU32,
    // Held for an attribute.
    span: Mutex<EncodedSpan>,
}

impl fmt::Debug for RequestTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTrace").field("trace_id", &self.trace_id).finish_non_exhaustive()
    }
}

impl RequestTrace {
    pub(crate) fn begin(queue: &Arc<SpanQueue>, place: &Place, request: ServerSpan) -> Arc<Self> {
        let span_id = RandomIdGenerator::default().new_span_id();
        let trace_state = place.trace_state();
        let parent = place.parent.as_ref().map(SpanContext::span_id);
        let remote = if parent.is_some() { PARENT_REMOTE } else { 0 };
        let mut span = EncodedSpan::begin(&SpanHead {
            trace_id: place.trace_id,
            trace_state: &trace_state,
            span_id,
            parent,
            flags: PARENT_KNOWN | remote | SAMPLED,
            name: &request.name,
            kind: SpanKind::Server,
            start_ns: now(),
        });
        for (key, value) in request.attributes {
            span.text(key, value);
        }
        Arc::new(Self {
            queue: Arc::clone(queue),
            trace_id: place.trace_id,
            trace_state,
            current: AtomicU64::new(u64::from_be_bytes(span_id.to_bytes())),
            children: AtomicU32::new(0),
            span: Mutex::new(span),
        })
    }

    /// The HTTP request is answered with `status`.
    pub fn answered(&self, status: u16) {
        self.change(|span| {
            span.integer("http.response.status_code", status.into());
            if status >= 500 {
                span.failed(&status.to_string());
            }
        });
    }

    /// The call of gRPC is answered with the status of this number.
    pub fn answered_grpc(&self, status: u16) {
        let name = GRPC_STATUSES.get(usize::from(status)).map_or(OTHER, |name| *name);
        self.change(|span| {
            span.text("rpc.response.status_code", name);
            if GRPC_SERVER_ERRORS.contains(&name) {
                span.failed(name);
            }
        });
    }

    /// A poisoned lock is fine: an attribute is there or not.
    fn change(&self, change: impl FnOnce(&mut EncodedSpan)) {
        change(&mut self.span.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A span within the request; `None` if it has too many.
    pub(crate) fn child(self: &Arc<Self>, name: &str, kind: SpanKind) -> Option<ChildSpan> {
        // Relaxed: only a count.
        if self.children.fetch_add(1, Ordering::Relaxed) >= MAX_CHILDREN {
            return None;
        }
        let span_id = RandomIdGenerator::default().new_span_id();
        // Relaxed: spans that nest begin and end on one task.
        let parent = SpanId::from(self.current.load(Ordering::Relaxed));
        let span = EncodedSpan::begin(&SpanHead {
            trace_id: self.trace_id,
            trace_state: &self.trace_state,
            span_id,
            parent: Some(parent),
            flags: PARENT_KNOWN | SAMPLED,
            name,
            kind,
            start_ns: now(),
        });
        Some(ChildSpan { trace: Arc::clone(self), span_id, span, outer: None })
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    pub(crate) fn trace_state(&self) -> &str {
        &self.trace_state
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        let span = self.span.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut span = std::mem::take(span);
        let too_many = self.children.get_mut().saturating_sub(MAX_CHILDREN);
        if too_many > 0 {
            span.integer("tollgate.spans_left_out", too_many.into());
        }
        self.queue.push(&span.end(now()));
    }
}

/// A span within a request. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ChildSpan {
    trace: Arc<RequestTrace>,
    span_id: SpanId,
    pub(crate) span: EncodedSpan,
    /// The span around it, if others begin within this one.
    outer: Option<u64>,
}

impl ChildSpan {
    /// The same span, within which others begin until it ends.
    pub(crate) fn around_others(mut self) -> Self {
        let id = u64::from_be_bytes(self.span_id.to_bytes());
        // Relaxed, as above.
        self.outer = Some(self.trace.current.swap(id, Ordering::Relaxed));
        self
    }

    pub(crate) fn span_id(&self) -> SpanId {
        self.span_id
    }
}

impl Drop for ChildSpan {
    fn drop(&mut self) {
        if let Some(outer) = self.outer {
            // Relaxed, as above.
            self.trace.current.store(outer, Ordering::Relaxed);
        }
        self.trace.queue.push(&std::mem::take(&mut self.span).end(now()));
    }
}

/// The flag of a sampled trace (W3C Trace Context).
const SAMPLED: u32 = 1;
/// The flags of OTLP that say whether the parent is in another process.
const PARENT_KNOWN: u32 = SpanFlags::ContextHasIsRemoteMask as u32;
const PARENT_REMOTE: u32 = SpanFlags::ContextIsRemoteMask as u32;

fn now() -> u64 {
    SystemWallClock.wall_time().as_ns()
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<RequestTrace>>> = const { RefCell::new(None) };
}

/// The trace of the request that this thread works on.
pub(crate) fn current() -> Option<Arc<RequestTrace>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The id of the trace of the request that this thread works on, for the log.
pub fn current_trace_id() -> Option<impl fmt::Display> {
    CURRENT.with_borrow(|current| current.as_ref().map(|trace| trace.trace_id))
}

/// Until this is dropped, the thread works on `trace`.
pub(crate) fn enter(trace: &Arc<RequestTrace>) -> Entered {
    Entered(CURRENT.replace(Some(Arc::clone(trace))))
}

pub(crate) struct Entered(Option<Arc<RequestTrace>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

pin_project! {
    /// A future that works on a request, which may be traced.
    #[derive(Debug)]
    pub struct InTrace<F> {
        trace: Option<Arc<RequestTrace>>,
        #[pin]
        future: F,
    }
}

impl<F> InTrace<F> {
    /// `future`, which works on the request of `trace`.
    #[inline]
    pub fn new(trace: Option<Arc<RequestTrace>>, future: F) -> Self {
        Self { trace, future }
    }
}

impl<F: Future> Future for InTrace<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(trace) = this.trace else { return this.future.poll(context) };
        let _entered = enter(trace);
        this.future.poll(context)
    }
}

/// The names of the statuses of gRPC, by number.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Those that are errors of a server, by the conventions.
const GRPC_SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
