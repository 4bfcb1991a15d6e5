//! Decides without the store if the store cannot (R11).

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{
    Amount, Charge, Clock, FailureMode, LeaseUpdate, Limit, MonotonicClock, Subject,
};

use super::StoreObserver;
use crate::memory::{MemoryStoreOptions, MemoryStoreStats};
use crate::{
    Capabilities, Charged, ExpiredLease, LeaseId, LeaseRequest, LeaseState, LiveLease, LiveLeases,
    MemoryStore, NewLease, Reserved, Store, StoreError, Verdicts, admits,
};

/// Turns the error of a store into verdicts by the failure mode of each limit, and flags them as degraded.
///
/// The mode is that of the limit's policy, or else the one given here:
/// - [`FailureMode::Allow`] admits without a bound, and answers as if nothing was used.
/// - [`FailureMode::Deny`] denies, and answers as if everything was used; it is not known when there is room again
///   ([`Wait::Unknown`]).
/// - [`FailureMode::Local`] decides by this node's share of the limit, `amount / nodes` **rounded down**, counting what
///   this node has admitted since it lost the store. All nodes together never admit more than the limit in a window
///   (P5), and a limit below the number of nodes admits nothing. It answers as if the shares of the other nodes were
///   used.
///
/// Two results need no store and are the same in every mode: a limit of 0 bans, and a cost above the limit never fits.
/// A check that meets limits with several modes is still charged all or nothing (R3), except that a local limit that records
/// denied costs does so here too (R19), also those above the limit. What is admitted here is not
/// charged to the store later. A request id that is seen again is charged once to the local shares (R12).
#[derive(Debug)]
pub struct Fallback<S, C = MonotonicClock> {
    store: S,
    default_mode: FailureMode,
    nodes: NonZeroU32,
    /// What this node has admitted of its shares.
    local: MemoryStore<C>,
    observer: Arc<dyn StoreObserver>,
}

/// The most keys counted locally: an outage is short, and the in-memory store documents what happens at the bound.
const MAX_LOCAL_KEYS: usize = 1_000_000;
/// What the ids of leases begin with that a node gave without the store.
const LOCAL_LEASE: &str = "local.";

/// The id outside of a lease that this node keeps.
fn local_id(id: &LeaseId) -> Option<LeaseId> {
    LeaseId::parse(&format!("{LOCAL_LEASE}{id}"))
}

impl<S, C: Clock> Fallback<S, C> {
    /// Puts the fallback around `store`; without the store it uses `mode`, as one of `nodes` that share each limit.
    /// `clock` is this node's own.
    pub fn new(
        store: S,
        clock: C,
        mode: FailureMode,
        nodes: NonZeroU32,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        let options = MemoryStoreOptions::default().max_keys(MAX_LOCAL_KEYS);
        let local = MemoryStore::with_clock(clock, &options);
        Self { store, default_mode: mode, nodes, local, observer }
    }

    /// The inner store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Frees the memory of local usage that no longer counts. O(keys).
    pub fn sweep(&self) {
        self.local.sweep();
    }

    /// The number of keys with local usage.
    pub fn local_stats(&self) -> MemoryStoreStats {
        self.local.stats()
    }

    fn mode(&self, limit: &Limit) -> FailureMode {
        limit.on_store_error().unwrap_or(self.default_mode)
    }

    /// This node's share of an amount, rounded down.
    fn share(&self, whole: Amount) -> Amount {
        let share = whole.get() / u64::from(self.nodes.get());
        Amount::new(share).unwrap_or(Amount::MAX)
    }

    fn charge_degraded(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        error: &StoreError,
    ) -> Charged {
        self.observe(charges, error);
        self.decide(charges, |local, others_admit| match request_id {
            _ if !others_admit => self.local.charge_denied(local, request_id),
            None => self.local.charge(local),
            Some(request_id) => self.local.charge_once(local, request_id),
        })
    }

    /// An admitted reservation gets a lease that this node keeps. It holds the local shares, and nothing else.
    fn reserve_degraded(&self, request: &LeaseRequest<'_>, error: &StoreError) -> Reserved {
        self.observe(request.charges, error);
        let mut lease = None;
        let decided = self.decide(request.charges, |local, others_admit| {
            if !others_admit {
                return self.local.peek(local);
            }
            let reserved = self.local.reserve(&LeaseRequest { charges: local, ..*request });
            lease = reserved
                .lease
                .and_then(|lease| Some(NewLease { id: local_id(&lease.id)?, ..lease }));
            reserved.verdicts
        });
        Reserved { verdicts: decided.verdicts, lease, degraded: true }
    }

    fn observe(&self, charges: &[Charge<'_>], error: &StoreError) {
        self.observer.failed(error);
        for mode in FailureMode::ALL {
            if charges.iter().any(|charge| self.mode(charge.limit) == mode) {
                self.observer.degraded(mode);
            }
        }
    }

    /// Decides without the store. `charge` decides the local limits; it gets whether all others admit.
    fn decide(
        &self,
        charges: &[Charge<'_>],
        charge: impl FnOnce(&[Charge<'_>], bool) -> Verdicts,
    ) -> Charged {
        let known = charges.iter().map(|charge| self.without_usage(charge));
        let known: SmallVec<[Option<Verdict>; 4]> = known.collect();
        let local = || charges.iter().zip(&known).filter(|(_, known)| known.is_none());
        let shares: SmallVec<[Arc<Limit>; 4]> = local()
            .map(|(charge, _)| Arc::new(charge.limit.part(|whole| self.share(whole))))
            .collect();
        let local_charges: SmallVec<[Charge<'_>; 4]> =
            local().zip(&shares).map(|((charge, _), limit)| Charge { limit, ..*charge }).collect();
        let others_admit = {
            let admitted = Verdict::new(true, 0, Wait::None, 0);
            let verdicts: Verdicts = known.iter().map(|known| known.unwrap_or(admitted)).collect();
            admits(charges, &verdicts)
        };
        let mut decided = charge(&local_charges, others_admit).into_iter();
        let verdicts = charges.iter().zip(known).map(|(charge, known)| {
            // There is a local verdict for each charge without a fixed one.
            known.or_else(|| Some(self.of_share(charge, decided.next()?)))
        });
        Charged { verdicts: verdicts.flatten().collect(), degraded: true }
    }

    /// The verdict on `charge` that does not depend on usage; `None` if the local usage decides.
    fn without_usage(&self, charge: &Charge<'_>) -> Option<Verdict> {
        let amount = charge.limit.amount().get();
        let verdict = |allowed, usage, wait| Verdict::new(allowed, usage, wait, 0);
        let mode = self.mode(charge.limit);
        let is_recorded = mode == FailureMode::Local && charge.is_recorded_if_denied();
        if charge.cost.get().max(1) > amount && !is_recorded {
            return Some(verdict(false, 0, Wait::Never));
        }
        match mode {
            FailureMode::Allow => Some(verdict(true, 0, Wait::None)),
            FailureMode::Deny => Some(verdict(false, amount, Wait::Unknown)),
            FailureMode::Local => None,
        }
    }

    /// Converts the verdict on the share of a limit to one on the limit.
    fn of_share(&self, charge: &Charge<'_>, verdict: Verdict) -> Verdict {
        let limit = charge.limit;
        let others = limit.amount().get() - self.share(limit.amount()).get();
        // If the cost fits the limit, only the store can say when.
        let fits = charge.cost.get().max(1) <= limit.amount().get();
        let wait = match verdict.wait {
            Wait::Never if fits => Wait::Unknown,
            wait => wait,
        };
        Verdict { usage: verdict.usage.saturating_add(others), wait, ..verdict }
    }
}

impl<S: Store, C: Clock + 'static> Store for Fallback<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        match self.store.charge(charges, request_id).await {
            Ok(answer) => Ok(answer),
            Err(error) => Ok(self.charge_degraded(charges, request_id, &error)),
        }
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        match self.store.peek(charges).await {
            Ok(peeked) => Ok(peeked),
            Err(error) => {
                self.observer.failed(&error);
                Ok(self.decide(charges, |local, _| self.local.peek(local)))
            }
        }
    }

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    /// Fails if the store does: a caller must not believe that usage was reset when it was not.
    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.local.reset(limit, subject);
        self.store.reset(limit, subject).await.inspect_err(|error| self.observer.failed(error))
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    /// A lease that was reserved without the store is one of this node.
    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        if let Some(refusal) = self.store.capabilities().refusal(request.charges) {
            return Err(refusal);
        }
        match self.store.reserve(request).await {
            Ok(reserved) => Ok(reserved),
            Err(error) => Ok(self.reserve_degraded(request, &error)),
        }
    }

    /// Those of the store, and those that this node keeps.
    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        let mut live = self.store.live_leases(most).await?;
        let here = self.local.live_leases(most);
        live.is_complete &= here.is_complete;
        live.leases.extend(here.leases.into_iter().filter_map(|lease| {
            let id = local_id(&lease.id)?;
            Some(LiveLease { id, ..lease })
        }));
        live.leases.sort_by_key(|lease| Reverse(lease.age));
        live.is_complete &= live.leases.len() <= most;
        live.leases.truncate(most);
        Ok(live)
    }

    /// Those of the store, and those that this node keeps.
    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        let mut expired = self.store.expired_leases(most);
        let here = self.local.expired_leases(most.saturating_sub(expired.len()));
        expired.extend(
            here.into_iter()
                .filter_map(|lease| Some(ExpiredLease { id: local_id(&lease.id)?, ..lease })),
        );
        expired
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        if let Some(local) = id.as_str().strip_prefix(LOCAL_LEASE).and_then(LeaseId::parse) {
            return Ok(self.local.update_lease(&local, update));
        }
        let updated = self.store.update_lease(id, update).await;
        updated.inspect_err(|error| self.observer.failed(error))
    }

    async fn finish(&self) {
        self.store.finish().await;
    }
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
