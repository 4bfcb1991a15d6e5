//! HTTP/1.1 and h2c over one TCP port: accepting, bounding and draining connections.
//!
//! What no request asks for is watched for each connection from outside of the protocol: that headers arrive in
//! time and within the memory for unfinished requests, that idle connections end, and that all end when the server drains,
//! none of them with a request in it that has no answer. It must not know what is served.

mod activity;
mod answer;
mod answering;
mod connection;
mod listener;
mod memory;
mod transport;

pub(crate) use answer::Answer;
pub(crate) use listener::{Drained, Listener, NetMetrics};
pub(crate) use memory::{HeldMemory, MemoryFull, RequestMemory};
pub(crate) use transport::HeadBounds;
