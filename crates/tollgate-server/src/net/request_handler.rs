//! The interface between the connections of a listener and the code that answers their requests.

use std::error::Error;
use std::future::Future;
use std::net::IpAddr;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

/// Answers requests. It never fails: an error is an answer too.
pub(crate) trait RequestHandler: Send + Sync + 'static {
    /// Whether a draining listener waits for answers without a known end. Others are told to end, and a client that does not
    /// read them does not delay the end.
    const WAITS_FOR_STREAMS: bool = false;

    /// The body of an answer.
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// The answer to `request`, which came from `peer`.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}
