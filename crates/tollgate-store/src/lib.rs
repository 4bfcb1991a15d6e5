//! The [`Store`] contract and the in-memory store.
//!
//! A store owns atomicity and time; the pure transitions of `tollgate_core::counting` make the decisions. This crate
//! must not know a wire format or a driver, and without the feature `resilience` (for stores that may fail: decorators,
//! compensation) it needs no async runtime.

#[cfg(feature = "resilience")]
pub mod background;
mod call_report;
#[cfg(feature = "resilience")]
pub mod compensation;
pub mod error;
mod fault_domain;
mod key;
pub mod memory;
mod ordered;
mod receipt;
#[cfg(feature = "resilience")]
pub mod resilience;

use std::future::Future;

use smallvec::SmallVec;
use tollgate_core::counting::Verdict;
use tollgate_core::{Amount, Charge, Limit, Mode, Subject};

pub use call_report::{CallEnd, CallObserver, CallReport, ChargeLeft};
pub use error::{StoreError, StoreErrorKind};
pub use fault_domain::FaultDomain;
pub use key::key_bytes;
pub use memory::MemoryStore;
pub use ordered::{Ordered, is_ordered};
pub use receipt::{Capabilities, Held, Receipt, Settled};

/// The store's verdicts on the charges of one check, in the same order.
pub type Verdicts = SmallVec<[Verdict; 4]>;

/// The store's answer to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// A verdict for each charge, in their order.
    pub verdicts: Verdicts,
    /// Names what was charged, so that it can be settled or released.
    pub receipt: Receipt,
    /// Whether the failure mode gave any of them, without the store (R11).
    pub degraded: bool,
}

impl From<Verdicts> for Charged {
    /// The verdicts of a working store, without a receipt.
    #[inline]
    fn from(verdicts: Verdicts) -> Self {
        Self { verdicts, receipt: Receipt::none(), degraded: false }
    }
}

/// Whether `verdicts` admit the check of `charges`: every enforced limit does (R3, R10).
#[inline]
pub fn admits(charges: &[Charge<'_>], verdicts: &[Verdict]) -> bool {
    let mut limits = charges.iter().zip(verdicts);
    limits.all(|(charge, verdict)| verdict.allowed || charge.limit.mode() != Mode::Enforce)
}

/// The error of a store that cannot settle.
fn cannot_settle() -> StoreError {
    let context = "this store cannot change what it has charged";
    StoreError::new(StoreErrorKind::Unsupported, context)
}

/// Keeps the usage of limits and decides charges.
///
/// Every store fulfils this contract:
/// - **Atomic.** The charges of one call are decided at one moment, as if no other call ran (R3). If all enforced
///   limits admit, each limit that admits is charged; otherwise nothing is charged. A shadow limit that denies is not
///   charged, and does not keep others from being charged (R10). Limits that record denied costs are charged in any case, up to
///   [`Limit::most_recorded`] (R19); the verdict then has the usage after that and the wait of the same check sent again.
/// - **Once** (R12). A request id and the keys of the charged limits, in their order, identify a check. If it was
///   admitted within the longest of its limits' windows, the same check charges nothing and gets the verdicts of the
///   first time. A denial writes nothing, so a denied check is decided again, unless one of its limits records denied costs. A [`Store::reset`] clears usage; it does
///   not make an admitted check a new one. A store that bounds what it remembers documents what it forgets.
/// - **Settling.** A store that [can](Store::capabilities) returns a [receipt](Receipt) of what it charged, and changes the
///   costs later: at the time of the charge, also to more than the limit. A charge is found by its receipt only while it has
///   the cost that the receipt names, so a settlement that is repeated or overtaken does not change it twice (but see
///   [`Store::settle`] about counters and buckets). A request id that is seen again returns the receipt of the first time
///   if the store [keeps it](Capabilities::keeps_receipts). Usage that is given back is announced as by a reset.
/// - **Time** is the store's own (R7), read once per call, and never steps back.
/// - **Keys.** Usage belongs to the limit's policy id and [`Charge::key_values`], and to nothing else (R8).
/// - **Bounds.** State that no longer counts is removed automatically (R9).
/// - **Failure.** A denial is a verdict. An error means that no decision was possible; [`StoreError::may_have_charged`]
///   says whether something may have been charged nevertheless. Usage in one [fault domain](Store::fault_domain) is
///   available while another fails.
pub trait Store: Send + Sync + 'static {
    /// Decides `charges`. Charges all that admit, or none; with a request id, only once.
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

    /// Clears the usage of `subject` under `limit`.
    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the store can do with what it has charged. It is the same in every call.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Changes the cost of each charge that `receipt` names to that of `costs` at its place, where `costs` are in the order
    /// of the charges of the call; a charge beyond the end of `costs` keeps its cost.
    ///
    /// The limits are changed one by one, not at one moment. After an error that [may have
    /// charged](StoreError::may_have_charged), some may have been changed. It can be repeated: a charge of a log that was
    /// changed is not found again. A counter and a token bucket keep no single charges, so there a repetition may change the
    /// cost twice. A token bucket gives back only what it would not have produced since; if that is nothing, the charge is
    /// not found.
    ///
    /// A store that cannot settle returns an error of the kind [`StoreErrorKind::Unsupported`].
    fn settle(
        &self,
        receipt: &Receipt,
        costs: &[Amount],
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send {
        _ = (receipt, costs);
        std::future::ready(Err(cannot_settle()))
    }

    /// [`Store::settle`] to 0: gives back everything that `receipt` names.
    fn release(
        &self,
        receipt: &Receipt,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send {
        async move {
            let places = receipt.held().map(|held| held.place() + 1).max().unwrap_or(0);
            let costs: SmallVec<[Amount; 4]> = SmallVec::from_elem(Amount::ZERO, places);
            self.settle(receipt, &costs).await
        }
    }

    /// The same as [`Store::charge`]; also tells `report` how the call ended. A store whose calls continue after their
    /// caller has gone reports their end as well; in other stores, such a call reports nothing.
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

    /// The same as [`Store::peek`]; also tells `report` how the call ended.
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

    /// The same as [`Store::reset`]; also tells `report` how the call ended.
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

    /// The same as [`Store::settle`]; also tells `report` how the call ended.
    fn settle_reported(
        &self,
        receipt: &Receipt,
        costs: &[Amount],
        report: CallReport,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send {
        async move {
            let answer = self.settle(receipt, costs).await;
            report.ended(&answer);
            answer
        }
    }

    /// The part of the store that holds the usage of `subject` under `limit`. It is called for every check, so it must
    /// not block.
    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        _ = (limit, subject);
        FaultDomain::WHOLE
    }

    /// The part of the store that holds the usage of which `held` is a part.
    fn fault_domain_of(&self, held: &Held<'_>) -> FaultDomain {
        _ = held;
        FaultDomain::WHOLE
    }

    /// Whether `domain` holds any usage now. The recorded failures of unused domains are forgotten.
    fn uses(&self, domain: FaultDomain) -> bool {
        _ = domain;
        true
    }

    /// Whether [`Ordered`] charges are decided in the order in which they begin, even if the first has not been
    /// answered yet.
    fn keeps_order(&self) -> bool {
        false
    }

    /// Whether [`Store::probe`] asks the store. Otherwise only checks notice that it is available again.
    fn can_probe(&self) -> bool {
        false
    }

    /// Sends `domain` a request like that of a check, tries everything else that calls need there, and tells `report` how it
    /// ended.
    fn probe(&self, domain: FaultDomain, report: CallReport) -> impl Future<Output = ()> + Send {
        _ = (domain, report);
        std::future::ready(())
    }

    /// Waits until all work that outlives its callers has ended, such as refunds. The caller bounds the wait.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
