//! Benchmarks of Tollgate against its peers, one module per question.
//!
//! - [`keyed`]: how long does a check of the library take?
//! - [`report`]: what was measured, where, and whether it meets the project's figures.
//!
//! All contenders of a question run in one process on the same keys, in interleaved rounds, so that what
//! disturbs the machine disturbs them alike. The figures are those of `docs/BENCHMARKS.md`.
//!
//! Nothing depends on this crate.

pub mod contender;
pub mod key;
pub mod keyed;
pub mod machine;
pub mod naive_log;
pub mod options;
pub mod report;
pub mod stopwatch;
