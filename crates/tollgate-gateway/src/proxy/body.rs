//! The body of an answer: meters what passes, and owns the lease.
//!
//! A stream passes frame by frame, so that it can be ended between two of them. The last piece of an answer waits until its lease
//! is settled. A body that is dropped before its end settles its lease as an answer that broke off, closes the connection
//! to the upstream, and gives its room there to the next request.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tollgate_store::Store;

use super::lease::{LeaseGuard, Outcome};
use super::record::RequestRecord;
use super::runs_to_end::RunsToEnd;
use super::stream_bounds::StreamBounds;
use super::waiting::{Next, WaitingBody};
use crate::admission::Permit;
use crate::dialect::{BodyMeter, FrameFate, Framed, Framer, Metered, StreamMeter};
use crate::monitor::RequestOutcome;
use crate::upstream::BegunBody;

/// An answer of the gateway.
pub struct GatewayBody<S: Store>(Kind<S>);

enum Kind<S: Store> {
    /// Of the gateway itself.
    Whole(Option<Bytes>),
    /// Of an upstream.
    Metered(Box<MeteredBody<S>>),
    /// Of a request that waits.
    Waiting(Box<WaitingBody<S>>),
}

impl<S: Store> GatewayBody<S> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    pub(super) fn metered(body: MeteredBody<S>) -> Self {
        Self(Kind::Metered(Box::new(body)))
    }

    pub(super) fn waiting(body: WaitingBody<S>) -> Self {
        Self(Kind::Waiting(Box::new(body)))
    }

    /// Keeps the record of the request until the answer has ended. One of the gateway itself ends here.
    pub(super) fn keep(&mut self, record: RequestRecord) {
        if let Kind::Metered(body) = &mut self.0 {
            body.keep(record);
        }
    }
}

impl<S: Store> fmt::Debug for GatewayBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Whole(_) => "GatewayBody(whole)",
            Kind::Metered(_) => "GatewayBody(metered)",
            Kind::Waiting(_) => "GatewayBody(waiting)",
        })
    }
}

impl<S: Store> Body for GatewayBody<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Kind::Waiting(waiting) = &mut self.0 {
            match ready!(waiting.poll_next(context)) {
                Next::Piece(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Next::Body(body) => *self = body,
                Next::End => *self = Self(Kind::Whole(None)),
            }
        }
        match &mut self.0 {
            // What a request has waited for does not wait itself.
            Kind::Waiting(_) => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Metered(body) => {
                let piece = ready!(body.poll_piece(context));
                if let Some(Ok(_)) = &piece {
                    body.passes();
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Metered(body) => matches!(body.phase, Phase::Over),
            Kind::Waiting(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Metered(body) => body.size_hint(),
            Kind::Waiting(_) => SizeHint::default(),
        }
    }
}

/// How the answer of an upstream is metered.
pub(super) enum Meter {
    /// As a stream of events.
    Stream { framer: Framer, meter: Box<StreamMeter>, bounds: StreamBounds },
    /// As one JSON object.
    Whole(BodyMeter),
    /// Not at all: it uses no tokens, or is settled already.
    None,
}

/// Receives what an answer used, once.
pub(super) type OnMetered = Box<dyn FnOnce(&Metered) + Send>;

/// The parts of a body that meters an answer.
pub(super) struct Parts<S: Store> {
    pub(super) upstream: BegunBody,
    pub(super) meter: Meter,
    pub(super) lease: Option<LeaseGuard<S>>,
    pub(super) permit: Permit,
    pub(super) idle_timeout: Duration,
    /// Receives what an answer used.
    pub(super) metered: OnMetered,
    /// The outcome of the request if its answer passes whole.
    pub(super) ends_as: RequestOutcome,
}

/// The body of an answer of an upstream.
pub(super) struct MeteredBody<S: Store> {
    /// `None` after its end, or if it was stopped.
    upstream: Option<BegunBody>,
    meter: Meter,
    lease: Option<LeaseGuard<S>>,
    permit: Option<Permit>,
    metered: Option<OnMetered>,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    /// Frames that have arrived and have not been metered.
    arrived: VecDeque<Framed>,
    extending: Option<RunsToEnd<bool>>,
    phase: Phase,
    record: Option<RequestRecord>,
    ends_as: RequestOutcome,
    /// Whether the outcome of the request is known.
    has_ended: bool,
}

enum Phase {
    /// Data passes.
    Passing,
    /// The lease is being settled; then `last` passes, and then `next` comes.
    Settling { settling: Option<RunsToEnd<()>>, last: Option<Bytes>, next: Box<Phase> },
    /// The upstream has ended.
    Ended,
    /// The upstream has failed.
    Failed(io::Error),
    /// There is nothing more to say.
    Over,
}

type Piece = Option<Result<Bytes, io::Error>>;

impl<S: Store> MeteredBody<S> {
    pub(super) fn new(parts: Parts<S>) -> Self {
        let Parts { upstream, meter, lease, permit, idle_timeout, metered, ends_as } = parts;
        Self {
            upstream: Some(upstream),
            meter,
            lease,
            permit: Some(permit),
            metered: Some(metered),
            idle: Box::pin(tokio::time::sleep(idle_timeout)),
            idle_timeout,
            arrived: VecDeque::new(),
            extending: None,
            phase: Phase::Passing,
            record: None,
            ends_as,
            has_ended: false,
        }
    }

    fn keep(&mut self, record: RequestRecord) {
        self.record = Some(record);
        // Nobody reads an empty body.
        if self.upstream_is_over() {
            self.ends(self.ends_as);
        }
    }

    fn upstream_is_over(&self) -> bool {
        self.upstream.as_ref().is_some_and(Body::is_end_stream)
    }

    /// The first outcome counts: what comes after the end of an answer does not change it.
    fn ends(&mut self, outcome: RequestOutcome) {
        if !std::mem::replace(&mut self.has_ended, true)
            && let Some(record) = &mut self.record
        {
            record.ends(outcome);
        }
    }

    /// A piece of the answer goes to the client.
    fn passes(&mut self) {
        let output = match &self.meter {
            Meter::Stream { meter, .. } => Some(meter.observed_output()),
            Meter::Whole(_) | Meter::None => None,
        };
        if let Some(record) = &mut self.record {
            record.passes(output);
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        loop {
            match &mut self.phase {
                Phase::Passing => {
                    if let Some(piece) = ready!(self.poll_passing(context)) {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Phase::Settling { settling, last, next } => {
                    if let Some(settling) = settling {
                        ready!(Pin::new(settling).poll(context));
                    }
                    let last = last.take();
                    self.phase = std::mem::replace(&mut **next, Phase::Over);
                    if let Some(last) = last {
                        return Poll::Ready(Some(Ok(last)));
                    }
                }
                Phase::Ended | Phase::Over => {
                    self.phase = Phase::Over;
                    return Poll::Ready(None);
                }
                Phase::Failed(_) => {
                    let failed = std::mem::replace(&mut self.phase, Phase::Over);
                    let Phase::Failed(error) = failed else { return Poll::Ready(None) };
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// The next piece; `None` if the phase has changed.
    fn poll_passing(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while matches!(self.phase, Phase::Passing) {
            ready!(self.poll_bounds(context));
            if !matches!(self.phase, Phase::Passing) {
                break;
            }
            if let Some(framed) = self.arrived.pop_front() {
                if let Some(piece) = self.frame(framed) {
                    return Poll::Ready(Some(piece));
                }
                continue;
            }
            match ready!(self.poll_upstream(context)) {
                Some(Ok(data)) => {
                    if let Some(piece) = self.data(data) {
                        return Poll::Ready(Some(piece));
                    }
                }
                Some(Err(error)) => self.fail(error),
                None => self.end(),
            }
        }
        Poll::Ready(None)
    }

    /// The next data of the upstream. It may not be silent for too long.
    fn poll_upstream(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        loop {
            let frame = match Pin::new(&mut *upstream).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.idle.as_mut().poll(context));
                    let silent = "the upstream was silent for too long";
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, silent))));
                }
            };
            // The clock of the runtime's timers.
            self.idle.as_mut().reset(Instant::now() + self.idle_timeout);
            let Some(frame) = frame else { return Poll::Ready(None) };
            let broken =
                |_| io::Error::new(io::ErrorKind::ConnectionReset, "the upstream broke off");
            match frame.map_err(broken).map(Frame::into_data) {
                Ok(Ok(data)) => return Poll::Ready(Some(Ok(data))),
                // Trailers do not pass.
                Ok(Err(_)) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Meters data that has arrived. Returns the data if the client gets it unchanged.
    fn data(&mut self, data: Bytes) -> Option<Bytes> {
        match &mut self.meter {
            Meter::None => {
                if self.upstream_is_over() {
                    self.ends(self.ends_as);
                }
                Some(data)
            }
            Meter::Stream { framer, .. } => {
                framer.push(data, |framed| self.arrived.push_back(framed));
                None
            }
            Meter::Whole(meter) => {
                meter.push(&data);
                if !self.upstream.as_ref().is_some_and(Body::is_end_stream) {
                    return Some(data);
                }
                let metered = meter.outcome(true);
                self.ends(RequestOutcome::Completed);
                self.settle(&metered, false, Some(data), Phase::Ended);
                None
            }
        }
    }

    /// Meters a frame. Returns it if it passes; the final one waits for the settlement.
    fn frame(&mut self, framed: Framed) -> Option<Bytes> {
        let Meter::Stream { meter, .. } = &mut self.meter else { return Some(framed.into_bytes()) };
        let bytes = match framed {
            Framed::Whole(bytes) => match meter.frame(&bytes) {
                FrameFate::Passes => bytes,
                FrameFate::Dropped => return None,
            },
            Framed::Oversized(bytes) => {
                meter.oversized(&bytes);
                bytes
            }
        };
        if let Some(lease) = &self.lease {
            lease.observe(meter.observed_output());
            if meter.is_complete() {
                let metered = meter.outcome();
                self.ends(RequestOutcome::Completed);
                self.settle(&metered, false, Some(bytes), Phase::Passing);
                return None;
            }
        }
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Asks for more when most of what is held is used; waits for the answer, or ends the stream, when all of it is.
    fn poll_bounds(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (Meter::Stream { meter, bounds, .. }, Some(lease)) = (&mut self.meter, &self.lease)
        else {
            return Poll::Ready(());
        };
        let observed = meter.observed_output();
        if bounds.asks(observed) {
            match lease.extend(bounds.wanted()) {
                Some(extending) => self.extending = Some(extending),
                None => bounds.lift(),
            }
        }
        if let Some(extending) = &mut self.extending {
            match Pin::new(extending).poll(context) {
                Poll::Ready(proceed) => {
                    self.extending = None;
                    bounds.answered(proceed);
                }
                Poll::Pending if bounds.waits(observed) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        if bounds.is_over(observed) {
            self.cut();
        }
        Poll::Ready(())
    }

    /// Ends the stream here, as its dialect ends one at its length limit, and stops the upstream.
    fn cut(&mut self) {
        let Meter::Stream { meter, .. } = &self.meter else { return };
        let metered = meter.outcome();
        let reserved = self.lease.as_ref().map_or(0, LeaseGuard::reserved_input);
        let input = metered.usage.input.unwrap_or(reserved);
        let end = meter.end_at_limit(input, meter.observed_output());
        self.upstream = None;
        self.arrived.clear();
        self.ends(RequestOutcome::Cut);
        self.settle(&metered, false, Some(end.into()), Phase::Ended);
    }

    /// The upstream has ended.
    fn end(&mut self) {
        self.upstream = None;
        let (metered, broke_off) = match &mut self.meter {
            Meter::Stream { framer, meter, .. } => {
                if let Some(rest) = framer.finish() {
                    self.arrived.push_back(rest);
                    return;
                }
                // Without its final event it broke off.
                (meter.outcome(), true)
            }
            Meter::Whole(meter) => (meter.outcome(true), false),
            Meter::None => (Metered::nothing(), false),
        };
        self.ends(if broke_off { RequestOutcome::UpstreamBrokeOff } else { self.ends_as });
        self.settle(&metered, broke_off, None, Phase::Ended);
    }

    fn fail(&mut self, error: io::Error) {
        self.upstream = None;
        let metered = self.meter.broken_off();
        self.ends(RequestOutcome::UpstreamBrokeOff);
        self.settle(&metered, true, None, Phase::Failed(error));
    }

    /// Settles the lease, if that was not done before. Then `last` passes, and `next` comes.
    fn settle(&mut self, metered: &Metered, broke_off: bool, last: Option<Bytes>, next: Phase) {
        self.permit = None;
        self.extending = None;
        let settling = self.lease.take().and_then(|lease| {
            self.records(metered);
            if let Some(observer) = self.metered.take() {
                observer(metered);
            }
            lease.settle(outcome(metered, broke_off))
        });
        self.phase = Phase::Settling { settling, last, next: Box::new(next) };
    }

    /// Keeps what an answer has used for the record.
    fn records(&mut self, metered: &Metered) {
        if let Some(record) = self.record.as_mut().filter(|_| !matches!(self.meter, Meter::None)) {
            record.used(metered);
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.meter, &self.phase, &self.upstream) {
            (Meter::Stream { .. }, ..) => SizeHint::default(),
            (_, Phase::Passing, Some(upstream)) => upstream.size_hint(),
            (_, Phase::Settling { last: Some(last), .. }, _) => {
                SizeHint::with_exact(last.len() as u64)
            }
            _ => SizeHint::with_exact(0),
        }
    }
}

impl Meter {
    /// What is known of an answer that ends here and should not.
    fn broken_off(&self) -> Metered {
        match self {
            Self::Stream { meter, .. } => meter.outcome(),
            Self::Whole(meter) => meter.outcome(false),
            Self::None => Metered::nothing(),
        }
    }
}

fn outcome(metered: &Metered, broke_off: bool) -> Outcome {
    let Metered { usage, output, is_exact, .. } = *metered;
    match (is_exact, broke_off) {
        (true, _) => Outcome::Exact { usage, output },
        (false, true) => Outcome::Aborted { usage, output },
        (false, false) => Outcome::AtLeast { usage, output },
    }
}

impl<S: Store> Drop for MeteredBody<S> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let metered = self.meter.broken_off();
            self.records(&metered);
            // Runs as a task.
            drop(lease.settle(outcome(&metered, true)));
        }
    }
}
