//! A store that several owners share.

use std::sync::Arc;

use smallvec::SmallVec;
use tollgate_core::{Amount, Charge, LeaseUpdate, Limit, Subject};

use crate::{
    CallReport, Capabilities, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest,
    LeaseState, LiveLeases, Part, Reserved, Store, StoreError, Taken,
};

impl<S: Store> Store for Arc<S> {
    fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        (**self).charge(charges, request_id)
    }

    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        (**self).peek(charges)
    }

    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).reset(limit, subject)
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn reserve(
        &self,
        request: &LeaseRequest<'_>,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        (**self).reserve(request)
    }

    fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        (**self).update_lease(id, update)
    }

    fn live_leases(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<LiveLeases, StoreError>> + Send {
        (**self).live_leases(most)
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        (**self).expired_leases(most)
    }

    fn take(&self, charge: &Charge<'_>) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        (**self).take(charge)
    }

    fn give_back(
        &self,
        part: &Part,
        unused: Amount,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).give_back(part, unused)
    }

    fn take_reported(
        &self,
        charge: &Charge<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        (**self).take_reported(charge, report)
    }

    fn give_back_reported(
        &self,
        part: &Part,
        unused: Amount,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).give_back_reported(part, unused, report)
    }

    fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        (**self).charge_reported(charges, request_id, report)
    }

    fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        (**self).peek_reported(charges, report)
    }

    fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).reset_reported(limit, subject, report)
    }

    fn reserve_reported(
        &self,
        request: &LeaseRequest<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        (**self).reserve_reported(request, report)
    }

    fn update_lease_reported(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
        report: CallReport,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        (**self).update_lease_reported(id, update, report)
    }

    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        (**self).fault_domain(limit, subject)
    }

    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        (**self).fault_domains_of(id)
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        (**self).uses(domain)
    }

    fn keeps_order(&self) -> bool {
        (**self).keeps_order()
    }

    fn can_probe(&self) -> bool {
        (**self).can_probe()
    }

    fn probe(&self, domain: FaultDomain, report: CallReport) -> impl Future<Output = ()> + Send {
        (**self).probe(domain, report)
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        (**self).finish()
    }
}
