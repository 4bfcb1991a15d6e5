//! The spans of requests to upstreams.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tollgate_gateway::config::Dialect;
use tollgate_gateway::dialect::{Endpoint, Metered};
use tollgate_gateway::tracer::{RequestTrace as Trace, RequestTracer, UpstreamCall, UpstreamSpan};
use tollgate_gateway::upstream::UpstreamFailure;

use crate::encoded_span::EncodedSpan;
use crate::exporter::Otlp;
use crate::request::{ChildSpan, RequestTrace, current, enter};
use crate::sampling::{TRACEPARENT, TRACESTATE};

impl RequestTracer for Otlp {
    fn current(&self) -> Option<Arc<dyn Trace>> {
        Some(Arc::new(Traced(current()?)))
    }
}

/// The trace of a request to the gateway.
#[derive(Debug)]
struct Traced(Arc<RequestTrace>);

impl Trace for Traced {
    fn sends(&self, call: &UpstreamCall<'_>, fields: &mut HeaderMap) -> Box<dyn UpstreamSpan> {
        let operation = call.endpoint.and_then(operation);
        let name = match (operation, call.model) {
            (Some(operation), Some(model)) => format!("{operation} {model}"),
            _ => known(call.method).to_owned(),
        };
        let mut child = self.0.child(&name, SpanKind::Client);
        if let Some(child) = &mut child {
            describe(call, operation, &mut child.span);
            propagate(&self.0, child, fields);
        }
        Box::new(Asked(child))
    }

    fn within(&self, work: &mut dyn FnMut()) {
        let _entered = enter(&self.0);
        work();
    }
}

/// A request to an upstream; `None` if its request has too many spans.
#[derive(Debug)]
struct Asked(Option<ChildSpan>);

fn describe(call: &UpstreamCall<'_>, operation: Option<&'static str>, span: &mut EncodedSpan) {
    span.text("http.request.method", known(call.method));
    span.text("tollgate.upstream", call.upstream);
    span.text("server.address", call.base_url.host().unwrap_or_default());
    span.integer("server.port", port(call.base_url).into());
    span.text("url.full", &url(call.base_url));
    if call.resends > 0 {
        span.integer("http.request.resend_count", call.resends as u64);
    }
    if let (Some(operation), Some(model)) = (operation, call.model) {
        span.text("gen_ai.operation.name", operation);
        span.text("gen_ai.request.model", model);
        let provider = match call.dialect {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        };
        span.text("gen_ai.provider.name", provider);
    }
}

/// What the conventions call the operation, if they have a name for it.
fn operation(endpoint: Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::Chat | Endpoint::Responses | Endpoint::Messages => Some("chat"),
        Endpoint::Completions => Some("text_completion"),
        Endpoint::Embeddings => Some("embeddings"),
        Endpoint::CountTokens => None,
    }
}

/// The path is forwarded only for the methods that the gateway knows.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The address of the configuration without a password. A client may write anything into the rest of the path and the query.
fn url(base: &Uri) -> String {
    let (scheme, host) = (base.scheme_str().unwrap_or("http"), base.host().unwrap_or_default());
    format!("{scheme}://{host}:{}{}", port(base), base.path())
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Continues the trace at the upstream.
fn propagate(trace: &RequestTrace, span: &ChildSpan, fields: &mut HeaderMap) {
    let traceparent = format!("00-{}-{}-01", trace.trace_id(), span.span_id());
    if let Ok(value) = HeaderValue::try_from(traceparent) {
        fields.insert(TRACEPARENT, value);
    }
    if !trace.trace_state().is_empty()
        && let Ok(value) = HeaderValue::try_from(trace.trace_state())
    {
        fields.insert(TRACESTATE, value);
    }
}

impl UpstreamSpan for Asked {
    fn answered(&mut self, status: StatusCode) {
        let Some(ChildSpan { span, .. }) = &mut self.0 else { return };
        span.integer("http.response.status_code", status.as_u16().into());
        if status.is_client_error() || status.is_server_error() {
            span.failed(status.as_str());
        }
    }

    fn failed(&mut self, failure: UpstreamFailure) {
        let Some(ChildSpan { span, .. }) = &mut self.0 else { return };
        match failure {
            UpstreamFailure::Status(status) => self.answered(status),
            UpstreamFailure::Limited { .. } => self.answered(StatusCode::TOO_MANY_REQUESTS),
            UpstreamFailure::Unreachable => span.failed("unreachable"),
            UpstreamFailure::Tls => span.failed("tls"),
            UpstreamFailure::Timeout => span.failed("timeout"),
        }
    }

    fn used(&mut self, metered: &Metered) {
        let Some(ChildSpan { span, .. }) = &mut self.0 else { return };
        if let Some(input) = metered.usage.input {
            span.integer("gen_ai.usage.input_tokens", input);
        }
        span.integer("gen_ai.usage.output_tokens", metered.output);
    }
}
