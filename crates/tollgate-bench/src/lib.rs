//! Benchmarks of Tollgate against its peers, one module per question.
//!
//! - [`keyed`]: how long does a check of the library take?
//! - [`memory`]: how many bytes does a key take?
//! - [`http`]: what does the server cost beside the barest one?
//! - [`redis`]: what does an exact limit cost in Redis?
//! - [`report`]: what was measured, where, and whether it meets the project's figures.
//!
//! Where time is measured, all contenders of a question run on the same keys in interleaved rounds, so that
//! what disturbs the machine disturbs them alike. The figures are those of `docs/BENCHMARKS.md`.
//!
//! Nothing depends on this crate.

pub mod contender;
pub mod http;
pub mod key;
pub mod keyed;
pub mod machine;
pub mod memory;
pub mod naive_log;
pub mod options;
pub mod redis;
pub mod report;
pub mod sibling;
pub mod stopwatch;
