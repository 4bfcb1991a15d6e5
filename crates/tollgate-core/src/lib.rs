//! The words and decision rules of Tollgate, without I/O and without async.
//!
//! A [`Check`] asks whether a [`Subject`] may pass at a [`Cost`]. A [`PolicySet`] finds the
//! limits it meets (R4); a store decides them as [`counting`] says and charges all or none
//! (R3); [`Decision::assemble`] picks the headline (R5). The rules R1… are those of `docs/DESIGN.md`.
//!
//! This crate must not know a wire format, a store, a database or a runtime.

pub mod amount;
pub mod calendar;
pub mod check;
pub mod clock;
pub mod counting;
pub mod decision;
pub mod lease;
pub mod limit;
pub mod matching;
pub mod policy;
pub mod policy_set;
pub mod priority;
pub mod reference;
pub mod reserve;
pub mod shares;
pub mod split;
pub mod subject;
pub mod throttle;
pub mod weights;
pub mod window;
pub mod zone;

pub use amount::{Amount, Cost, Unit};
pub use calendar::{Calendar, Period};
pub use check::Check;
pub use clock::{Clock, ManualClock, MonotonicClock, SystemWallClock, Timestamp, WallClock};
pub use counting::{Counting, Span};
pub use decision::{Decision, LimitStatus, Reason};
pub use lease::{LeaseUpdate, Quality, Totals, Ttl};
pub use limit::{Charge, ClassShare, Limit};
pub use matching::{Accepted, Condition, Ipv6Prefix, Pattern};
pub use policy::{
    FailureMode, Mode, OnExpire, OverLimit, Per, Policy, PolicyId, Reach, Visibility,
};
pub use policy_set::{Consideration, Plan, PolicySet, PolicySetError, Precedence};
pub use priority::PriorityClass;
pub use reserve::{ReserveRule, ReserveRules};
pub use shares::{Share, Shares};
pub use split::Split;
pub use subject::{Attribute, Subject};
pub use throttle::Throttle;
pub use weights::{TokenKind, Weight, Weights};
pub use window::Window;
pub use zone::Zone;
