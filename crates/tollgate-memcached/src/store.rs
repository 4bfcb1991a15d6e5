//! The store: its connection, its keys, and the contract of [`Store`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::{Charge, Limit, Subject, SystemWallClock, Timestamp, WallClock};
use tollgate_store::background::{Background, Outliving};
use tollgate_store::{
    CallReport, Charged, FaultDomain, Store, StoreError, StoreErrorKind, Verdicts,
};

use crate::announcements::Announcer;
use crate::connection::{Connection, Failure};
use crate::driver::{Drivers, Operation, Progress};
use crate::key::{KeyId, Keys};
use crate::known::KnownKeys;
use crate::link::Link;
use crate::protocol::{Command, Condition, Reply};
use crate::state::KeyState;
use crate::url::MemcachedUrl;

/// How a [`MemcachedStore`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedOptions {
    /// The time for a whole call: waiting for other calls on the same keys, connecting, and every read and change (R11).
    pub deadline: Duration,
}

impl Default for MemcachedOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(100) }
    }
}

/// Usage in memcached. It connects on the first call; clones share the connection and what they know.
///
/// Needs a tokio runtime. A call fails at the latest at its [deadline](MemcachedOptions::deadline).
///
/// **Time** is this node's wall clock, because memcached has none that is fine enough. A key's own time is the latest that any
/// node has used for it, so it never steps back, and clocks that differ by less than a window admit at most twice
/// the limit in one (see `docs/MEMCACHED.md`).
///
/// **Several limits** are charged one after the other, and refunded if one denies: a limit is never exceeded, but another check may
/// be denied meanwhile.
///
/// **It keeps no leases**, and remembers the latest 1,000 request ids of each key.
#[derive(Clone, Debug)]
pub struct MemcachedStore {
    pub(crate) shared: Arc<Shared>,
}

/// What the clones of a store share.
pub(crate) struct Shared {
    pub(crate) link: Arc<Link>,
    pub(crate) keys: Keys,
    pub(crate) deadline: Duration,
    wall: Arc<dyn WallClock>,
    /// In the time of a test clock, memcached must not let anything expire.
    is_test_time: bool,
    pub(crate) drivers: Drivers,
    pub(crate) known: KnownKeys,
    pub(crate) announcer: Announcer,
    /// Values that memcached deleted because it had no room for a change of them, since that was reported last.
    pub(crate) lost_values: AtomicU64,
    /// Checks that were denied without asking memcached, since that was reported last.
    pub(crate) denied_locally: AtomicU64,
    pub(crate) background: Arc<Background>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("place", &self.link.place).finish_non_exhaustive()
    }
}

impl Shared {
    /// The time by this node's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall.wall_time()
    }

    /// When a value expires that is kept until nothing of `state` counts, by memcached's clock.
    pub(crate) fn expires_at_s(
        &self,
        connection: &Connection,
        state: &KeyState,
        now: Timestamp,
    ) -> u64 {
        if self.is_test_time { 0 } else { connection.expires_at_s(state.idle_at.since(now)) }
    }
}

impl MemcachedStore {
    /// A store at `url`. It does not connect yet.
    pub fn new(url: &MemcachedUrl, options: &MemcachedOptions) -> Self {
        let link = Arc::new(Link::new(&url.host, url.port));
        Self::over(link, &url.prefix, options.deadline, Arc::new(SystemWallClock), false)
    }

    fn over(
        link: Arc<Link>,
        prefix: &str,
        deadline: Duration,
        wall: Arc<dyn WallClock>,
        is_test_time: bool,
    ) -> Self {
        let shared = Shared {
            link,
            keys: Keys { prefix: prefix.into() },
            deadline,
            wall,
            is_test_time,
            drivers: Drivers::default(),
            known: KnownKeys::default(),
            announcer: Announcer::default(),
            lost_values: AtomicU64::new(0),
            denied_locally: AtomicU64::new(0),
            background: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A store over the same connection, with its own keys.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let Shared { link, deadline, wall, is_test_time, .. } = &*self.shared;
        Self::over(Arc::clone(link), prefix, *deadline, Arc::clone(wall), *is_test_time)
    }

    /// The same with the time of `wall`; nothing expires in memcached: only for tests in virtual time.
    #[doc(hidden)]
    #[must_use]
    pub fn with_test_clock(&self, wall: Arc<dyn WallClock>) -> Self {
        let Shared { link, keys, deadline, .. } = &*self.shared;
        Self::over(Arc::clone(link), &keys.prefix, *deadline, wall, true)
    }

    /// The same with another clock of this node: only for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(&self, wall: Arc<dyn WallClock>) -> Self {
        let Shared { link, keys, deadline, .. } = &*self.shared;
        Self::over(Arc::clone(link), &keys.prefix, *deadline, wall, false)
    }

    /// The key in memcached of the usage of `subject` under `limit`.
    pub fn key(&self, limit: &Limit, subject: &Subject<'_>) -> String {
        self.shared.keys.of(&KeyId::of(limit, subject))
    }

    /// Learns what other nodes give back; never returns. Without it, each denial is asked for in memcached.
    pub async fn listen(self) {
        self.shared.listen().await;
    }

    /// Reads once what other nodes have given back: for tests.
    #[doc(hidden)]
    pub async fn hear(&self) {
        self.shared.hear(None).await;
    }

    /// Runs `call`, even if its caller has gone, and reports how it ended to `report`.
    fn reported<T: Send + 'static>(
        &self,
        report: CallReport,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Outliving<Result<T, StoreError>> {
        Outliving::new(&self.shared.background, async move {
            let answer = call.await;
            report.ended(&answer);
            answer
        })
    }
}

impl Store for MemcachedStore {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.charge_reported(charges, request_id, CallReport::unread()).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        self.peek_reported(charges, CallReport::unread()).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.reset_reported(limit, subject, CallReport::unread()).await
    }

    async fn charge_reported(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        if charges.is_empty() {
            let answer = Ok(Verdicts::new().into());
            report.ended(&answer);
            return answer;
        }
        let (shared, plan) = (Arc::clone(&self.shared), self.shared.plan(charges, request_id));
        let observer = report.observer();
        self.reported(report, shared.charge_plan(plan, observer)).await.map(Charged::from)
    }

    async fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        let (shared, plan) = (Arc::clone(&self.shared), self.shared.plan(charges, None));
        self.reported(report, shared.peek_plan(plan)).await.map(Charged::from)
    }

    async fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> Result<(), StoreError> {
        let (shared, key) = (Arc::clone(&self.shared), KeyId::of(limit, subject));
        let call = self.reported(report, async move {
            let (deadline, progress) = (Instant::now() + shared.deadline, Arc::default());
            let call = shared.operate(key, Operation::Reset, deadline, &progress);
            let answer = tokio::time::timeout_at(deadline, call).await;
            answer.unwrap_or_else(|_| Err(shared.too_late(&progress)))
        });
        call.await.map(|_| ())
    }

    fn can_probe(&self) -> bool {
        true
    }

    /// Stores and reads a value of its own, as a check does.
    async fn probe(&self, _: FaultDomain, report: CallReport) {
        let shared = Arc::clone(&self.shared);
        let call = self.reported(report, async move {
            let until = Instant::now() + shared.deadline;
            let probe = shared.probe(until);
            tokio::time::timeout_at(until, probe)
                .await
                .unwrap_or_else(|_| Err(shared.too_late(&Progress::default())))
        });
        // The report has the result.
        _ = call.await;
    }

    async fn finish(&self) {
        self.shared.background.finish().await;
    }
}

/// For how long the value of a probe is kept.
const PROBE_LIFE: Duration = Duration::from_secs(1);
/// The value of a probe: as long as that of a key with a few admissions.
const PROBE: [u8; 64] = [b'p'; 64];

impl Shared {
    /// Stores a value and reads it; returns whether memcached told the number of what it stored.
    pub(crate) async fn probe(&self, until: Instant) -> Result<bool, StoreError> {
        let connection = self.link.connection().await?;
        let key = self.keys.probe();
        let expires_at_s = connection.expires_at_s(PROBE_LIFE);
        let condition = Condition::Always;
        let set = Command::Set { key: &key, value: &PROBE, expires_at_s, condition };
        let stored = self.link.ask(&connection, &set, until).await.map_err(Failure::of_change)?;
        let get = Command::Get { key: &key };
        match self.link.ask(&connection, &get, until).await.map_err(Failure::of_read)? {
            Reply::Value(..) | Reply::Missing => Ok(matches!(stored, Reply::Done(Some(_)))),
            other => {
                let context = format!("memcached answered a probe with {other:?}");
                Err(StoreError::new(StoreErrorKind::Unexpected, context))
            }
        }
    }
}
