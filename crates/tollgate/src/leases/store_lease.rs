//! The guard of a lease in any store.

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tollgate_core::{Amount, Check, Decision, LeaseUpdate, PolicySet, Quality, Totals, Ttl, Unit};
use tollgate_store::{LeaseId, LeaseRequest, LeaseState, LeaseStatus, NewLease, Store, StoreError};

use super::{Progress, Reservation};

/// Decides `check` by `policies` in `store`, and makes a lease of it that lives for `ttl` if it is admitted (R13). Needs the feature
/// `async-leases` and a runtime of tokio.
///
/// ```
/// use std::sync::Arc;
/// use tollgate::leases;
/// use tollgate::{Amount, Check, Per, Policy, PolicyId, PolicySet, Totals, Ttl, Unit};
/// use tollgate_store::MemoryStore;
///
/// # async fn answer() -> u64 { 5 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let per = Per::from_scope("USER").ok_or("not a scope")?;
/// let two_at_a_time = Policy::of_concurrency(PolicyId::new("slots")?, per, Amount::new(2));
/// let policies = PolicySet::new(vec![two_at_a_time])?;
/// // A store in Redis works the same way; its leases can be settled by any process.
/// let store = Arc::new(MemoryStore::new());
///
/// let check = Check::new("alice", "gpt-4");
/// let reservation = leases::reserve(&store, &policies, &check, Ttl::DEFAULT).await?;
/// let Some(mut lease) = reservation.lease else {
///     return Err("no slot is free".into());
/// };
/// let tokens = Amount::new(answer().await).ok_or("too many")?;
/// lease.settle(Totals::none().with(Unit::OutputTokens, tokens)).await?;
/// # Ok(())
/// # }
/// ```
///
/// The same `requestId` names the same lease again, while the store knows it (R12): then there are two guards of one lease, and it
/// ends when either of them does.
///
/// # Errors
///
/// Those of [`Store::reserve`]. If the error [may have charged](StoreError::may_have_charged) something, it stays charged, and the
/// slot taken, until the lease expires. A store with a fallback returns no error: its decision is
/// [degraded](Decision::degraded), and this process keeps the lease.
pub async fn reserve<S: Store>(
    store: &Arc<S>,
    policies: &PolicySet,
    check: &Check<'_>,
    ttl: Ttl,
) -> Result<Reservation<StoreLease<S>>, StoreError> {
    let plan = policies.plan(check);
    let reserved = store.reserve(&LeaseRequest::new(&plan, ttl).named(check.request_id)).await?;
    let decision = Decision::assemble(&plan, &reserved.verdicts).with_degraded(reserved.degraded);
    let lease = reserved.lease.map(|lease| StoreLease::new(Arc::clone(store), lease));
    Ok(Reservation { decision, lease })
}

/// A lease in a store. When it is dropped, it settles as a lower bound with what was [observed](StoreLease::observe), on the runtime
/// that it is dropped in, or else on that in which it was reserved.
///
/// If that runtime has ended, or the store does not answer, the lease expires after its time to live: its slots are free then, and
/// what it reserved stays charged.
pub struct StoreLease<S: Store> {
    store: Arc<S>,
    id: LeaseId,
    ttl: Ttl,
    status: LeaseStatus,
    progress: Progress,
    /// What is sent when the guard is dropped, if it is not a lower bound: the end that the store has not confirmed.
    unconfirmed: Option<LeaseUpdate>,
    is_open: bool,
    runtime: Option<Handle>,
}

impl<S: Store> StoreLease<S> {
    /// The guard of `lease`, which `store` has just reserved, for callers that reserve by other means than [`reserve`].
    pub fn new(store: Arc<S>, lease: NewLease) -> Self {
        let NewLease { id, ttl, status, .. } = lease;
        Self {
            store,
            id,
            ttl,
            status,
            progress: Progress::new(),
            unconfirmed: None,
            is_open: true,
            runtime: Handle::try_current().ok(),
        }
    }

    /// Its name, valid wherever the store is used: whoever knows it can settle the lease.
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// What it was when this guard was made: live, unless the same request id reserved it before and it has ended since. A lease
    /// that has ended allows no new work.
    pub fn status_at_reservation(&self) -> LeaseStatus {
        self.status
    }

    /// How long it lives from its reservation or its last extension.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Remembers that so much of `unit` was used in all so far, in place of what was remembered before. The store hears of it with
    /// the next extension, or when the guard is dropped.
    pub fn observe(&mut self, unit: Unit, total: Amount) {
        self.progress.observed.set(unit, total);
    }

    /// Lets it live for `ttl` from now, or as long again as before, and asks for `wanted` in all: see
    /// `Lease::extend`.
    ///
    /// # Errors
    ///
    /// Those of [`Store::update_lease`]. It can be called again: totals are absolute.
    pub async fn extend(
        &mut self,
        ttl: Option<Ttl>,
        wanted: Totals,
    ) -> Result<Option<LeaseState>, StoreError> {
        let update = self.progress.extension(ttl, wanted);
        let state = self.update(update).await?;
        if let Some(state) = &state {
            self.ttl = state.ttl;
        }
        Ok(state)
    }

    /// Settles it with `usage`, all that was used: see `Lease::settle`. `None` if the store does not know the
    /// lease any more.
    ///
    /// # Errors
    ///
    /// Those of [`Store::update_lease`]. It can be called again. If it is not, or if its future is dropped before it is ready,
    /// dropping the guard sends this settlement once more.
    pub async fn settle(&mut self, usage: Totals) -> Result<Option<LeaseState>, StoreError> {
        let update = self.progress.settlement(usage, Quality::Exact);
        self.end(update).await
    }

    /// Gives everything back, as if the check had not been made: for work that did not begin. `None` if the store does not know the
    /// lease any more.
    ///
    /// # Errors
    ///
    /// As for [`StoreLease::settle`].
    pub async fn release(&mut self) -> Result<Option<LeaseState>, StoreError> {
        self.end(LeaseUpdate::Release).await
    }

    /// Settles it as a lower bound with what was [observed](StoreLease::observe), as dropping it does, and waits for the answer. `None`
    /// if the store does not know the lease any more.
    ///
    /// # Errors
    ///
    /// As for [`StoreLease::settle`].
    pub async fn abandon(&mut self) -> Result<Option<LeaseState>, StoreError> {
        let update = self.progress.lower_bound();
        self.end(update).await
    }

    async fn end(&mut self, update: LeaseUpdate) -> Result<Option<LeaseState>, StoreError> {
        self.unconfirmed = Some(update.clone());
        let state = self.update(update).await?;
        self.is_open = false;
        Ok(state)
    }

    async fn update(&mut self, update: LeaseUpdate) -> Result<Option<LeaseState>, StoreError> {
        let state = self.store.update_lease(&self.id, &update).await?;
        // The same request id has reserved it before, and the guard that it got then has updated it.
        match state.as_ref().and_then(|state| self.progress.renumbered(update, state)) {
            Some(update) => self.store.update_lease(&self.id, &update).await,
            None => Ok(state),
        }
    }
}

impl<S: Store> Drop for StoreLease<S> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.take()) else {
            return;
        };
        let update = match self.unconfirmed.take() {
            Some(update) => update,
            None => self.progress.lower_bound(),
        };
        let (store, id) = (Arc::clone(&self.store), self.id.clone());
        // An error has no reader: the lease then expires.
        runtime.spawn(async move { store.update_lease(&id, &update).await });
    }
}

impl<S: Store> fmt::Debug for StoreLease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ttl, progress, .. } = self;
        f.debug_struct("StoreLease")
            .field("id", id)
            .field("ttl", ttl)
            .field("progress", progress)
            .finish_non_exhaustive()
    }
}
