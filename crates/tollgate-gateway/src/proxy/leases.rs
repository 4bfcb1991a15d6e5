//! All leases of a gateway: keeps them alive, and knows when none is left.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tollgate_core::{Amount, Clock, LeaseUpdate, MonotonicClock, Timestamp, Ttl};
use tollgate_service::{RateLimitService, Reservation, Unsettled};
use tollgate_store::{LeaseId, LeaseState, Store};

use super::lease::{Sequence, extension};

/// Receives what happens to the leases of a gateway. It is called while requests wait, so it must not block.
pub trait LeaseObserver: fmt::Debug + Send + Sync + 'static {
    /// A reservation was decided.
    fn reserved(&self, reservation: &Reservation) {
        _ = reservation;
    }

    /// The store has answered an update; `state` is `None` if it does not know the lease.
    fn updated(&self, update: &LeaseUpdate, state: Option<&LeaseState>) {
        _ = (update, state);
    }

    /// The store did not answer a settlement.
    fn unsettled(&self, unsettled: &Unsettled) {
        _ = unsettled;
    }
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LeaseObserver for NoObserver {}

/// A lease is extended when a third of its life is over, so that two lost extensions do not end it.
const EXTEND_AFTER: Duration = Duration::from_millis(Ttl::DEFAULT.as_ms() / 3);
/// How often leases are looked at.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// The most extensions that wait for the store at a time.
const MAX_EXTENSIONS: usize = 64;

/// A lease that is not settled.
#[derive(Debug)]
pub(super) struct OpenLease {
    number: u64,
    id: LeaseId,
    sequence: Sequence,
    reserved_input: u64,
    /// The tokens of the answer so far.
    observed_output: AtomicU64,
    /// When it was reserved or extended, in nanoseconds.
    extended_at: AtomicU64,
}

impl OpenLease {
    pub(super) fn id(&self) -> &LeaseId {
        &self.id
    }

    pub(super) fn next_seq(&self) -> Amount {
        self.sequence.next()
    }

    // Relaxed: each is a number by itself.
    pub(super) fn observe(&self, output: u64) {
        self.observed_output.fetch_max(output, Ordering::Relaxed);
    }
}

/// The leases of a gateway.
pub(super) struct Leases<S: Store> {
    service: Arc<RateLimitService<S>>,
    observer: Arc<dyn LeaseObserver>,
    open: Mutex<HashMap<u64, Arc<OpenLease>>>,
    last_number: AtomicU64,
    unfinished: watch::Sender<usize>,
    clock: MonotonicClock,
    runtime: Handle,
}

impl<S: Store> fmt::Debug for Leases<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").field("open", &self.open().len()).finish_non_exhaustive()
    }
}

/// Counts a reservation that is under way, or a lease that is not settled.
#[derive(Debug)]
pub(super) struct Unfinished(watch::Sender<usize>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<S: Store> Leases<S> {
    /// Call it in the runtime in which the leases are settled.
    pub(super) fn new(service: Arc<RateLimitService<S>>, observer: Arc<dyn LeaseObserver>) -> Self {
        Self {
            service,
            observer,
            open: Mutex::default(),
            last_number: AtomicU64::new(0),
            unfinished: watch::Sender::new(0),
            clock: MonotonicClock::new(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn service(&self) -> &RateLimitService<S> {
        &self.service
    }

    pub(super) fn observer(&self) -> &dyn LeaseObserver {
        &*self.observer
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Something begins that ends with a settled lease.
    pub(super) fn begin(&self) -> Unfinished {
        self.unfinished.send_modify(|count| *count += 1);
        Unfinished(self.unfinished.clone())
    }

    /// Waits until every lease is settled.
    pub(super) async fn finished(&self) {
        // The sender lives as long as this.
        _ = self.unfinished.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(super) fn unfinished(&self) -> usize {
        *self.unfinished.borrow()
    }

    /// A lease was reserved.
    pub(super) fn opened(&self, id: LeaseId, reserved_input: u64) -> Arc<OpenLease> {
        // Relaxed: only that no two are equal matters.
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let lease = Arc::new(OpenLease {
            number,
            id,
            sequence: Sequence::new(),
            reserved_input,
            observed_output: AtomicU64::new(0),
            extended_at: AtomicU64::new(self.clock.now().as_ns()),
        });
        self.open().insert(number, Arc::clone(&lease));
        lease
    }

    /// A lease is settled from now on.
    pub(super) fn closed(&self, lease: &OpenLease) {
        self.open().remove(&lease.number);
    }

    /// Keeps a lease alive and asks for `wanted` tokens of the answer in all; says whether they may be used.
    pub(super) async fn extend(&self, lease: &OpenLease, wanted: Option<u64>) -> bool {
        lease.extended_at.store(self.clock.now().as_ns(), Ordering::Relaxed);
        let observed = lease.observed_output.load(Ordering::Relaxed);
        let update = extension(lease.next_seq(), lease.reserved_input, observed, wanted);
        match self.service.update_lease(&lease.id, &update).await {
            Ok(state) => {
                self.observer.updated(&update, state.as_ref());
                state.is_none_or(|state| state.proceed)
            }
            Err(error) => {
                tracing::debug!(%error, "the store did not answer an extension");
                true
            }
        }
    }

    /// Keeps all leases alive; never returns.
    pub(super) async fn keep(&self) {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            self.extend_old(self.clock.now()).await;
        }
    }

    /// Extends the leases that were not extended for a third of their life.
    pub(super) async fn extend_old(&self, now: Timestamp) {
        let old: Vec<_> = {
            let open = self.open();
            let is_old = |lease: &&Arc<OpenLease>| {
                let at = Timestamp::from_ns(lease.extended_at.load(Ordering::Relaxed));
                at.after(EXTEND_AFTER) <= now
            };
            open.values().filter(is_old).cloned().collect()
        };
        let mut calls = FuturesUnordered::new();
        for lease in &old {
            if calls.len() >= MAX_EXTENSIONS {
                calls.next().await;
            }
            calls.push(self.extend(lease, None));
        }
        while calls.next().await.is_some() {}
    }

    /// A poisoned lock is fine: the map does not panic half-way.
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenLease>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tollgate_catalog::SnapshotReader;
    use tollgate_core::{
        Attribute, Check, Counting, ManualClock, Per, Policy, PolicyId, PolicySet, Subject, Unit,
        Window,
    };
    use tollgate_store::MemoryStore;
    use tollgate_store::memory::MemoryStoreOptions;

    use super::super::lease::{LeaseGuard, Outcome, Wanted, reserve};
    use super::*;
    use crate::config::OnAbort;

    type Store = MemoryStore<ManualClock>;

    /// Leases over one limit of slots and one of tokens of answers.
    fn leases() -> (Arc<Leases<Store>>, ManualClock) {
        let policy = |id: &str, unit: Unit| {
            let (id, per) = (PolicyId::new(id).unwrap(), Per::from_scope("API_KEY").unwrap());
            let window = Window::new(Duration::from_hours(1)).unwrap();
            let policy = Policy::new(id, per, Amount::new(1_000), window);
            let is_slots = unit == Unit::Concurrency;
            let counting = if is_slots { Counting::Concurrency } else { policy.counting };
            Policy { unit, counting, ..policy }
        };
        let policies = vec![policy("slots", Unit::Concurrency), policy("out", Unit::OutputTokens)];
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        let set = SnapshotReader::fixed(PolicySet::new(policies).unwrap());
        let service = Arc::new(RateLimitService::new(store, set));
        (Arc::new(Leases::new(service, Arc::new(NoObserver))), clock)
    }

    fn wanted(output: u64) -> Wanted {
        let on_abort = OnAbort::Observed;
        Wanted { api_key: "k".to_owned(), model: None, input: 0, output, input_bytes: 0, on_abort }
    }

    async fn reserved(leases: &Arc<Leases<Store>>, output: u64) -> LeaseGuard<Store> {
        reserve(leases, wanted(output)).await.unwrap().1.unwrap()
    }

    /// The slots and the tokens that are used.
    async fn used(leases: &Leases<Store>) -> [u64; 2] {
        let check = Check::of(Subject::empty().with(&Attribute::ApiKey, "k"));
        let decision = leases.service().peek(&check).await.unwrap();
        [0, 1].map(|index| decision.limits()[index].count)
    }

    #[tokio::test]
    async fn a_lease_that_is_kept_does_not_expire() {
        let (leases, clock) = leases();
        let guard = reserved(&leases, 100).await;
        let later = leases.clock.now().after(2 * EXTEND_AFTER);
        for _ in 0..10 {
            clock.advance(Duration::from_secs(20));
            leases.extend_old(later).await;
        }
        assert_eq!(used(&leases).await, [1, 100]);
        clock.advance(Duration::from_secs(31));
        assert_eq!(used(&leases).await, [0, 100], "nobody has kept it");
        drop(guard);
        leases.finished().await;
        assert_eq!(used(&leases).await, [0, 0], "it was not sent");
    }

    #[tokio::test]
    async fn an_extension_reports_what_was_seen_and_asks_for_more() {
        let (leases, _) = leases();
        let guard = reserved(&leases, 100).await;
        guard.observe(150);
        assert!(guard.extend(200).unwrap().await);
        assert_eq!(used(&leases).await, [1, 200]);
        assert!(!guard.extend(1_001).unwrap().await);
        let usage = crate::dialect::Usage::default();
        guard.settle(Outcome::Exact { usage, output: 120 }).unwrap().await;
        assert_eq!(used(&leases).await, [0, 120]);
    }

    #[tokio::test]
    async fn whatever_is_dropped_is_finished() {
        let (leases, _) = leases();
        // A reservation, a lease that was sent, and a settlement.
        drop(reserve(&leases, wanted(100)));
        let mut sent = reserved(&leases, 100).await;
        sent.set_sent(true);
        drop(sent);
        let usage = crate::dialect::Usage::default();
        drop(reserved(&leases, 100).await.settle(Outcome::Exact { usage, output: 7 }));
        assert!(leases.unfinished() > 0);
        leases.finished().await;
        assert_eq!(used(&leases).await, [0, 7]);
        assert!(leases.open().is_empty());
    }
}
