//! Assembles the server, runs it and ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tollgate_catalog::{FileCatalog, Snapshot};
use tollgate_core::{Clock, MonotonicClock, SystemWallClock, Unit, WallClock};
use tollgate_memcached::{MemcachedOptions, MemcachedStore, MemcachedUrl};
use tollgate_otlp::{Otlp, TracedStore};
use tollgate_redis::{Announcement, RedisOptions, RedisStore};
use tollgate_service::{
    self as service, DirectoryLookup, RateLimitService, SettlementJournal, Tracer, TrafficObserver,
};
use tollgate_store::memory::MemoryStoreOptions;
use tollgate_store::resilience::{Invalidations, Resilient, store_timeout};
use tollgate_store::{MemoryStore, Store};

use crate::app::{Admin, App, Backend, WhatIfs};
use crate::catalog;
use crate::config::{Secret, ServeConfig, StoreConfig};
use crate::exporting::{self, Exporting, database};
use crate::gateway::{self, MountedGateway, Serving};
use crate::grpc::MountedGrpc;
use crate::guard::Guard;
use crate::http;
use crate::metrics::Metrics;
use crate::net::{Drained, HeadBounds, Listener, NetMetrics, RequestMemory};
use crate::networked_store::{Instruments, examined, watch_evictions, watch_memcached};
use crate::recorder::Recorder;
use crate::snapshots::{self, Snapshots};
use crate::start_error::StartError;
use crate::telemetry::Chain;
use crate::traced::{Protocol, Traced};

/// How often the store removes what no longer counts.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How often leases that have expired are published to those who watch.
const PUBLISH_EXPIRED_EVERY: Duration = Duration::from_secs(1);

/// How often the store is maintained.
const TEND_EVERY: Duration = Duration::from_millis(100);

/// The longest time for refunds after everything is answered.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time for the catalog to write pending data.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often settlements are sent again that the store did not answer.
const REPLAY_EVERY: Duration = Duration::from_secs(1);

/// A running server. It ends when it is told to, or with the runtime.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    gateway_address: Option<SocketAddr>,
    grpc_address: Option<SocketAddr>,
    /// The admin token, if one was generated for this run.
    made_token: Option<Secret>,
    stop: oneshot::Sender<()>,
    /// Gives up the requests in flight.
    end: oneshot::Sender<()>,
    serving: JoinHandle<End>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether every request in flight was answered.
    pub all_answered: bool,
    /// Whether the usage in memory is in a snapshot, if the server writes any.
    pub usage_saved: bool,
}

impl Server {
    /// Starts a server over the store of `config`. A networked store may still be unavailable; but if it answers, it
    /// must be what the configuration says, unless a degraded start is allowed.
    pub async fn start(config: &ServeConfig) -> Result<Self, StartError> {
        let url = match &config.store {
            StoreConfig::Memory => return Self::start_in_memory(config).await,
            StoreConfig::Memcached(url) => return Self::start_on_memcached(config, url).await,
            StoreConfig::Redis(url) => url.clone(),
        };
        let mut config = config.clone();
        let mut options = RedisOptions::default();
        // The store enforces its own deadline, which also closes dead connections, so no decorator does.
        options.deadline = config.resilience.timeout.take().map_or(options.deadline, store_timeout);
        let store = RedisStore::new(&url, &options).map_err(StartError::Store)?;
        let set_by = config.store_set_by.clone();
        let (instruments, mut background_tasks) = examined(&config, &store, set_by).await?;
        background_tasks.spawn(watch_evictions(store.clone(), &instruments));
        let name = database(&config, "redis", ["EVALSHA", "EVALSHA"], url.server());
        let store = TracedStore::new(store, name);
        let listen = |store: &TracedStore<RedisStore>, invalidations: Invalidations| {
            store.inner().clone().listen(move |announcement| match announcement {
                Announcement::Connected(domain) => invalidations.connected(domain),
                Announcement::Disconnected(domain) => invalidations.disconnected(domain),
                Announcement::GivenBack(key) => invalidations.forget(key),
                // A URL that could not be parsed may have contained anything.
                _ => invalidations.forget_all(),
            })
        };
        Self::surround(&config, instruments, store, background_tasks, listen).await
    }

    async fn start_in_memory(config: &ServeConfig) -> Result<Self, StartError> {
        let Some(snapshots) = &config.snapshots else {
            return Self::start_with_clock(config, MonotonicClock::new()).await;
        };
        let options = MemoryStoreOptions::default().max_keys(config.max_keys);
        let (snapshots, store) = Snapshots::open(snapshots, options).await?;
        Self::run(config, Instruments::new(), store, Some(snapshots), JoinSet::new()).await
    }

    async fn start_on_memcached(
        config: &ServeConfig,
        url: &MemcachedUrl,
    ) -> Result<Self, StartError> {
        let mut config = config.clone();
        let mut options = MemcachedOptions::default();
        // As with Redis.
        options.deadline = config.resilience.timeout.take().map_or(options.deadline, store_timeout);
        let store = MemcachedStore::new(url, &options);
        let set_by = config.store_set_by.clone();
        let (instruments, mut background_tasks) = examined(&config, &store, set_by).await?;
        background_tasks.spawn(watch_memcached(store.clone(), &instruments));
        // The store itself remembers what it denies, and hears what other nodes give back.
        let listen = |store: &TracedStore<MemcachedStore>, _| store.inner().clone().listen();
        let name = database(&config, "memcached", ["ms", "mg"], Some(url.server()));
        let store = TracedStore::new(store, name);
        Self::surround(&config, instruments, store, background_tasks, listen).await
    }

    /// Starts a server whose store uses `clock`, so that tests can move through windows.
    pub async fn start_with_clock<C: Clock + 'static>(
        config: &ServeConfig,
        clock: C,
    ) -> Result<Self, StartError> {
        let options = MemoryStoreOptions::default().max_keys(config.max_keys);
        let store = MemoryStore::with_clock(clock, &options);
        Self::run(config, Instruments::new(), store, None, JoinSet::new()).await
    }

    /// Starts a server over `store`, which may fail: it gets a breaker, a cache of denials, the failure modes of
    /// `config` and, if configured, a deadline around it (R11). The future that `listen` returns runs in the background
    /// and passes on the announcements that known denials may be wrong. If the store announces nothing, the future does
    /// nothing, and then no denial is answered without the store.
    pub async fn start_with_store<S: Store, L: Future<Output = ()> + Send + 'static>(
        config: &ServeConfig,
        store: S,
        listen: impl FnOnce(&S, Invalidations) -> L,
    ) -> Result<Self, StartError> {
        Self::surround(config, Instruments::new(), store, JoinSet::new(), listen).await
    }

    async fn surround<S: Store, L: Future<Output = ()> + Send + 'static>(
        config: &ServeConfig,
        instruments: Instruments,
        store: S,
        mut background_tasks: JoinSet<()>,
        listen: impl FnOnce(&S, Invalidations) -> L,
    ) -> Result<Self, StartError> {
        let observer = Arc::clone(&instruments.store);
        let clock = Arc::new(MonotonicClock::new());
        background_tasks.spawn(Arc::clone(&observer).watch());
        let store = Resilient::around(store, clock, &config.resilience, observer);
        background_tasks.spawn(listen(store.store(), store.invalidations()));
        Self::run(config, instruments, store, None, background_tasks).await
    }

    async fn run<S: Backend>(
        config: &ServeConfig,
        instruments: Instruments,
        store: S,
        snapshots: Option<Snapshots>,
        mut background_tasks: JoinSet<()>,
    ) -> Result<Self, StartError> {
        let gateway_config = gateway::configured(config)?;
        let address = config.http;
        let listen = |source| StartError::Listen { set_by: "--http", address, source };
        let listener = Listener::bind(address).await.map_err(listen)?;
        let made_token =
            if config.lets_somebody_write() { None } else { Some(catalog::made_token()?) };
        let guard = catalog::guard(config, made_token.as_ref())?;
        let parts = (store, snapshots, exporting::configured(config)?);
        let (app, catalog) = assemble(config, instruments, parts, guard).await?;
        let address = listener.address();
        let gateway = match gateway_config {
            Some(gateway) => Some(MountedGateway::new(gateway, &app).await?),
            None => None,
        };
        let gateway_address = gateway.as_ref().map(MountedGateway::address);
        let grpc = MountedGrpc::new(config, &app).await?;
        let grpc_address = grpc.as_ref().map(MountedGrpc::address);
        background_tasks.spawn(keep_leases(gateway.as_ref().map(MountedGateway::keep_leases)));
        let metrics = NetMetrics {
            in_flight: app.metrics.in_flight.clone(),
            connections: app.metrics.connections.clone(),
            accept_errors: app.metrics.accept_errors.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let hosts = http::Hosts::new(address, config.allowed_hosts.clone());
        let proxies = config.trusted_proxies.clone();
        let answers = http::Http::new(Arc::clone(&app), hosts, proxies);
        let answers = Arc::new(Traced::new(answers, app.otlp.clone(), Protocol::Http));
        let exporting = Exporting::begin(&app);
        let heads = HeadBounds {
            memory: app.memory.clone(),
            max_head_bytes: config.limits.max_header_bytes,
            no_memory: http::no_memory_for_head(),
        };
        let draining = Arc::clone(&app);
        let (stopping, gateway_stops) = watch::channel(false);
        let grpc_stops = gateway_stops.clone();
        let stopped = async move {
            // A server that was dropped keeps running: nobody can tell it to stop any more.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
            draining.health.set_draining();
            stopping.send_replace(true);
        };
        let closing = Arc::clone(&app);
        background_tasks.spawn(sweep_now_and_then(Arc::clone(&app)));
        background_tasks.spawn(publish_expired_now_and_then(Arc::clone(&app)));
        background_tasks.spawn(replay_now_and_then(Arc::clone(&app)));
        background_tasks.spawn(snapshots::write_now_and_then(Arc::clone(&app)));
        background_tasks.spawn(tend_now_and_then(app));
        let (bounds, drain_timeout) = ((config.limits.clone(), heads), config.drain_timeout);
        let (gateway_serving, grpc_serving) = {
            let serving = || Serving {
                limits: config.limits.clone(),
                heads: bounds.1.clone(),
                metrics: metrics.clone(),
                drain_timeout,
            };
            (serving(), serving())
        };
        let serving = async move {
            let gateway = serve_gateway(gateway, gateway_serving, gateway_stops);
            let grpc = serve_grpc(grpc, grpc_serving, grpc_stops);
            let main = listener.serve(answers, bounds, metrics, stopped, drain_timeout);
            let all = async { tokio::join!(main, gateway, grpc) };
            let drained = tokio::select! {
                (main, gateway, grpc) = all => main.and(gateway).and(grpc),
                Ok(()) = ended => Drained::Ended,
            };
            finish(&closing).await;
            exporting.end().await;
            // Background work ends after the last answer, not before.
            drop((catalog, background_tasks));
            let usage_saved = match &closing.snapshots {
                Some(snapshots) => snapshots.write_last(&closing).await,
                None => true,
            };
            // A database that does not answer must not delay the end of the server.
            _ = tokio::time::timeout(CLOSE_TIMEOUT, closing.admin.directory.close()).await;
            End { all_answered: drained == Drained::Whole, usage_saved }
        };
        Ok(Self {
            address,
            gateway_address,
            grpc_address,
            made_token,
            stop,
            end,
            serving: tokio::spawn(serving),
        })
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which the gateway listens, if there is one.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway_address
    }

    /// The address at which it listens for gRPC, if it does.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The admin token that was generated because none was set: show it only to whoever started the server.
    pub fn made_admin_token(&self) -> Option<&Secret> {
        self.made_token.as_ref()
    }

    /// Stops accepting, answers what is in flight and ends, within the configured time. Returns whether everything in
    /// flight was answered.
    pub async fn drain(self) -> bool {
        self.drain_until(std::future::pending()).await.all_answered
    }

    /// As [`drain`](Self::drain), but when `ended` completes, requests in flight get no answer any more. What this server holds is
    /// saved all the same: usage, settlements, the recording.
    pub async fn drain_until(mut self, ended: impl Future<Output = ()>) -> End {
        // An error means that serving has already ended.
        _ = self.stop.send(());
        let drained = tokio::select! {
            drained = &mut self.serving => drained,
            () = ended => {
                _ = self.end.send(());
                self.serving.await
            }
        };
        // An error means that it panicked.
        drained.unwrap_or(End { all_answered: false, usage_saved: false })
    }
}

/// Serves the gateway, if there is one, until `stops` is true.
async fn serve_gateway<S: Backend>(
    gateway: Option<MountedGateway<S>>,
    serving: Serving,
    mut stops: watch::Receiver<bool>,
) -> Drained {
    let Some(gateway) = gateway else { return Drained::Whole };
    let stop = async move {
        // An error means that the server does not serve any more.
        _ = stops.wait_for(|stops| *stops).await;
    };
    gateway.serve(serving, stop).await
}

/// Serves gRPC, if it is configured, until `stops` is true.
async fn serve_grpc<S: Backend>(
    grpc: Option<MountedGrpc<S>>,
    serving: Serving,
    mut stops: watch::Receiver<bool>,
) -> Drained {
    let Some(grpc) = grpc else { return Drained::Whole };
    let stop = async move {
        // An error means that the server does not serve any more.
        _ = stops.wait_for(|stops| *stops).await;
    };
    grpc.serve(serving, stop).await
}

/// Keeps the leases of the gateway alive, if there is one.
async fn keep_leases(keeping: Option<impl Future<Output = ()>>) {
    if let Some(keeping) = keeping {
        keeping.await;
    }
}

/// Assembles the parts of `config`, and the watcher of the policy file.
async fn assemble<S: Backend>(
    config: &ServeConfig,
    instruments: Instruments,
    (store, snapshots, otlp): (S, Option<Snapshots>, Option<Arc<Otlp>>),
    guard: Guard,
) -> Result<(Arc<App<S>>, Option<FileCatalog>), StartError> {
    let Instruments { metrics, health, .. } = instruments;
    let catalog = catalog::open(config, &metrics, &health).await?;
    if !store.capabilities().leases {
        refuse_leases(config, &catalog.policies.snapshot())?;
    }
    metrics.policies_in_force(&catalog.policies.snapshot());
    let decision_feed =
        Arc::new(service::DecisionFeed::new(MonotonicClock::new(), SystemWallClock));
    let mut service =
        RateLimitService::new(store, catalog.policies).with_decision_feed(decision_feed);
    let journal = Arc::new(open_journal(config, &metrics)?);
    service = service.with_journal(journal);
    if config.gateway.is_some() {
        service = service.learning(Unit::OutputTokens);
    }
    let recorder = match &config.record {
        None => None,
        Some(record) => {
            let clocks: (Arc<dyn WallClock>, Arc<dyn Clock>) =
                (Arc::new(SystemWallClock), Arc::new(MonotonicClock::new()));
            let started = Recorder::start(record, clocks, metrics.record.clone());
            let failed = |source| StartError::Record { path: record.file.clone(), source };
            Some(Arc::new(started.map_err(failed)?))
        }
    };
    if let Some(recorder) = &recorder {
        let observer: Arc<dyn TrafficObserver> = Arc::<Recorder>::clone(recorder);
        service = service.with_traffic_observer(observer);
    }
    if let Some(otlp) = &otlp {
        let tracer: Arc<dyn Tracer> = Arc::<Otlp>::clone(otlp);
        service = service.with_tracer(tracer);
    }
    if let Some(resolver) = catalog.lookup {
        let lookup = DirectoryLookup::new(resolver, config.unknown_api_keys);
        service = service.with_directory(lookup);
    }
    let memory = RequestMemory::new(
        config.limits.max_body_memory_bytes,
        metrics.request_memory.clone(),
        metrics.requests_without_memory.clone(),
    );
    let service = Arc::new(service);
    let app = App {
        admin: Admin { guard, directory: catalog.directory },
        service,
        recorder,
        what_if: WhatIfs {
            running: Arc::new(Semaphore::new(config.what_if.at_once)),
            bounds: config.what_if,
        },
        journals_to_disk: config.journal.is_some(),
        snapshots,
        otlp,
        metrics,
        health,
        limits: config.limits.clone(),
        auth_headers: config.auth_headers.clone(),
        memory,
        clock: MonotonicClock::new(),
    };
    Ok((Arc::new(app), catalog.file))
}

/// Fails if a policy is about leases, which the store does not keep.
fn refuse_leases(config: &ServeConfig, snapshot: &Snapshot) -> Result<(), StartError> {
    let policies = catalog::about_leases(snapshot);
    if policies.is_empty() {
        return Ok(());
    }
    Err(StartError::NeedsLeases { set_by: config.store_set_by.clone(), policies })
}

/// The journal of `config`, with the settlements of an earlier run.
fn open_journal(config: &ServeConfig, metrics: &Metrics) -> Result<SettlementJournal, StartError> {
    let max_bytes = SettlementJournal::DEFAULT_MAX_BYTES;
    let Some(dir) = &config.journal else { return Ok(SettlementJournal::in_memory(max_bytes)) };
    let failed = |source| StartError::Journal { path: dir.clone(), source };
    let journal = SettlementJournal::in_dir(dir, max_bytes).map_err(failed)?;
    let stats = journal.stats();
    if stats.waiting > 0 {
        tracing::info!(
            settlements = stats.waiting,
            "the journal has settlements of an earlier run; they are sent to the store"
        );
    }
    if stats.damaged > 0 {
        metrics.leases.dropped.inc_by(stats.damaged);
        tracing::error!(
            lines = stats.damaged,
            dir = %dir.display(),
            "lines of the journal are damaged; what their leases reserved stays charged until it leaves its window"
        );
    }
    Ok(journal)
}

/// Sends settlements again that the store did not answer; never returns.
async fn replay_now_and_then<S: Backend>(app: Arc<App<S>>) {
    loop {
        tokio::time::sleep(REPLAY_EVERY).await;
        replay(&app).await;
    }
}

async fn replay<S: Backend>(app: &App<S>) {
    let leases = &app.metrics.leases;
    let (mut replayed, mut dropped, mut too_late) = (0_u64, 0_u64, 0_u64);
    let replay = app.service.replay_settlements(|settlement, answer| match answer {
        Ok(state) => {
            leases.updated(&settlement.to_update(), state);
            if state.is_some() {
                replayed += 1;
            } else {
                too_late += 1;
            }
        }
        Err(error) => {
            tracing::debug!(error = %Chain(error), "a settlement was dropped");
            dropped += 1;
        }
    });
    replay.await;
    leases.replayed.inc_by(replayed);
    leases.dropped.inc_by(dropped + too_late);
    if replayed > 0 {
        tracing::info!(settlements = replayed, "the store has answered settlements of the journal");
    }
    if too_late > 0 {
        tracing::error!(
            settlements = too_late,
            "settlements were dropped because the store does not know their leases any more: they came too late, or the store \
             has lost its data; what they used beyond their reservations is not charged"
        );
    }
    if dropped > 0 {
        tracing::error!(
            settlements = dropped,
            "settlements were dropped because keys of their limits hold unexpected values; what their leases reserved stays \
             charged until it leaves its window"
        );
    }
}

/// Maintains the store; never returns.
async fn tend_now_and_then<S: Backend>(app: Arc<App<S>>) {
    loop {
        tokio::time::sleep(TEND_EVERY).await;
        app.service.store().tend_store().await;
    }
}

/// Waits for a bounded time until the recording is written and the store has finished work whose callers have gone.
async fn finish<S: Backend>(app: &App<S>) {
    if let Some(recorder) = app.recorder.clone() {
        // An error means that it panicked, which was reported.
        _ = tokio::task::spawn_blocking(move || recorder.flush(FINISH_TIMEOUT)).await;
    }
    _ = tokio::time::timeout(FINISH_TIMEOUT, replay(app)).await;
    let waiting = app.service.journal().map_or(0, |journal| journal.stats().waiting);
    if waiting > 0 && app.journals_to_disk {
        tracing::warn!(
            settlements = waiting,
            "settlements wait in the journal for the next start of this server"
        );
    } else if waiting > 0 {
        tracing::error!(
            settlements = waiting,
            "the store did not answer settlements before the server ended, and without --journal they are lost; what their \
             leases reserved stays charged until it leaves its window"
        );
    }
    let finished = tokio::time::timeout(FINISH_TIMEOUT, app.service.store().finish()).await;
    if finished.is_err() {
        tracing::warn!(
            "the store did not answer all refunds of checks that were not admitted; their charges stay until \
             they leave their windows, and limits may admit less until then"
        );
    }
}

/// Removes what no longer counts from the store; never returns.
async fn sweep_now_and_then<S: Backend>(app: Arc<App<S>>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let app = Arc::clone(&app);
        // It locks and walks the whole table, so it must not run on a thread that serves.
        let swept = tokio::task::spawn_blocking(move || app.service.store().sweep()).await;
        if let Err(error) = swept {
            tracing::error!(%error, "removing expired keys from the store failed; limits are not affected, but memory is not freed until the next attempt");
        }
    }
}

/// Publishes the leases that have expired; never returns.
async fn publish_expired_now_and_then<S: Backend>(app: Arc<App<S>>) {
    let mut ticks = tokio::time::interval(PUBLISH_EXPIRED_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let service = Arc::clone(&app.service);
        // It reads every lease in memory, so it must not run on a thread that serves.
        let published = tokio::task::spawn_blocking(move || service.publish_expired_leases()).await;
        if let Err(error) = published {
            tracing::error!(%error, "publishing expired leases failed; limits are not affected");
        }
    }
}
