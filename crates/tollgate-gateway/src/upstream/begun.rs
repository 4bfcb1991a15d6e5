//! The body of an answer that has begun.
//!
//! Some upstreams fail after the head of their answer and before its first byte. A client that has the head already gets nothing
//! but a broken connection, so the head waits for the first piece: nothing of an answer that never begins reaches the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The body of an answer of an upstream, with its first piece if that was waited for.
#[derive(Debug)]
pub struct BegunBody {
    first: Option<Frame<Bytes>>,
    /// `None` after its end.
    rest: Option<Incoming>,
}

impl BegunBody {
    /// A body of which nothing was waited for.
    pub(super) fn unread(body: Incoming) -> Self {
        Self { first: None, rest: Some(body) }
    }

    /// The body, when its first piece has arrived or it has ended.
    pub(super) async fn begun(mut body: Incoming) -> Result<Self, hyper::Error> {
        if body.is_end_stream() {
            return Ok(Self::unread(body));
        }
        let first = body.frame().await.transpose()?;
        let rest = first.is_some().then_some(body);
        Ok(Self { first, rest })
    }
}

impl Body for BegunBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(rest).poll_frame(context));
        if frame.is_none() {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}
