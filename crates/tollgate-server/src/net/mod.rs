//! HTTP/1.1 and h2c over one TCP port: accepting, bounding and draining connections.
//!
//! Some things are supervised for each connection from outside the protocol: headers must arrive in time and within the
//! memory for unfinished requests, idle connections end, and all connections end when the server drains, without an
//! unanswered request. This module must not know what is served.

mod activity;
mod connection;
mod listener;
mod memory;
mod request_handler;
mod tracked_body;
mod transport;

pub(crate) use listener::{Drained, Listener, NetMetrics};
pub(crate) use memory::{HeldMemory, MemoryFull, RequestMemory};
pub(crate) use request_handler::RequestHandler;
pub(crate) use transport::HeadBounds;
