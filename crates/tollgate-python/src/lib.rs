//! The compiled part of the Python package `tollgate`: limiters in memory, by the code of the library and of the server.
//!
//! Each class parses its arguments (`arguments`), calls one function of the library and returns what it answers; the rules are
//! those of the crates below. A call in memory takes less time than giving up Python's lock would, so it keeps the lock: no two
//! threads are ever inside a limiter, and a fork finds none of its locks taken.
//!
//! This crate must not know HTTP frameworks: they are in Python, in `python/tollgate`.

mod arguments;
mod at_once;
mod check;
mod clock;
mod counts;
mod decision;
mod decision_state;
mod errors;
mod lease;
mod multi_tier;
mod policy_limiter;
mod rate_limiter;
mod shared;
mod windows;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The compiled part of the package `tollgate`.
#[pymodule]
mod _tollgate {
    #[pymodule_export]
    use super::arguments::check_amounts;
    #[pymodule_export]
    use super::check::check_arguments;
    #[pymodule_export]
    use super::clock::ManualClock;
    #[pymodule_export]
    use super::decision::{Decision, LimitStatus};
    #[pymodule_export]
    use super::decision_state::{restore_decision, restore_limit_status};
    #[pymodule_export]
    use super::errors::StoreError;
    #[pymodule_export]
    use super::lease::{Lease, ttl_ms};
    #[pymodule_export]
    use super::multi_tier::MultiTierRateLimiter;
    #[pymodule_export]
    use super::policy_limiter::PolicyLimiter;
    #[pymodule_export]
    use super::rate_limiter::RateLimiter;
    #[pymodule_export]
    use super::shared::SharedLimiter;
    #[pymodule_export]
    use super::windows::WindowStore;
}
