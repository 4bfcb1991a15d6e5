//! Runs the conformance suite against the store over real servers, in virtual time and in Redis's own.
//!
//! Each harness uses its own prefix on a server that all tests of the process share.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tollgate_core::{Clock, ManualClock, Timestamp};
use tollgate_redis::RedisStore;
use tollgate_testkit::redis::{RedisCluster, RedisServer};
use tollgate_testkit::{Harness, MovableClock, conformance};

use crate::support::{RUNTIME, store_at};

/// A store with its own keys.
pub(crate) fn apart(store: &RedisStore) -> RedisStore {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only the number counts.
    store.with_prefix(&format!("t{}:", NEXT.fetch_add(1, Ordering::Relaxed)))
}

static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
pub(crate) static SERVER_STORE: LazyLock<RedisStore> = LazyLock::new(|| store_at(&SERVER.url()));
static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(|| RedisCluster::start().patient());
pub(crate) static CLUSTER_STORE: LazyLock<RedisStore> = LazyLock::new(|| store_at(&CLUSTER.url()));

/// One server, and its own clock.
struct RedisClock(RedisStore);

impl Harness for RedisClock {
    type Store = RedisStore;

    fn new() -> Self {
        Self(apart(&SERVER_STORE))
    }

    fn store(&self) -> &RedisStore {
        &self.0
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

/// A Cluster, with its own clocks.
struct OnCluster(RedisStore);

impl Harness for OnCluster {
    type Store = RedisStore;

    fn new() -> Self {
        Self(apart(&CLUSTER_STORE))
    }

    fn store(&self) -> &RedisStore {
        &self.0
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

/// A clock that can be set back and then stands still. The scripts clamp the time by what a key holds, which other
/// tests cover; the model clamps it by every check.
#[derive(Debug, Default)]
struct StandingClock {
    set: ManualClock,
    latest_ns: AtomicU64,
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        let now_ns = self.set.now().as_ns();
        // SeqCst: the time never steps back, whichever thread asks.
        Timestamp::from_ns(self.latest_ns.fetch_max(now_ns, Ordering::SeqCst).max(now_ns))
    }
}

/// One server, in virtual time.
struct OnServer {
    store: RedisStore,
    clock: Arc<StandingClock>,
}

impl Harness for OnServer {
    type Store = RedisStore;

    fn new() -> Self {
        let clock = Arc::new(StandingClock::default());
        // The hint is as good as in production; the differential tests use bad ones.
        let store = apart(&SERVER_STORE).with_test_clock(clock.clone()).with_hint(clock.clone());
        Self { store, clock }
    }

    fn store(&self) -> &RedisStore {
        &self.store
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

impl MovableClock for OnServer {
    const ONE_TIMELINE: bool = true;
    const TICK_NS: Option<u64> = Some(1_000);

    fn set(&self, now: Timestamp) {
        self.clock.set.set(now);
    }
}

/// A Cluster in virtual time. Only for what gives back everything that a denied check has charged in other slots at the same
/// moment.
struct OnClusterInTime(OnServer);

impl Harness for OnClusterInTime {
    type Store = RedisStore;

    fn new() -> Self {
        let clock = Arc::new(StandingClock::default());
        let store = apart(&CLUSTER_STORE).with_test_clock(clock.clone()).with_hint(clock.clone());
        Self(OnServer { store, clock })
    }

    fn store(&self) -> &RedisStore {
        &self.0.store
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        RUNTIME.block_on(future)
    }
}

impl MovableClock for OnClusterInTime {
    const ONE_TIMELINE: bool = true;
    const TICK_NS: Option<u64> = Some(1_000);

    fn set(&self, now: Timestamp) {
        self.0.set(now);
    }
}

mod server {
    use super::*;

    conformance!(OnServer: contract, once, over_limit, leases, ledger, lease_changes, lease_records, expiry, isolation, time, changes);
}

mod redis_clock {
    use super::*;

    conformance!(RedisClock: contract, once, over_limit, leases, concurrency);
}

mod cluster {
    use super::*;

    conformance!(OnCluster: contract, once, over_limit, leases, isolation, concurrency);
}

mod cluster_in_time {
    use super::*;

    conformance!(OnClusterInTime: ledger, lease_changes, lease_records, expiry);
}
