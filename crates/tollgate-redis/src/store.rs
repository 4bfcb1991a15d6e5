//! One check: grouped by the slots of its limits, each group decided by one script, all charged or none (R3).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError, ServerErrorKind};
use smallvec::SmallVec;
use tollgate_core::{Amount, Charge, Clock, Limit, Mode, MonotonicClock, Subject};
use tollgate_store::{Charged, Store, StoreError, StoreErrorKind, Verdicts};

use crate::key::{Keys, slot};
use crate::link::{Failure, Link, Login};
use crate::script::{CHARGE, RESET, SETTLE, Script};
use crate::topology::Topology;
use crate::url::{Deployment, RedisUrl};
use crate::wire::{self, Said};

/// How often one call is sent anew after Redis said that it did not run it.
const MAX_ATTEMPTS: usize = 4;

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
    keys: Keys,
    deadline: Duration,
    /// Only a hint: where the windows of counters start is the same by every clock.
    hint: Arc<MonotonicClock>,
    test_clock: Option<Arc<dyn Clock>>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("topology", &self.topology).finish_non_exhaustive()
    }
}

/// The limits of one check that lie in one slot.
struct Group {
    slot: u16,
    /// Their places in the check.
    places: SmallVec<[usize; 4]>,
    keys: Vec<String>,
    once_key: Option<String>,
}

/// What is known of a call when its time is up.
#[derive(Default)]
struct Progress {
    sent: AtomicBool,
    link: Mutex<Option<Arc<Link>>>,
}

impl RedisStore {
    /// A store at `url`. Nothing is connected yet: an error is one of the URL or of the system's certificates.
    pub fn new(url: &RedisUrl, options: &RedisOptions) -> Result<Self, StoreError> {
        let mut redis = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let sentinel = redis.clone();
        if let Some(user) = &url.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &url.password {
            redis = redis.set_password(password);
        }
        let redis = redis.set_db(i64::from(url.database));
        let pacer = Arc::default();
        let login = |redis| Login { tls: url.tls, redis, pacer: Arc::clone(&pacer) };
        let topology =
            Topology::new(url.deployment.clone(), &url.hosts, login(redis), &login(sentinel))?;
        Ok(Self {
            topology: Arc::new(topology),
            keys: Keys {
                prefix: url.prefix.clone(),
                tagged: url.deployment == Deployment::Cluster,
            },
            deadline: options.deadline,
            hint: Arc::new(MonotonicClock::new()),
            test_clock: None,
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

    async fn in_time<T>(
        &self,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Ok(answer) = tokio::time::timeout(self.deadline, call).await {
            return answer;
        }
        let context = format!("Redis has not answered within {} ms", self.deadline.as_millis());
        let error = StoreError::new(StoreErrorKind::Unavailable, context);
        // Relaxed: the call that set it has ended.
        if !progress.sent.load(Ordering::Relaxed) {
            return Err(error);
        }
        let link = progress.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(link) = link {
            link.drop_connection("an answer did not come in time");
            self.topology.distrust();
        }
        Err(if charges { error.after_send() } else { error })
    }

    async fn charge_groups(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        progress: &Progress,
    ) -> Result<Verdicts, StoreError> {
        let groups = self.groups(charges, request_id);
        let mut said: Vec<Option<Said>> = vec![None; charges.len()];
        let mut refused = false;
        for (number, group) in groups.iter().enumerate() {
            let answer = self.ask(group, charges, !refused, progress).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    let to_give_back = groups[..number].iter().filter(|_| !refused);
                    drop(self.give_back(to_give_back, charges, &said));
                    return Err(error);
                }
            };
            for (place, one) in group.places.iter().zip(answer) {
                said[*place] = Some(one);
                let enforced = charges[*place].limit.mode() == Mode::Enforce;
                if enforced && !one.before.allowed && !refused {
                    refused = true;
                    if let Some(refund) = self.give_back(groups[..number].iter(), charges, &said) {
                        // A task that failed leaves what was charged until it leaves its window.
                        let _ = refund.await;
                    }
                }
            }
        }
        Ok(said
            .into_iter()
            .flatten()
            .map(|one| if refused || !one.before.allowed { one.before } else { one.after })
            .collect())
    }

    /// Takes back what was charged to `groups`, in a task of its own: it goes on when the call has no more
    /// time. Until then a rival check may be refused, never admitted too much.
    fn give_back<'g>(
        &self,
        groups: impl Iterator<Item = &'g Group>,
        charges: &[Charge<'_>],
        said: &[Option<Said>],
    ) -> Option<tokio::task::JoinHandle<()>> {
        let mut calls = Vec::new();
        for group in groups {
            for (key, place) in group.keys.iter().zip(&group.places) {
                let (charge, Some(one)) = (&charges[*place], said[*place]) else { continue };
                if !one.before.allowed || charge.cost == Amount::ZERO {
                    continue;
                }
                let mut keys = vec![key.clone()];
                keys.extend(group.once_key.clone());
                let argument = wire::settlement(charge.limit, one.id, charge.cost, Amount::ZERO);
                calls.push((group.slot, keys, argument));
            }
        }
        let store = (!calls.is_empty()).then(|| self.clone())?;
        Some(tokio::spawn(async move {
            for (slot, keys, argument) in calls {
                let progress = Progress::default();
                let arguments = [argument];
                let call = store.run::<i64>(&SETTLE, slot, &keys, &arguments, &progress);
                // What could not be taken back leaves with its window.
                let _ = tokio::time::timeout(store.deadline, call).await;
            }
        }))
    }

    /// Changes what one admission was charged: `false` if it is not there any more.
    #[doc(hidden)]
    pub async fn settle(
        &self,
        charge: &Charge<'_>,
        at: tollgate_core::Timestamp,
        new_cost: Amount,
    ) -> Result<bool, StoreError> {
        let id = wire::EntryId::of(charge.limit, at);
        let key = self.keys.of_charge(charge);
        let argument = wire::settlement(charge.limit, id, charge.cost, new_cost);
        let (slot, progress) = (slot(&key), Progress::default());
        let (keys, arguments) = ([key], [argument]);
        let call = self.run::<i64>(&SETTLE, slot, &keys, &arguments, &progress);
        Ok(self.in_time(&progress, true, call).await? == 1)
    }

    fn groups(&self, charges: &[Charge<'_>], request_id: Option<&str>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        for (place, charge) in charges.iter().enumerate() {
            let key = self.keys.of_charge(charge);
            let slot = if self.topology.is_cluster() { slot(&key) } else { 0 };
            match groups.iter_mut().find(|group| group.slot == slot) {
                Some(group) => {
                    group.places.push(place);
                    group.keys.push(key);
                }
                None => groups.push(Group {
                    slot,
                    places: SmallVec::from_slice(&[place]),
                    keys: vec![key],
                    once_key: None,
                }),
            }
        }
        if let Some(request_id) = request_id {
            let all: Vec<_> = charges.iter().map(|charge| self.keys.of_charge(charge)).collect();
            for group in &mut groups {
                let key = self.keys.of_request(request_id, &all, &group.keys[0]);
                group.once_key = Some(key);
            }
        }
        groups
    }

    /// Asks the script about one group.
    async fn ask(
        &self,
        group: &Group,
        charges: &[Charge<'_>],
        charging: bool,
        progress: &Progress,
    ) -> Result<Vec<Said>, StoreError> {
        let once_key = group.once_key.as_ref().filter(|_| charging);
        let longest = charges.iter().map(|charge| charge.limit.window()).max();
        let once = once_key.and(longest);
        let test = self.test_clock.as_ref().map(Clock::now);
        let hint = test.unwrap_or_else(|| self.hint.now());
        let of_group: SmallVec<[Charge<'_>; 4]> =
            group.places.iter().map(|place| charges[*place]).collect();
        let mut arguments = vec![wire::operation(charging, test, once)];
        arguments.extend(of_group.iter().map(|charge| wire::argument(charge, hint)));
        let mut keys = group.keys.clone();
        keys.extend(once_key.cloned());
        let bytes: Vec<u8> = self.run(&CHARGE, group.slot, &keys, &arguments, progress).await?;
        wire::answer(&bytes, &of_group).ok_or_else(|| {
            let context = "the script in Redis answered what this version does not understand";
            let error = StoreError::new(StoreErrorKind::Unexpected, context);
            if charging { error.after_send() } else { error }
        })
    }

    /// Runs `script` where `slot` lives. It is sent again only when Redis has said that it did not run it.
    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        slot: u16,
        keys: &[String],
        arguments: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<T, StoreError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(keys.len()).arg(keys).arg(arguments);
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.text);
        let mut before: Option<Cmd> = None;
        let mut redirected: Option<Arc<Link>> = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let link = match redirected.take() {
                Some(link) => link,
                None => self.topology.link(slot).await?,
            };
            *progress.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
            // Relaxed: read by the same task.
            progress.sent.store(true, Ordering::Relaxed);
            let answer = match before.take() {
                Some(first) => link.query_both(&first, &command).await,
                None => link.query(&command).await,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(Failure::NotSent(error)) => {
                    self.topology.distrust();
                    return Err(error);
                }
                Err(Failure::Redis(error)) => error,
            };
            let retry = attempt < MAX_ATTEMPTS;
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::NoScript) if retry => {
                    before = Some(load.clone());
                }
                ErrorKind::Server(ServerErrorKind::Ask) if retry => {
                    redirected = self.topology.redirect(&error)?;
                    before = Some(redis::cmd("ASKING"));
                }
                ErrorKind::Server(
                    ServerErrorKind::Moved
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown,
                ) if retry => {
                    self.topology.distrust();
                    redirected = self.topology.redirect(&error)?;
                }
                ErrorKind::Server(ServerErrorKind::TryAgain) if retry => {
                    tokio::task::yield_now().await;
                }
                _ => {
                    self.topology.distrust();
                    return Err(store_error(&link, error));
                }
            }
        }
    }
}

/// What `error` of `link` is to the caller.
fn store_error(link: &Link, error: RedisError) -> StoreError {
    let (host, port) = &link.address;
    let place = format!("Redis at {host}:{port}");
    let refused = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
    if !refused {
        let context = format!("{place} gave no answer");
        return StoreError::new(StoreErrorKind::Unavailable, context).after_send().caused_by(error);
    }
    let passing = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript
        )
    ) || matches!(error.code(), Some("BUSY" | "OOM" | "MISCONF" | "NOREPLICAS"));
    let kind = if passing { StoreErrorKind::Unavailable } else { StoreErrorKind::Unexpected };
    StoreError::new(kind, format!("{place} refused the call")).caused_by(error)
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
        let call = async {
            let mut said: Vec<Option<Said>> = vec![None; charges.len()];
            for group in self.groups(charges, None) {
                let answer = self.ask(&group, charges, false, &progress).await?;
                for (place, one) in group.places.iter().zip(answer) {
                    said[*place] = Some(one);
                }
            }
            Ok(said.into_iter().flatten().map(|one| one.before).collect::<Verdicts>())
        };
        self.in_time(&progress, false, call).await.map(Charged::from)
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        let key = self.keys.of(limit, subject);
        let (slot, progress) = (slot(&key), Progress::default());
        let keys = [key];
        let call = self.run::<i64>(&RESET, slot, &keys, &[], &progress);
        self.in_time(&progress, false, call).await.map(|_| ())
    }
}

impl RedisStore {
    /// Runs the scripts on a key of their own, for the rights that they need.
    pub(crate) async fn missing_rights(
        &self,
    ) -> Result<Option<crate::startup::Warning>, StoreError> {
        let key = format!("{}probe", self.keys.prefix);
        let (slot, progress) = (slot(&key), Progress::default());
        let keys = [key];
        let call = self.run::<i64>(&RESET, slot, &keys, &[], &progress);
        match self.in_time(&progress, false, call).await {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == StoreErrorKind::Unexpected => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                Ok(Some(crate::startup::Warning::new(format!("{error}: {cause}"))))
            }
            Err(error) => Err(error),
        }
    }
}
