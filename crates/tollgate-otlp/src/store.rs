//! A store whose calls are spans.
//!
//! It knows neither which store it wraps nor what a call sends: [`DatabaseName`] says what to call it.

use std::future::Future;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use smallvec::SmallVec;
use tollgate_core::{Amount, Charge, LeaseUpdate, Limit, Subject};
use tollgate_store::{
    CallReport, Capabilities, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest,
    LeaseState, LiveLeases, Part, Reserved, Store, StoreError, Taken,
};

use crate::encoded_span::EncodedSpan;
use crate::request::{ChildSpan, current};

/// What spans call the database of a store.
#[derive(Clone, Debug)]
pub struct DatabaseName {
    /// `db.system.name`.
    pub system: &'static str,
    /// `db.operation.name`: the command that ends calls that change usage.
    pub writes: &'static str,
    /// The command of calls that only read it.
    pub reads: &'static str,
    /// `server.address` and `server.port`, if there is one server; a Unix socket has port 0.
    pub address: Option<(String, u16)>,
}

impl DatabaseName {
    fn operation(&self, call: &'static str) -> &'static str {
        if call == "peek" { self.reads } else { self.writes }
    }

    fn describe(&self, call: &'static str, span: &mut EncodedSpan) {
        span.text("db.system.name", self.system);
        span.text("db.operation.name", self.operation(call));
        span.text("tollgate.store_call", call);
        if let Some((address, port)) = &self.address {
            span.text("server.address", address);
            if *port != 0 {
                span.integer("server.port", (*port).into());
            }
        }
    }
}

/// `S`, whose calls are spans if the request that makes them is traced.
#[derive(Clone, Debug)]
pub struct TracedStore<S> {
    store: S,
    /// `None` if nothing is traced.
    name: Option<DatabaseName>,
}

impl<S> TracedStore<S> {
    /// `store`, whose spans are named by `name`; `None` for no spans.
    pub fn new(store: S, name: Option<DatabaseName>) -> Self {
        Self { store, name }
    }

    /// The store itself.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn begin(&self, call: &'static str) -> Option<ChildSpan> {
        let name = self.name.as_ref()?;
        let mut child = current()?.child(name.operation(call), SpanKind::Client)?;
        name.describe(call, &mut child.span);
        Some(child)
    }
}

/// `call` within `span`.
async fn traced<T>(
    span: Option<ChildSpan>,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answer = call.await;
    if let (Some(mut child), Err(error)) = (span, &answer) {
        child.span.failed(error.kind().name());
    }
    answer
}

impl<S: Store> Store for TracedStore<S> {
    fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        traced(self.begin("charge"), self.store.charge(charges, request_id))
    }

    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        traced(self.begin("peek"), self.store.peek(charges))
    }

    fn reset(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        traced(self.begin("reset"), self.store.reset(limit, subject))
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn reserve(
        &self,
        request: &LeaseRequest<'_>,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        traced(self.begin("reserve"), self.store.reserve(request))
    }

    fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        traced(self.begin("update_lease"), self.store.update_lease(id, update))
    }

    fn live_leases(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<LiveLeases, StoreError>> + Send {
        self.store.live_leases(most)
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.store.expired_leases(most)
    }

    fn take(&self, charge: &Charge<'_>) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        traced(self.begin("take"), self.store.take(charge))
    }

    fn give_back(
        &self,
        part: &Part,
        unused: Amount,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        traced(self.begin("give_back"), self.store.give_back(part, unused))
    }

    fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        let call = self.store.charge_reported(charges, request_id, report);
        traced(self.begin("charge"), call)
    }

    fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        traced(self.begin("peek"), self.store.peek_reported(charges, report))
    }

    fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        traced(self.begin("reset"), self.store.reset_reported(limit, subject, report))
    }

    fn reserve_reported(
        &self,
        request: &LeaseRequest<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
        traced(self.begin("reserve"), self.store.reserve_reported(request, report))
    }

    fn update_lease_reported(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
        report: CallReport,
    ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
        let call = self.store.update_lease_reported(id, update, report);
        traced(self.begin("update_lease"), call)
    }

    fn take_reported(
        &self,
        charge: &Charge<'_>,
        report: CallReport,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send {
        traced(self.begin("take"), self.store.take_reported(charge, report))
    }

    fn give_back_reported(
        &self,
        part: &Part,
        unused: Amount,
        report: CallReport,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        traced(self.begin("give_back"), self.store.give_back_reported(part, unused, report))
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

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    fn can_probe(&self) -> bool {
        self.store.can_probe()
    }

    fn probe(&self, domain: FaultDomain, report: CallReport) -> impl Future<Output = ()> + Send {
        self.store.probe(domain, report)
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        self.store.finish()
    }
}
