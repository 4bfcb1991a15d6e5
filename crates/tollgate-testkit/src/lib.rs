//! Shared by Tollgate's tests. Only a dev-dependency: nothing that ships may depend on this crate.
//!
//! - [`mod@conformance`]: one suite that every store passes, chosen by the capabilities that it declares.
//! - [`generate`]: random policies, checks and sequences of times, with frequent overlaps.
//! - [`compare`]: compares decisions of the fast code with those of the [reference model](tollgate_core::reference).
//! - `memcached` (a feature): real memcached servers.
//! - `otlp` (a feature): a collector of OpenTelemetry.
//! - `postgres` (a feature): real PostgreSQL servers.
//! - `redis` (a feature): real Redis servers, and a proxy with faults.
//!
//! It must not know how a store works inside.

#![cfg_attr(
    feature = "postgres",
    expect(
        clippy::expect_used,
        reason = "this is test code: what goes wrong fails the test that called"
    )
)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "this is test code: what goes wrong fails the test that called"
)]

pub mod compare;
pub mod conformance;
pub mod generate;
pub mod harness;
pub mod limiter;
#[cfg(feature = "memcached")]
pub mod memcached;
#[cfg(feature = "otlp")]
pub mod otlp;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod property;
#[cfg(feature = "redis")]
pub mod redis;
pub mod way_of_counting;

pub use harness::{BoundedKeys, Harness, MovableClock};
pub use limiter::Limiter;
pub use way_of_counting::Way;
