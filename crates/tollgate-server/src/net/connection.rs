//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::watch as channel;
use tokio::time::{Instant, Sleep, sleep};

use super::activity::{Activity, ConnectionMonitor, IdleAction};
use super::request_handler::RequestHandler;
use super::tracked_body::TrackedBody;
use super::transport::{HeadBounds, LeftOver, Transport, linger};
use crate::config::HttpLimits;

/// How long a connection may take to end when it was asked to and owes no answer: pending data is sent, and streams
/// end. A client that does not read within this time is cut off.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// How many unread bytes of bodies an HTTP/2 client may send, on a stream and on a connection. They are read
/// immediately, but only after the data of all connections was received.
const HTTP2_WINDOW_BYTES: u32 = 64 << 10;

/// The state that the listener requests of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Keep serving.
    Serving,
    /// Answer what is in flight and what has already been sent, then end.
    Draining,
    /// End now.
    Over,
}

/// The shared state of all connections of a listener.
pub(super) struct Shared<A> {
    pub(super) handler: Arc<A>,
    pub(super) limits: HttpLimits,
    pub(super) in_flight: Gauge,
    pub(super) phase: channel::Receiver<Phase>,
    pub(super) heads: HeadBounds,
    /// How long an idle connection is kept while the listener drains, because a request may be on its way.
    pub(super) drain_grace: Duration,
    builder: Builder<TokioExecutor>,
}

impl<A> Shared<A> {
    pub(super) fn new(
        handler: Arc<A>,
        limits: HttpLimits,
        in_flight: Gauge,
        phase: channel::Receiver<Phase>,
        heads: HeadBounds,
        drain_grace: Duration,
    ) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        // The periodic check of the connection enforces the timeout for headers: this also works before the protocol is
        // known, and needs no timer per request.
        builder.http1().header_read_timeout(None).max_buf_size(limits.max_header_bytes);
        let max_header_list = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_http2_streams)
            .max_header_list_size(max_header_list)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .keep_alive_interval(limits.http2_ping_every)
            .keep_alive_timeout(limits.http2_ping_every);
        Self { handler, limits, in_flight, phase, heads, drain_grace, builder }
    }
}

// A derived implementation would require `A: Clone`.
impl<A> Clone for Shared<A> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            limits: self.limits.clone(),
            in_flight: self.in_flight.clone(),
            phase: self.phase.clone(),
            heads: self.heads.clone(),
            drain_grace: self.drain_grace,
            builder: self.builder.clone(),
        }
    }
}

/// Serves one connection until it ends, is ended because it is inactive, or is drained.
pub(super) async fn serve<A: RequestHandler>(stream: TcpStream, shared: Shared<A>) {
    let left_over = LeftOver::default();
    serve_requests(stream, &left_over, shared).await;
    // All other memory of the connection has been released by now.
    let stream = left_over.lock().ok().and_then(|mut stream| stream.take());
    if let Some(stream) = stream {
        linger(stream).await;
    }
}

async fn serve_requests<A: RequestHandler>(
    stream: TcpStream,
    left_over: &LeftOver,
    mut shared: Shared<A>,
) {
    // A client that has already gone has no address, and will get no answer.
    let peer = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let activity = Arc::new(Activity::new(shared.in_flight.clone()));
    let (heads, left_over) = (shared.heads.clone(), Arc::clone(left_over));
    let transport = Transport::new(stream, left_over, Arc::clone(&activity), heads);
    let service = service(Arc::clone(&shared.handler), Arc::clone(&activity), peer);
    let mut connection = pin!(shared.builder.serve_connection(TokioIo::new(transport), service));
    let mut watch = ConnectionMonitor::new(Arc::clone(&activity), &shared.limits);
    let mut drain = None;
    let mut timer = pin!(sleep(watch.every()));
    let mut closing = false;
    loop {
        tokio::select! {
            // Polled first, so that a connection with work to do is not ended.
            biased;
            // Its errors are caused by the client (a reset, a malformed request) and do not concern the operator.
            _ended = connection.as_mut() => return,
            changed = shared.phase.changed() => {
                if changed.is_err() || *shared.phase.borrow() == Phase::Over {
                    return;
                }
                activity.set_draining();
                drain = Some(Drain::begin(&activity));
            }
            () = timer.as_mut() => {
                let verdict = match &mut drain {
                    Some(drain) => drain.look(&activity),
                    None => watch.look(),
                };
                match verdict {
                    _ if closing && !activity.owes_an_answer() => return,
                    IdleAction::Cut => return,
                    IdleAction::Close => {
                        // If a request arrives nevertheless, it is answered, as the last one.
                        activity.set_draining();
                        activity.set_ends_when_idle();
                        closing = true;
                    }
                    IdleAction::Keep => {}
                }
            }
        }
        if activity.is_draining() && activity.is_http2() {
            // With HTTP/1.1, each answer says that it is the last.
            connection.as_mut().graceful_shutdown();
        }
        let next = match (&drain, closing) {
            (_, true) => CLOSE_GRACE,
            (Some(_), false) => shared.drain_grace,
            (None, false) => watch.every(),
        };
        reset(timer.as_mut(), next);
    }
}

/// Answers the requests of one connection, from `peer`.
fn service<A: RequestHandler>(
    handler: Arc<A>,
    activity: Arc<Activity>,
    peer: IpAddr,
) -> impl Service<
    Request<Incoming>,
    Response = Response<TrackedBody<A::Body>>,
    Error = Infallible,
    Future: Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| {
        let is_http2 = request.version() == Version::HTTP_2;
        let in_flight = activity.request(is_http2);
        let (handler, activity) = (Arc::clone(&handler), Arc::clone(&activity));
        async move {
            let mut answer = handler.handle(request, peer).await;
            if !is_http2 {
                end_if_last(&mut answer, &activity);
            }
            Ok(if A::WAITS_FOR_STREAMS {
                TrackedBody::awaited(answer, in_flight)
            } else {
                TrackedBody::new(answer, in_flight)
            })
        }
    })
}

/// Marks `answer` as the last on its connection, if it is.
fn end_if_last<B>(answer: &mut Response<B>, activity: &Activity) {
    if activity.is_draining() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if answer.headers().contains_key(CONNECTION) {
        activity.set_lingers();
    }
}

/// The end of a connection while its listener drains.
struct Drain {
    reads: u64,
    periods: u32,
}

/// For how many grace periods a drained connection may send without a complete request.
const MAX_DRAIN_PERIODS: u32 = 2;

impl Drain {
    fn begin(activity: &Activity) -> Self {
        Self { reads: activity.reads(), periods: 0 }
    }

    /// Decides about a drained connection after each grace period. It is closed if it owes no answer and either nothing
    /// came for a grace period, or what came was not a request for several.
    fn look(&mut self, activity: &Activity) -> IdleAction {
        let quiet = activity.reads() == self.reads;
        self.reads = activity.reads();
        if activity.owes_an_answer() {
            self.periods = 0;
            return IdleAction::Keep;
        }
        self.periods += 1;
        if quiet || self.periods >= MAX_DRAIN_PERIODS {
            return IdleAction::Close;
        }
        IdleAction::Keep
    }
}

fn reset(timer: Pin<&mut Sleep>, after: Duration) {
    // The clock of the runtime's timers; decisions use the store's.
    timer.reset(Instant::now() + after);
}
