//! What the server does with a networked store besides asking it: examines it at the start, and watches what endangers limits while
//! it works.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_memcached::{Event, MemcachedStore};
use tollgate_redis::{Eviction, RedisStore};
use tollgate_store::{StartProblem, Store, StoreError, Warning};

use crate::catalog;
use crate::config::ServeConfig;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::start_error::StartError;
use crate::store_watch::StoreWatch;

/// The time between two attempts to reach a store that was unavailable at the start.
const INTRODUCE_EVERY: Duration = Duration::from_secs(1);

/// The metrics and the health of the server, and what watches its store.
pub(crate) struct Instruments {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) store: Arc<StoreWatch>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::default()));
        let store = Arc::new(StoreWatch::new(Arc::clone(&metrics), Arc::clone(&health)));
        Self { metrics, health, store }
    }
}

/// A networked store that is examined at the start.
pub(crate) trait Examined: Store + Clone {
    fn check_start(&self) -> impl Future<Output = Result<(), StartProblem>> + Send;

    fn examine(&self) -> impl Future<Output = Result<Vec<Warning>, StartProblem>> + Send;

    fn agrees(
        &self,
        name: &str,
        value: &str,
        life: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

impl Examined for RedisStore {
    async fn check_start(&self) -> Result<(), StartProblem> {
        self.check_start().await
    }

    async fn examine(&self) -> Result<Vec<Warning>, StartProblem> {
        self.examine().await
    }

    async fn agrees(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        self.agrees(name, value, life).await
    }
}

impl Examined for MemcachedStore {
    async fn check_start(&self) -> Result<(), StartProblem> {
        self.check_start().await
    }

    async fn examine(&self) -> Result<Vec<Warning>, StartProblem> {
        self.examine().await
    }

    async fn agrees(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        self.agrees(name, value, life).await
    }
}

/// Examines `store`, unless a degraded start is allowed, and starts the tasks that go on examining it.
pub(crate) async fn examined(
    config: &ServeConfig,
    store: &impl Examined,
    set_by: Option<String>,
) -> Result<(Instruments, JoinSet<()>), StartError> {
    if !config.start_degraded
        && let Err(StartProblem::Misconfigured(problem)) = store.check_start().await
    {
        return Err(StartError::Misconfigured { set_by, problem });
    }
    let instruments = Instruments::new();
    instruments.health.set_store_awaited();
    let mut background_tasks = JoinSet::new();
    let watch = Arc::clone(&instruments.store);
    background_tasks.spawn(examine_until_well(store.clone(), set_by, watch));
    if let Some(fingerprint) = catalog::api_key_fingerprint(config)? {
        let metrics = Arc::clone(&instruments.metrics);
        background_tasks.spawn(watch_api_key_secret(store.clone(), fingerprint, metrics));
    }
    Ok((instruments, background_tasks))
}

/// Examines the store until nothing is wrong, and logs settings that endanger exact limits. Logs
/// each outage once, and each problem once.
async fn examine_until_well(store: impl Examined, set_by: Option<String>, watch: Arc<StoreWatch>) {
    let mut said_problem = None;
    loop {
        let ended_before = watch.ended_outages();
        match store.examine().await {
            Ok(warnings) => {
                for warning in warnings {
                    tracing::warn!(%warning, set_by, "the store works, but because of its configuration limits may admit too much; correct it as the warning says");
                }
                return watch.reached();
            }
            Err(StartProblem::Misconfigured(problem)) => {
                if said_problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        %problem,
                        set_by,
                        "the store cannot be used as it is configured; the failure mode (onStoreError) decides checks until \
                         the configuration is corrected"
                    );
                    said_problem = Some(problem);
                }
            }
            Err(error) => {
                watch.unavailable_at_start(&error, set_by.as_deref(), ended_before);
            }
        }
        tokio::time::sleep(INTRODUCE_EVERY).await;
    }
}

/// Notices nodes on the same store that hash API keys with another secret, so that each counts them under other keys; never
/// returns. What the store does not answer is asked again.
async fn watch_api_key_secret(store: impl Examined, fingerprint: String, metrics: Arc<Metrics>) {
    let mut differs = false;
    loop {
        if let Ok(agrees) = store.agrees("api-key-secret", &fingerprint, SECRET_LIFE).await {
            metrics.catalog.other_secret.set(i64::from(!agrees));
            if agrees == differs {
                differs = !agrees;
                if differs {
                    tracing::error!(
                        "another server on the same store has another secret for API keys, so each counts unknown API keys apart \
                         and admits a limit per API key of its own; set TOLLGATE_API_KEY_SECRET to the same value on every \
                         server, or use one catalog for all"
                    );
                } else {
                    tracing::info!(
                        "the servers on this store have the same secret for API keys again"
                    );
                }
            }
        }
        tokio::time::sleep(SECRET_EVERY).await;
    }
}

/// How often servers compare their secrets for API keys.
const SECRET_EVERY: Duration = Duration::from_secs(5);
/// For how long the secret of a server that has ended is remembered.
const SECRET_LIFE: Duration = Duration::from_secs(30);

/// Counts, logs and shows evictions by Redis: one line when they begin and one when they have ended.
pub(crate) fn watch_evictions(
    store: RedisStore,
    instruments: &Instruments,
) -> impl Future<Output = ()> + use<> {
    let (metrics, health) = (Arc::clone(&instruments.metrics), Arc::clone(&instruments.health));
    store.watch_evictions(move |eviction| match eviction {
        Eviction::Evicted { at, keys, is_new } => {
            metrics.store.evicted_keys.inc_by(keys);
            metrics.store.evicts.set(1);
            health.set_store_evicts(true);
            if is_new {
                tracing::error!(
                    redis = at,
                    keys,
                    "Redis evicts keys because its memory is full: limits in force lose usage and admit too much; set \
                     maxmemory-policy noeviction, and give it more memory or keep other data elsewhere"
                );
            }
        }
        Eviction::Ended { quiet } => {
            metrics.store.evicts.set(0);
            health.set_store_evicts(false);
            let quiet_s = quiet.as_secs();
            tracing::info!(quiet_s, "Redis has stopped evicting keys; the lost usage is not restored");
        }
        other => tracing::warn!(eviction = ?other, "unknown event about evictions in Redis"),
    })
}

/// Counts, logs and shows evictions by memcached, and logs that clocks differ: one line at the beginning and one at the end.
pub(crate) fn watch_memcached(
    store: MemcachedStore,
    instruments: &Instruments,
) -> impl Future<Output = ()> + use<> {
    let (metrics, health) = (Arc::clone(&instruments.metrics), Arc::clone(&instruments.health));
    store.watch(move |event| match event {
        Event::Evicted { at, values, is_new } => {
            metrics.store.evicted_keys.inc_by(values);
            metrics.store.evicts.set(1);
            health.set_store_evicts(true);
            if is_new {
                tracing::error!(
                    memcached = at,
                    values,
                    "memcached evicts or deletes values because its memory is full: limits in force lose usage and admit too \
                     much; start it with -M, and give it more memory or keep other data elsewhere"
                );
            }
        }
        Event::EvictionEnded { quiet } => {
            metrics.store.evicts.set(0);
            health.set_store_evicts(false);
            let quiet_s = quiet.as_secs();
            tracing::info!(
                quiet_s,
                "memcached has stopped evicting values; the lost usage is not restored"
            );
        }
        Event::StartedAnew { at, warnings, problem } => {
            tracing::warn!(
                memcached = at,
                "memcached was started anew and has forgotten all usage: every limit begins at 0"
            );
            for warning in warnings {
                tracing::warn!(%warning, "the store works, but because of its configuration limits may admit too much; correct it as the warning says");
            }
            if let Some(problem) = problem {
                tracing::error!(
                    %problem,
                    "the store cannot be used as it is configured; the failure mode (onStoreError) decides checks until the \
                     configuration is corrected"
                );
            }
        }
        Event::ClockDiffers { at, by, is_ahead } => {
            let (by_s, direction) = (by.as_secs(), if is_ahead { "ahead of" } else { "behind" });
            tracing::error!(
                memcached = at,
                by_s,
                "the clock of this server is {direction} that of memcached: windows are measured by the servers' clocks, so limits \
                 may admit too much or deny too long; synchronise the clocks of all servers with NTP"
            );
        }
        Event::ClockAgrees => {
            tracing::info!("the clock of this server agrees with that of memcached again");
        }
        Event::DeniedLocally { checks } => _ = metrics.store.denied_locally.inc_by(checks),
        other => tracing::warn!(event = ?other, "unknown event about memcached"),
    })
}
