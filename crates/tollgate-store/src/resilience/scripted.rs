//! Stores for the tests of the decorators: one that hangs, and one that behaves as the test says.

use std::future::pending;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tollgate_core::{Amount, Attribute, Charge, Limit, Policy, Subject};

use crate::{
    CallReport, Capabilities, Charged, FaultDomain, Held, MemoryStore, Receipt, Settled, Store,
    StoreError, StoreErrorKind,
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

/// A store that behaves as the test says, and counts its calls. Its settlements change nothing. Clones are the same store.
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
}

impl<S: Store> Scripted<S> {
    pub(super) fn new(store: S) -> Self {
        let behaviour = AtomicU8::new(Behaviour::Works as u8);
        Self(Arc::new(Inner { store, behaviour, calls: AtomicU64::new(0) }))
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

    async fn settle(&self, receipt: &Receipt, _: &[Amount]) -> Result<Settled, StoreError> {
        self.behave().await?;
        Ok(Settled { receipt: receipt.clone(), ..Settled::default() })
    }
}

/// Runs `call` with the charge of one request of one user under the default policy.
pub(super) async fn one_charge<T>(call: impl AsyncFnOnce(&[Charge<'_>]) -> T) -> T {
    let limit = Limit::of(&Policy::default_policy()).map(Arc::new);
    let subject = Subject::new("alice", "gpt-4");
    let charge = limit.as_ref().map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    call(charge.as_slice()).await
}

/// A receipt for one request of `user` under the default policy.
pub(super) fn receipt_of(user: &str) -> Receipt {
    let limit = Limit::of(&Policy::default_policy()).map(Arc::new);
    let subject = Subject::new(user, "gpt-4");
    let mut receipt = Receipt::none();
    if let Some(limit) = &limit {
        let charge = Charge { limit, subject: &subject, cost: Amount::ONE };
        receipt.add(0, &charge, charge.cost, &[]);
    }
    receipt
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

    async fn settle(&self, receipt: &Receipt, _: &[Amount]) -> Result<Settled, StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let failing = self.0.failing.lock().unwrap().clone();
        let mut domains = receipt.held().map(|held| self.fault_domain_of(&held));
        match domains.find(|domain| failing.contains(domain)) {
            None => Ok(Settled::default()),
            Some(domain) => {
                let error = StoreError::new(StoreErrorKind::Unavailable, "as it was told");
                Err(error.within(domain))
            }
        }
    }

    /// By the user, who is the first value of the key.
    fn fault_domain_of(&self, held: &Held<'_>) -> FaultDomain {
        let user = held.parts().nth(1).unwrap_or_default();
        if user.starts_with(b"r") { Self::RIGHT } else { Self::LEFT }
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
