//! The body of an answer, which counts its request as in flight until the body ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::InFlight;

/// The body of an answer. If its length is not known, its request counts as in flight until it ends.
pub(super) struct TrackedBody<B> {
    body: B,
    /// Only if the body's end is not known, because a stream of events must not be taken for an idle connection. A body
    /// of known length is written at once.
    _in_flight: Option<InFlight>,
}

impl<B: Body> TrackedBody<B> {
    /// `answer` to the request that is `in_flight`.
    #[inline]
    pub(super) fn new(answer: Response<B>, in_flight: InFlight) -> Response<Self> {
        answer.map(|body| {
            let goes_on = body.size_hint().exact().is_none();
            Self { body, _in_flight: goes_on.then(|| in_flight.streams()) }
        })
    }

    /// The same for an answer that arrives over time, whether or not its length is known, and that a draining listener waits
    /// for.
    pub(super) fn awaited(answer: Response<B>, in_flight: InFlight) -> Response<Self> {
        answer.map(|body| Self { body, _in_flight: Some(in_flight) })
    }
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
