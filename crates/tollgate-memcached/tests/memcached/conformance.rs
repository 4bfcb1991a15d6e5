//! Runs the conformance suite against the store over a real server, in virtual time and in real time.
//!
//! Each harness uses its own prefix on a server that all tests of the process share.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tollgate_core::{ManualClock, Timestamp, WallClock};
use tollgate_memcached::MemcachedStore;
use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::{Harness, MovableClock, conformance};

use crate::support::{RUNTIME, store_at};

static SERVER: LazyLock<MemcachedServer> =
    LazyLock::new(|| MemcachedServer::start_with(&["-M", "-m", "512"]));
static STORE: LazyLock<MemcachedStore> = LazyLock::new(|| store_at(&SERVER.url()));

/// A prefix of its own.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only the number counts.
    format!("t{}:", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A node in real time that hears what others give back, as in a server.
struct InTime(MemcachedStore);

impl Harness for InTime {
    type Store = MemcachedStore;

    fn new() -> Self {
        let store = STORE.with_prefix(&prefix());
        RUNTIME.spawn(store.clone().listen());
        Self(store)
    }

    fn store(&self) -> &MemcachedStore {
        &self.0
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

/// A clock that can be set back and then stands still. The store clamps the time by what a key holds, which other tests cover;
/// the model clamps it by every check.
#[derive(Debug, Default)]
struct StandingClock {
    set: ManualClock,
    latest_ns: AtomicU64,
}

impl WallClock for StandingClock {
    fn wall_time(&self) -> Timestamp {
        let now_ns = self.set.wall_time().as_ns();
        // SeqCst: the time never steps back, whichever thread asks.
        Timestamp::from_ns(self.latest_ns.fetch_max(now_ns, Ordering::SeqCst).max(now_ns))
    }
}

/// A node in virtual time. It asks for every denial, or answers those that it knows.
struct InVirtualTime<const LISTENS: bool> {
    store: MemcachedStore,
    clock: Arc<StandingClock>,
}

impl<const LISTENS: bool> Harness for InVirtualTime<LISTENS> {
    type Store = MemcachedStore;

    fn new() -> Self {
        let clock = Arc::new(StandingClock::default());
        let store = STORE.with_prefix(&prefix()).with_test_clock(clock.clone());
        if LISTENS {
            RUNTIME.block_on(store.hear());
        }
        Self { store, clock }
    }

    fn store(&self) -> &MemcachedStore {
        &self.store
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

impl<const LISTENS: bool> MovableClock for InVirtualTime<LISTENS> {
    const ONE_TIMELINE: bool = true;
    const TICK_NS: Option<u64> = Some(1_000);

    fn set(&self, now: Timestamp) {
        self.clock.set.set(now);
    }
}

mod in_time {
    use super::*;

    conformance!(InTime: once, over_limit, leases, isolation, concurrency);
}

mod in_virtual_time {
    use super::*;

    conformance!(InVirtualTime<false>: contract, once, over_limit, leases, ledger, lease_changes, lease_records, expiry, time, changes);
}

mod with_known_denials {
    use super::*;

    conformance!(InVirtualTime<true>: contract, over_limit, time, changes);
}
