//! Runs the conformance suite against the in-memory store, with many shards and with one.

use tollgate_core::{ManualClock, Timestamp};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;
use tollgate_testkit::{BoundedKeys, Harness, MovableClock, conformance};

/// So few keys that the store has one shard.
const ONE_SHARD: usize = 1_024;

/// A store with the default number of shards.
struct Sharded(MemoryStore<ManualClock>);

impl Harness for Sharded {
    type Store = MemoryStore<ManualClock>;

    fn new() -> Self {
        Self(MemoryStore::with_clock(ManualClock::default(), &MemoryStoreOptions::default()))
    }

    fn store(&self) -> &Self::Store {
        &self.0
    }
}

impl MovableClock for Sharded {
    /// Each shard keeps the latest time that it has seen.
    const ONE_TIMELINE: bool = false;

    fn set(&self, now: Timestamp) {
        self.0.clock().set(now);
    }
}

impl BoundedKeys for Sharded {
    fn with_max_keys(max_keys: usize) -> Self {
        let options = MemoryStoreOptions::default().max_keys(max_keys);
        Self(MemoryStore::with_clock(ManualClock::default(), &options))
    }

    fn sweep(&self) {
        self.0.sweep();
    }

    fn keys(&self) -> u64 {
        self.0.stats().keys
    }

    fn evicted(&self) -> u64 {
        self.0.stats().evicted
    }
}

/// A store of one shard: everything shares one lock and one time.
struct OneShard(Sharded);

impl Harness for OneShard {
    type Store = MemoryStore<ManualClock>;

    fn new() -> Self {
        Self(Sharded::with_max_keys(ONE_SHARD))
    }

    fn store(&self) -> &Self::Store {
        self.0.store()
    }
}

impl MovableClock for OneShard {
    const ONE_TIMELINE: bool = true;
    const LEASE_COURSES: u32 = 100_000;

    fn set(&self, now: Timestamp) {
        self.0.set(now);
    }
}

mod sharded {
    use super::*;

    conformance!(Sharded: contract, once, over_limit, leases, ledger, lease_changes, lease_records, expiry, isolation, concurrency, time, changes, scale, bounds);
}

mod one_shard {
    use super::*;

    conformance!(OneShard: contract, once, over_limit, leases, ledger, expiry, concurrency, time);
}

/// A store that is restarted from a snapshot before every call.
#[cfg(feature = "snapshots")]
mod restarted {
    use std::future::ready;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use tollgate_core::{Charge, LeaseUpdate, Limit, Subject};
    use tollgate_store::{
        Capabilities, Charged, LeaseId, LeaseRequest, LeaseState, LiveLeases, Reserved, Store,
        StoreError,
    };

    use super::*;

    struct Restarted {
        clock: ManualClock,
        store: Mutex<MemoryStore<ManualClock>>,
    }

    impl Restarted {
        fn options() -> MemoryStoreOptions {
            // Few shards, so that a restart is fast.
            MemoryStoreOptions::default().max_keys(ONE_SHARD).max_leases(1_000)
        }

        #[expect(clippy::unwrap_used, reason = "memory takes and gives every snapshot")]
        fn restarted(&self) -> MutexGuard<'_, MemoryStore<ManualClock>> {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            let mut snapshot = Vec::new();
            let wall = Timestamp::from_ms(7);
            store.write_snapshot(&mut snapshot, wall).unwrap();
            let clock = self.clock.clone();
            let read = MemoryStore::read_snapshot(&*snapshot, &Self::options(), |_| clock);
            *store = read.unwrap();
            store
        }
    }

    impl Harness for Restarted {
        type Store = Self;

        fn new() -> Self {
            let clock = ManualClock::default();
            let store = MemoryStore::with_clock(clock.clone(), &Self::options());
            Self { clock, store: Mutex::new(store) }
        }

        fn store(&self) -> &Self::Store {
            self
        }
    }

    impl MovableClock for Restarted {
        const ONE_TIMELINE: bool = true;

        fn set(&self, now: Timestamp) {
            self.clock.set(now);
        }
    }

    impl Store for Restarted {
        fn charge(
            &self,
            charges: &[Charge<'_>],
            request_id: Option<&str>,
        ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
            let store = self.restarted();
            let verdicts = match request_id {
                None => store.charge(charges),
                Some(request_id) => store.charge_once(charges, request_id),
            };
            ready(Ok(verdicts.into()))
        }

        fn keeps_order(&self) -> bool {
            true
        }

        fn peek(
            &self,
            charges: &[Charge<'_>],
        ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
            ready(Ok(self.restarted().peek(charges).into()))
        }

        fn reset(
            &self,
            limit: &Limit,
            subject: &Subject<'_>,
        ) -> impl Future<Output = Result<(), StoreError>> + Send {
            self.restarted().reset(limit, subject);
            ready(Ok(()))
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::LEASES_HERE
        }

        fn reserve(
            &self,
            request: &LeaseRequest<'_>,
        ) -> impl Future<Output = Result<Reserved, StoreError>> + Send {
            ready(Ok(self.restarted().reserve(request)))
        }

        fn live_leases(
            &self,
            most: usize,
        ) -> impl Future<Output = Result<LiveLeases, StoreError>> + Send {
            ready(Ok(self.restarted().live_leases(most)))
        }

        fn update_lease(
            &self,
            id: &LeaseId,
            update: &LeaseUpdate,
        ) -> impl Future<Output = Result<Option<LeaseState>, StoreError>> + Send {
            ready(Ok(self.restarted().update_lease(id, update)))
        }
    }

    conformance!(Restarted: contract, once, over_limit, leases, ledger, lease_changes, lease_records, expiry, isolation, time, changes);
}

/// A store with all decorators around it.
#[cfg(feature = "resilience")]
mod resilient {
    use std::future::Future;
    use std::sync::Arc;

    use tokio::runtime::{Builder, Runtime};
    use tollgate_store::resilience::{ResilienceOptions, Resilient};

    use super::*;

    struct Surrounded {
        store: Resilient<MemoryStore<ManualClock>, ManualClock>,
        /// Drives the deadline's timer.
        runtime: Runtime,
    }

    impl Harness for Surrounded {
        type Store = Resilient<MemoryStore<ManualClock>, ManualClock>;

        fn new() -> Self {
            let clock = ManualClock::default();
            let options = MemoryStoreOptions::default().max_keys(ONE_SHARD);
            let store = MemoryStore::with_clock(clock.clone(), &options);
            let options = ResilienceOptions::default();
            let surrounded = Resilient::around(store, clock, &options, Arc::new(()));
            surrounded.invalidations().connected(tollgate_store::FaultDomain::WHOLE);
            Self { store: surrounded, runtime: runtime() }
        }

        fn store(&self) -> &Self::Store {
            &self.store
        }

        fn run<F: Future>(&self, future: F) -> F::Output {
            self.runtime.block_on(future)
        }
    }

    #[expect(clippy::unwrap_used, reason = "a machine without threads runs no tests")]
    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
    }

    conformance!(Surrounded: contract, once, over_limit, leases, isolation, concurrency);
}
