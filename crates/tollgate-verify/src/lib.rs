//! `tollgate verify`: proves from outside that a running deployment enforces a limit exactly.
//!
//! It sends checks for subjects that nobody else has, notes when it sent each and when the answer came, and looks for
//! answers that no exact limiter could have given ([`judge`]). A fault that it reports is certain: each decision was
//! made somewhere between the two times, and no choice of those moments makes the answers right. What the times are too
//! coarse to show is not reported, and the report says how coarse they were.

mod args;
mod connection_problem;
mod error;
mod experiments;
mod http;
mod http_target;
pub mod judge;
mod policy;
mod report;
mod run;
mod target;
mod timeline;
mod token;

pub use args::VerifyArgs;
pub use error::VerifyError;
pub use experiments::{Settings, run_experiments};
pub use report::{Finding, Outcome, Promise, Report};
pub use run::{Verified, run, run_in};
pub use target::{Answer, Ask, CheckError, Target};
pub use timeline::Timeline;
pub use token::{TOKEN_VARIABLE, admin_token};
