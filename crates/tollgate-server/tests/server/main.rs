//! The real server over real sockets: each test runs a separate server on a free port, with its own clock.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod admin;
mod admin_calls;
mod administrators;
mod answers;
mod auth;
mod bad_input;
mod batch;
mod calendars;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod connections;
mod console;
mod degraded;
mod documentation;
mod drain;
mod gateway;
mod grpc;
mod hosts;
mod known_subjects;
mod leases;
mod live_leases;
mod metrics;
mod needs_leases;
mod over_limit;
mod policies;
mod policy_files;
mod priority;
mod simulation;
mod subjects;
mod support;
mod telemetry;
mod unfinished;
mod verify;
mod verify_faults;
mod watch;
mod what_if;
