//! Limits that this process shares with others: usage in Redis, Valkey or memcached, and with the feature `catalog` the policies of a
//! file or a database that servers use too.
//!
//! A [`SharedLimiter`] decides like a server over the same store with the same policies: with the same keys, so that both count
//! together, and with the same failure modes. It needs a runtime of tokio.

mod connect;
mod policies;

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;
use tollgate_core::{Check, Decision, MonotonicClock, PolicyId, Ttl};
use tollgate_service::RateLimitService;
use tollgate_store::resilience::Resilient;
use tollgate_store::{Store, StoreError};

use crate::leases::{Reservation, StoreLease};

pub use connect::ConnectError;
pub use policies::Policies;
use policies::Source;
#[cfg(feature = "memcached")]
pub use tollgate_memcached::{MemcachedStore, MemcachedUrl};
#[cfg(feature = "redis")]
pub use tollgate_redis::{RedisStore, RedisUrl};
pub use tollgate_store::resilience::{BreakerState, ResilienceOptions};

/// A store that answers by the failure mode of each limit if it fails (R11).
pub type Surrounded<S> = Resilient<S, Arc<MonotonicClock>>;

/// Decides checks in a store that other processes use too. Needs the feature `redis` or `memcached`.
///
/// ```no_run
/// use tollgate::shared::{Policies, ResilienceOptions, SharedLimiter};
/// use tollgate::{Amount, Check, Per, Policy, PolicyId, PolicySet, Window};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let minute = Window::new(std::time::Duration::from_secs(60)).ok_or("not a window")?;
/// let per = Per::from_scope("USER").ok_or("not a scope")?;
/// let policy = Policy::new(PolicyId::new("requests")?, per, Amount::new(100), minute);
/// let policies = Policies::Set(PolicySet::new(vec![policy])?);
///
/// let options = ResilienceOptions::default();
/// let limiter = SharedLimiter::redis("redis://127.0.0.1:6379", policies, &options).await?;
/// assert!(limiter.check(&Check::new("alice", "gpt-4")).await?.allowed());
/// # Ok(())
/// # }
/// ```
///
/// Policies with the same ids count together, in every process with the same store. When it is dropped, its
/// background tasks end; a call that goes on in the store is not interrupted.
pub struct SharedLimiter<S: Store> {
    service: RateLimitService<Arc<Surrounded<S>>>,
    /// What follows changes of the policies; dropped with the limiter.
    _source: Source,
    /// Aborted when the limiter is dropped.
    _background: JoinSet<()>,
}

impl<S: Store> SharedLimiter<S> {
    /// Decides `check`, and charges it if it is admitted, once if it has a request id (R12). A check that meets no limit is allowed.
    ///
    /// # Errors
    ///
    /// None while a failure mode decides for a store that fails; the decision is [degraded](Decision::degraded) then.
    pub async fn check(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        self.service.check(check).await
    }

    /// The decision that [`SharedLimiter::check`] would make now; changes nothing.
    ///
    /// # Errors
    ///
    /// As [`SharedLimiter::check`].
    pub async fn peek(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        self.service.peek(check).await
    }

    /// Decides `check`. If it is admitted, the lease holds what was charged, and a slot of each limit of concurrency, until it is
    /// settled, released or dropped, or for `ttl` (R13).
    ///
    /// # Errors
    ///
    /// As [`leases::reserve`](crate::leases::reserve). A store without leases, such as memcached, returns an error of the kind
    /// [`Unsupported`](tollgate_store::StoreErrorKind::Unsupported).
    pub async fn reserve(
        &self,
        check: &Check<'_>,
        ttl: Ttl,
    ) -> Result<Reservation<StoreLease<Surrounded<S>>>, StoreError> {
        let reserved = self.service.reserve(check, ttl).await?;
        let store = self.service.store();
        let lease = reserved.lease.map(|lease| StoreLease::new(Arc::clone(store), lease));
        Ok(Reservation { decision: reserved.decision, lease })
    }

    /// Clears the usage of every limit that `check` meets, for all processes, and returns the policies of these limits.
    ///
    /// # Errors
    ///
    /// If the store does not answer. It may be repeated.
    pub async fn reset(&self, check: &Check<'_>) -> Result<Vec<PolicyId>, StoreError> {
        self.service.reset(check).await
    }

    /// [`SharedLimiter::reset`] for the limits that are kept per user. What all users share, such as the limit of a model, stays.
    ///
    /// A store cannot list the models of a user: a limit per user and model is cleared for the model of `check`.
    ///
    /// # Errors
    ///
    /// As [`SharedLimiter::reset`].
    pub async fn reset_user(&self, check: &Check<'_>) -> Result<Vec<PolicyId>, StoreError> {
        self.service.reset_user(check).await
    }

    /// The version of the policies in force: 1 for a set, and higher with each change of a file or a database.
    pub fn policies_version(&self) -> u64 {
        self.service.policies().current().version()
    }

    /// Whether the store decides: open while it fails.
    pub fn breaker_state(&self) -> BreakerState {
        self.service.store().breaker_state()
    }

    /// Waits until the store has finished what goes on without its callers, such as refunds of checks that were denied elsewhere.
    pub async fn finish(&self) {
        self.service.store().finish().await;
    }
}

impl<S: Store> fmt::Debug for SharedLimiter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimiter")
            .field("policies_version", &self.policies_version())
            .finish_non_exhaustive()
    }
}
