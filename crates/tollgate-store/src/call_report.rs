//! Reports how a call to a store ended, even if its caller has gone.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{FaultDomain, StoreError};

/// A fault domain that a call needs, and how often its breaker had changed when the call began.
pub(crate) type BeganIn = (FaultDomain, u64);

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub enum CallEnd<'a> {
    /// The store answered.
    Answered,
    /// The store failed, or only the check did.
    Failed(&'a StoreError),
    /// Nobody waited for the end, so nothing was learned.
    Abandoned,
}

/// Why a charge stays although its check was not admitted. It leaves with its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChargeLeft {
    /// The answer to the charge was lost, so nobody knows whether it was made.
    AnswerLost,
    /// It could not be refunded: the store did not answer until the retries ended.
    NotRefunded,
}

impl ChargeLeft {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::AnswerLost, Self::NotRefunded];

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer_lost",
            Self::NotRefunded => "not_refunded",
        }
    }
}

/// Receives the ends of calls.
pub trait CallObserver: Send + Sync + 'static {
    /// The call that began with these domains has ended.
    fn call_ended(&self, began: &[(FaultDomain, u64)], end: CallEnd<'_>);

    /// A charge of a call stays although its check was not admitted.
    fn charge_left(&self, why: ChargeLeft);
}

/// Tells a breaker how one call ended. A store whose calls outlive their callers keeps it until the end of the call. If
/// it is dropped without a result, the call counts as abandoned.
pub struct CallReport {
    observer: Option<Arc<dyn CallObserver>>,
    began: SmallVec<[BeganIn; 2]>,
}

impl CallReport {
    /// A report that goes nowhere.
    pub fn unread() -> Self {
        Self { observer: None, began: SmallVec::new() }
    }

    /// A report to `observer` about a call that began with these domains.
    #[cfg_attr(not(feature = "resilience"), expect(dead_code, reason = "only a breaker reads"))]
    pub(crate) fn to(observer: Arc<dyn CallObserver>, began: SmallVec<[BeganIn; 2]>) -> Self {
        Self { observer: Some(observer), began }
    }

    /// The observer of charges after the call has ended.
    pub fn observer(&self) -> Option<Arc<dyn CallObserver>> {
        self.observer.clone()
    }

    /// Reports that the call has ended with `answer`.
    pub fn ended<T>(mut self, answer: &Result<T, StoreError>) {
        let Some(observer) = self.observer.take() else { return };
        let end = answer.as_ref().map_or_else(CallEnd::Failed, |_| CallEnd::Answered);
        observer.call_ended(&self.began, end);
    }
}

impl std::fmt::Debug for CallReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallReport").field("began", &self.began).finish_non_exhaustive()
    }
}

impl Drop for CallReport {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.take() {
            observer.call_ended(&self.began, CallEnd::Abandoned);
        }
    }
}
