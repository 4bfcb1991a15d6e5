//! The store: its connections, its keys, and the contract of [`Store`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use smallvec::SmallVec;
use tollgate_core::{
    Amount, Charge, Clock, Counting, LeaseUpdate, Limit, MonotonicClock, Per, Policy, PolicyId,
    Subject, Window,
};
use tollgate_store::background::{Background, Outliving};
use tollgate_store::{
    CallReport, Capabilities, Charged, FaultDomain, LeaseId, LeaseRequest, LeaseState, LiveLeases,
    Part, Reserved, Store, StoreError, StoreErrorKind, Taken, key_bytes,
};

use crate::call::Progress;
use crate::combiner::Combiner;
use crate::examiner::Examiner;
use crate::key::{Keys, slot};
use crate::login::Login;
use crate::parts::PartPlace;
use crate::script::RESET;
use crate::topology::Topology;
use crate::url::{Deployment, RedisUrl};

/// How a [`RedisStore`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The time for a whole call: connecting, sending, redirects, and the answer (R11).
    pub deadline: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(100) }
    }
}

/// Usage in Redis or Valkey. It connects on the first call; clones share their connections.
///
/// Needs a tokio runtime. A call fails at the latest at its [deadline](RedisOptions::deadline).
#[derive(Clone)]
pub struct RedisStore {
    pub(crate) topology: Arc<Topology>,
    pub(crate) keys: Keys,
    pub(crate) deadline: Duration,
    /// Only a hint, because the windows of counters start at the same times by every clock.
    pub(crate) hint: Arc<dyn Clock>,
    pub(crate) test_clock: Option<Arc<dyn Clock>>,
    /// Calls whose callers have gone, and refunds.
    pub(crate) background: Arc<Background>,
    pub(crate) combiner: Arc<Combiner>,
    /// Examines servers at the start.
    pub(crate) examiner: Arc<Examiner>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at `url`. It does not connect yet; an error is about a file that the URL names.
    pub fn new(url: &RedisUrl, options: &RedisOptions) -> Result<Self, StoreError> {
        let (login, sentinel_login) = Login::of(url)?;
        let examiner = Examiner::new(url, login.clone(), sentinel_login.clone(), options.deadline);
        let topology = Topology::new(url.deployment.clone(), &url.hosts, login, &sentinel_login);
        Ok(Self {
            topology: Arc::new(topology),
            keys: Keys {
                prefix: url.prefix.as_str().into(),
                tagged: url.deployment == Deployment::Cluster,
            },
            deadline: options.deadline,
            hint: Arc::new(MonotonicClock::new()),
            test_clock: None,
            background: Arc::default(),
            combiner: Arc::default(),
            examiner: Arc::new(examiner),
        })
    }

    /// The same store over the same connections, with its own keys.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let keys = Keys { prefix: prefix.into(), ..self.keys.clone() };
        Self { keys, ..self.clone() }
    }

    /// The same store, but its scripts use the time of `clock`: only for tests in virtual time.
    #[doc(hidden)]
    #[must_use]
    pub fn with_test_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { test_clock: Some(clock), ..self.clone() }
    }

    /// The same store, but its scripts get this clock's time as the hint of where windows start: only for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_hint(&self, hint: Arc<dyn Clock>) -> Self {
        Self { hint, ..self.clone() }
    }

    /// The hint for scripts.
    #[doc(hidden)]
    pub fn hint(&self) -> tollgate_core::Timestamp {
        self.hint.now()
    }

    /// Whether there is a connection to the server of a single deployment: for tests.
    #[doc(hidden)]
    pub fn is_connected(&self) -> bool {
        self.topology.seeds().iter().any(|link| link.is_connected())
    }

    /// Whether limits may lie on several servers.
    #[doc(hidden)]
    pub fn is_cluster(&self) -> bool {
        self.topology.is_cluster()
    }

    /// The key in Redis of the usage of `subject` under `limit`.
    pub fn key(&self, limit: &Limit, subject: &Subject<'_>) -> String {
        self.keys.of(limit, subject)
    }
}

/// The name of the limit with which a server is probed. Its usage leaves within three seconds.
const PROBE_ID: &str = "tollgate-probe";
const PROBE_WINDOW: Duration = Duration::from_secs(1);
/// The most names that are tried to find one whose key is on a given server.
const MAX_PROBE_NAMES: u32 = 65_536;

/// The limit with which a server is probed: it writes, as checks do.
fn probe_limit() -> Option<Limit> {
    let per = Per::from_scope("USER")?;
    let window = Window::new(PROBE_WINDOW)?;
    let policy = Policy::new(PolicyId::new(PROBE_ID).ok()?, per, Amount::new(1_000_000), window);
    Limit::of(&Policy { counting: Counting::Counter { window }, ..policy })
}

/// A key that only probes use, in the slot of `key`.
fn probe_key(key: &str) -> String {
    format!("{key}r")
}

impl RedisStore {
    /// Runs `call`, even if its caller has gone, and reports how it ended to `report`.
    fn reported<T: Send + 'static>(
        &self,
        report: CallReport,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Outliving<Result<T, StoreError>> {
        Outliving::new(&self.background, call.inspect(move |answer| report.ended(answer)))
    }
}

impl Store for RedisStore {
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
        let (store, plan) = (self.clone(), self.plan(charges, request_id));
        let observer = report.observer();
        let call = self.reported(report, async move { store.charge_plan(plan, observer).await });
        call.await.map(|decided| Charged::from(decided.verdicts()))
    }

    async fn peek_reported(
        &self,
        charges: &[Charge<'_>],
        report: CallReport,
    ) -> Result<Charged, StoreError> {
        let (store, plan) = (self.clone(), self.plan(charges, None));
        let call = self.reported(report, async move { store.peek_plan(plan).await });
        call.await.map(Charged::from)
    }

    async fn reset_reported(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        report: CallReport,
    ) -> Result<(), StoreError> {
        let (store, key) = (self.clone(), self.keys.of(limit, subject));
        let has_slots = u8::from(limit.counting() == Counting::Concurrency);
        let told = [
            self.channel().into_bytes(),
            key_bytes(limit, subject),
            has_slots.to_string().into_bytes(),
        ];
        let call = self.reported(report, async move {
            let (slot, progress) = (slot(&key), Progress::default());
            let keys = [key.as_str()];
            let call = store.run::<i64>(&RESET, slot, &keys, &told, &progress);
            match store.in_time(&progress, false, call).await {
                // Not every version names the command or the channel that a script may not use.
                Err(error) if error.kind() == StoreErrorKind::Forbidden => {
                    let named = store.try_commands(&probe_key(&key)).await.err();
                    Err(named.filter(|named| named.kind() == error.kind()).unwrap_or(error))
                }
                answer => answer,
            }
        });
        call.await.map(|_| ())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        self.reserve_reported(request, CallReport::unread()).await
    }

    async fn reserve_reported(
        &self,
        request: &LeaseRequest<'_>,
        report: CallReport,
    ) -> Result<Reserved, StoreError> {
        let (store, plan) = (self.clone(), self.reservation(request));
        let observer = report.observer();
        self.reported(report, async move { store.reserve_plan(plan?, observer).await }).await
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.update_lease_reported(id, update, CallReport::unread()).await
    }

    async fn update_lease_reported(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
        report: CallReport,
    ) -> Result<Option<LeaseState>, StoreError> {
        let (store, id, update) = (self.clone(), id.clone(), update.clone());
        let call = async move { store.update_known_lease(&id, &update).await };
        self.reported(report, call).await
    }

    async fn take(&self, charge: &Charge<'_>) -> Result<Taken, StoreError> {
        self.take_reported(charge, CallReport::unread()).await
    }

    async fn take_reported(
        &self,
        charge: &Charge<'_>,
        report: CallReport,
    ) -> Result<Taken, StoreError> {
        let (store, plan) = (self.clone(), self.plan(std::slice::from_ref(charge), None));
        let (place, observer) = (PartPlace::of(self, charge), report.observer());
        let call = async move { store.charge_plan(plan, observer).await };
        let decided = self.reported(report, call).await?;
        place.taken(charge.cost, &decided)
    }

    async fn give_back(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        self.give_back_reported(part, unused, CallReport::unread()).await
    }

    async fn give_back_reported(
        &self,
        part: &Part,
        unused: Amount,
        report: CallReport,
    ) -> Result<(), StoreError> {
        let (store, part) = (self.clone(), part.clone());
        self.reported(report, async move { store.reduce_part(&part, unused).await }).await
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.live_leases_of_all(most).await
    }

    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        self.domains_of_lease(id)
    }

    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        if !self.topology.is_cluster() {
            return FaultDomain::WHOLE;
        }
        self.topology.domain(slot(&self.keys.of(limit, subject)))
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        self.topology.uses(domain)
    }

    /// With a single server, all calls use one connection; calls to several servers can overtake each other.
    fn keeps_order(&self) -> bool {
        !self.topology.is_cluster()
    }

    fn can_probe(&self) -> bool {
        true
    }

    /// Charges a limit of its own, as a check does, and then tries every command of the scripts: a right that only long logs
    /// or resets need may be what is missing.
    async fn probe(&self, domain: FaultDomain, report: CallReport) {
        let Some(limit) = probe_limit().map(Arc::new) else { return };
        for number in 0..MAX_PROBE_NAMES {
            let user = number.to_string();
            let subject = Subject::new(&user, "");
            if self.fault_domain(&limit, &subject) == domain {
                let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                let (store, plan) = (self.clone(), self.plan(&[charge], None));
                let key = probe_key(&self.keys.of(&limit, &subject));
                let observer = report.observer();
                let call = self.reported(report, async move {
                    store.charge_plan(plan, observer).await?;
                    store.try_commands(&key).await
                });
                // The report has the result.
                let _ = call.await;
                return;
            }
        }
    }

    async fn finish(&self) {
        self.background.finish().await;
    }
}
