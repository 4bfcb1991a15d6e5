//! One multiplexed connection to one server: made when it is first needed, and again when it was lost, at a
//! bounded pace. While there is none, calls fail at once; nothing is queued, and nothing is sent twice.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, ProtocolVersion, RedisError};
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::login::{Login, without_arguments};
use crate::url::{Address, shown};

/// Attempts to connect that all links of a store may make at once, and how many more in a second: at most 10 in
/// any one second (P14).
const CONNECTS: u32 = 5;
/// How many of [`CONNECTS`] subscriptions leave to the checks: enough to know a Cluster of three primaries.
const FOR_CHECKS: u32 = 3;
/// In which time one attempt of [`CONNECTS`] comes back.
const PACE: Duration = Duration::from_millis(200);
/// The most that failed attempts put off the next, before jitter.
const MAX_BACKOFF: Duration = Duration::from_millis(800);
/// How long a connection may take to be made. The deadline of a call is another matter: the attempt goes on
/// when the call has given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Spreads the attempts to connect of one store.
#[derive(Debug, Default)]
pub(crate) struct Pacer(Mutex<Option<Instant>>);

impl Pacer {
    /// Whether an attempt may be made now; then it counts as made.
    fn admits(&self) -> bool {
        self.admits_up_to(CONNECTS, Instant::now())
    }

    /// Waits until an attempt may be made that is less urgent than a check's; then it counts as made.
    pub(crate) async fn admits_beside_checks(&self) {
        while !self.admits_up_to(CONNECTS - FOR_CHECKS, Instant::now()) {
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whether an attempt may be made at `now` with at most `most` of them at once; then it counts as made.
    fn admits_up_to(&self, most: u32, now: Instant) -> bool {
        let mut used_until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = used_until.map_or(now, |until| until.max(now)) + PACE;
        let admits = next <= now + PACE * most;
        if admits {
            *used_until = Some(next);
        }
        admits
    }
}

/// A link to one server.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: Address,
    client: Client,
    tls: bool,
    pacer: Arc<Pacer>,
    state: Mutex<State>,
    /// Held by the task that connects.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a late error does not take away a new one.
    generation: u64,
    failures: u32,
    not_before: Option<Instant>,
    last_error: Option<String>,
}

/// Why a command has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was not sent.
    NotSent(StoreError),
    /// The server refused to run it, or it was sent and no answer came.
    Redis(RedisError),
}

impl Link {
    pub(crate) fn new(address: Address, login: &Login) -> Result<Self, StoreError> {
        Ok(Self {
            client: login.client(&address)?,
            address,
            tls: login.speaks_tls(),
            pacer: Arc::clone(&login.pacer),
            state: Mutex::default(),
            connecting: Arc::default(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `command` once and waits for its answer.
    pub(crate) async fn query<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<T, Failure> {
        let (generation, mut connection) = self.connection().await.map_err(Failure::NotSent)?;
        command.query_async(&mut connection).await.map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.lose(generation, &error.to_string());
            }
            Failure::Redis(error)
        })
    }

    /// The same as [`Link::query`], after other commands in one piece with it; answers `command`.
    pub(crate) async fn query_after<T: FromRedisValue>(
        self: &Arc<Self>,
        before: &[Cmd],
        command: &Cmd,
    ) -> Result<T, Failure> {
        let (generation, mut connection) = self.connection().await.map_err(Failure::NotSent)?;
        let mut pipeline = redis::pipe();
        for first in before {
            pipeline.add_command(first.clone()).ignore();
        }
        pipeline.add_command(command.clone());
        let answers: Result<(T,), _> = pipeline.query_async(&mut connection).await;
        answers.map(|(answer,)| answer).map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.lose(generation, &error.to_string());
            }
            Failure::Redis(error)
        })
    }

    /// Gives up the connection: an answer did not come in time, or the server is no longer the right one.
    pub(crate) fn drop_connection(&self, why: &str) {
        let generation = self.state().generation;
        self.lose(generation, why);
    }

    fn lose(&self, generation: u64, why: &str) {
        let mut state = self.state();
        if state.generation == generation {
            state.connection = None;
            state.last_error = Some(why.to_owned());
        }
    }

    async fn connection(self: &Arc<Self>) -> Result<(u64, MultiplexedConnection), StoreError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        // A task of its own, so that a call that has no more time does not end the attempt.
        let attempt = tokio::spawn(Arc::clone(self).connect());
        attempt.await.unwrap_or_else(|error| Err(self.unavailable(&error.to_string())))
    }

    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        let state = self.state();
        state.connection.clone().map(|connection| (state.generation, connection))
    }

    async fn connect(self: Arc<Self>) -> Result<(u64, MultiplexedConnection), StoreError> {
        let _connecting = Arc::clone(&self.connecting).lock_owned().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let put_off = self.state().not_before.filter(|at| *at > Instant::now());
        if put_off.is_some() || !self.pacer.admits() {
            let last = self.state().last_error.clone();
            return Err(self.unavailable(last.as_deref().unwrap_or("connecting too often")));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                let mut state = self.state();
                state.generation += 1;
                state.connection = Some(connection.clone());
                (state.failures, state.not_before) = (0, None);
                Ok((state.generation, connection))
            }
            Err(error) => {
                // A server that speaks no TLS waits for the end of a command that is none.
                let hint = if self.tls && error.is_timeout() { "; does it speak TLS?" } else { "" };
                let problem = format!("{}{hint}", without_arguments(&error));
                let mut state = self.state();
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + backoff(state.failures));
                state.last_error = Some(problem.clone());
                drop(state);
                Err(self.unavailable(&problem))
            }
        }
    }

    /// A connection of its own that hears what is published on `channel`. It is given to `push`, and that the
    /// connection has ended. It waits for its turn to connect: to give up what a Cluster's other primaries have
    /// granted meanwhile would be to begin anew for ever.
    pub(crate) async fn subscribe(
        &self,
        channel: &str,
        push: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.pacer.admits_beside_checks().await;
        let info = self.client.get_connection_info();
        // Only this protocol tells messages from answers on one connection.
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let subscribed = async {
            let client = Client::open(info.clone().set_redis_settings(redis))?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(CONNECT_TIMEOUT))
                .set_push_sender(push);
            let mut connection =
                client.get_multiplexed_async_connection_with_config(&config).await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        subscribed.await.map_err(|error: RedisError| self.unavailable(&without_arguments(&error)))
    }

    fn unavailable(&self, cause: &str) -> StoreError {
        let place = shown(&self.address);
        let context = format!("no connection to Redis at {place}: {cause}");
        StoreError::new(StoreErrorKind::Unavailable, context)
    }
}

/// A random time up to a bound that doubles with each failure: full jitter.
fn backoff(failures: u32) -> Duration {
    let most = PACE.saturating_mul(1 << failures.min(8)).min(MAX_BACKOFF);
    let random = RandomState::new().hash_one(failures);
    let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % most_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fresh node over a Cluster subscribes and checks at once: the checks have connections first.
    #[test]
    fn subscriptions_leave_connects_to_the_checks() {
        let (pacer, now) = (Pacer::default(), Instant::now());
        let beside = CONNECTS - FOR_CHECKS;
        let made = (0..100).filter(|_| pacer.admits_up_to(beside, now)).count();
        assert_eq!(made, beside as usize);
        let made = (0..100).filter(|_| pacer.admits_up_to(CONNECTS, now)).count();
        assert_eq!(made, FOR_CHECKS as usize);
        assert!(!pacer.admits_up_to(beside, now + PACE * FOR_CHECKS));
        assert!(pacer.admits_up_to(beside, now + PACE * (FOR_CHECKS + 1)));
    }

    /// P14, whatever is connected for.
    #[test]
    fn no_second_has_more_than_10_attempts() {
        let (pacer, start) = (Pacer::default(), Instant::now());
        let tick = Duration::from_millis(1);
        let made: Vec<u32> = (0..5_000)
            .filter(|tick_count| pacer.admits_up_to(CONNECTS, start + tick * *tick_count))
            .collect();
        let within =
            |first: &u32| made.iter().filter(|at| (*first..first + 1_000).contains(at)).count();
        assert!(made.iter().map(within).max().is_some_and(|most| (6..=10).contains(&most)));
    }
}
