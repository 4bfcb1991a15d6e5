//! One multiplexed connection to one server. It is made when it is first needed and again after it was lost, at a
//! bounded pace. While there is no connection, calls fail at once; nothing is queued, and nothing is sent twice.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value,
};
use tokio::time::Instant;
use tollgate_core::Timestamp;
use tollgate_store::{FaultDomain, StoreError, StoreErrorKind};

use crate::errors;
use crate::login::{Login, without_arguments};
use crate::server_clock::ServerClock;
use crate::url::{Address, shown};

/// How many attempts to connect to one server may be made at once. Together with [`PACE`] there are at most 9 in any
/// second. P14 allows 10, but the server may accept two attempts closer together than they were made. Each server has
/// its own budget, so that a large Cluster can be connected to at once.
const CONNECTS: u32 = 5;
/// How many of [`CONNECTS`] a subscription leaves for checks.
const FOR_CHECKS: u32 = 3;
/// The time after which one attempt of [`CONNECTS`] is available again.
const PACE: Duration = Duration::from_millis(250);
/// The maximum delay after failed attempts, before jitter.
const MAX_BACKOFF: Duration = Duration::from_millis(800);
/// How long a connection may take to be made. It does not depend on the deadline of a call: the attempt continues after
/// the call has timed out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a new connection waits for the server's time.
const TIME_TIMEOUT: Duration = Duration::from_millis(50);

/// Paces the attempts to connect to one server.
#[derive(Debug, Default)]
pub(crate) struct Pacer(Mutex<Option<Instant>>);

impl Pacer {
    /// Whether an attempt may be made now. If so, it counts as made.
    fn admits(&self) -> bool {
        self.admits_up_to(CONNECTS, Instant::now())
    }

    /// Waits until an attempt may be made that is less urgent than one for a check. It then counts as made.
    pub(crate) async fn admits_after_checks(&self) {
        while !self.admits_up_to(CONNECTS - FOR_CHECKS, Instant::now()) {
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whether an attempt may be made at `now`, with at most `most` of them at once. If so, it counts as made.
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
    /// The fault domain of this server.
    pub(crate) domain: FaultDomain,
    login: Login,
    tls: bool,
    pacer: Pacer,
    clock: ServerClock,
    state: Mutex<State>,
    /// Held by the task that connects.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Set when the connection has ended, even if nothing is being sent on it.
    has_ended: Arc<AtomicBool>,
    /// Numbers the connections, so that a late error does not drop a newer one.
    generation: u64,
    failures: u32,
    not_before: Option<Instant>,
    last_failure: Option<(StoreErrorKind, String)>,
}

/// A connection on which commands can be sent, and its number on the link.
pub(crate) struct Connection {
    pub(crate) generation: u64,
    connection: MultiplexedConnection,
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
    pub(crate) fn new(address: Address, domain: FaultDomain, login: &Login) -> Self {
        Self {
            login: login.clone(),
            address,
            domain,
            tls: login.speaks_tls(),
            pacer: Pacer::default(),
            clock: ServerClock::new(),
            state: Mutex::default(),
            connecting: Arc::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `command` once and waits for its answer.
    pub(crate) async fn query<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<T, Failure> {
        let connection = self.connection().await.map_err(Failure::NotSent)?;
        self.send(connection, &[], command).await.map_err(Failure::Redis)
    }

    /// The same, with the commands `before` sent directly before it; their answers are ignored.
    pub(crate) async fn query_after(
        self: &Arc<Self>,
        before: &[Cmd],
        command: &Cmd,
    ) -> Result<(), Failure> {
        let connection = self.connection().await.map_err(Failure::NotSent)?;
        let mut pipeline = redis::pipe();
        for one in before.iter().chain([command]) {
            pipeline.add_command(one.clone()).ignore();
        }
        let Connection { generation, mut connection } = connection;
        pipeline.query_async::<()>(&mut connection).await.map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.lose(generation, StoreErrorKind::Unavailable, &error.to_string());
            }
            Failure::Redis(error)
        })
    }

    /// The same with a `timeout`. When it expires, the connection is closed.
    pub(crate) async fn query_within<T: FromRedisValue>(
        self: &Arc<Self>,
        timeout: Duration,
        command: &Cmd,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + timeout;
        let too_late = || Failure::NotSent(self.unavailable("it took too long to connect"));
        let connection = tokio::time::timeout_at(deadline, self.connection());
        let connection = connection.await.map_err(|_| too_late())?.map_err(Failure::NotSent)?;
        let generation = connection.generation;
        let answer = tokio::time::timeout_at(deadline, self.send(connection, &[], command));
        answer.await.map_or_else(
            |_| {
                self.lose(
                    generation,
                    StoreErrorKind::Unavailable,
                    "an answer did not arrive in time",
                );
                let why = format!("it did not answer {} in time", name_of(command));
                Err(Failure::NotSent(self.unavailable(&why)))
            },
            |answer| answer.map_err(Failure::Redis),
        )
    }

    /// Sends `command` once, directly after the commands `before`, and waits for its answer.
    pub(crate) async fn send<T: FromRedisValue>(
        &self,
        Connection { generation, mut connection }: Connection,
        before: &[Cmd],
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let answer = if before.is_empty() {
            command.query_async(&mut connection).await
        } else {
            last_answer(&mut connection, before, command).await
        };
        answer.inspect_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.lose(generation, StoreErrorKind::Unavailable, &error.to_string());
            }
        })
    }

    /// Drops the connection `generation`, if it is still in use: an answer did not arrive in time, or the server is no
    /// longer the right one.
    pub(crate) fn lose(&self, generation: u64, kind: StoreErrorKind, why: &str) {
        let mut state = self.state();
        if state.generation == generation {
            state.connection = None;
            state.last_failure = Some((kind, why.to_owned()));
        }
    }

    /// Records the time `told` in an answer of this server.
    pub(crate) fn note_time(&self, told: Timestamp, sent: Instant, received: Instant) {
        self.clock.note(told, sent, received);
    }

    /// The time by this server's clock after which a call with this `deadline` must not charge; `None` until the server
    /// has reported its time. It is never later than the deadline.
    pub(crate) fn latest_charge_time(&self, deadline: Instant) -> Option<Timestamp> {
        self.clock.at(deadline)
    }

    /// The connection. If there is none, one is made.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection, StoreError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        // This runs in a separate task, so that the attempt continues when the call times out.
        let attempt = tokio::spawn(Arc::clone(self).connect());
        attempt.await.unwrap_or_else(|error| Err(self.unavailable(&error.to_string())))
    }

    /// Whether there is a connection that has not ended.
    pub(crate) fn is_connected(&self) -> bool {
        self.current().is_some()
    }

    fn current(&self) -> Option<Connection> {
        let mut state = self.state();
        // Relaxed: no other memory depends on the flag. If the connection ends just now, the call will fail.
        if state.connection.is_some() && state.has_ended.load(Ordering::Relaxed) {
            state.connection = None;
        }
        let generation = state.generation;
        state.connection.clone().map(|connection| Connection { generation, connection })
    }

    async fn connect(self: Arc<Self>) -> Result<Connection, StoreError> {
        let _connecting = Arc::clone(&self.connecting).lock_owned().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let put_off = self.state().not_before.filter(|at| *at > Instant::now());
        if put_off.is_some() || !self.pacer.admits() {
            let last = self.state().last_failure.clone();
            let unavailable = (StoreErrorKind::Unavailable, "connecting too often".to_owned());
            let (kind, why) = last.unwrap_or(unavailable);
            return Err(self.failed(kind, &why));
        }
        match self.made().await {
            Ok((connection, has_ended)) => {
                let mut state = self.state();
                state.has_ended = has_ended;
                state.generation += 1;
                state.connection = Some(connection.clone());
                (state.failures, state.not_before) = (0, None);
                Ok(Connection { generation: state.generation, connection })
            }
            Err(error) => {
                // A server without TLS waits for the rest of what it takes for a command.
                let hint = if self.tls && error.is_timeout() { "; does it use TLS?" } else { "" };
                let kind = errors::kind_of(&error);
                let problem = format!("{}{hint}", without_arguments(&error));
                let mut state = self.state();
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + backoff(state.failures));
                state.last_failure = Some((kind, problem.clone()));
                drop(state);
                Err(self.failed(kind, &problem))
            }
        }
    }

    /// Makes a connection. It also asks for the server's time, but does not wait long for it: if the server does not
    /// answer, the call fails anyway.
    async fn made(&self) -> Result<(MultiplexedConnection, Arc<AtomicBool>), RedisError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, has_ended) =
            self.login.connect(&self.address, CONNECT_TIMEOUT, config).await?;
        match tokio::time::timeout(TIME_TIMEOUT, self.ask_time(&mut connection)).await {
            // A Sentinel does not report its time, and a user may lack the right. If something is wrong, calls report
            // it.
            Ok(Err(error)) if !errors::was_refused(&error) => Err(error),
            _ => Ok((connection, has_ended)),
        }
    }

    /// Asks for the server's time, for [`Link::latest_charge_time`].
    pub(crate) async fn ask_time(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let sent = Instant::now();
        let (s, us): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let told_us = s.saturating_mul(1_000_000).saturating_add(us);
        let told = Timestamp::from_ns(told_us.saturating_mul(1_000));
        self.note_time(told, sent, Instant::now());
        Ok(())
    }

    /// Makes a separate connection that receives what is published on `channel` and passes it to `push`, as well as the
    /// end of the connection. It waits for its turn to connect.
    pub(crate) async fn subscribe(
        &self,
        channel: &str,
        push: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.pacer.admits_after_checks().await;
        let login = self.login.for_subscriptions();
        let subscribed = async {
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(Some(CONNECT_TIMEOUT))
                .set_push_sender(push);
            let (mut connection, _) = login.connect(&self.address, CONNECT_TIMEOUT, config).await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        subscribed.await.map_err(|error: RedisError| self.unavailable(&without_arguments(&error)))
    }

    fn unavailable(&self, cause: &str) -> StoreError {
        self.failed(StoreErrorKind::Unavailable, cause)
    }

    fn failed(&self, kind: StoreErrorKind, cause: &str) -> StoreError {
        let place = shown(&self.address);
        let context = format!("no connection to Redis at {place}: {cause}");
        errors::with_remedy(StoreError::new(kind, context)).within(self.domain)
    }
}

/// Sends `before` and `command` together. Returns the answer to `command`, or why it could not be run.
async fn last_answer<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    before: &[Cmd],
    command: &Cmd,
) -> Result<T, RedisError> {
    let mut pipeline = redis::pipe();
    for one in before.iter().chain([command]) {
        pipeline.add_command(one.clone());
    }
    let mut answers = connection.req_packed_commands(&pipeline, 0, before.len() + 1).await?;
    let last = answers.pop().unwrap_or(Value::Nil).extract_error();
    if let Err(error) = &last
        && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
    {
        // The script was to be loaded by a command in `before`, which failed.
        for answer in answers {
            answer.extract_error()?;
        }
    }
    Ok(T::from_redis_value(last?)?)
}

fn name_of(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

/// A random time up to a bound that doubles with each failure (full jitter).
fn backoff(failures: u32) -> Duration {
    let most = PACE.saturating_mul(1 << failures.min(8)).min(MAX_BACKOFF);
    let random = RandomState::new().hash_one(failures);
    let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % most_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new node of a Cluster subscribes and checks at once; the connections for checks come first.
    #[test]
    fn subscriptions_leave_connects_to_the_checks() {
        let (pacer, now) = (Pacer::default(), Instant::now());
        let for_subscriptions = CONNECTS - FOR_CHECKS;
        let made = (0..100).filter(|_| pacer.admits_up_to(for_subscriptions, now)).count();
        assert_eq!(made, for_subscriptions as usize);
        let made = (0..100).filter(|_| pacer.admits_up_to(CONNECTS, now)).count();
        assert_eq!(made, FOR_CHECKS as usize);
        assert!(!pacer.admits_up_to(for_subscriptions, now + PACE * FOR_CHECKS));
        assert!(pacer.admits_up_to(for_subscriptions, now + PACE * (FOR_CHECKS + 1)));
    }

    /// P14 with one attempt to spare, whatever the connections are for.
    #[test]
    fn no_second_has_more_than_9_attempts() {
        let (pacer, start) = (Pacer::default(), Instant::now());
        let tick = Duration::from_millis(1);
        let made: Vec<u32> = (0..5_000)
            .filter(|tick_count| pacer.admits_up_to(CONNECTS, start + tick * *tick_count))
            .collect();
        let within =
            |first: &u32| made.iter().filter(|at| (*first..first + 1_000).contains(at)).count();
        assert!(made.iter().map(within).max().is_some_and(|most| (6..=9).contains(&most)));
    }
}
