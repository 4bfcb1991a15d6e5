//! The gateway against the mock model, over real sockets.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod aborts;
mod denials;
mod limits;
mod operators;
mod support;
mod tickets;
mod tls;
mod upstreams;
mod usage;
mod waiting;
