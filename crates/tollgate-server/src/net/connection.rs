//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::watch as channel;
use tokio::time::{Instant, Sleep, sleep};

use super::activity::{Activity, Observed, Verdict, Watch};
use super::answer::Answer;
use super::answering::Answering;
use crate::config::HttpLimits;

/// How long a connection may take to end when it was asked to and owes no answer: what was said is sent, and streams
/// end. Who does not read by then is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What the listener wants of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Serve.
    Serving,
    /// Answer what is in flight and end.
    Draining,
    /// End now.
    Over,
}

/// What all connections of a listener share.
pub(super) struct Shared<A> {
    pub(super) answers: Arc<A>,
    pub(super) limits: HttpLimits,
    pub(super) in_flight: Gauge,
    pub(super) phase: channel::Receiver<Phase>,
    builder: Builder<TokioExecutor>,
}

impl<A> Shared<A> {
    pub(super) fn new(
        answers: Arc<A>,
        limits: HttpLimits,
        in_flight: Gauge,
        phase: channel::Receiver<Phase>,
    ) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        // Headers are timed by the connection's watch: also before the protocol is known, and without a timer
        // for each request.
        builder.http1().header_read_timeout(None).max_buf_size(limits.max_header_bytes);
        let max_header_list = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_http2_streams)
            .max_header_list_size(max_header_list)
            .keep_alive_interval(limits.http2_ping_every)
            .keep_alive_timeout(limits.http2_ping_every);
        Self { answers, limits, in_flight, phase, builder }
    }
}

// Derived, it would ask that `A` be `Clone`.
impl<A> Clone for Shared<A> {
    fn clone(&self) -> Self {
        Self {
            answers: Arc::clone(&self.answers),
            limits: self.limits.clone(),
            in_flight: self.in_flight.clone(),
            phase: self.phase.clone(),
            builder: self.builder.clone(),
        }
    }
}

/// Serves one connection until it ends, is ended for doing nothing, or is drained.
pub(super) async fn serve<A: Answer>(stream: TcpStream, mut shared: Shared<A>) {
    // A peer that is gone already has no address, and will hear no answer.
    let peer = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let activity = Arc::new(Activity::new(shared.in_flight.clone()));
    let transport = Observed::new(TokioIo::new(stream), Arc::clone(&activity));
    let requests = Arc::clone(&activity);
    let answers = Arc::clone(&shared.answers);
    let service = service_fn(move |request: Request<Incoming>| {
        let in_flight = requests.request(request.version() == Version::HTTP_2);
        let answers = Arc::clone(&answers);
        async move {
            let answer = answers.answer(request, peer).await;
            Ok::<_, Infallible>(Answering::new(answer, in_flight))
        }
    });
    let mut connection = pin!(shared.builder.serve_connection(transport, service));
    let mut watch = Watch::new(Arc::clone(&activity), &shared.limits);
    let mut timer = pin!(sleep(watch.every()));
    let mut closing = false;
    loop {
        tokio::select! {
            // Its errors are the peer's, a reset or a malformed request: no concern of the operator's.
            _ended = connection.as_mut() => return,
            () = timer.as_mut() => match watch.look() {
                _ if closing && !activity.owes_an_answer() => return,
                Verdict::Cut => return,
                Verdict::Close => {
                    connection.as_mut().graceful_shutdown();
                    closing = true;
                }
                Verdict::Keep => {}
            },
            changed = shared.phase.changed() => {
                if changed.is_err() || *shared.phase.borrow() == Phase::Over {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
        }
        reset(timer.as_mut(), if closing { CLOSE_GRACE } else { watch.every() });
    }
}

fn reset(timer: Pin<&mut Sleep>, after: Duration) {
    // The clock of the runtime's timers; decisions go by the store's.
    timer.reset(Instant::now() + after);
}
