//! `tollgate simulate`: replays a trace of checks in virtual time and reports what a set of policies would have
//! decided.
//!
//! The replay runs the same core and in-memory store as the server, on a clock that the trace sets, so an hour of
//! traffic takes only as long as its decisions. A catalog completes the checks with the server's own code. The trace is
//! read as a stream: memory grows with the number of keys, not of checks.
//!
//! `tollgate policies test` decides checks of a test file in the same way, and compares the decisions with those that the file expects.
//!
//! `tollgate policies diff` replays a trace through two sets of policies and compares their decisions.
//!
//! Invariant: the output files are written completely or not at all. This crate must not know the server, which
//! includes [`SimulateArgs`] as a subcommand.

mod args;
mod cases;
mod compare;
mod decisions;
mod error;
mod leases;
mod output;
mod progress;
mod replay;
mod report;
mod report_text;
mod run;
mod seconds;
mod source;
mod tally;
pub mod trace;
mod verify;

pub use args::SimulateArgs;
pub use cases::{
    CaseReport, DifferenceReport, EXPECTED_FIELDS, EXPECTED_LIMIT_FIELDS, TestArgs, TestFileReport,
    TestReport, test,
};
pub use compare::{
    ChangeReport, CompareOptions, ComparisonReport, DiffArgs, LosingGaining, Pair,
    PolicyDiffReport, PolicyStatus, SideReport, StepReport, SubjectKindReport, SubjectReport,
    TimelineReport, compare, diff,
};
pub use error::SimulateError;
pub use replay::Replay;
pub use report::{
    DebtReport, KeyReport, LeasesReport, PeakReport, PolicyReport, Report, ReservationReport,
    Timing, TraceReport, WorstKey,
};
pub use run::{run, simulate, simulate_with};
pub use seconds::Seconds;
pub use source::{Lookup, Source, Wait, unknown_api_keys};
pub use verify::Difference;
