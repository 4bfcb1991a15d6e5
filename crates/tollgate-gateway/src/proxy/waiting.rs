//! A stream that waits in the queue for long begins with comments, so that clients and proxies keep its connection open.
//!
//! It then has the status 200. Whatever comes later is told within the stream: a denial or an error of an upstream is the error event of
//! the client's dialect.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts as Head;
use http::{Response, StatusCode};
use hyper::body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tollgate_store::Store;

use super::body::GatewayBody;
use super::exchange::{ReservedRequest, is_event_stream};
use super::record::RequestRecord;
use super::{Gateway, OVERHEAD, begun, milliseconds};
use crate::dialect::{Endpoint, late_answer};

/// A comment of server-sent events, which clients ignore.
const COMMENT: Bytes = Bytes::from_static(b": waiting\n\n");

/// The longest answer that is told as an event.
const MAX_LATE_ANSWER_BYTES: usize = 64 << 10;

/// Tells that a request has waited for so long that its answer begins.
pub(super) struct EarlyBeginning {
    after: Duration,
    /// Gets the overhead until then.
    begins: oneshot::Sender<Duration>,
}

impl EarlyBeginning {
    /// What `waiting` gives; tells `early`, if that is to be told and it takes long.
    pub(super) async fn while_waiting<T>(
        early: &mut Option<Self>,
        waiting: impl Future<Output = T>,
        record: &mut RequestRecord,
    ) -> T {
        let mut waiting = pin!(waiting);
        let Some(Self { after, begins }) = early.take() else { return waiting.await };
        if let Ok(done) = tokio::time::timeout(after, waiting.as_mut()).await {
            *early = Some(Self { after, begins });
            return done;
        }
        // An error means that the client has left.
        _ = begins.send(record.begins_in_queue(after));
        waiting.await
    }
}

impl<S: Store> Gateway<S> {
    /// Forwards a request to a model. The answer of a stream may begin before there is one.
    pub(super) async fn forward_model(
        self: &Arc<Self>,
        head: Head,
        reserved: ReservedRequest<S>,
        record: RequestRecord,
    ) -> Response<GatewayBody<S>> {
        let gateway = Arc::clone(self);
        let after = self.config.queue.comment_after.filter(|_| reserved.request.stream);
        let Some(after) = after else { return gateway.finish(head, reserved, record, None).await };
        let endpoint = reserved.request.endpoint();
        let mut headers = HeaderMap::new();
        reserved.apply(&mut headers);
        let (begins, begun) = oneshot::channel();
        let early = Some(EarlyBeginning { after, begins });
        let answer: Answering<S> = Box::pin(gateway.finish(head, reserved, record, early));
        match select(answer, begun).await {
            Either::Left((response, _)) => response,
            Either::Right((Ok(overhead), answer)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert(OVERHEAD, milliseconds(overhead));
                let body = WaitingBody::new(endpoint, answer, after);
                let mut response = Response::new(GatewayBody::waiting(body));
                *response.headers_mut() = headers;
                response
            }
            // It did not wait for long.
            Either::Right((Err(_), answer)) => answer.await,
        }
    }

    async fn finish(
        self: Arc<Self>,
        head: Head,
        reserved: ReservedRequest<S>,
        mut record: RequestRecord,
        early: Option<EarlyBeginning>,
    ) -> Response<GatewayBody<S>> {
        let dialect = reserved.request.endpoint().dialect();
        let answered = self.model_answer(&head, reserved, &mut record, early).await;
        begun(answered, dialect, record)
    }
}

/// The answer to come. Dropping it gives up the place in the queue, and gives back what was reserved.
type Answering<S> = Pin<Box<dyn Future<Output = Response<GatewayBody<S>>> + Send>>;

/// The body of an answer that has begun in the queue.
pub(super) struct WaitingBody<S: Store> {
    endpoint: Endpoint,
    state: State<S>,
    every: Duration,
    next_comment: Pin<Box<Sleep>>,
}

enum State<S: Store> {
    Waiting(Answering<S>),
    /// The answer is no stream, and is read to be told as an event.
    Reading {
        status: StatusCode,
        body: Box<GatewayBody<S>>,
        bytes: Vec<u8>,
    },
    /// It was told.
    Told,
}

/// What comes next.
pub(super) enum Next<S: Store> {
    /// A piece of the stream.
    Piece(Bytes),
    /// The rest of the stream is this.
    Body(GatewayBody<S>),
    /// Nothing.
    End,
}

impl<S: Store> WaitingBody<S> {
    fn new(endpoint: Endpoint, answer: Answering<S>, every: Duration) -> Self {
        // The first one comes at once.
        let next_comment = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { endpoint, state: State::Waiting(answer), every, next_comment }
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next<S>> {
        loop {
            match &mut self.state {
                State::Waiting(answer) => {
                    if let Poll::Ready(response) = answer.as_mut().poll(context) {
                        let (head, body) = response.into_parts();
                        if head.status.is_success() && is_event_stream(&head.headers) {
                            return Poll::Ready(Next::Body(body));
                        }
                        let (status, body) = (head.status, Box::new(body));
                        self.state = State::Reading { status, body, bytes: Vec::new() };
                        continue;
                    }
                    ready!(self.next_comment.as_mut().poll(context));
                    // The clock of the runtime's timers.
                    self.next_comment.as_mut().reset(Instant::now() + self.every);
                    return Poll::Ready(Next::Piece(COMMENT));
                }
                State::Reading { status, body, bytes } => {
                    if let Some(Ok(frame)) = ready!(Pin::new(&mut **body).poll_frame(context)) {
                        let data = frame.into_data().unwrap_or_default();
                        let room = MAX_LATE_ANSWER_BYTES.saturating_sub(bytes.len());
                        bytes.extend_from_slice(&data[..data.len().min(room)]);
                        continue;
                    }
                    let told = late_answer(self.endpoint, *status, bytes);
                    self.state = State::Told;
                    return Poll::Ready(Next::Piece(told.into()));
                }
                State::Told => return Poll::Ready(Next::End),
            }
        }
    }
}
