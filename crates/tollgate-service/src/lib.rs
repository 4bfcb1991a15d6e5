//! Tollgate's use cases, independent of the protocol.
//!
//! A use case takes the current policies, finds the limits that a check meets, lets the store decide them, and
//! assembles the decision. A decision uses exactly one version of the policies.
//!
//! This crate must not know HTTP, gRPC or JSON, nor which store it uses. It has no clock for decisions: time belongs to
//! the store (R7).

mod caller;
mod decision_feed;
mod directory;
mod give_back;
mod journal;
mod learned;
mod learning;
mod lease_event;
mod lease_note;
mod leases;
mod live_leases;
mod rate_limit;
mod together;
mod tracer;
mod usage;

pub use caller::Caller;
pub use decision_feed::{
    By, DecisionFeed, KeyCounts, Observed, ObservedDecision, ObservedHold, ObservedLease,
};
pub use directory::{DirectoryLookup, Known, Origins, TierSource, UnknownApiKeys};
pub use give_back::GivenBack;
pub use journal::{JournalStats, Keeping, SettlementJournal};
pub use learned::{Answers, LearnedUsage};
pub use lease_event::LeaseEvent;
pub use lease_note::LeaseNote;
pub use leases::{MAX_BATCH_SETTLEMENTS, Reservation, Settlement, Unsettled};
pub use live_leases::{LeaseGroup, ListedHold, ListedLease, ListedLeases, LiveLeaseFilter};
pub use rate_limit::{
    BatchTooLong, Explanation, MAX_BATCH_CHECKS, RateLimitService, TrafficObserver,
};
pub use together::{Part, Together, Uncovered};
pub use tracer::{Tracer, UseCaseSpan};
pub use usage::TopKey;
