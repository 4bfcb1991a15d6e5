//! A server, a backend and a client for tests of proxies.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tollgate_core::{ManualClock, Timestamp};
use tollgate_server::{CatalogConfig, ServeConfig, Server};

/// How long a program may take to start. Far longer than needed, so that only one that never starts fails a test.
const START: Duration = Duration::from_mins(1);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Port 0 of this machine.
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server with the policies of `yaml` whose clock stands still, and its files.
pub(crate) async fn serve(
    yaml: &str,
    configure: impl FnOnce(&mut ServeConfig),
) -> (Server, TempDir) {
    let (config, files) = configured(yaml, configure);
    let clock = ManualClock::at(Timestamp::from_ms(1_800_000_001_234));
    (Server::start_with_clock(&config, clock).await.unwrap(), files)
}

/// A configuration with the policies of `yaml`, and its files.
pub(crate) fn configured(
    yaml: &str,
    configure: impl FnOnce(&mut ServeConfig),
) -> (ServeConfig, TempDir) {
    let files = TempDir::new().unwrap();
    let path = files.path().join("policies.yaml");
    std::fs::write(&path, yaml).unwrap();
    let mut config = ServeConfig::default();
    config.catalog = CatalogConfig::File(path);
    config.http = ANY_PORT;
    configure(&mut config);
    (config, files)
}

/// A backend that answers every request with `answered`; it counts the requests.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    headers: Vec<(&'static str, &'static str)>,
    requests: AtomicU64,
    /// Whether answers begin and do not end.
    holds: AtomicBool,
}

type AnswerBody = Either<Full<Bytes>, Held>;

/// A body that never ends.
struct Held;

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

// SeqCst: the backend must see what the test does.
impl Backend {
    /// A backend whose answers have `headers`.
    pub(crate) async fn start(headers: &[(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, holds) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { headers: headers.to_vec(), requests, holds });
        let answering = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&answering);
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = shared.answer();
                    async { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, shared }
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// From now on answers begin and do not end.
    pub(crate) fn hold_answers(&self) {
        self.shared.holds.store(true, Ordering::SeqCst);
    }

    /// From now on answers end.
    pub(crate) fn release_answers(&self) {
        self.shared.holds.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn answer(&self) -> Response<AnswerBody> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut answer = Response::builder();
        for (name, value) in &self.headers {
            answer = answer.header(*name, *value);
        }
        let body = if self.holds.load(Ordering::SeqCst) {
            Either::Right(Held)
        } else {
            Either::Left(Full::new(Bytes::from_static(b"answered")))
        };
        answer.body(body).unwrap()
    }
}

/// A program that ends with the test.
pub(crate) struct Program(Child);

impl Program {
    /// Starts `command`, and waits until it accepts connections at `address`.
    pub(crate) async fn start(mut command: Command, address: SocketAddr, log: &Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let name = command.get_program().display().to_string();
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{name} does not start ({error}); `scripts/setup tests` installs it")
        });
        let mut program = Self(child);
        for _ in 0..START.as_millis() / LOOK_EVERY.as_millis() {
            if TcpStream::connect(address).await.is_ok() {
                return program;
            }
            if let Ok(Some(status)) = program.0.try_wait() {
                panic!("{name}: {status}: {}", std::fs::read_to_string(log).unwrap());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{name} does not listen: {}", std::fs::read_to_string(log).unwrap());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address of this machine that nobody uses.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap()
}

/// The answer of a proxy.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An HTTP/1.1 connection to a proxy.
pub(crate) struct Client(http1::SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a request, waits for the head of its answer and closes the connection.
    pub(crate) async fn break_off(mut self, path: &str, headers: &[(&str, &str)]) {
        let request = request("models.example", "POST", path, headers, "{}");
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Sends a request for a host that the proxy does not know.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.send_to("models.example", method, path, headers, body).await
    }

    pub(crate) async fn send_to(
        &mut self,
        host: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let request = request(host, method, path, headers, body);
        self.0.ready().await.unwrap();
        let (head, body) = self.0.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }
}

fn request(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}
