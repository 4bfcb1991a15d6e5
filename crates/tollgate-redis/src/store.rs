//! The store: its connections, its keys, and the contract of [`Store`].

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Charge, Clock, Limit, MonotonicClock, Subject};
use tollgate_store::{Charged, Store, StoreError, key_bytes};

use crate::call::Progress;
use crate::examiner::Examiner;
use crate::key::{Keys, slot};
use crate::login::Login;
use crate::script::RESET;
use crate::topology::Topology;
use crate::url::{Deployment, RedisUrl};

/// How a [`RedisStore`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// What a call may take in all: connecting, sending, being sent elsewhere, and the answer (R11).
    pub deadline: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(100) }
    }
}

/// Usage in Redis or Valkey. It connects when it is first asked; clones share their connections.
///
/// Needs a tokio runtime. The failure of a call is at most the [deadline](RedisOptions::deadline) away.
#[derive(Clone)]
pub struct RedisStore {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) deadline: Duration,
    /// Only a hint: where the windows of counters start is the same by every clock.
    pub(crate) hint: Arc<MonotonicClock>,
    pub(crate) test_clock: Option<Arc<dyn Clock>>,
    /// What looks at a server at the start.
    pub(crate) examiner: Arc<Examiner>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at `url`. Nothing is connected yet: an error is one of the files that the URL names.
    pub fn new(url: &RedisUrl, options: &RedisOptions) -> Result<Self, StoreError> {
        let (login, sentinel_login) = Login::of(url)?;
        let examiner = Examiner::new(url, login.clone(), sentinel_login.clone(), options.deadline);
        let topology = Topology::new(url.deployment.clone(), &url.hosts, login, &sentinel_login)?;
        Ok(Self {
            topology: Arc::new(topology),
            keys: Keys {
                prefix: url.prefix.clone(),
                tagged: url.deployment == Deployment::Cluster,
            },
            deadline: options.deadline,
            hint: Arc::new(MonotonicClock::new()),
            test_clock: None,
            examiner: Arc::new(examiner),
        })
    }

    /// The same store over the same connections, with keys of its own.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let keys = Keys { prefix: prefix.to_owned(), ..self.keys.clone() };
        Self { keys, ..self.clone() }
    }

    /// The same store, whose scripts take the time from `clock`: for tests in virtual time only.
    #[doc(hidden)]
    #[must_use]
    pub fn with_test_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { test_clock: Some(clock), ..self.clone() }
    }

    /// The key in Redis of the usage of `subject` under `limit`.
    pub fn key(&self, limit: &Limit, subject: &Subject<'_>) -> String {
        self.keys.of(limit, subject)
    }
}

impl Store for RedisStore {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        let progress = Progress::default();
        let call = self.charge_groups(charges, request_id, &progress);
        self.in_time(&progress, true, call).await.map(Charged::from)
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        let progress = Progress::default();
        let call = self.peek_groups(charges, &progress);
        self.in_time(&progress, false, call).await.map(Charged::from)
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        let key = self.keys.of(limit, subject);
        let (slot, progress) = (slot(&key), Progress::default());
        let (keys, told) =
            ([key.as_str()], [self.channel().into_bytes(), key_bytes(limit, subject)]);
        let call = self.run::<i64>(&RESET, slot, &keys, &told, &progress);
        self.in_time(&progress, false, call).await.map(|_| ())
    }
}
