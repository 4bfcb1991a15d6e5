//! Accepts connections, and ends all of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::{self, Phase, Shared};
use super::request_handler::RequestHandler;
use super::transport::HeadBounds;
use crate::config::HttpLimits;

/// How long to wait before accepting again after an error of the machine, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A draining listener accepts until nobody has connected for this long: a client that was told that its connection
/// ends may connect again, and a client that has connected expects an answer.
const ACCEPT_QUIET: Duration = Duration::from_millis(250);
/// The part of the drain timeout during which it accepts at most, in eighths.
const ACCEPT_EIGHTHS: u32 = 3;
/// An absolute maximum for the same.
const ACCEPT_MOST: Duration = Duration::from_secs(3);
// The last accepted connection may get three grace periods, each at most an eighth, before it is closed.
const _: () = assert!(ACCEPT_EIGHTHS + 3 < 8);
/// How long connection attempts in progress may take after no new ones are started.
const HANDSHAKES: Duration = Duration::from_millis(100);

/// The metrics of a listener.
#[derive(Clone, Debug)]
pub(crate) struct NetMetrics {
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) accept_errors: Counter,
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every connection ended regularly or had nothing in flight.
    Whole,
    /// Connections with requests in flight were closed when the time was over.
    TimedOut,
    /// Somebody who did not want to wait for the requests in flight ended it.
    Ended,
}

impl Drained {
    /// How two listeners ended.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Whole { other } else { self }
    }
}

/// A bound TCP port.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the port of `address`; port 0 takes a free one.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// The bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves with `answers` until `stop` completes. Then it ends every connection within `drain_timeout`, such that
    /// each request that was sent is answered: the last answer on a connection says so, an idle connection is kept for
    /// a grace period, and new connections are accepted until none arrive or the time for that is over.
    pub(crate) async fn serve(
        self,
        answers: Arc<impl RequestHandler>,
        bounds: (HttpLimits, HeadBounds),
        metrics: NetMetrics,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
    ) -> Drained {
        let (limits, heads) = bounds;
        let eighth = drain_timeout / 8;
        let max_connections = limits.max_connections.min(Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(max_connections));
        let (set_phase, phase) = watch::channel(Phase::Serving);
        let grace = limits.drain_grace.min(eighth);
        let in_flight = metrics.in_flight.clone();
        let shared = Shared::new(answers, limits, in_flight, phase, heads, grace);
        let accepting = accept_all(&self.socket, &slots, &shared, &metrics);
        tokio::select! {
            () = stop => {}
            () = accepting => {}
        }
        set_phase.send_replace(Phase::Draining);
        let accept_for = ACCEPT_MOST.min(eighth * ACCEPT_EIGHTHS);
        let draining = async {
            accept_the_last(self.socket, &slots, &shared, &metrics, accept_for).await;
            drop(shared);
            slots.acquire_many(u32::try_from(max_connections).unwrap_or(u32::MAX)).await
        };
        if timeout(drain_timeout, draining).await.is_ok() {
            return Drained::Whole;
        }
        set_phase.send_replace(Phase::Over);
        Drained::TimedOut
    }
}

/// Accepts connections and never returns. An error is counted and logged, and accepting continues after a pause.
async fn accept_all(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    shared: &Shared<impl RequestHandler>,
    metrics: &NetMetrics,
) {
    // The semaphore is never closed, so there is always another slot.
    while accept_one(socket, slots, shared, metrics).await {}
}

/// Accepts the next connection when there is room for it; false if there will never be.
async fn accept_one(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    shared: &Shared<impl RequestHandler>,
    metrics: &NetMetrics,
) -> bool {
    let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return false };
    let stream = loop {
        match socket.accept().await {
            Ok((stream, _peer)) => break stream,
            Err(error) => refused(&error, metrics).await,
        }
    };
    tokio::spawn(serve_counted(stream, slot, shared.clone(), metrics.connections.clone()));
    true
}

/// Accepts until nobody has connected for a while, at most for `most`; then closes the port such that no established
/// connection is reset: new attempts are blocked, those in progress are accepted, and only then the port is closed.
async fn accept_the_last(
    socket: TcpListener,
    slots: &Arc<Semaphore>,
    shared: &Shared<impl RequestHandler>,
    metrics: &NetMetrics,
    most: Duration,
) {
    let end = Instant::now() + most;
    let mut quiet_at = Instant::now() + ACCEPT_QUIET;
    while let Ok(true) =
        timeout_at(quiet_at.min(end), accept_one(&socket, slots, shared, metrics)).await
    {
        quiet_at = Instant::now() + ACCEPT_QUIET;
    }
    if let Err(error) = begin_no_more(&socket) {
        tracing::debug!(%error, "new connection attempts cannot be blocked before the port is closed");
    }
    let end = Instant::now() + HANDSHAKES.min(most);
    while let Ok(true) = timeout_at(end, accept_one(&socket, slots, shared, metrics)).await {}
    // The runtime may not have seen the last ones yet.
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, _peer)) = socket.accept() {
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { return };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            let connections = metrics.connections.clone();
            tokio::spawn(serve_counted(stream, slot, shared.clone(), connections));
        }
    }
}

/// From now on the port answers no new connection attempts. Attempts in progress continue; others wait, and are refused
/// when the port is closed.
#[cfg(target_os = "linux")]
fn begin_no_more(socket: &TcpListener) -> io::Result<()> {
    /// The offset of the flags in a TCP segment, and the flag that begins a connection.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    // The instructions of the packet filter, as in linux/filter.h: load a byte, mask it, compare it, return.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const SKIP_IF_EQUAL: u16 = 0x15;
    const END: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN_AND_ACK),
        SockFilter::new(SKIP_IF_EQUAL, 1, 0, SYN),
        SockFilter::new(END, 0, 0, u32::MAX),
        SockFilter::new(END, 0, 0, 0),
    ];
    SockRef::from(socket).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
fn begin_no_more(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

async fn serve_counted(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    shared: Shared<impl RequestHandler>,
    connections: Gauge,
) {
    let _open = Open::new(connections);
    // Answers are small and should be sent immediately. If this fails, the connection is only slower.
    _ = stream.set_nodelay(true);
    connection::serve(stream, shared).await;
    drop(slot);
}

async fn refused(error: &io::Error, metrics: &NetMetrics) {
    metrics.accept_errors.inc();
    // The client went away before it was accepted; accept the next one.
    let of_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !of_peer {
        tracing::error!(
            %error,
            "cannot accept new connections, while open ones continue; trying again. If too many files are open, raise their \
             limit (LimitNOFILE) or lower --max-connections"
        );
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Counts a connection while it is open, even if its task is dropped.
struct Open(Gauge);

impl Open {
    fn new(connections: Gauge) -> Self {
        connections.inc();
        Self(connections)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Body, Bytes, Frame, Incoming};
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::super::memory::RequestMemory;
    use super::*;

    /// Longer than anything takes here; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(20);
    const MANY: usize = 16 << 10;

    /// A stream that always has more data, and so never notices that it should end.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; MANY])))))
        }
    }

    struct Talks;

    impl RequestHandler for Talks {
        type Body = Endless;

        async fn handle(&self, _: Request<Incoming>, _: IpAddr) -> Response<Endless> {
            Response::new(Endless)
        }
    }

    /// A client that requests a stream and reads only its beginning.
    async fn deaf_listener(address: SocketAddr, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut begun = [0; 64];
        stream.read_exact(&mut begun).await.unwrap();
        stream
    }

    /// P13: a client that listens to a stream and does not read it does not keep the server from ending, and nothing is
    /// lost.
    #[tokio::test]
    async fn a_stream_that_nobody_reads_holds_up_no_end() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.address();
        let metrics = NetMetrics {
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            accept_errors: Counter::default(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { _ = stopped.await };
        // Much longer than the test may take.
        let drain_timeout = Duration::from_hours(1);
        let memory = RequestMemory::new(1 << 20, Gauge::default(), Counter::default());
        let heads = HeadBounds { memory, max_head_bytes: 8_192, no_memory: Bytes::new() };
        let bounds = (HttpLimits::default(), heads);
        let answers = Arc::new(Talks);
        let serving =
            tokio::spawn(listener.serve(answers, bounds, metrics.clone(), stopped, drain_timeout));
        let mut deaf = Vec::new();
        for _ in 0..3 {
            deaf.push(deaf_listener(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
        }
        assert_eq!(metrics.in_flight.get(), 3);
        stop.send(()).unwrap();
        let drained = timeout(PATIENCE, serving).await.expect("it waits for them").unwrap();
        assert_eq!((drained, metrics.connections.get()), (Drained::Whole, 0));
        drop(deaf);
    }
}
