//! Benchmarks that compare Tollgate with alternatives, one module per question.
//!
//! - [`keyed`]: how long does a check of the library take?
//! - [`memory`]: how many bytes does a key take?
//! - [`leases`]: what do a reservation and its settlement cost in memory, compared with a check?
//! - [`http`]: how much does the server cost, compared with the simplest one?
//! - [`grpc`]: how much does Envoy's call cost, compared with a bare handler?
//! - [`gateway`]: how much does the gateway cost, compared with a bare reverse proxy?
//! - [`policies`]: what do a thousand prefixes and address blocks cost, compared with exact values?
//! - [`redis`]: how much does an exact limit cost in Redis?
//! - [`snapshots`]: how long does a snapshot take, and how long do checks wait meanwhile?
//! - [`memcached`]: how many checks a second does a store on memcached decide?
//! - [`split`]: how many admissions a second do 20 nodes make that take parts of one limit ahead of time?
//! - [`report`]: what was measured, where, and whether it reaches the project's goals.
//!
//! In measurements of time, all contenders of a question run on the same keys in interleaved rounds, so that
//! disturbances of the machine affect all of them. The results are those of `docs/BENCHMARKS.md`.
//!
//! Nothing depends on this crate.

pub mod contender;
mod cores;
pub mod gateway;
pub mod grpc;
pub mod http;
pub mod key;
pub mod keyed;
pub mod leases;
pub mod machine;
pub mod memcached;
pub mod memory;
pub mod naive_log;
pub mod options;
pub mod policies;
pub mod redis;
pub mod report;
pub mod sibling;
pub mod snapshots;
pub mod split;
pub mod stopwatch;
