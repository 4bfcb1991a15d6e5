//! Accepting connections, and ending them all.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::connection::{self, Phase, Shared};
use crate::config::HttpLimits;

/// How long to wait after an error of the machine's, such as too many open files, before accepting again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What a listener counts.
#[derive(Clone, Debug)]
pub(crate) struct NetMetrics {
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) accept_errors: Counter,
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every connection ended by itself or had nothing in flight.
    Whole,
    /// Connections with requests in flight were cut when the time was over.
    TimedOut,
}

/// A bound TCP port.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the port of `address`; port 0 takes a free one.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets `answers` answer until `stop` is done; then accepts no more, lets requests in flight be answered, and ends
    /// every connection within `drain_timeout`.
    pub(crate) async fn serve(
        self,
        answers: Arc<impl Answer>,
        limits: HttpLimits,
        metrics: NetMetrics,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
    ) -> Drained {
        let max_connections = limits.max_connections.min(Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(max_connections));
        let (set_phase, phase) = watch::channel(Phase::Serving);
        let shared = Shared::new(answers, limits, metrics.in_flight.clone(), phase);
        let accepting = accept_all(&self.socket, &slots, &shared, &metrics);
        tokio::select! {
            () = stop => {}
            () = accepting => {}
        }
        drop(self.socket);
        drop(shared);
        set_phase.send_replace(Phase::Draining);
        let all_slots = slots.acquire_many(u32::try_from(max_connections).unwrap_or(u32::MAX));
        if timeout(drain_timeout, all_slots).await.is_ok() {
            return Drained::Whole;
        }
        set_phase.send_replace(Phase::Over);
        Drained::TimedOut
    }
}

/// Accepts for ever. An error is counted, logged and waited out; it never ends the listener.
async fn accept_all(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    shared: &Shared<impl Answer>,
    metrics: &NetMetrics,
) {
    // The slots are never closed, so that there always is a next one.
    while let Ok(slot) = Arc::clone(slots).acquire_owned().await {
        let stream = loop {
            match socket.accept().await {
                Ok((stream, _peer)) => break stream,
                Err(error) => refused(&error, metrics).await,
            }
        };
        tokio::spawn(serve_counted(stream, slot, shared.clone(), metrics.connections.clone()));
    }
}

async fn serve_counted(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    shared: Shared<impl Answer>,
    connections: Gauge,
) {
    let _open = Open::new(connections);
    // Answers are small and wanted now; without it the connection merely is slower.
    _ = stream.set_nodelay(true);
    connection::serve(stream, shared).await;
    drop(slot);
}

async fn refused(error: &io::Error, metrics: &NetMetrics) {
    metrics.accept_errors.inc();
    // The peer went away before it was accepted: the next one may be there.
    let of_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !of_peer {
        tracing::error!(%error, "cannot accept connections; trying again");
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Counts a connection while it is open, also when its task is dropped.
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

    use super::*;

    /// Longer than anything here takes; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(20);
    const MANY: usize = 16 << 10;

    /// A stream that always has more to say, and so never hears that it should end.
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

    impl Answer for Talks {
        type Body = Endless;

        async fn answer(&self, _: Request<Incoming>, _: IpAddr) -> Response<Endless> {
            Response::new(Endless)
        }
    }

    /// Who asks for a stream and reads only the beginning of it.
    async fn deaf_listener(address: SocketAddr, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut begun = [0; 64];
        stream.read_exact(&mut begun).await.unwrap();
        stream
    }

    /// P13: who listens to a stream and does not read keeps no server from ending, and nothing is lost by it.
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
        let (answers, limits) = (Arc::new(Talks), HttpLimits::default());
        let serving =
            tokio::spawn(listener.serve(answers, limits, metrics.clone(), stopped, drain_timeout));
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
