//! One script, run within one deadline where its slot lives: sent again only when Redis has said that it did not
//! run it.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::errors::{is_part_missing, kind_of, store_error, with_remedy};
use crate::link::{Failure, Link};
use crate::script::Script;
use crate::store::RedisStore;
use crate::url::shown;

/// How often one call is sent anew after Redis said that it did not run it. The waits in between add up to more than a
/// deadline.
const MAX_ATTEMPTS: u32 = 32;
/// How often one call is sent anew to a Cluster that says that it is down.
const MAX_ATTEMPTS_DOWN: u32 = 3;
/// How often one call is sent anew when a part of a log is missing: the slot may be moving, which takes some milliseconds.
const MAX_ATTEMPTS_MISSING: u32 = 4;
/// How often one call is sent anew to a server that accepts no writes: once, over another connection.
const MAX_ATTEMPTS_READ_ONLY: u32 = 1;
/// How long a call waits at first before it is sent anew; doubles each time,
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// up to so long.
const MAX_WAIT: Duration = Duration::from_millis(16);

/// What is known of a call when its time is up.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Place>);

/// Where a call is.
#[derive(Debug, Default)]
struct Place {
    link: Option<Arc<Link>>,
    /// Whether it waits for calls of this node before it.
    is_in_line: bool,
    /// The connection that it was sent on, while there is no answer.
    sent_on: Option<u64>,
}

impl Progress {
    /// Notes that it waits for calls of this node before it.
    pub(crate) fn wait_in_line(&self) {
        self.place().is_in_line = true;
    }

    /// Whole whatever a thread that held it did: each change is made at once.
    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An argument that depends on the server.
pub(crate) type Operation<'a> = dyn Fn(&Link) -> Vec<u8> + Sync + 'a;

/// A script, where it is to run, and with what.
pub(crate) struct Invocation<'a> {
    pub(crate) script: &'a Script,
    pub(crate) slot: u16,
    pub(crate) keys: &'a [&'a str],
    /// The first argument, if it depends on the server.
    pub(crate) operation: Option<&'a Operation<'a>>,
    pub(crate) arguments: &'a [Vec<u8>],
    /// Nothing is sent after this.
    pub(crate) deadline: Option<Instant>,
}

impl Invocation<'_> {
    fn command(&self, link: &Link) -> Cmd {
        // Room for a check of one limit.
        let mut command = Cmd::with_capacity(4 + self.keys.len() + self.arguments.len(), 256);
        command.arg("EVALSHA").arg(&self.script.digest).arg(self.keys.len()).arg(self.keys);
        if let Some(operation) = self.operation {
            command.arg(operation(link));
        }
        command.arg(self.arguments);
        command
    }
}

/// The answer to a call, from whom it came, and when it was asked for.
pub(crate) struct Answered<T> {
    pub(crate) answer: T,
    pub(crate) link: Arc<Link>,
    pub(crate) sent: Instant,
}

impl RedisStore {
    /// `call`, until the deadline of a call that begins now.
    pub(crate) async fn in_time<T>(
        &self,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.until(Instant::now() + self.deadline, progress, charges, call).await
    }

    /// `call`, until `deadline`. A connection on which no answer came in time is given up.
    pub(crate) async fn until<T>(
        &self,
        deadline: Instant,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout_at(deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.too_late(progress, charges)),
        }
    }

    /// The error of a call that has no more time.
    pub(crate) fn too_late(&self, progress: &Progress, charges: bool) -> StoreError {
        let place = std::mem::take(&mut *progress.place());
        let waited_ms = self.deadline.as_millis();
        if place.is_in_line {
            let context = format!(
                "this node has not come to ask Redis within {waited_ms} ms: it has too much to do"
            );
            return StoreError::new(StoreErrorKind::NotAsked, context);
        }
        let context = match &place.link {
            Some(link) => {
                let place = shown(&link.address);
                format!("Redis at {place} has not answered within {waited_ms} ms")
            }
            None => format!("Redis has not answered within {waited_ms} ms"),
        };
        let error = with_remedy(StoreError::new(StoreErrorKind::Unavailable, context));
        let Some(link) = place.link else { return error };
        let error = error.within(link.domain);
        let Some(generation) = place.sent_on else { return error };
        link.lose(generation, StoreErrorKind::Unavailable, "an answer did not come in time");
        self.topology.distrust();
        if charges { error.after_send() } else { error }
    }

    /// Runs `script` where `slot` lives. It is sent again only when Redis has said that it did not run it.
    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        slot: u16,
        keys: &[&str],
        arguments: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<T, StoreError> {
        let invocation =
            Invocation { script, slot, keys, operation: None, arguments, deadline: None };
        self.invoke(&invocation, &[progress]).await.map(|answered| answered.answer)
    }

    /// Runs `invocation`, whose progress is noted for all who wait for it. It is sent again only when Redis has said that it did not run it.
    pub(crate) async fn invoke<T: redis::FromRedisValue>(
        &self,
        invocation: &Invocation<'_>,
        waiting: &[impl Borrow<Progress>],
    ) -> Result<Answered<T>, StoreError> {
        let note = |change: &dyn Fn(&mut Place)| {
            for progress in waiting {
                change(&mut progress.borrow().place());
            }
        };
        let mut next = Next::default();
        for attempt in 1.. {
            let link = match next.link.take() {
                Some(link) => link,
                None => self.topology.link(invocation.slot).await?,
            };
            note(&|place| (place.link, place.is_in_line) = (Some(Arc::clone(&link)), false));
            let connection = match link.connection().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.topology.distrust();
                    return Err(error);
                }
            };
            if invocation.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let context = "there was no time left to send the call";
                let error = StoreError::new(StoreErrorKind::Unavailable, context);
                return Err(error.within(link.domain));
            }
            let generation = connection.generation;
            note(&|place| place.sent_on = Some(generation));
            let sent = Instant::now();
            let answer = link.send(connection, &next.before, &invocation.command(&link)).await;
            note(&|place| place.sent_on = None);
            let error = match answer {
                Ok(answer) => return Ok(Answered { answer, link, sent }),
                Err(error) => error,
            };
            if !next.after(&error, &link, generation, attempt, self, invocation).await? {
                self.topology.distrust();
                let error = if error.kind() == ErrorKind::Parse {
                    readable(&link, invocation.script, error).await
                } else {
                    error
                };
                return Err(store_error(&link, &error));
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "Redis was asked too often"))
    }
}

/// `error`, or what can be read of it: a server that does not know a command repeats the arguments, which are no text.
/// So the script is asked for once more without any; it fails of that before it does anything.
async fn readable(link: &Arc<Link>, script: &Script, error: RedisError) -> RedisError {
    let mut bare = redis::cmd("EVALSHA");
    bare.arg(&script.digest).arg(0);
    match link.query::<redis::Value>(&bare).await {
        Err(Failure::Redis(bare)) if kind_of(&bare) == StoreErrorKind::Unsupported => bare,
        _ => error,
    }
}

/// How a call is sent the next time.
#[derive(Default)]
struct Next {
    /// To whom, if not to the owner of the slot.
    link: Option<Arc<Link>>,
    /// What goes before it in one piece with it.
    before: SmallVec<[Cmd; 2]>,
}

impl Next {
    /// Gets ready to send a call again that `link` refused with `error`; `false` if that does not help.
    async fn after(
        &mut self,
        error: &RedisError,
        link: &Arc<Link>,
        generation: u64,
        attempt: u32,
        store: &RedisStore,
        invocation: &Invocation<'_>,
    ) -> Result<bool, StoreError> {
        let ErrorKind::Server(kind) = error.kind() else { return Ok(false) };
        let most = match kind {
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => MAX_ATTEMPTS_DOWN,
            ServerErrorKind::ReadOnly => MAX_ATTEMPTS_READ_ONLY,
            ServerErrorKind::TryAgain if is_part_missing(error) => MAX_ATTEMPTS_MISSING,
            _ => MAX_ATTEMPTS,
        };
        if attempt > most {
            return Ok(false);
        }
        match kind {
            ServerErrorKind::NoScript => {
                // There, and before `ASKING`, which holds for one command.
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(invocation.script.text);
                if self.before.len() > 1 {
                    return Ok(false);
                }
                self.before.insert(0, load);
                self.link = Some(Arc::clone(link));
            }
            ServerErrorKind::Ask => {
                self.before = smallvec![redis::cmd("ASKING")];
                self.link = store.topology.redirect(error)?;
            }
            ServerErrorKind::Moved => {
                self.before.clear();
                self.link = store.topology.moved(invocation.slot, error)?;
                // Two nodes that send a call to each other have not heard of the move yet.
                if attempt > 2 {
                    wait(attempt).await;
                }
            }
            ServerErrorKind::ReadOnly => {
                self.before.clear();
                // The next connection may lead to another server: the name is resolved again.
                link.lose(generation, StoreErrorKind::ReadOnly, "READONLY: it is a replica now");
                store.topology.look_again().await;
            }
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => {
                self.before.clear();
                store.topology.distrust();
                wait(attempt).await;
            }
            // The keys of a slot that moves are on their way.
            ServerErrorKind::TryAgain => {
                self.before.clear();
                wait(attempt).await;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

async fn wait(attempt: u32) {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.min(8));
    tokio::time::sleep(doubled.min(MAX_WAIT)).await;
}
