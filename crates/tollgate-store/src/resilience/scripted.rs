//! Stores for the tests of the decorators: one that hangs, and one that behaves as the test says.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smallvec::SmallVec;
use tollgate_core::{Amount, Attribute, Charge, LeaseUpdate, Limit, Policy, Subject};

use crate::{
    CallReport, Capabilities, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest,
    LeaseState, LiveLeases, MemoryStore, Reserved, Store, StoreError, StoreErrorKind, key_bytes,
};

/// A store that never answers.
#[derive(Debug)]
pub(super) struct Hanging;

impl Store for Hanging {
    async fn charge(&self, _: &[Charge<'_>], _: Option<&str>) -> Result<Charged, StoreError> {
        pending().await
    }

    async fn peek(&self, _: &[Charge<'_>]) -> Result<Charged, StoreError> {
        pending().await
    }

    async fn reset(&self, _: &Limit, _: &Subject<'_>) -> Result<(), StoreError> {
        pending().await
    }
}

/// What a [`Scripted`] store does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Behaviour {
    Works,
    Unavailable,
    HasForeignKey,
    Hangs,
}

const BEHAVIOURS: [Behaviour; 4] =
    [Behaviour::Works, Behaviour::Unavailable, Behaviour::HasForeignKey, Behaviour::Hangs];

/// A store that behaves as the test says, and counts its calls. Clones are the same store.
#[derive(Debug)]
pub(super) struct Scripted<S = MemoryStore>(Arc<Inner<S>>);

impl<S> Clone for Scripted<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<S> {
    store: S,
    behaviour: AtomicU8,
    calls: AtomicU64,
    /// The keys of the leases, which a store in memory does not return.
    keys: Mutex<HashMap<LeaseId, Vec<Vec<u8>>>>,
}

impl<S: Store> Scripted<S> {
    pub(super) fn new(store: S) -> Self {
        let behaviour = AtomicU8::new(Behaviour::Works as u8);
        Self(Arc::new(Inner { store, behaviour, calls: AtomicU64::new(0), keys: Mutex::default() }))
    }

    // SeqCst here and below: tests expect every thread to see what another one did.
    pub(super) fn set(&self, behaviour: Behaviour) {
        self.0.behaviour.store(behaviour as u8, Ordering::SeqCst);
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(super) fn store(&self) -> &S {
        &self.0.store
    }

    async fn behave(&self) -> Result<(), StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        match BEHAVIOURS[usize::from(self.0.behaviour.load(Ordering::SeqCst))] {
            Behaviour::Works => Ok(()),
            Behaviour::Unavailable => {
                Err(StoreError::new(StoreErrorKind::Unavailable, "as it was told"))
            }
            Behaviour::HasForeignKey => {
                Err(StoreError::new(StoreErrorKind::ForeignKey, "as it was told"))
            }
            Behaviour::Hangs => pending().await,
        }
    }
}

impl<S: Store> Store for Scripted<S> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.behave().await?;
        self.0.store.charge(charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        self.behave().await?;
        self.0.store.peek(charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.behave().await?;
        self.0.store.reset(limit, subject).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        self.behave().await?;
        let reserved = self.0.store.reserve(request).await?;
        if let Some(lease) = &reserved.lease {
            let keys = request.charges.iter().map(|charge| key_bytes(charge.limit, charge.subject));
            self.0.keys.lock().unwrap().insert(lease.id.clone(), keys.collect());
        }
        Ok(reserved)
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.behave().await?;
        self.0.store.live_leases(most).await
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.0.store.expired_leases(most)
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.behave().await?;
        let mut state = self.0.store.update_lease(id, update).await?;
        if let (Some(state), Some(keys)) = (&mut state, self.0.keys.lock().unwrap().get(id)) {
            for (hold, key) in state.holds.iter_mut().zip(keys) {
                hold.key = key.clone().into();
            }
        }
        Ok(state)
    }
}

/// Runs `call` with the charge of one request of one user under the default policy.
pub(super) async fn one_charge<T>(call: impl AsyncFnOnce(&[Charge<'_>]) -> T) -> T {
    let limit = Limit::of(&Policy::default_policy()).map(Arc::new);
    let subject = Subject::new("alice", "gpt-4");
    let charge = limit.as_ref().map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    call(charge.as_slice()).await
}

/// The id of a lease that no store has.
pub(super) fn some_lease() -> LeaseId {
    LeaseId::parse("no-such-lease").unwrap()
}

/// A store with two parts: users whose names begin with `r` are in the right part, all others in the left one. A call
/// to a failing part ends only when the test says so, as a call that outlives its caller would. Clones are the same
/// store.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Arc<PartsInner>);

#[derive(Debug, Default)]
struct PartsInner {
    store: MemoryStore,
    calls: AtomicU64,
    failing: Mutex<Vec<FaultDomain>>,
    gone: Mutex<Vec<FaultDomain>>,
    waiting: Mutex<Vec<(CallReport, StoreError)>>,
}

impl Parts {
    pub(super) const LEFT: FaultDomain = FaultDomain::new(1);
    pub(super) const RIGHT: FaultDomain = FaultDomain::new(2);

    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(super) fn set_failing(&self, domains: &[FaultDomain]) {
        *self.0.failing.lock().unwrap() = domains.to_vec();
    }

    pub(super) fn set_gone(&self, domain: FaultDomain) {
        self.0.gone.lock().unwrap().push(domain);
    }

    /// Ends all calls that have not ended.
    pub(super) fn end_calls(&self) {
        for (report, error) in std::mem::take(&mut *self.0.waiting.lock().unwrap()) {
            report.ended::<()>(&Err(error));
        }
    }
}

impl Store for Parts {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Store::charge(&self.0.store, charges, id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        Store::peek(&self.0.store, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        Store::reset(&self.0.store, limit, subject).await
    }

    async fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        id: Option<&str>,
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        let mut domains =
            charges.iter().map(|charge| self.fault_domain(charge.limit, charge.subject));
        let failing = self.0.failing.lock().unwrap().clone();
        if let Some(domain) = domains.find(|domain| failing.contains(domain)) {
            self.0.calls.fetch_add(1, Ordering::SeqCst);
            let error = StoreError::new(StoreErrorKind::Unavailable, "as it was told");
            self.0.waiting.lock().unwrap().push((report, error.within(domain)));
            return pending().await;
        }
        let answer = self.charge(charges, id).await;
        report.ended(&answer);
        answer
    }

    fn fault_domain(&self, _: &Limit, subject: &Subject<'_>) -> FaultDomain {
        let user = subject.get(&Attribute::User).unwrap_or_default();
        if user.starts_with('r') { Self::RIGHT } else { Self::LEFT }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        _: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let failing = self.0.failing.lock().unwrap().clone();
        match self.fault_domains_of(id).into_iter().find(|domain| failing.contains(domain)) {
            None => Ok(None),
            Some(domain) => {
                let error = StoreError::new(StoreErrorKind::Unavailable, "as it was told");
                Err(error.within(domain))
            }
        }
    }

    /// By the id, as by the user of a check. Ids that begin with `x` are of another store.
    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        if id.as_str().starts_with('x') {
            return SmallVec::new();
        }
        let domain = if id.as_str().starts_with('r') { Self::RIGHT } else { Self::LEFT };
        SmallVec::from_elem(domain, 1)
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        !self.0.gone.lock().unwrap().contains(&domain)
    }

    fn can_probe(&self) -> bool {
        true
    }

    async fn probe(&self, domain: FaultDomain, report: CallReport) {
        let error = StoreError::new(StoreErrorKind::Unavailable, "as it was told");
        let fails = self.0.failing.lock().unwrap().contains(&domain);
        report.ended(&if fails { Err(error) } else { Ok(()) });
    }
}
