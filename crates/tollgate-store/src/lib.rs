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
mod lease;
pub mod memory;
mod ordered;
mod part;
#[cfg(feature = "resilience")]
pub mod resilience;
mod shared;
mod startup;

use std::future::Future;

use smallvec::SmallVec;
use tollgate_core::counting::Verdict;
use tollgate_core::{Amount, Charge, LeaseUpdate, Limit, Mode, Subject};

pub use call_report::{CallEnd, CallObserver, CallReport, ChargeLeft};
pub use error::{StoreError, StoreErrorKind};
pub use fault_domain::FaultDomain;
pub use key::key_bytes;
pub use lease::{
    Capabilities, Effect, ExpiredHold, ExpiredLease, HoldState, LeaseId, LeaseRequest, LeaseState,
    LeaseStatus, LiveHold, LiveLease, LiveLeases, NewLease, Reserved,
};
pub use memory::MemoryStore;
pub use ordered::{Ordered, is_ordered};
pub use part::{Part, Taken};
pub use startup::{Misconfiguration, StartProblem, Warning};

/// The store's verdicts on the charges of one check, in the same order.
pub type Verdicts = SmallVec<[Verdict; 4]>;

/// The store's answer to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// A verdict for each charge, in their order.
    pub verdicts: Verdicts,
    /// Whether the failure mode gave any of them, without the store (R11).
    pub degraded: bool,
}

impl From<Verdicts> for Charged {
    /// The verdicts of a working store.
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

/// The error of a store without leases.
fn no_leases() -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, "this store keeps no leases")
}

/// The error of a store that cannot give back what expired leases hold.
fn no_refunds() -> StoreError {
    let context = "this store cannot give back what expired leases hold: `onExpire: refund` needs one that can";
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
/// - **Leases** (R13–R16), in a store that [has them](Store::capabilities). A reservation is decided like a charge, at one moment
///   over all its limits, and also takes a slot of each limit of concurrency. A request id names a lease once: while the lease
///   is kept, the same reservation returns it again. An update changes the cost of what the lease holds at the time at which it was
///   charged, charges what is missing now, whether or not there is room, or takes it as a check does, as
///   [`tollgate_core::lease::ledger`] says; and it counts once, whatever is repeated, reordered or sent by two nodes at the same
///   time. A lease expires by the store's clock: its slots are free then, its holds in limits that say so are given back as at that
///   moment ([`Limit::refunds_expired`]), and its other holds stay. It is kept at least for a minute
///   after it has ended or expired, and as long as anything of it counts in a window, so that a late settlement finds it. Usage
///   that an update gives back is announced as by a reset.
/// - **Parts** (R22), in a store that [gives them](Capabilities::parts). Taking a part is the charge of one limit, without a
///   request id. Giving back reduces that charge at its time, once, however often it is repeated, and is announced as by a reset.
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

    /// Clears the usage of `subject` under `limit`. The slots of live leases stay taken: they are free when the leases end.
    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the store can do with leases and parts. It is the same in every call.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Decides the charges of `request` like [`Store::charge`], and keeps what was charged as a lease (R13). Limits of concurrency
    /// are charged a slot, whatever the cost; limits that record denied costs do not record them.
    ///
    /// A store without leases returns an error of the kind [`StoreErrorKind::Unsupported`].
    fn reserve(
        &self,
        request: &LeaseRequest<'_>,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        _ = request;
        std::future::ready(Err(no_leases()))
    }

    /// Extends, settles or releases a lease (R14, R15); `None` if there is no such lease, or not any more.
    ///
    /// It can be repeated after an error.
    fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        _ = (id, update);
        std::future::ready(Err(no_leases()))
    }

    /// The leases that are alive, the oldest first, at most `most`: for people who look. It reads every lease, some at a time, so
    /// those that begin or end meanwhile may be missing or too many.
    fn live_leases(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<LiveLeases, StoreError>> + Send {
        _ = most;
        std::future::ready(Err(no_leases()))
    }

    /// The leases that were found to be expired since the last call, each once, at most `most`; the others are forgotten. Only
    /// leases that the store keeps in this process's memory: nobody else is told when a lease expires. O(leases).
    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        _ = most;
        Vec::new()
    }

    /// Charges `charge`, whose limit counts in a log, ahead of the checks that will spend it (R22).
    ///
    /// A store that gives no parts returns an error of the kind [`StoreErrorKind::Unsupported`].
    fn take(&self, charge: &Charge<'_>) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        _ = charge;
        std::future::ready(Err(part::no_parts()))
    }

    /// Gives `unused` of `part` back; the rest stays charged at its time. It can be repeated after an error, with the same amount.
    /// It is no error if the charge has left the window or was reset.
    fn give_back(
        &self,
        part: &Part,
        unused: Amount,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        _ = (part, unused);
        std::future::ready(Err(part::no_parts()))
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

    /// The same as [`Store::reserve`]; also tells `report` how the call ended.
    fn reserve_reported(
        &self,
        request: &LeaseRequest<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        async move {
            let answer = self.reserve(request).await;
            report.ended(&answer);
            answer
        }
    }

    /// The same as [`Store::update_lease`]; also tells `report` how the call ended.
    fn update_lease_reported(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
        report: CallReport,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        async move {
            let answer = self.update_lease(id, update).await;
            report.ended(&answer);
            answer
        }
    }

    /// The same as [`Store::take`]; also tells `report` how the call ended.
    fn take_reported(
        &self,
        charge: &Charge<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        async move {
            let answer = self.take(charge).await;
            report.ended(&answer);
            answer
        }
    }

    /// The same as [`Store::give_back`]; also tells `report` how the call ended.
    fn give_back_reported(
        &self,
        part: &Part,
        unused: Amount,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let answer = self.give_back(part, unused).await;
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

    /// The parts of the store that hold a lease; none if the store gives no such ids, and so answers without asking any part.
    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        _ = id;
        SmallVec::from_elem(FaultDomain::WHOLE, 1)
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
