//! Stores for the tests of the decorators: one that hangs, and one that does as it is told.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tollgate_core::{Amount, Charge, Limit, Policy, Subject};

use crate::{Charged, MemoryStore, Store, StoreError, StoreErrorKind};

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
    Unexpected,
    Hangs,
}

const BEHAVIOURS: [Behaviour; 4] =
    [Behaviour::Works, Behaviour::Unavailable, Behaviour::Unexpected, Behaviour::Hangs];

/// A store that does as it is told, and counts what it is asked. Clones are the same store.
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
            Behaviour::Unexpected => {
                Err(StoreError::new(StoreErrorKind::Unexpected, "as it was told"))
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
}

/// Calls `call` with the charge of one request of one user under the default policy.
pub(super) async fn one_charge<T>(call: impl AsyncFnOnce(&[Charge<'_>]) -> T) -> T {
    let limit = Limit::of(&Policy::default_policy()).map(Arc::new);
    let subject = Subject::new("alice", "gpt-4");
    let charge = limit.as_ref().map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    call(charge.as_slice()).await
}
