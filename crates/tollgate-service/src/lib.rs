//! Tollgate's use cases: what a caller can ask, whatever protocol it speaks.
//!
//! A use case takes the policies as they are at that moment, finds the limits that a check meets, has the
//! store decide them and assembles the decision. Exactly one version of the policies takes part in a decision.
//!
//! This crate must not know HTTP, gRPC or JSON, nor which store it is given. It decides by no clock of its own:
//! time belongs to the store (R7).

mod directory;
mod rate_limit;
mod usage;
mod watch;

pub use directory::{DirectoryLookup, Origins, TierSource, UnknownApiKeys};
pub use rate_limit::{BatchTooLong, Explanation, MAX_BATCH_CHECKS, RateLimitService};
pub use usage::TopKey;
pub use watch::{By, KeyCounts, Observed, Watch};
