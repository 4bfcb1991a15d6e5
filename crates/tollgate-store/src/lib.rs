//! Where usage lives: the [`Store`] contract and the in-memory store.
//!
//! A store owns atomicity and time; what to decide comes from the pure transitions of
//! `tollgate_core::algorithm`. This crate must not know a wire format, a driver or a runtime.

pub mod error;
pub mod memory;

use std::future::Future;

use smallvec::SmallVec;
use tollgate_core::algorithm::Verdict;
use tollgate_core::{Charge, Limit, Subject};

pub use error::{StoreError, StoreErrorKind};
pub use memory::MemoryStore;

/// What a store says to the charges of one check: a verdict for each, in the same order.
pub type Verdicts = SmallVec<[Verdict; 4]>;

/// Keeps the usage of limits and decides charges.
///
/// The contract, which every store keeps:
/// - **Atomic.** The charges of one call are decided at one moment, as if no other call ran (R3). All
///   enforced limits admit, and then each limit that admits is charged; or nothing is charged. A shadow limit
///   that refuses is not charged and keeps no other from being charged (R10).
/// - **Time** is the store's own (R7), read once per call, and never steps back.
/// - **Keys.** Usage belongs to the limit's policy id and [`Charge::key_values`], and to nothing else (R8).
/// - **Bounds.** State that counts no more goes away by itself (R9).
/// - **Failure.** A denial is a verdict. An error means that no decision was possible; whether something was
///   charged nevertheless, the error says ([`StoreError::may_have_charged`]).
pub trait Store: Send + Sync + 'static {
    /// Decides `charges` and charges all that admit, or none.
    fn charge(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Verdicts, StoreError>> + Send;

    /// The verdicts that [`Store::charge`] would give now; changes nothing.
    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Verdicts, StoreError>> + Send;

    /// Forgets the usage of `subject` under `limit`.
    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
