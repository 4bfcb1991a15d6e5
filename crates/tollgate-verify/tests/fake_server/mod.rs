//! A server that knows one policy, and stops answering at some call.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// What a server does with a call.
enum Reply {
    Answer(u16, Value),
    Nothing,
    /// No call is answered any more, and no connection accepted.
    Die,
}

pub(crate) struct Fake {
    /// What happens with creations, checks and the calls that clean up.
    create: fn() -> Reply,
    check: fn() -> Reply,
    policy: Arc<Mutex<Option<String>>>,
    /// Whether it deletes the policy when it is asked to.
    deletes: bool,
    creating: Notify,
    checked: Notify,
    cleaned_up: Notify,
}

impl Fake {
    fn new(create: fn() -> Reply, check: fn() -> Reply) -> Self {
        let (creating, checked, cleaned_up) = (Notify::new(), Notify::new(), Notify::new());
        let policy = Arc::default();
        Self { create, check, policy, deletes: false, creating, checked, cleaned_up }
    }

    /// Another server with the same catalog, which refuses checks.
    pub(crate) fn beside(&self) -> Self {
        let other = Self::new(created, || Reply::Answer(503, json!({})));
        Self { policy: Arc::clone(&self.policy), deletes: true, ..other }
    }

    pub(crate) fn stops_answering_checks() -> Self {
        Self::new(created, || Reply::Nothing)
    }

    pub(crate) fn stops_answering_creations() -> Self {
        Self::new(|| Reply::Nothing, || Reply::Nothing)
    }

    pub(crate) fn dies_at_the_first_check() -> Self {
        Self::new(created, || Reply::Die)
    }

    pub(crate) fn refuses_creations() -> Self {
        Self::new(|| Reply::Answer(401, json!({"detail": "no"})), || Reply::Nothing)
    }

    /// The policy that was to be created.
    pub(crate) fn created(&self) -> Option<String> {
        self.policy.lock().unwrap().clone()
    }

    pub(crate) async fn creating(&self) {
        self.creating.notified().await;
    }

    pub(crate) async fn checked(&self) {
        self.checked.notified().await;
    }

    pub(crate) async fn cleaned_up(&self) {
        self.cleaned_up.notified().await;
    }

    fn reply(&self, call: &str, body: &Value) -> Reply {
        match call {
            "POST /rate-limit/peek" => {
                let limits: Vec<_> = self.created().iter().map(|id| limit(id)).collect();
                Reply::Answer(200, decision(&limits))
            }
            "POST /admin/policies" => {
                *self.policy.lock().unwrap() = body["id"].as_str().map(str::to_owned);
                self.creating.notify_one();
                (self.create)()
            }
            "POST /rate-limit/check" => {
                self.checked.notify_one();
                (self.check)()
            }
            _ if self.deletes && call.starts_with("DELETE ") => {
                *self.policy.lock().unwrap() = None;
                Reply::Answer(200, json!({}))
            }
            _ => {
                self.cleaned_up.notify_one();
                Reply::Nothing
            }
        }
    }
}

fn created() -> Reply {
    Reply::Answer(201, json!({}))
}

fn limit(id: &str) -> Value {
    json!({"policyId": id, "scope": "USER", "unit": "requests", "algorithm": "sliding_window_log", "mode": "enforce",
        "limit": 2, "windowSeconds": 1})
}

fn decision(limits: &[Value]) -> Value {
    json!({"allowed": true, "retryAfterMs": 0, "count": 0, "degraded": false, "reason": null, "limits": limits})
}

pub(crate) struct FakeServer {
    address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    accepting: AbortHandle,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FakeServer {
    pub(crate) async fn start(fake: Fake) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::new(fake);
        let accepting = tokio::spawn(serve(listener, Arc::clone(&fake))).abort_handle();
        Self { address, fake, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, fake: Arc<Fake>) {
    let dead = Arc::new(Notify::new());
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = dead.notified() => return,
        };
        let (fake, dead) = (Arc::clone(&fake), Arc::clone(&dead));
        let service =
            service_fn(move |request| answer(Arc::clone(&fake), Arc::clone(&dead), request));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    fake: Arc<Fake>,
    dead: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let call = format!("{} {}", request.method(), request.uri().path());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = match fake.reply(&call, &body) {
        Reply::Answer(status, answer) => (status, answer),
        Reply::Nothing => std::future::pending().await,
        Reply::Die => {
            dead.notify_one();
            std::future::pending().await
        }
    };
    Ok(Response::builder().status(status).body(Full::from(answer.to_string())).unwrap())
}
