//! One multiplexed connection: commands of any number of callers are sent in the order in which they come, as many at a time
//! as there are, and the answers are passed on in the same order.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::errors;
use crate::protocol::{self, Command, Malformed, Reply};

/// The most commands that wait for an answer at a time.
const MAX_WAITING: usize = 65_536;
/// The most bytes that wait to be sent.
const MAX_OUT_BYTES: usize = 64 << 20;
/// The size of a read.
const READ_BYTES: usize = 64 << 10;
/// By how much an item may expire late: memcached counts in seconds, and the second in which it told its time may have been
/// over.
const EXPIRY_SLACK_S: u64 = 2;
/// The latest time that memcached accepts: it is a signed number of 32 bits.
const MAX_EXPIRY_S: u64 = i32::MAX as u64;

/// A connection that was made.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number on the link.
    pub(crate) generation: u64,
    state: Mutex<State>,
    has_commands: Notify,
    closed: Notify,
    told: OnceTime,
}

/// memcached's own time, in whole seconds, and when it told it.
type OnceTime = std::sync::OnceLock<(u64, Instant)>;

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    waiting: VecDeque<oneshot::Sender<Reply>>,
    /// Why the connection has ended.
    ended: Option<Ended>,
}

/// Why a connection has ended.
#[derive(Clone, Debug)]
struct Ended {
    kind: StoreErrorKind,
    why: String,
}

impl Ended {
    fn unavailable(why: impl Into<String>) -> Self {
        Self { kind: StoreErrorKind::Unavailable, why: why.into() }
    }

    fn strange(why: &str) -> Self {
        Self { kind: StoreErrorKind::Unexpected, why: why.to_owned() }
    }

    /// The error of a command without an answer.
    fn error(&self, place: &str) -> StoreError {
        let context = match self.kind {
            StoreErrorKind::Unexpected => format!("{place} does not speak memcached's protocol"),
            _ => format!("memcached at {place} did not answer"),
        };
        errors::with_remedy(StoreError::new(self.kind, context).caused_by(self.why.clone()))
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Why a command has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was not sent.
    NotSent(StoreError),
    /// It may have been carried out.
    Sent(StoreError),
}

impl Failure {
    /// The error of a command that changes something.
    pub(crate) fn of_change(self) -> StoreError {
        match self {
            Self::NotSent(error) => error,
            Self::Sent(error) => error.after_send(),
        }
    }

    /// The error of a command that only reads.
    pub(crate) fn of_read(self) -> StoreError {
        match self {
            Self::NotSent(error) | Self::Sent(error) => error,
        }
    }
}

impl Connection {
    /// Sends and receives over `stream` until it ends.
    pub(crate) fn over(stream: TcpStream, generation: u64) -> Arc<Self> {
        let connection = Arc::new(Self {
            generation,
            state: Mutex::default(),
            has_commands: Notify::new(),
            closed: Notify::new(),
            told: OnceTime::new(),
        });
        let (reading, writing) = stream.into_split();
        let of_task = Arc::clone(&connection);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = of_task.receive(reading) => ended,
                ended = of_task.send(writing) => ended,
                () = of_task.closed.notified() => Ended::unavailable("it was closed"),
            };
            of_task.end(ended);
        });
        connection
    }

    /// A poisoned lock is fine: every change is complete at once.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Ends the connection; whoever waits for an answer gets none.
    fn close(&self, ended: &Ended) {
        self.end(ended.clone());
        self.closed.notify_one();
    }

    fn end(&self, ended: Ended) {
        let mut state = self.state();
        state.ended.get_or_insert(ended);
        let waiting = std::mem::take(&mut state.waiting);
        state.out = Vec::new();
        drop(state);
        drop(waiting);
    }

    /// Sends `command` and waits for its answer until `until`; `place` is that of the server, for messages.
    pub(crate) async fn ask(
        &self,
        place: &str,
        command: &Command<'_>,
        until: Instant,
    ) -> Result<Reply, Failure> {
        let answer = {
            let mut state = self.state();
            if let Some(ended) = &state.ended {
                return Err(Failure::NotSent(ended.error(place)));
            }
            if state.waiting.len() >= MAX_WAITING || state.out.len() >= MAX_OUT_BYTES {
                let context = "this node has too many unanswered commands to memcached";
                return Err(Failure::NotSent(StoreError::new(StoreErrorKind::NotAsked, context)));
            }
            command.write(&mut state.out);
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        self.has_commands.notify_one();
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => {
                let ended = self.state().ended.clone();
                let ended = ended.unwrap_or_else(|| Ended::unavailable("the connection was lost"));
                Err(Failure::Sent(ended.error(place)))
            }
            Err(_) => {
                // Its answer may come at any time or never, so nothing behind it can be relied on.
                let ended = Ended::unavailable("an answer did not arrive in time");
                self.close(&ended);
                Err(Failure::Sent(ended.error(place)))
            }
        }
    }

    /// Sends what there is to send, until the connection ends.
    async fn send(&self, mut writing: OwnedWriteHalf) -> Ended {
        let mut sending = Vec::new();
        loop {
            let commands = self.has_commands.notified();
            std::mem::swap(&mut self.state().out, &mut sending);
            if sending.is_empty() {
                commands.await;
                continue;
            }
            if let Err(error) = writing.write_all(&sending).await {
                return error.into();
            }
            sending.clear();
        }
    }

    /// Passes answers on, until the connection ends.
    async fn receive(&self, mut reading: OwnedReadHalf) -> Ended {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            let mut used = 0;
            loop {
                match protocol::parse(&bytes[used..]) {
                    Ok(None) => break,
                    Ok(Some((reply, length))) => {
                        used += length;
                        let Some(waiting) = self.state().waiting.pop_front() else {
                            return Ended::strange("it answered without having been asked");
                        };
                        // Nobody may wait any more.
                        _ = waiting.send(reply);
                    }
                    Err(Malformed) => return Ended::strange("its answer is not one of memcached"),
                }
            }
            bytes.drain(..used);
            bytes.reserve(READ_BYTES);
            match reading.read_buf(&mut bytes).await {
                Ok(0) => return Ended::unavailable("it closed the connection"),
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    }

    /// Notes that memcached told this time just now.
    pub(crate) fn note_time(&self, told_s: u64) {
        // The first one stays.
        _ = self.told.set((told_s, Instant::now()));
    }

    /// The time, by memcached's clock, at which a value expires that must live for `life`.
    ///
    /// It is an absolute time: memcached takes a relative one only up to 30 days. It does not depend on how this machine's
    /// clock is set.
    pub(crate) fn expires_at_s(&self, life: Duration) -> u64 {
        let Some((told_s, at)) = self.told.get() else { return MAX_EXPIRY_S };
        let life = at.elapsed().saturating_add(life);
        let whole_s = life.as_secs() + u64::from(life.subsec_nanos() > 0);
        told_s.saturating_add(whole_s).saturating_add(EXPIRY_SLACK_S).min(MAX_EXPIRY_S)
    }
}
