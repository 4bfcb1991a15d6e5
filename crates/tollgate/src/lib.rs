//! An exact, fast rate limiter to embed: per user and model, in tiers, by policy, and as a tower layer.
//!
//! ```
//! use std::time::Duration;
//! use tollgate::RateLimiter;
//!
//! // 100 requests in any hour, for each user and model.
//! let limiter = RateLimiter::new(100, Duration::from_secs(3600));
//!
//! if limiter.allow("alice", "gpt-4") {
//!     // … send the request to the model …
//! }
//! assert_eq!(limiter.request_count("alice", "gpt-4"), 1);
//!
//! let decision = limiter.check("alice", "gpt-4");
//! assert!(decision.allowed());
//! assert_eq!(decision.limits()[0].remaining, 98);
//!
//! limiter.reset_user("alice");
//! assert_eq!(limiter.request_count("alice", "gpt-4"), 0);
//! assert_eq!(limiter.metrics().allowed, 2);
//! ```
//!
//! | for | take |
//! |---|---|
//! | one limit per user and model | [`RateLimiter`] |
//! | a limit per user and model and one per model, by the model's tier | [`MultiTierRateLimiter`] |
//! | any set of policies, swapped while it runs | `PolicyLimiter`, feature `policies` |
//! | to reserve before the work and settle what it used | `PolicyLimiter::reserve`, or `leases::reserve` over any store, feature `async-leases` |
//! | limits shared with servers and other processes, in Redis, Valkey or memcached | `shared::SharedLimiter`, features `redis` and `memcached`; with the policies of servers: feature `catalog` |
//! | axum, hyper and any other tower service | `tower::RateLimitLayer`, feature `tower` |
//!
//! - **Exact.** No interval of the window's length ever holds more than the limit, under any concurrency (R1).
//!   A window slides: there is no edge at which twice the limit passes.
//! - **All or nothing.** A denial changes nothing; if several limits apply, all of them admit or none is charged (R3).
//! - **Exact waits.** `retry_after_ms` is the shortest wait after which the same check is admitted if no other request
//!   arrives (R6).
//! - **Bounded.** Idle keys are removed, and a cap on keys holds whatever ids arrive (R9).
//! - **Testable.** [`ManualClock`] moves time in your tests:
//!
//! ```
//! use std::time::Duration;
//! use tollgate::{ManualClock, RateLimiter};
//!
//! let clock = ManualClock::default();
//! let limiter = RateLimiter::builder(1, Duration::from_secs(60)).build_with_clock(clock.clone())?;
//! assert!(limiter.allow("alice", "gpt-4"));
//! clock.advance(Duration::from_millis(59_999));
//! assert!(!limiter.allow("alice", "gpt-4"));
//! clock.advance(Duration::from_millis(1));
//! assert!(limiter.allow("alice", "gpt-4"));
//! # Ok::<(), tollgate::BuildError>(())
//! ```
//!
//! Usage is kept in this process, except with the features `redis` and `memcached`. The rules R1… are defined in the project's
//! `docs/DESIGN.md`.
//!
//! This crate must not know a server, a file format or a driver: with its features it uses the crates that do.

#[cfg(any(feature = "policies", feature = "async-leases"))]
pub mod leases;
mod metrics;
mod multi_tier;
#[cfg(feature = "policies")]
mod policy_limiter;
mod quota;
mod rate_limiter;
mod resets;
#[cfg(any(feature = "memcached", feature = "redis"))]
pub mod shared;
mod thread_slot;
#[cfg(feature = "tower")]
pub mod tower;

pub use tollgate_core::subject::IdProblem;
pub use tollgate_core::{
    Amount, Attribute, Check, Clock, Condition, Cost, Counting, Decision, Limit, LimitStatus,
    ManualClock, Mode, MonotonicClock, Per, Policy, PolicyId, PolicySet, PolicySetError, Quality,
    Reason, Subject, Timestamp, Totals, Ttl, Unit, Window,
};
#[cfg(feature = "tower")]
pub use tollgate_http as http_fields;
pub use tollgate_store::memory::{MemoryStoreOptions, MemoryStoreStats};

pub use metrics::Metrics;
pub use multi_tier::{MultiTierRateLimiter, MultiTierRateLimiterBuilder, TierReason};
#[cfg(feature = "policies")]
pub use policy_limiter::PolicyLimiter;
pub use quota::{BuildError, Quota};
pub use rate_limiter::{RateLimiter, RateLimiterBuilder};

/// The examples of the project's documents compile and run.
#[cfg(all(
    doctest,
    feature = "catalog",
    feature = "policies",
    feature = "redis",
    feature = "tower"
))]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/INTEGRATION.md")]
    struct Integration;
}
