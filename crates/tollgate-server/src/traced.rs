//! Answers requests within their traces, if telemetry is on.
//!
//! A span names a request by a template of its path, so it holds no id of a lease and nothing that a client made up.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tollgate_gateway::dialect::Endpoint;
use tollgate_otlp::{InTrace, Otlp, RequestTrace, ServerSpan};

use crate::net::RequestHandler;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The calls below `/rate-limit` are traced; those for operators and administrators are not.
    Http,
    Gateway,
    /// The calls that decide are traced; health and reflection are not.
    Grpc,
}

/// `answers`, whose requests are traced if there is an `otlp`.
pub(crate) struct Traced<A> {
    answers: A,
    otlp: Option<Arc<Otlp>>,
    protocol: Protocol,
}

impl<A> Traced<A> {
    pub(crate) fn new(answers: A, otlp: Option<Arc<Otlp>>, protocol: Protocol) -> Self {
        Self { answers, otlp, protocol }
    }

    /// What answers.
    pub(crate) fn inner(&self) -> &A {
        &self.answers
    }
}

impl<A: RequestHandler> RequestHandler for Traced<A> {
    const WAITS_FOR_STREAMS: bool = A::WAITS_FOR_STREAMS;

    type Body = A::Body;

    async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Self::Body> {
        let trace = self.otlp.as_ref().and_then(|otlp| begin(otlp, self.protocol, &request));
        let ended = trace.clone();
        let response = InTrace::new(trace, self.answers.handle(request, peer)).await;
        if let Some(trace) = ended {
            end(&trace, self.protocol, &response);
        }
        response
    }
}

fn begin<B>(otlp: &Otlp, protocol: Protocol, request: &Request<B>) -> Option<Arc<RequestTrace>> {
    let path = request.uri().path();
    match protocol {
        Protocol::Http => {
            let route = limit_route(path)?;
            otlp.begin(request.headers(), || http_span(request, Some(route)))
        }
        Protocol::Gateway => {
            otlp.begin(request.headers(), || http_span(request, gateway_route(path)))
        }
        Protocol::Grpc => {
            let is_ours = path.starts_with("/tollgate.v1.") || path.starts_with("/envoy.");
            if !is_ours {
                return None;
            }
            let method = GRPC_METHODS.into_iter().find(|method| path.get(1..) == Some(*method));
            otlp.begin(request.headers(), || ServerSpan::grpc(method))
        }
    }
}

fn end<B>(trace: &RequestTrace, protocol: Protocol, response: &Response<B>) {
    if protocol != Protocol::Grpc {
        return trace.answered(response.status().as_u16());
    }
    // An error comes with the head, and success after the message.
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    trace.answered_grpc(status.and_then(|status| status.parse().ok()).unwrap_or(0));
}

fn http_span<B>(request: &Request<B>, route: Option<&'static str>) -> ServerSpan {
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    };
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    ServerSpan::http(method, route, version)
}

/// The template of a path below `/rate-limit`; `None` for any other.
fn limit_route(path: &str) -> Option<&'static str> {
    const ROUTES: [&str; 6] = [
        "/rate-limit/check",
        "/rate-limit/enforce",
        "/rate-limit/peek",
        "/rate-limit/check/batch",
        "/rate-limit/leases",
        "/rate-limit/settle/batch",
    ];
    if !path.starts_with("/rate-limit/") {
        return None;
    }
    if let Some(route) = ROUTES.into_iter().find(|route| *route == path) {
        return Some(route);
    }
    if let Some(below) = path.strip_prefix("/rate-limit/leases/") {
        return match below.split_once('/') {
            None => Some("/rate-limit/leases/{id}"),
            Some((_, "extend")) => Some("/rate-limit/leases/{id}/extend"),
            Some((_, "settle")) => Some("/rate-limit/leases/{id}/settle"),
            Some(_) => None,
        };
    }
    let below = path.strip_prefix("/rate-limit/auth")?;
    (below.is_empty() || below.starts_with('/')).then_some("/rate-limit/auth")
}

/// The template of a path of the gateway; `None` for one that is only forwarded, or not known.
fn gateway_route(path: &str) -> Option<&'static str> {
    if let Some(endpoint) = Endpoint::of_path(path) {
        return Some(endpoint.path());
    }
    match path.strip_prefix("/v1/models")? {
        "" => Some("/v1/models"),
        below => below.starts_with('/').then_some("/v1/models/{id}"),
    }
}

/// The calls over gRPC that are traced by name.
const GRPC_METHODS: [&str; 9] = [
    "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    "tollgate.v1.RateLimiter/Check",
    "tollgate.v1.RateLimiter/Peek",
    "tollgate.v1.RateLimiter/CheckBatch",
    "tollgate.v1.RateLimiter/Reserve",
    "tollgate.v1.RateLimiter/Extend",
    "tollgate.v1.RateLimiter/Settle",
    "tollgate.v1.RateLimiter/SettleBatch",
    "tollgate.v1.RateLimiter/Release",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_holds_no_id_and_nothing_made_up() {
        for (path, route) in [
            ("/rate-limit/check", Some("/rate-limit/check")),
            ("/rate-limit/leases/abc", Some("/rate-limit/leases/{id}")),
            ("/rate-limit/leases/abc/settle", Some("/rate-limit/leases/{id}/settle")),
            ("/rate-limit/leases/abc/other", None),
            ("/rate-limit/auth", Some("/rate-limit/auth")),
            ("/rate-limit/auth/users/alice", Some("/rate-limit/auth")),
            ("/rate-limit/authority", None),
            ("/rate-limit/unknown", None),
            ("/admin/users/alice", None),
            ("/metrics", None),
        ] {
            assert_eq!(limit_route(path), route, "{path}");
        }
        for (path, route) in [
            ("/v1/chat/completions", Some("/v1/chat/completions")),
            ("/v1/models/gpt-4", Some("/v1/models/{id}")),
            ("/v1/modelsx", None),
            ("/anything", None),
        ] {
            assert_eq!(gateway_route(path), route, "{path}");
        }
    }
}
