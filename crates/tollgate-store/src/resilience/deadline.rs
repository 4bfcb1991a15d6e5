//! One deadline over everything that a call to a store does: pool, connect, retry, answer.

use std::future::Future;
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::{Amount, Charge, LeaseUpdate, Limit, Subject};

use crate::{
    CallReport, Capabilities, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest,
    LeaseState, LiveLeases, Part, Reserved, Store, StoreError, StoreErrorKind, Taken,
};

/// The part of the deadline for the store.
const STORE_SHARE: f64 = 0.95;

/// Ends calls that take too long, by dropping them.
///
/// The store gets 95 % of the deadline: timers have a resolution of a millisecond, and a decision without the store
/// must also be answered within the deadline (P3). A charge that was cut off may have been recorded, and its error says
/// so.
///
/// It needs a tokio runtime with its timer enabled.
#[derive(Debug)]
pub struct Deadline<S> {
    store: S,
    store_timeout: Option<Duration>,
}

/// The part of `timeout`, the deadline of a decision, that a store gets.
pub fn store_timeout(timeout: Duration) -> Duration {
    timeout.mul_f64(STORE_SHARE)
}

impl<S> Deadline<S> {
    /// Bounds each decision of `store` to approximately `timeout`. Without a timeout, `store` must do that itself, with
    /// [`store_timeout`].
    pub fn new(store: S, timeout: Option<Duration>) -> Self {
        Self { store, store_timeout: timeout.map(store_timeout) }
    }

    /// The inner store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(store_timeout) = self.store_timeout else { return call.await };
        tokio::time::timeout(store_timeout, call).await.unwrap_or_else(|_| {
            let waited_ms = store_timeout.as_millis();
            let context = format!("the store did not answer within {waited_ms} ms");
            Err(StoreError::new(StoreErrorKind::Unavailable, context))
        })
    }
}

impl<S: Store> Store for Deadline<S> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        // The store's own errors already say whether something may have been charged.
        let call = async { Ok(self.store.charge(charges, request_id).await) };
        self.in_time(call).await.map_err(StoreError::after_send)?
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        self.in_time(self.store.peek(charges)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        let call = async { Ok(self.store.reserve(request).await) };
        self.in_time(call).await.map_err(StoreError::after_send)?
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.in_time(self.store.live_leases(most)).await
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.store.expired_leases(most)
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        let call = async { Ok(self.store.update_lease(id, update).await) };
        self.in_time(call).await.map_err(StoreError::after_send)?
    }

    async fn take(&self, charge: &Charge<'_>) -> Result<Taken, StoreError> {
        let call = async { Ok(self.store.take(charge).await) };
        self.in_time(call).await.map_err(StoreError::after_send)?
    }

    async fn give_back(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        let call = async { Ok(self.store.give_back(part, unused).await) };
        self.in_time(call).await.map_err(StoreError::after_send)?
    }

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.in_time(self.store.reset(limit, subject)).await
    }

    // With a deadline this decorator reports how a call ended; without one, the store does.

    async fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        if self.store_timeout.is_none() {
            return self.store.charge_reported(charges, request_id, report).await;
        }
        let answer = self.charge(charges, request_id).await;
        report.ended(&answer);
        answer
    }

    async fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        if self.store_timeout.is_none() {
            return self.store.peek_reported(charges, report).await;
        }
        let answer = self.peek(charges).await;
        report.ended(&answer);
        answer
    }

    async fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> Result<(), StoreError> {
        if self.store_timeout.is_none() {
            return self.store.reset_reported(limit, subject, report).await;
        }
        let answer = self.reset(limit, subject).await;
        report.ended(&answer);
        answer
    }

    async fn reserve_reported(
        &self,
        request: &LeaseRequest<'_>,
        report: CallReport,
    ) -> Result<Reserved, StoreError> {
        if self.store_timeout.is_none() {
            return self.store.reserve_reported(request, report).await;
        }
        let answer = self.reserve(request).await;
        report.ended(&answer);
        answer
    }

    async fn update_lease_reported(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
        report: CallReport,
    ) -> Result<Option<LeaseState>, StoreError> {
        if self.store_timeout.is_none() {
            return self.store.update_lease_reported(id, update, report).await;
        }
        let answer = self.update_lease(id, update).await;
        report.ended(&answer);
        answer
    }

    async fn take_reported(
        &self,
        charge: &Charge<'_>,
        report: CallReport,
    ) -> Result<Taken, StoreError> {
        if self.store_timeout.is_none() {
            return self.store.take_reported(charge, report).await;
        }
        let answer = self.take(charge).await;
        report.ended(&answer);
        answer
    }

    async fn give_back_reported(
        &self,
        part: &Part,
        unused: Amount,
        report: CallReport,
    ) -> Result<(), StoreError> {
        if self.store_timeout.is_none() {
            return self.store.give_back_reported(part, unused, report).await;
        }
        let answer = self.give_back(part, unused).await;
        report.ended(&answer);
        answer
    }

    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        self.store.fault_domain(limit, subject)
    }

    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        self.store.fault_domains_of(id)
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        self.store.uses(domain)
    }

    fn can_probe(&self) -> bool {
        self.store.can_probe()
    }

    async fn probe(&self, domain: FaultDomain, report: CallReport) {
        self.store.probe(domain, report).await;
    }

    async fn finish(&self) {
        self.store.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Behaviour, Hanging, Scripted, one_charge, some_lease};
    use super::*;
    use crate::MemoryStore;

    /// P3: a store that never answers costs the deadline and no more.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_within_the_deadline() {
        let store = Deadline::new(Hanging, Some(Duration::from_millis(100)));
        let started = tokio::time::Instant::now();
        let error =
            one_charge(async |charges| store.charge(charges, None).await).await.unwrap_err();
        assert!(started.elapsed() <= Duration::from_millis(100), "{:?}", started.elapsed());
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.may_have_charged(), "nobody knows whether it was charged");
        let peeked = one_charge(async |charges| store.peek(charges).await).await;
        assert!(!peeked.unwrap_err().may_have_charged());
    }

    /// Nobody knows what a settlement changed that was cut off.
    #[tokio::test(start_paused = true)]
    async fn a_settlement_that_hangs_ends_within_the_deadline() {
        let inner = Scripted::new(MemoryStore::new());
        let store = Deadline::new(inner.clone(), Some(Duration::from_millis(100)));
        inner.set(Behaviour::Hangs);
        let id = some_lease();
        let release = || store.update_lease(&id, &LeaseUpdate::Release);
        let error = release().await.unwrap_err();
        assert!(error.kind() == StoreErrorKind::Unavailable && error.may_have_charged());
        inner.set(Behaviour::Works);
        assert!(release().await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_answered_is_left_alone() {
        let store = Deadline::new(MemoryStore::new(), Some(Duration::from_millis(100)));
        let charged = one_charge(async |charges| store.charge(charges, None).await).await;
        assert!(charged.unwrap().verdicts[0].allowed);
    }
}
