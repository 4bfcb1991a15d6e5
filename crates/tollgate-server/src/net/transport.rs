//! The bytes of one connection, between the socket and the protocol: counted when they arrive, bounded while they
//! belong to the head of a request, and read to the end so that the client receives the last answer.

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

/// How much of a head a connection may send before it counts: its read buffer has this size anyway.
const UNCOUNTED_HEAD_BYTES: usize = 8 << 10;
/// How much HTTP/2 reads of one frame before processing it.
const FRAME_BYTES: usize = 16 << 10;
/// How long a client must have sent nothing after its last answer before the connection is closed,
const LINGER_QUIET: Duration = Duration::from_secs(1);
/// and how long it is read at most.
const LINGER_MOST: Duration = Duration::from_secs(10);
/// The beginning of an HTTP/2 connection.
const HTTP2: &[u8] = b"PRI ";

/// The bounds of request heads.
#[derive(Clone, Debug)]
pub(crate) struct HeadBounds {
    pub(crate) memory: RequestMemory,
    pub(crate) max_head_bytes: usize,
    /// The HTTP/1.1 answer if there is no memory for a head; the connection is then closed.
    pub(crate) no_memory: Bytes,
}

/// The place where an ended connection leaves its stream, if the client may still be sending.
pub(super) type LeftOver = Arc<Mutex<Option<TcpStream>>>;

/// The stream of one connection.
pub(super) struct Transport {
    /// `None` only during drop.
    stream: Option<TcpStream>,
    left_over: LeftOver,
    activity: Arc<Activity>,
    bounds: HeadBounds,
    head: Head,
    /// Whether all of the last answer was sent.
    is_flushed: bool,
}

/// The incomplete head of a request.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    held: Option<HeldMemory>,
    /// The number of requests before it.
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

    /// Forgets the head of a request whose answer has begun.
    fn settle_head(&mut self) {
        let requests = self.activity.requests();
        if requests != self.head.requests {
            self.head.requests = requests;
            self.head.bytes = 0;
            self.head.held = None;
        }
    }

    /// Counts received bytes; returns whether there is memory for them. Bodies are counted where they are read: with
    /// HTTP/1.1, bytes that arrive while a request is being answered; with HTTP/2, heads and bodies come in frames, of
    /// which one is read at a time.
    fn count_head(&mut self, came: &[u8]) -> bool {
        if self.activity.reads() == 0 {
            self.head.is_http2 = came.starts_with(HTTP2);
        }
        self.activity.read();
        let is_answering = self.activity.is_answering();
        // Bytes after the last answer are not stored.
        if (is_answering && !self.head.is_http2) || self.activity.lingers() {
            return true;
        }
        self.head.bytes = self.head.bytes.saturating_add(came.len());
        if self.head.bytes <= UNCOUNTED_HEAD_BYTES {
            return true;
        }
        let most = self.bounds.max_head_bytes + FRAME_BYTES;
        let held = self.head.held.get_or_insert_with(|| self.bounds.memory.part());
        // A connection with requests in flight is not closed: each of their bodies gets memory, or is refused.
        held.grow_to(self.head.bytes.min(most)).is_ok() || is_answering
    }

    /// Answers that there is no memory for the head of a request, if the protocol allows an answer before the head is
    /// complete.
    fn refuse_head(&mut self, context: &mut Context<'_>) {
        self.head.held = None;
        self.activity.set_lingers();
        let may_be_said = !self.head.is_http2 && self.is_flushed;
        if let Some(stream) = self.stream.as_mut().filter(|_| may_be_said) {
            // The answer is one small piece: either there is room for it, or the client does not read.
            _ = Pin::new(stream).poll_write(context, &self.bounds.no_memory);
        }
    }

    /// Whether the machine has no bytes for this connection. The runtime may not have seen bytes that have just
    /// arrived.
    fn has_nothing_to_read(&self) -> bool {
        let Some(Ok(socket)) = self.stream.as_ref().map(|one| one.as_fd().try_clone_to_owned())
        else {
            return true;
        };
        // No bytes, the end of the stream and a reset all need no answer.
        !matches!(StdTcpStream::from(socket).peek(&mut [0]), Ok(1..))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.activity.lingers() {
            // Nobody else uses it at this time, and a poisoned slot only closes the socket.
            if let Ok(mut left_over) = self.left_over.lock() {
                *left_over = self.stream.take();
            }
        }
    }
}

/// Ends a connection whose client may still be sending: reads until it stops. If the socket were closed with unread
/// bytes, the client's machine would discard the answer.
pub(super) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        _ = timeout(LINGER_MOST, discard(&stream)).await;
    }
}

/// Reads and discards what still arrives; ends when the client closes, an error occurs, or nothing arrives any more.
async fn discard(stream: &TcpStream) {
    while let Ok(Ok(())) = timeout(LINGER_QUIET, stream.readable()).await {
        // No buffer is held while nothing arrives, because there may be many such clients.
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
                    // The protocol sees this as a client that closed an idle connection.
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

    /// A connection and its client, which does not wait for the runtime.
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

    /// The result of one check of the transport: the number of bytes, if it is known.
    async fn look(transport: &mut Transport) -> Option<usize> {
        poll_fn(|context| {
            let mut bytes = [0; 16];
            let mut buffer = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *transport).poll_read(context, &mut buffer);
            Poll::Ready(polled.is_ready().then(|| buffer.filled().len()))
        })
        .await
    }

    /// If a request has arrived that the runtime has not seen yet, the connection must not end.
    #[tokio::test]
    async fn an_idle_connection_ends_only_when_nothing_has_come() {
        let (mut transport, activity, mut peer) = connected().await;
        assert_eq!(look(&mut transport).await, None, "nobody has said anything");
        activity.set_ends_when_idle();
        // There is no await in between, so the runtime does not check its sockets.
        peer.write_all(b"GET / HTTP/1.1").unwrap();
        assert_eq!(look(&mut transport).await, None, "a request has come");
        let mut request = [0; 14];
        transport.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"GET / HTTP/1.1");
        assert_eq!(look(&mut transport).await, None, "its head is not whole");
        drop(activity.request(false));
        assert_eq!(look(&mut transport).await, Some(0), "it is idle");
    }

    /// What a client sends after its last answer is read until it stops, so that its machine keeps the answer.
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
