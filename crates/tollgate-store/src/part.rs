//! Parts of limits that a node takes ahead of time (R22).

use tollgate_core::Amount;
use tollgate_core::counting::Verdict;

use crate::{FaultDomain, StoreError, StoreErrorKind};

/// A part of a limit that a node has taken, as the store finds it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part of the store that holds the limit.
    pub domain: FaultDomain,
    /// What was charged.
    pub size: Amount,
    /// The store's own words for the charge.
    pub token: Vec<u8>,
}

/// The answer to a call that takes a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The verdict of the limit, after the charge if it admits.
    pub verdict: Verdict,
    /// What was taken; `None` if the limit denies.
    pub part: Option<Part>,
}

/// The error of a store of which nobody can take parts.
pub(crate) fn no_parts() -> StoreError {
    let context = "this store cannot give parts of limits ahead of time";
    StoreError::new(StoreErrorKind::Unsupported, context)
}
