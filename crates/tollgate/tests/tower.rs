//! The tower layer over real HTTP, in axum and in plain hyper, and alone.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate::http_fields::{RATELIMIT, RATELIMIT_POLICY, RETRY_AFTER};
use tollgate::tower::{Caller, Parts, RateLimitLayer};
use tollgate::{Check, ManualClock, PolicyLimiter, PolicySet, RateLimiter};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/axum.rs"]
mod axum_example;
#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/hyper.rs"]
mod hyper_example;

const MINUTE: Duration = Duration::from_mins(1);

fn limiter(limit: u64) -> (Arc<RateLimiter<ManualClock>>, ManualClock) {
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder(limit, MINUTE).build_with_clock(clock.clone()).unwrap();
    (Arc::new(limiter), clock)
}

/// The response as it was received.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The only item of a structured field: its name and the integers of its parameters.
    fn item(&self, name: &str) -> (String, Vec<(String, i64)>) {
        let list: List = Parser::new(self.field(name).unwrap()).parse().unwrap();
        let [ListEntry::Item(item)] = list.as_slice() else { panic!("{list:?}") };
        let BareItem::String(id) = &item.bare_item else { panic!("{item:?}") };
        let parameters = item.params.iter().map(|(key, value)| match value {
            BareItem::Integer(value) => (key.as_str().to_owned(), i64::from(*value)),
            other => panic!("{other:?}"),
        });
        (id.as_str().to_owned(), parameters.collect())
    }
}

/// A request without a client library, because the bytes on the wire are tested.
async fn get(address: std::net::SocketAddr, path: &str, user: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nx-user: {user}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

fn pairs(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

/// The same sequence through a window of two requests, whatever the server.
async fn check_limited(address: std::net::SocketAddr, path: &str, clock: &ManualClock) {
    for remaining in [1, 0] {
        let admitted = get(address, path, "alice").await;
        assert_eq!((admitted.status, admitted.body.as_str()), (200, "an answer\n"));
        let policy = ("default".to_owned(), pairs(&[("q", 2), ("w", 60)]));
        assert_eq!(admitted.item("RateLimit-Policy"), policy);
        let left = ("default".to_owned(), pairs(&[("r", remaining), ("t", 60)]));
        assert_eq!(admitted.item("RateLimit"), left);
        assert_eq!(admitted.field("Retry-After"), None);
    }
    clock.advance(Duration::from_millis(20_500));
    let denied = get(address, path, "alice").await;
    assert_eq!(denied.status, 429);
    assert_eq!(denied.item("RateLimit"), ("default".to_owned(), pairs(&[("r", 0), ("t", 40)])));
    assert_eq!(denied.field("Retry-After"), Some("40"));
    assert_eq!(denied.field("Content-Type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
    let quota_exceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!(problem["type"], quota_exceeded);
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["reason"], "limit_exceeded");
    assert_eq!(problem["retryAfterMs"], 39_500);
    assert_eq!(problem["violated-policies"], serde_json::json!(["default"]));
    assert!(!denied.body.contains("alice") && !denied.head.contains("alice"));

    assert_eq!(get(address, path, "bob").await.status, 200);
    clock.advance(Duration::from_millis(39_500));
    assert_eq!(get(address, path, "alice").await.status, 200, "P12");
}

#[tokio::test]
async fn axum_answers_429_and_tells_the_limits() {
    let (limiter, clock) = limiter(2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, axum_example::app(limiter)).into_future());
    check_limited(address, "/v1/models/gpt-4", &clock).await;
    for _ in 0..5 {
        let health = get(address, "/health", "alice").await;
        assert_eq!((health.status, health.field("RateLimit")), (200, None), "not limited");
    }
}

#[tokio::test]
async fn hyper_answers_429_and_tells_the_limits() {
    let (limiter, clock) = limiter(2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(hyper_example::serve(listener, limiter));
    check_limited(address, "/", &clock).await;
}

#[expect(clippy::unnecessary_wraps, reason = "a layer may ask nothing")]
fn alice(_: &Parts) -> Option<Caller<'_>> {
    Some(Caller::new("alice", "gpt-4"))
}

fn request() -> Request<()> {
    Request::new(())
}

#[tokio::test]
async fn a_denied_request_never_reaches_the_inner_service() {
    let (limiter, _) = limiter(1);
    let reached = Arc::new(AtomicUsize::new(0));
    let inner = {
        let reached = Arc::clone(&reached);
        service_fn(move |_: Request<()>| {
            reached.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<_, std::convert::Infallible>(Response::new(String::new())))
        })
    };
    let service = RateLimitLayer::new(limiter, alice).layer(inner);
    for expected in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS] {
        let response = service.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.status(), expected);
        assert!(response.headers().contains_key(RATELIMIT));
        assert!(response.headers().contains_key(RATELIMIT_POLICY));
        let retry = response.headers().contains_key(RETRY_AFTER);
        assert_eq!(retry, expected == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(reached.load(Ordering::SeqCst), 1);
}

/// A service that panics if it is called without having been ready since its last call.
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    /// A clone is not ready just because its original is.
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<String>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        ready(Ok(Response::new(String::new())))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_called() {
    let (limiter, clock) = limiter(1);
    let mut service = RateLimitLayer::new(limiter, alice).layer(Strict { ready: false });
    for expected in [200, 429, 429] {
        let response = service.ready().await.unwrap().call(request()).await.unwrap();
        assert_eq!(response.status(), expected);
    }
    clock.advance(MINUTE);
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn backpressure_of_the_inner_service_reaches_the_caller() {
    let (limiter, _) = limiter(10);
    let inner = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<String>, std::convert::Infallible>>()
    });
    let inner = ConcurrencyLimitLayer::new(1).layer(inner);
    let service = RateLimitLayer::new(limiter, alice).layer(inner);
    let (mut first, mut second) = (service.clone(), service);
    let running = first.ready().await.unwrap().call(request());
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(second.poll_ready(cx).is_pending());
    drop(running);
    assert!(second.poll_ready(cx).is_ready());
}

#[tokio::test]
async fn a_cost_above_the_limit_and_a_ban_have_no_retry_after() {
    for (limit, reason) in [(5, "cost_exceeds_limit"), (0, "banned")] {
        let (limiter, _) = limiter(limit);
        let layer = RateLimitLayer::new(limiter, |_: &Parts| {
            Some(Caller::new("alice", "gpt-4").at_cost(6))
        });
        let service = layer.layer(Strict { ready: false });
        let response = service.oneshot(request()).await.unwrap();
        assert_eq!(response.status(), 429);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        let problem: serde_json::Value = serde_json::from_str(response.body()).unwrap();
        assert_eq!(problem["reason"], reason);
        assert_eq!(problem["retryAfterMs"], serde_json::Value::Null);
    }
}

#[tokio::test]
async fn a_policy_limiter_is_asked_whole_checks() {
    let limiter = Arc::new(PolicyLimiter::new(PolicySet::new(Vec::new()).unwrap()));
    let layer = RateLimitLayer::new(limiter, |request: &Parts| {
        let user = request.headers.get("x-user")?.to_str().ok()?;
        Some(Check::new(user, request.uri.path()))
    });
    let service = layer.layer(Strict { ready: false });
    let request = Request::builder().header("x-user", "alice").body(()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[RATELIMIT], r#""default";r=99;t=3600"#);
    let nobody = service.oneshot(Request::new(())).await.unwrap();
    assert!(!nobody.headers().contains_key(RATELIMIT));
}
