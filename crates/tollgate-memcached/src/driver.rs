//! The operations on one key: one read and one change at a time for each key and process. What comes meanwhile queues and is
//! decided together.
//!
//! A change is stored only if the value is still the one that was decided on (CAS), otherwise everything is decided again on
//! the new value. So no operation of any node is lost, and each is carried out once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tollgate_core::{Amount, Limit, Timestamp};
use tollgate_store::background::Background;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::codec;
use crate::connection::{Connection, Failure};
use crate::errors;
use crate::key::{KeyId, RequestDigest};
use crate::known::Known;
use crate::link::jitter;
use crate::protocol::{Command, Condition, Reply};
use crate::state::{Answer, Asked, KeyState, Receipt};
use crate::store::Shared;

/// The most operations that wait for one key.
const MAX_QUEUED: usize = 4_096;
/// Enough that two threads seldom need the same one.
const SHARDS: usize = 64;
/// The bound of the wait before the first repetition; it doubles each time
const FIRST_WAIT: Duration = Duration::from_micros(500);
/// up to this maximum.
const MAX_WAIT: Duration = Duration::from_millis(16);

/// What to do with a key.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Decide, and charge.
    Charge(Part),
    /// Decide only.
    Peek(Part),
    /// Take back what was charged, and forget the request id.
    Refund { limit: Arc<Limit>, receipt: Option<Receipt>, request: Option<RequestDigest> },
    /// Clear the usage.
    Reset,
}

/// What a check charges to one key.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) limit: Arc<Limit>,
    pub(crate) cost: Amount,
    pub(crate) is_recorded_if_denied: bool,
    /// Whether another limit has denied it already.
    pub(crate) is_denied: bool,
    /// The check, if it has a request id, and for how long that is remembered.
    pub(crate) request: Option<(RequestDigest, Duration)>,
}

impl Part {
    fn asked(&self) -> Asked<'_> {
        Asked {
            limit: &self.limit,
            cost: self.cost,
            is_recorded_if_denied: self.is_recorded_if_denied,
            is_denied: self.is_denied,
            request: self.request,
        }
    }
}

/// How far an operation has come.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    const READING: u8 = 1;
    const CHANGING: u8 = 2;
    /// Beside one of the others: another node has changed the value meanwhile.
    const CONFLICTED: u8 = 4;

    // Relaxed, here and below: no other memory depends on it.
    fn set(&self, place: u8) {
        let conflicted = self.0.load(Ordering::Relaxed) & Self::CONFLICTED;
        self.0.store(place | conflicted, Ordering::Relaxed);
    }

    /// Whether a change was sent, of which nobody knows whether it was stored.
    pub(crate) fn is_changing(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Self::CHANGING != 0
    }

    /// Whether other nodes have changed the value each time.
    pub(crate) fn is_contended(&self) -> bool {
        let place = self.0.load(Ordering::Relaxed);
        place & Self::CONFLICTED != 0 && place & Self::CHANGING == 0
    }
}

/// An operation and who waits for it.
#[derive(Debug)]
struct Queued {
    operation: Operation,
    /// Nothing is stored after this time.
    deadline: Instant,
    progress: Arc<Progress>,
    answer: oneshot::Sender<Result<Option<Answer>, StoreError>>,
}

impl Queued {
    fn answer(self, answer: Result<Option<Answer>, StoreError>) {
        // Whoever asked may have gone.
        _ = self.answer.send(answer);
    }
}

/// The keys that are being worked on, each with what waits for it.
#[derive(Debug)]
pub(crate) struct Drivers(Box<[Mutex<Queues>]>);

/// What waits for each key that somebody works on.
type Queues = HashMap<KeyId, Vec<Queued>>;

impl Default for Drivers {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Drivers {
    /// A poisoned lock is fine: every change is complete at once.
    fn shard(&self, key: &KeyId) -> MutexGuard<'_, Queues> {
        let shard = &self.0[usize::from(key.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for `key`; `None`, and nobody works on the key any more, if nothing does.
    fn next(&self, key: &KeyId) -> Option<Vec<Queued>> {
        match self.shard(key).entry(*key) {
            Entry::Occupied(mut queue) if !queue.get().is_empty() => {
                Some(std::mem::take(queue.get_mut()))
            }
            Entry::Occupied(queue) => {
                queue.remove();
                None
            }
            Entry::Vacant(_) => None,
        }
    }
}

/// If the work on a key panics, the key must not stay as one that somebody works on: whoever waits gets an error, and the
/// next operation begins anew.
struct QueueOfAPanic<'a> {
    drivers: &'a Drivers,
    key: KeyId,
}

impl Drop for QueueOfAPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.drivers.shard(&self.key).remove(&self.key);
        }
    }
}

impl Shared {
    /// Carries out `operation` on `key`, after those that wait already, and waits for the answer. Nothing is stored after
    /// `deadline`, but the answer may come later.
    pub(crate) async fn operate(
        self: &Arc<Self>,
        key: KeyId,
        operation: Operation,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<Option<Answer>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let queued = Queued { operation, deadline, progress: Arc::clone(progress), answer };
        let is_idle = match self.drivers.shard(&key).entry(key) {
            Entry::Occupied(mut queue) => {
                if queue.get().len() >= MAX_QUEUED {
                    return Err(overloaded());
                }
                queue.get_mut().push(queued);
                false
            }
            Entry::Vacant(queue) => {
                queue.insert(vec![queued]);
                true
            }
        };
        if is_idle {
            let running = Background::begin(&self.background);
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                let _queue = QueueOfAPanic { drivers: &shared.drivers, key };
                while let Some(batch) = shared.drivers.next(&key) {
                    Batch { shared: &shared, key, name: shared.keys.of(&key), queued: batch }
                        .run()
                        .await;
                }
                drop(running);
            });
        }
        let lost = || Err(StoreError::new(StoreErrorKind::Unexpected, "the operation was lost"));
        answered.await.unwrap_or_else(|_| lost())
    }
}

/// The error of an operation for which no place in the queue is left.
fn overloaded() -> StoreError {
    let context = "this node is overloaded: too many checks wait for the same key";
    StoreError::new(StoreErrorKind::NotAsked, context)
}

/// Operations on one key that are decided together.
struct Batch<'a> {
    shared: &'a Arc<Shared>,
    key: KeyId,
    name: String,
    queued: Vec<Queued>,
}

/// The value to decide on.
struct Value {
    state: Arc<KeyState>,
    connection: Arc<Connection>,
    /// `None` if there is no value.
    cas: Option<u64>,
    /// Whether it was read for this batch.
    is_fresh: bool,
}

/// The outcome of one attempt.
enum Attempt {
    Done(Vec<Option<Answer>>),
    /// Another node has changed the value.
    Conflict,
    /// The known value is not enough.
    NeedsRead,
}

impl Batch<'_> {
    /// Repeats until everything is answered.
    async fn run(mut self) {
        let (known, mut forgettings) = self.shared.known.get(&self.key);
        let mut known = known.filter(|known| !known.is_contended);
        let (mut conflicts, mut most) = (0_u32, FIRST_WAIT);
        loop {
            self.drop_late();
            if self.queued.is_empty() {
                return;
            }
            let attempt = match self.value(known.take()).await {
                Ok(value) => {
                    // The read may have taken long.
                    self.drop_late();
                    self.attempt(&value, conflicts > 0, forgettings).await
                }
                Err(error) => Err(error),
            };
            match attempt {
                Ok(Attempt::Done(answers)) => {
                    return self.queued.into_iter().zip(answers).for_each(|(one, answer)| {
                        one.answer(Ok(answer));
                    });
                }
                Ok(Attempt::NeedsRead) => {}
                Ok(Attempt::Conflict) => {
                    conflicts += 1;
                    self.note(Progress::READING | Progress::CONFLICTED);
                    tokio::time::sleep(jitter(most)).await;
                    most = (most * 2).min(MAX_WAIT);
                    self.queued.extend(self.take_waiting());
                }
                Err(error) => {
                    self.shared.known.forget(&self.key);
                    if !error.kind().concerns_one_check() {
                        // Until announcements arrive again, known denials would hide from the breaker that memcached fails.
                        self.shared.known.set_hears(false);
                    }
                    return self
                        .queued
                        .into_iter()
                        .for_each(|one| one.answer(Err(error.repeated())));
                }
            }
            forgettings = self.shared.known.get(&self.key).1;
        }
    }

    /// What has been queued meanwhile: it is decided with the rest.
    fn take_waiting(&self) -> Vec<Queued> {
        let mut shard = self.shared.drivers.shard(&self.key);
        shard.get_mut(&self.key).map(std::mem::take).unwrap_or_default()
    }

    /// Drops the operations whose deadline is over, each with an error.
    fn drop_late(&mut self) {
        let now = Instant::now();
        for one in self.queued.extract_if(.., |one| one.deadline <= now) {
            let late = self.shared.too_late(&one.progress);
            one.answer(Err(late));
        }
    }

    fn note(&self, place: u8) {
        self.queued.iter().for_each(|one| one.progress.set(place));
    }

    /// The value to decide on: the known one if it is of the current connection, or the one that memcached has.
    async fn value(&self, known: Option<Known>) -> Result<Value, StoreError> {
        self.note(Progress::READING);
        let link = &self.shared.link;
        let connection = link.connection().await?;
        if let Some(Known { state, cas: Some((generation, cas)), .. }) = known
            && generation == connection.generation
        {
            return Ok(Value { state, connection, cas: Some(cas), is_fresh: false });
        }
        let until = Instant::now() + self.shared.deadline;
        let get = Command::Get { key: &self.name };
        let reply = link.ask(&connection, &get, until).await.map_err(Failure::of_read)?;
        let (state, cas) = match reply {
            Reply::Missing => (KeyState::default(), None),
            Reply::Value(bytes, cas) => {
                let foreign = || errors::foreign(&link.place, &self.name);
                (codec::decode(&bytes).ok_or_else(foreign)?, Some(cas))
            }
            other => return Err(unexpected(&link.place, &other)),
        };
        Ok(Value { state: Arc::new(state), connection, cas, is_fresh: true })
    }

    /// Decides everything on `value` and stores what it changes.
    async fn attempt(
        &self,
        value: &Value,
        is_contended: bool,
        forgettings: u64,
    ) -> Result<Attempt, StoreError> {
        let now = self.shared.now();
        let mut state = KeyState::clone(&value.state);
        let (mut answers, mut changed, mut gives_back) = (Vec::new(), false, false);
        for one in &self.queued {
            let decided = apply(&mut state, &one.operation, now);
            changed |= decided.changed;
            gives_back |= decided.gives_back;
            answers.push(decided.answer);
        }
        let known = |cas: Option<u64>, state: KeyState| Known {
            state: Arc::new(state),
            cas: cas.map(|cas| (value.connection.generation, cas)),
            is_contended,
        };
        if !changed {
            if !value.is_fresh {
                return Ok(Attempt::NeedsRead);
            }
            self.shared.known.put(self.key, known(value.cas, state), forgettings);
            return Ok(Attempt::Done(answers));
        }
        let Some(cas) = self.store(value, &state, now).await? else { return Ok(Attempt::Conflict) };
        if gives_back {
            self.shared.known.forget(&self.key);
            self.shared.announce(self.key);
        } else {
            self.shared.known.put(self.key, known(cas, state), forgettings);
        }
        Ok(Attempt::Done(answers))
    }

    /// Stores `state` in place of `value` and returns its number, or `None` for a key that was deleted; nothing if the value has
    /// been changed.
    async fn store(
        &self,
        value: &Value,
        state: &KeyState,
        now: Timestamp,
    ) -> Result<Option<Option<u64>>, StoreError> {
        let link = &self.shared.link;
        self.note(Progress::CHANGING);
        let until = Instant::now() + self.shared.deadline;
        let bytes;
        let command = match (value.cas, state.is_empty()) {
            (None, true) => return Ok(Some(None)),
            (Some(cas), true) => Command::Delete { key: &self.name, cas },
            (cas, false) => {
                bytes = codec::encode(state);
                let condition = cas.map_or(Condition::Absent, Condition::Unchanged);
                let expires_at_s = self.shared.expires_at_s(&value.connection, state, now);
                Command::Set { key: &self.name, value: &bytes, expires_at_s, condition }
            }
        };
        let reply = link.ask(&value.connection, &command, until).await;
        let reply = reply.map_err(Failure::of_change).inspect_err(|error| {
            // memcached deletes the old value if it has no room for the new one.
            if error.kind() == StoreErrorKind::OutOfMemory && value.cas.is_some() {
                self.shared.lost_values.fetch_add(1, Ordering::Relaxed);
            }
        });
        match reply? {
            Reply::Done(_) if state.is_empty() => Ok(Some(None)),
            Reply::Done(Some(cas)) => Ok(Some(Some(cas))),
            Reply::Changed | Reply::Missing => Ok(None),
            other => Err(unexpected(&link.place, &other).after_send()),
        }
    }
}

fn unexpected(place: &str, reply: &Reply) -> StoreError {
    let context = format!("memcached at {place} gave an answer of another command: {reply:?}");
    errors::with_remedy(StoreError::new(StoreErrorKind::Unexpected, context))
}

/// What one operation did.
struct Applied {
    answer: Option<Answer>,
    changed: bool,
    gives_back: bool,
}

fn apply(state: &mut KeyState, operation: &Operation, now: Timestamp) -> Applied {
    match operation {
        Operation::Charge(part) => {
            let (answer, changed) = state.charge(&part.asked(), now);
            Applied { answer: Some(answer), changed, gives_back: false }
        }
        Operation::Peek(part) => {
            let verdict = state.evaluate(&part.limit, now, part.cost);
            Applied { answer: Some(Answer::of(verdict)), changed: false, gives_back: false }
        }
        Operation::Refund { limit, receipt, request } => {
            let (gives_back, changed) =
                state.refund(limit, receipt.as_ref(), request.as_ref(), now);
            Applied { answer: None, changed, gives_back }
        }
        Operation::Reset => {
            let changed = state.reset(now);
            Applied { answer: None, changed, gives_back: changed }
        }
    }
}
