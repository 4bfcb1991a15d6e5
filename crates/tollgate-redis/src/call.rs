//! Runs one script on the server that owns its slot, within one deadline. The call is sent again only if Redis said
//! that it did not run it.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::errors::{is_part_missing, kind_of, store_error, with_remedy};
use crate::link::{Failure, Link};
use crate::script::Script;
use crate::store::RedisStore;
use crate::url::shown;

/// How often a call is sent again after Redis said that it did not run it. The waits in between add up to more than a
/// deadline.
const MAX_ATTEMPTS: u32 = 32;
/// How often a call is sent again to a Cluster that says that it is down.
const MAX_ATTEMPTS_DOWN: u32 = 3;
/// How often a call is sent again if a part of a log is missing: the slot may be moving, which takes some milliseconds.
const MAX_ATTEMPTS_MISSING: u32 = 4;
/// How often a call is sent again to a server that accepts no writes: once, over a new connection.
const MAX_ATTEMPTS_READ_ONLY: u32 = 1;
/// The first wait before a call is sent again; it doubles each time
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// up to this maximum.
const MAX_WAIT: Duration = Duration::from_millis(16);

/// The progress of a call, for the error when its time is up.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Place>);

/// How far a call has come.
#[derive(Debug, Default)]
struct Place {
    link: Option<Arc<Link>>,
    /// Whether it waits for earlier calls of this node.
    is_in_line: bool,
    /// The connection on which it was sent, until the answer arrives.
    sent_on: Option<u64>,
}

impl Progress {
    /// Notes that the call waits for earlier calls of this node.
    pub(crate) fn wait_in_line(&self) {
        self.place().is_in_line = true;
    }

    /// A poisoned lock is fine: every change is a single assignment.
    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An argument that depends on the server.
pub(crate) type Operation<'a> = dyn Fn(&Link) -> Vec<u8> + Sync + 'a;

/// A script, the slot where it runs, and its arguments.
pub(crate) struct Invocation<'a> {
    /// `None` to read a string.
    pub(crate) script: Option<&'a Script>,
    pub(crate) slot: u16,
    pub(crate) keys: &'a [&'a str],
    /// The first argument, if it depends on the server.
    pub(crate) operation: Option<&'a Operation<'a>>,
    pub(crate) arguments: &'a [Vec<u8>],
    /// Nothing is sent after this time.
    pub(crate) deadline: Option<Instant>,
}

impl Invocation<'_> {
    fn command(&self, link: &Link) -> Cmd {
        // Enough capacity for a check of one limit.
        let mut command = Cmd::with_capacity(4 + self.keys.len() + self.arguments.len(), 256);
        match self.script {
            Some(script) => command.arg("EVALSHA").arg(&script.digest).arg(self.keys.len()),
            None => command.arg("GET"),
        };
        command.arg(self.keys);
        if let Some(operation) = self.operation {
            command.arg(operation(link));
        }
        command.arg(self.arguments);
        command
    }
}

/// The answer to a call, the server that gave it, and when the call was sent.
pub(crate) struct Answered<T> {
    pub(crate) answer: T,
    pub(crate) link: Arc<Link>,
    pub(crate) sent: Instant,
}

impl RedisStore {
    /// Runs `call` with a deadline that starts now.
    pub(crate) fn in_time<T>(
        &self,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        self.until(Instant::now() + self.deadline, progress, charges, call)
    }

    /// Runs `call` until `deadline`. If no answer came in time, its connection is closed.
    ///
    /// It is no `async fn`, whose future would hold `call` twice: as its argument and while it waits for it.
    pub(crate) fn until<T>(
        &self,
        deadline: Instant,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        tokio::time::timeout_at(deadline, call).map(move |answered| match answered {
            Ok(answer) => answer,
            Err(_) => Err(self.too_late(progress, charges)),
        })
    }

    /// The error of a call whose time is up.
    pub(crate) fn too_late(&self, progress: &Progress, charges: bool) -> StoreError {
        let place = std::mem::take(&mut *progress.place());
        let waited_ms = self.deadline.as_millis();
        if place.is_in_line {
            let context = format!(
                "this node could not send the check to Redis within {waited_ms} ms: it is overloaded"
            );
            return StoreError::new(StoreErrorKind::NotAsked, context);
        }
        let context = match &place.link {
            Some(link) => {
                let place = shown(&link.address);
                format!("Redis at {place} did not answer within {waited_ms} ms")
            }
            None => format!("Redis did not answer within {waited_ms} ms"),
        };
        let error = with_remedy(StoreError::new(StoreErrorKind::Unavailable, context));
        let Some(link) = place.link else { return error };
        let error = error.within(link.domain);
        let Some(generation) = place.sent_on else { return error };
        link.lose(generation, StoreErrorKind::Unavailable, "an answer did not arrive in time");
        self.topology.distrust();
        if charges { error.after_send() } else { error }
    }

    /// Runs `script` on the server that owns `slot`. It is sent again only if Redis said that it did not run it.
    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        slot: u16,
        keys: &[&str],
        arguments: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<T, StoreError> {
        let invocation = Invocation {
            script: Some(script),
            slot,
            keys,
            operation: None,
            arguments,
            deadline: None,
        };
        self.invoke(&invocation, &[progress]).await.map(|answered| answered.answer)
    }

    /// Runs `invocation` and notes its progress for all checks in it. It is sent again only if Redis said that it did
    /// not run it.
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
                let error = match invocation.script {
                    Some(script) if error.kind() == ErrorKind::Parse => {
                        readable(&link, script, error).await
                    }
                    _ => error,
                };
                return Err(store_error(&link, &error, invocation.keys));
            }
        }
        Err(StoreError::new(
            StoreErrorKind::Unavailable,
            "Redis kept refusing the call until the retries were used up",
        ))
    }
}

/// Returns `error`, or a readable form of it. A server that does not know a command repeats its arguments, which are
/// not text, so the driver cannot parse the error. The script is then run once more without arguments; it fails before
/// it changes anything.
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
    /// The server, if it is not the owner of the slot.
    link: Option<Arc<Link>>,
    /// A command that is sent directly before it.
    before: SmallVec<[Cmd; 2]>,
}

impl Next {
    /// Prepares to send a call again that `link` refused with `error`; `false` if that would not help.
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
                // Load the script on that server, and before `ASKING`, which applies only to the next command.
                let mut load = redis::cmd("SCRIPT");
                let Some(script) = invocation.script.filter(|_| self.before.len() <= 1) else {
                    return Ok(false);
                };
                load.arg("LOAD").arg(script.text);
                self.before.insert(0, load);
                self.link = Some(Arc::clone(link));
            }
            ServerErrorKind::Ask => {
                self.before = smallvec![redis::cmd("ASKING")];
                self.link = store.topology.redirect(error);
            }
            ServerErrorKind::Moved => {
                self.before.clear();
                self.link = store.topology.moved(invocation.slot, error);
                // If two nodes redirect to each other, they have not both learned of the move yet.
                if attempt > 2 {
                    wait(attempt).await;
                }
            }
            ServerErrorKind::ReadOnly => {
                self.before.clear();
                // A new connection may lead to another server, because the name is resolved again.
                link.lose(generation, StoreErrorKind::ReadOnly, "READONLY: it is a replica now");
                store.topology.look_again().await;
            }
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => {
                self.before.clear();
                store.topology.distrust();
                wait(attempt).await;
            }
            // The keys of this slot are being moved.
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
