//! The bytes of one connection, between the socket and the protocol: noted when they arrive, bounded while they are the head of
//! a request, and read to the end so that the peer hears the last answer.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::activity::Activity;
use super::memory::{HeldMemory, RequestMemory};

/// What a connection may send of a head before it counts: it reads into so much memory anyway.
const UNCOUNTED_HEAD_BYTES: usize = 8 << 10;
/// What HTTP/2 reads of one frame before it acts on it.
const FRAME_BYTES: usize = 16 << 10;
/// How long a peer must have sent nothing after its last answer for the connection to be closed,
const LINGER_QUIET: Duration = Duration::from_secs(1);
/// and how long it is listened to at most.
const LINGER_MOST: Duration = Duration::from_secs(10);
/// How HTTP/2 begins.
const HTTP2: &[u8] = b"PRI ";

/// What bounds the heads of requests.
#[derive(Clone, Debug)]
pub(crate) struct HeadBounds {
    pub(crate) memory: RequestMemory,
    pub(crate) max_head_bytes: usize,
    /// What is answered over HTTP/1.1, and the connection closed, when there is no memory for a head.
    pub(crate) no_memory: Bytes,
}

/// Where a connection that has ended leaves its stream, if the peer may still be sending.
pub(super) type LeftOver = Arc<Mutex<Option<TcpStream>>>;

/// The stream of one connection.
pub(super) struct Transport {
    /// `None` only while it is dropped.
    stream: Option<TcpStream>,
    left_over: LeftOver,
    activity: Arc<Activity>,
    bounds: HeadBounds,
    head: Head,
    /// Whether nothing of an answer is on its way.
    is_flushed: bool,
}

/// What came of the head of a request that is not whole yet.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    held: Option<HeldMemory>,
    /// The requests before it.
    requests: u64,
    is_http2: bool,
}

impl Transport {
    pub(super) fn new(
        stream: TcpStream,
        left_over: LeftOver,
        activity: Arc<Activity>,
        bounds: HeadBounds,
    ) -> Self {
        let (stream, head) = (Some(stream), Head::default());
        Self { stream, left_over, activity, bounds, head, is_flushed: true }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Forgets the head of a request that has begun to be answered.
    fn settle_head(&mut self) {
        let requests = self.activity.requests();
        if requests != self.head.requests {
            self.head.requests = requests;
            self.head.bytes = 0;
            self.head.held = None;
        }
    }

    /// Takes note of what came; answers whether there is memory for it. A body is counted by who reads it: over HTTP/1.1,
    /// what comes while a request is answered; over HTTP/2, heads and bodies come in frames, of which one is read at a time.
    fn count_head(&mut self, came: &[u8]) -> bool {
        if self.activity.reads() == 0 {
            self.head.is_http2 = came.starts_with(HTTP2);
        }
        self.activity.read();
        let is_answering = self.activity.is_answering();
        // What comes after the last answer is nothing that is kept.
        if (is_answering && !self.head.is_http2) || self.activity.lingers() {
            return true;
        }
        self.head.bytes = self.head.bytes.saturating_add(came.len());
        if self.head.bytes <= UNCOUNTED_HEAD_BYTES {
            return true;
        }
        let most = self.bounds.max_head_bytes + FRAME_BYTES;
        let held = self.head.held.get_or_insert_with(|| self.bounds.memory.part());
        // Whose requests are answered is not cut: each of their bodies finds room, or is refused.
        held.grow_to(self.head.bytes.min(most)).is_ok() || is_answering
    }

    /// Says that there is no memory for the head of a request, if the protocol lets it be said before the head is whole.
    fn refuse_head(&mut self, context: &mut Context<'_>) {
        self.head.held = None;
        self.activity.set_lingers();
        let may_be_said = !self.head.is_http2 && self.is_flushed;
        if let Some(stream) = self.stream.as_mut().filter(|_| may_be_said) {
            // An answer of one small piece: there is room for it, or the peer does not read.
            _ = Pin::new(stream).poll_write(context, &self.bounds.no_memory);
        }
    }

    /// Whether the machine has no bytes for this connection. The runtime may not have heard of some that have just come.
    fn has_nothing_to_read(&self) -> bool {
        let Some(Ok(socket)) = self.stream.as_ref().map(|one| one.as_fd().try_clone_to_owned())
        else {
            return true;
        };
        // Nothing, the end and a reset are all nothing to answer.
        !matches!(StdTcpStream::from(socket).peek(&mut [0]), Ok(1..))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.activity.lingers() {
            // Nobody else has it at this time, and a slot that is poisoned only closes the socket.
            if let Ok(mut left_over) = self.left_over.lock() {
                *left_over = self.stream.take();
            }
        }
    }
}

/// Ends a connection whose peer may still be sending: reads until it stops, so that the peer's machine keeps the answer. If the
/// socket was closed with bytes unread, it would throw the answer away.
pub(super) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        _ = timeout(LINGER_MOST, discard(&stream)).await;
    }
}

/// Reads what still comes, and forgets it; ends with the peer, in an error, or when nothing comes any more.
async fn discard(stream: &TcpStream) {
    while let Ok(Ok(())) = timeout(LINGER_QUIET, stream.readable()).await {
        // Not held while nothing comes: there may be many such peers.
        let mut bytes = [0; 4 << 10];
        match stream.try_read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.settle_head();
        let before = buffer.filled().len();
        match self.stream()?.poll_read(context, buffer) {
            Poll::Pending => {
                let may_end = self.activity.ends_when_idle() && self.head.bytes == 0;
                if may_end && !self.activity.is_answering() && self.has_nothing_to_read() {
                    // To the protocol it looks as if the peer had closed a connection that was idle.
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            }
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                if self.count_head(&buffer.filled()[before..]) {
                    return Poll::Ready(Ok(()));
                }
                self.refuse_head(context);
                Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()))
            }
            ended @ Poll::Ready(_) => ended,
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream()?.poll_flush(context);
        self.is_flushed |= flushed.is_ready();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        self.stream()?.poll_write_vectored(context, buffers)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection, and its peer, which does not wait for the runtime.
    async fn connected() -> (Transport, Arc<Activity>, StdTcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let peer = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let memory = RequestMemory::new(1 << 20, Gauge::default(), Counter::default());
        let bounds = HeadBounds { memory, max_head_bytes: 8_192, no_memory: Bytes::new() };
        let activity = Arc::new(Activity::default());
        let left_over = LeftOver::default();
        (Transport::new(stream, left_over, Arc::clone(&activity), bounds), activity, peer)
    }

    /// What one look at the transport says: how many bytes there are, if that is known.
    async fn look(transport: &mut Transport) -> Option<usize> {
        poll_fn(|context| {
            let mut bytes = [0; 16];
            let mut buffer = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *transport).poll_read(context, &mut buffer);
            Poll::Ready(polled.is_ready().then(|| buffer.filled().len()))
        })
        .await
    }

    /// A request that has come, and of which the runtime has not heard, keeps its connection from ending.
    #[tokio::test]
    async fn an_idle_connection_ends_only_when_nothing_has_come() {
        let (mut transport, activity, mut peer) = connected().await;
        assert_eq!(look(&mut transport).await, None, "nobody has said anything");
        activity.set_ends_when_idle();
        // Nothing is awaited in between, so the runtime does not look at its sockets.
        peer.write_all(b"GET / HTTP/1.1").unwrap();
        assert_eq!(look(&mut transport).await, None, "a request has come");
        let mut request = [0; 14];
        transport.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"GET / HTTP/1.1");
        assert_eq!(look(&mut transport).await, None, "its head is not whole");
        drop(activity.request(false));
        assert_eq!(look(&mut transport).await, Some(0), "it is idle");
    }

    /// What a peer sends after its last answer is read until it stops, so that its machine keeps the answer.
    #[tokio::test]
    async fn a_peer_that_still_sends_hears_its_last_answer() {
        let (mut transport, activity, peer) = connected().await;
        activity.set_lingers();
        let sending = tokio::task::spawn_blocking(move || {
            let mut peer = peer;
            peer.write_all(&vec![b' '; 4 << 20]).unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            io::Read::read_to_string(&mut peer, &mut answer).unwrap();
            answer
        });
        transport.write_all(b"the last").await.unwrap();
        let left_over = Arc::clone(&transport.left_over);
        drop(transport);
        let left_over = left_over.lock().unwrap().take().unwrap();
        linger(left_over).await;
        assert_eq!(sending.await.unwrap(), "the last");
    }
}
