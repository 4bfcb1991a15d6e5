//! Several `tollgate serve` processes over real Redis and memcached servers: exact together, and harmless when Redis fails.
//!
//! Deadlines are promises here (P3, P14), so they are asserted, each with the tolerance [`support::SLACK`] for a busy
//! machine. `tollgate-bench outage` measures the exact times.

#![cfg(test)]

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod eviction;
mod exact;
mod failover;
mod failure_modes;
mod leases;
mod library;
mod memcached;
mod once;
mod outage;
mod recovery;
mod restart;
mod split;
mod store_errors;
mod support;
