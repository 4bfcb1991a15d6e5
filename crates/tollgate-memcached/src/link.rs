//! The link to one server: makes its connection when it is first needed and again after it was lost, at a bounded pace. While
//! there is no connection, calls fail at once; nothing is queued, and nothing is sent twice.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::connection::{Connection, Failure};
use crate::errors;
use crate::protocol::{Command, Reply};

/// How many attempts to connect may be made at once. Together with [`PACE`] there are at most 9 in any second, and P14
/// allows 10.
const CONNECTS: u32 = 5;
/// The time after which one attempt of [`CONNECTS`] is available again.
const PACE: Duration = Duration::from_millis(250);
/// The maximum delay after failed attempts, before jitter.
const MAX_BACKOFF: Duration = Duration::from_millis(800);
/// How long a connection may take to be made, the first answer included. It does not depend on the deadline of a call: the
/// attempt continues after the call has timed out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A link to one server.
#[derive(Debug)]
pub(crate) struct Link {
    host: String,
    port: u16,
    /// Host and port, for messages.
    pub(crate) place: String,
    state: Mutex<State>,
    /// Held by the task that connects.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// Numbers the connections.
    generation: u64,
    failures: u32,
    /// Until when the pace of [`CONNECTS`] is used up.
    used_until: Option<Instant>,
    not_before: Option<Instant>,
    last_failure: Option<(StoreErrorKind, String)>,
}

impl State {
    /// Whether an attempt may be made at `now`. If so, it counts as made.
    fn admits(&mut self, now: Instant) -> bool {
        let next = self.used_until.map_or(now, |until| until.max(now)) + PACE;
        let admits = next <= now + PACE * CONNECTS && self.not_before.is_none_or(|at| at <= now);
        if admits {
            self.used_until = Some(next);
        }
        admits
    }
}

impl Link {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let place =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self {
            host: host.to_owned(),
            port,
            place,
            state: Mutex::default(),
            connecting: Arc::default(),
        }
    }

    /// A poisoned lock is fine: every change is complete at once.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `command` over `connection` and waits for its answer until `until`. A refusal is an error of a command that was
    /// not carried out.
    pub(crate) async fn ask(
        &self,
        connection: &Connection,
        command: &Command<'_>,
        until: Instant,
    ) -> Result<Reply, Failure> {
        let reply = connection.ask(&self.place, command, until).await;
        match reply {
            Ok(Reply::Refused(line)) => Err(Failure::NotSent(errors::refused(&self.place, &line))),
            reply => reply,
        }
    }

    /// The connection. If there is none, one is made, which the caller need not wait for.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, StoreError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        // This runs in a separate task, so that the attempt continues when the call times out.
        let attempt = tokio::spawn(Arc::clone(self).connect());
        let unavailable = |error: &dyn std::fmt::Display| {
            Err(self.failed(StoreErrorKind::Unavailable, &error.to_string()))
        };
        attempt.await.unwrap_or_else(|error| unavailable(&error))
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let mut state = self.state();
        if state.connection.as_ref().is_some_and(|connection| connection.has_ended()) {
            state.connection = None;
        }
        state.connection.clone()
    }

    async fn connect(self: Arc<Self>) -> Result<Arc<Connection>, StoreError> {
        let _connecting = Arc::clone(&self.connecting).lock_owned().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let generation = {
            let mut state = self.state();
            if !state.admits(Instant::now()) {
                let often = (StoreErrorKind::Unavailable, "connecting too often".to_owned());
                let (kind, why) = state.last_failure.clone().unwrap_or(often);
                drop(state);
                return Err(self.failed(kind, &why));
            }
            state.generation += 1;
            state.generation
        };
        let until = Instant::now() + CONNECT_TIMEOUT;
        let made = tokio::time::timeout_at(until, self.made(generation, until)).await;
        let timed_out = || Err((StoreErrorKind::Unavailable, "it took too long".to_owned()));
        let made = made.unwrap_or_else(|_| timed_out());
        let mut state = self.state();
        match made {
            Ok(connection) => {
                state.connection = Some(Arc::clone(&connection));
                (state.failures, state.not_before) = (0, None);
                Ok(connection)
            }
            Err((kind, why)) => {
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + backoff(state.failures));
                state.last_failure = Some((kind, why.clone()));
                drop(state);
                Err(self.failed(kind, &why))
            }
        }
    }

    /// Makes a connection and asks for memcached's time, which says when its values expire.
    async fn made(
        &self,
        generation: u64,
        until: Instant,
    ) -> Result<Arc<Connection>, (StoreErrorKind, String)> {
        let unavailable = |error: std::io::Error| (StoreErrorKind::Unavailable, error.to_string());
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unavailable)?;
        stream.set_nodelay(true).map_err(unavailable)?;
        let connection = Connection::over(stream, generation);
        match connection.ask(&self.place, &Command::Stats { of: "" }, until).await {
            Ok(Reply::Stats(stats)) => {
                let time = stats.iter().find(|(name, _)| name == "time");
                let told_s = time.and_then(|(_, value)| value.parse().ok());
                let no_time = || (StoreErrorKind::Unexpected, "`stats` has no time".to_owned());
                connection.note_time(told_s.ok_or_else(no_time)?);
                Ok(connection)
            }
            Ok(Reply::Refused(line)) => Err((errors::kind_of(&line), line)),
            Ok(_) => Err((StoreErrorKind::Unexpected, "it does not answer `stats`".to_owned())),
            Err(failure) => {
                let error = failure.of_read();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Err((error.kind(), cause.unwrap_or_else(|| error.to_string())))
            }
        }
    }

    fn failed(&self, kind: StoreErrorKind, cause: &str) -> StoreError {
        let context = format!("no connection to memcached at {}: {cause}", self.place);
        errors::with_remedy(StoreError::new(kind, context))
    }
}

/// A random time up to a bound that doubles with each failure (full jitter).
fn backoff(failures: u32) -> Duration {
    jitter(PACE.saturating_mul(1 << failures.min(8)).min(MAX_BACKOFF))
}

/// A random time below `most`.
pub(crate) fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(most);
    let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % most_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P14 with one attempt to spare.
    #[test]
    fn no_second_has_more_than_9_attempts() {
        let (mut state, start) = (State::default(), Instant::now());
        let tick = Duration::from_millis(1);
        let made: Vec<u32> =
            (0..5_000).filter(|tick_count| state.admits(start + tick * *tick_count)).collect();
        let within =
            |first: &u32| made.iter().filter(|at| (*first..first + 1_000).contains(at)).count();
        assert!(made.iter().map(within).max().is_some_and(|most| (6..=9).contains(&most)));
    }
}
