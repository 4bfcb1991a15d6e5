//! Several `tollgate serve` processes over real Redis servers: exact together, and harmless when Redis fails.
//!
//! Deadlines are promises here (P3, P14), so they are asserted, each with the slack of [`support::SLACK`] for a
//! machine that does other things too. The exact figures are those of `tollgate-bench outage`.

#![cfg(test)]

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod eviction;
mod exact;
mod failover;
mod failure_modes;
mod once;
mod outage;
mod recovery;
mod store_errors;
mod support;
