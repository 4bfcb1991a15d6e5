//! How a shared limiter begins: the store is examined, surrounded by what its failures need, and tended.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::MonotonicClock;
use tollgate_service::RateLimitService;
use tollgate_store::resilience::{Invalidations, ResilienceOptions, Resilient, StoreObserver};
use tollgate_store::{Misconfiguration, StartProblem, Store, StoreError};

use super::{Policies, SharedLimiter};

/// How often the breaker is tended.
const TEND_EVERY: Duration = Duration::from_millis(100);

/// Why a shared limiter cannot begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL of the store is wrong; shows no part of a password.
    Url {
        /// What is wrong.
        problem: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// The store cannot be used at all.
    Store(StoreError),
    /// The store is not what the URL says, or does not let this process work. Waiting does not help.
    Misconfigured(Misconfiguration),
    /// The policies cannot be read.
    #[cfg(feature = "catalog")]
    Catalog(tollgate_catalog::CatalogError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { problem, accepted } => {
                write!(f, "the URL of the store {problem}; accepted: {accepted}")
            }
            Self::Store(error) => error.fmt(f),
            Self::Misconfigured(problem) => problem.fmt(f),
            #[cfg(feature = "catalog")]
            Self::Catalog(error) => error.fmt(f),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            #[cfg(feature = "catalog")]
            Self::Catalog(error) => error.source(),
            Self::Url { .. } | Self::Misconfigured(_) => None,
        }
    }
}

#[cfg(feature = "catalog")]
impl From<tollgate_catalog::CatalogError> for ConnectError {
    fn from(error: tollgate_catalog::CatalogError) -> Self {
        Self::Catalog(error)
    }
}

/// A store that is away may come back, and failure modes decide until then; one that is wrong stays wrong.
fn refuse_misconfigured(examined: Result<(), StartProblem>) -> Result<(), ConnectError> {
    match examined {
        Err(StartProblem::Misconfigured(problem)) => Err(ConnectError::Misconfigured(problem)),
        Ok(()) | Err(StartProblem::Unavailable(_)) => Ok(()),
    }
}

#[cfg(feature = "redis")]
impl SharedLimiter<tollgate_redis::RedisStore> {
    /// A limiter over Redis or Valkey at `url` (`redis://`, `redis-sentinel://`, `redis-cluster://` and their kinds), examined for up to
    /// two seconds. If it does not answer, the failure modes decide until it does.
    ///
    /// # Errors
    ///
    /// If the URL or the policies are wrong, or what answers is not what the URL says.
    pub async fn redis(
        url: &str,
        policies: impl Into<Policies>,
        options: &ResilienceOptions,
    ) -> Result<Self, ConnectError> {
        use tollgate_redis::{Announcement, RedisOptions, RedisStore, RedisUrl};
        use tollgate_store::resilience::store_timeout;

        let url: RedisUrl =
            url.parse().map_err(|problem: tollgate_redis::UrlProblem| ConnectError::Url {
                problem: problem.problem().to_owned(),
                accepted: RedisUrl::ACCEPTED,
            })?;
        let mut options = options.clone();
        let mut own = RedisOptions::default();
        // The store enforces its own deadline, which also closes dead connections, so no decorator does.
        own.deadline = options.timeout.take().map_or(own.deadline, store_timeout);
        let store = RedisStore::new(&url, &own).map_err(ConnectError::Store)?;
        refuse_misconfigured(store.check_start().await)?;
        let listen = |store: &RedisStore, invalidations: Invalidations| {
            store.clone().listen(move |announcement| match announcement {
                Announcement::Connected(domain) => invalidations.connected(domain),
                Announcement::Disconnected(domain) => invalidations.disconnected(domain),
                Announcement::GivenBack(key) => invalidations.forget(key),
                _ => invalidations.forget_all(),
            })
        };
        Self::around(store, policies.into(), &options, listen).await
    }
}

#[cfg(feature = "memcached")]
impl SharedLimiter<tollgate_memcached::MemcachedStore> {
    /// A limiter over memcached at `url` (`memcached://HOST[:PORT]`), which keeps no leases. If it does not answer, the failure modes
    /// decide until it does.
    ///
    /// # Errors
    ///
    /// If the URL or the policies are wrong, or memcached is configured such that limits cannot be kept.
    pub async fn memcached(
        url: &str,
        policies: impl Into<Policies>,
        options: &ResilienceOptions,
    ) -> Result<Self, ConnectError> {
        use tollgate_memcached::{MemcachedOptions, MemcachedStore, MemcachedUrl};
        use tollgate_store::resilience::store_timeout;

        let url: MemcachedUrl =
            url.parse().map_err(|problem: tollgate_memcached::UrlProblem| ConnectError::Url {
                problem: problem.problem().to_owned(),
                accepted: MemcachedUrl::ACCEPTED,
            })?;
        let mut options = options.clone();
        let mut own = MemcachedOptions::default();
        own.deadline = options.timeout.take().map_or(own.deadline, store_timeout);
        let store = MemcachedStore::new(&url, &own);
        refuse_misconfigured(store.check_start().await)?;
        let listen = |store: &MemcachedStore, _: Invalidations| store.clone().listen();
        Self::around(store, policies.into(), &options, listen).await
    }
}

impl<S: Store> SharedLimiter<S> {
    async fn around<L: Future<Output = ()> + Send + 'static>(
        store: S,
        policies: Policies,
        options: &ResilienceOptions,
        listen: impl FnOnce(&S, Invalidations) -> L,
    ) -> Result<Self, ConnectError> {
        let (reader, lookup, source) = policies.open().await?;
        let clock = Arc::new(MonotonicClock::new());
        let observer: Arc<dyn StoreObserver> = Arc::new(());
        let store = Arc::new(Resilient::around(store, clock, options, observer));
        let mut background = JoinSet::new();
        background.spawn(listen(store.store(), store.invalidations()));
        let tended = Arc::clone(&store);
        background.spawn(async move {
            loop {
                tokio::time::sleep(TEND_EVERY).await;
                tended.tend().await;
            }
        });
        let mut service = RateLimitService::new(store, reader);
        if let Some(lookup) = lookup {
            service = service.with_directory(lookup);
        }
        Ok(Self { service, _source: source, _background: background })
    }
}
