//! Where usage lives: the [`Store`] contract and the in-memory store.
//!
//! A store owns atomicity and time; what to decide comes from the pure transitions of
//! `tollgate_core::counting`. This crate must not know a wire format or a driver, and without the feature
//! `resilience` (decorators for stores that may fail) no runtime.

mod call_report;
pub mod error;
mod fault_domain;
mod key;
pub mod memory;
mod ordered;
#[cfg(feature = "resilience")]
pub mod resilience;

use std::future::Future;

use smallvec::SmallVec;
use tollgate_core::counting::Verdict;
use tollgate_core::{Charge, Limit, Mode, Subject};

pub use call_report::{CallEnd, CallObserver, CallReport, ChargeLeft};
pub use error::{StoreError, StoreErrorKind};
pub use fault_domain::FaultDomain;
pub use key::key_bytes;
pub use memory::MemoryStore;
pub use ordered::{Ordered, is_ordered};

/// What a store says to the charges of one check: a verdict for each, in the same order.
pub type Verdicts = SmallVec<[Verdict; 4]>;

/// What a store says to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// A verdict for each charge, in their order.
    pub verdicts: Verdicts,
    /// Whether any of them was given without the store, by the failure mode (R11).
    pub degraded: bool,
}

impl From<Verdicts> for Charged {
    /// The verdicts of a store that works.
    #[inline]
    fn from(verdicts: Verdicts) -> Self {
        Self { verdicts, degraded: false }
    }
}

/// Whether `verdicts` admit the check of `charges`: every enforced limit does (R3, R10).
#[inline]
pub fn admits(charges: &[Charge<'_>], verdicts: &[Verdict]) -> bool {
    let mut limits = charges.iter().zip(verdicts);
    limits.all(|(charge, verdict)| verdict.allowed || charge.limit.mode() != Mode::Enforce)
}

/// Keeps the usage of limits and decides charges.
///
/// The contract, which every store keeps:
/// - **Atomic.** The charges of one call are decided at one moment, as if no other call ran (R3). All
///   enforced limits admit, and then each limit that admits is charged; or nothing is charged. A shadow limit
///   that refuses is not charged and keeps no other from being charged (R10).
/// - **Once** (R12). A request id and the keys of the limits charged, in their order, name a check. If it was
///   admitted within the longest of its limits' windows, the same again charges nothing and gets the verdicts
///   of the first time. A denial writes nothing, so a denied check is decided afresh. A [`Store::reset`] gives
///   back usage; it does not make an admitted check a new one. A store that bounds what it remembers says what
///   it forgets.
/// - **Time** is the store's own (R7), read once per call, and never steps back.
/// - **Keys.** Usage belongs to the limit's policy id and [`Charge::key_values`], and to nothing else (R8).
/// - **Bounds.** State that counts no more goes away by itself (R9).
/// - **Failure.** A denial is a verdict. An error means that no decision was possible; whether something was
///   charged nevertheless, the error says ([`StoreError::may_have_charged`]). Usage that lies in one
///   [fault domain](Store::fault_domain) can be had while another fails.
pub trait Store: Send + Sync + 'static {
    /// Decides `charges` and charges all that admit, or none; with a request id, once.
    fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send;

    /// The verdicts that [`Store::charge`] would give to a new check now; changes nothing.
    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send;

    /// Forgets the usage of `subject` under `limit`.
    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The same as [`Store::charge`], and tells `report` how the call ended. A store whose calls go on when their
    /// caller has gone tells it then, too; of any other store such a call says nothing.
    fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        async move {
            let answer = self.charge(charges, request_id).await;
            report.ended(&answer);
            answer
        }
    }

    /// The same as [`Store::peek`], and tells `report` how the call ended.
    fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        async move {
            let answer = self.peek(charges).await;
            report.ended(&answer);
            answer
        }
    }

    /// The same as [`Store::reset`], and tells `report` how the call ended.
    fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let answer = self.reset(limit, subject).await;
            report.ended(&answer);
            answer
        }
    }

    /// The part of the store that the usage of `subject` under `limit` lies in. Called on the path of every check: it
    /// must not wait.
    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        _ = (limit, subject);
        FaultDomain::WHOLE
    }

    /// Whether usage of any key lies in `domain` now. What is known of the failures of any other is forgotten.
    fn uses(&self, domain: FaultDomain) -> bool {
        _ = domain;
        true
    }

    /// Whether [`Ordered`] charges are decided in the order in which they begin, also when the first has not been answered
    /// yet.
    fn keeps_order(&self) -> bool {
        false
    }

    /// Whether [`Store::probe`] asks the store. Otherwise only checks find out that it is back.
    fn can_probe(&self) -> bool {
        false
    }

    /// Asks `domain` for what a check would need, and tells `report`.
    fn probe(&self, domain: FaultDomain, report: CallReport) -> impl Future<Output = ()> + Send {
        _ = (domain, report);
        std::future::ready(())
    }

    /// Waits until what goes on after its callers have gone has ended, such as refunds. The caller bounds the wait.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
