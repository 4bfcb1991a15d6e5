//! Examines memcached at the start: problems that only a wrong configuration can cause, and settings that endanger exact limits.

use std::time::Duration;

use tokio::time::Instant;
use tollgate_store::{Misconfiguration, StartProblem, StoreError, StoreErrorKind, Warning};

use crate::connection::Failure;
use crate::protocol::{Command, Reply};
use crate::store::{MemcachedStore, Shared};

/// How long the examination may take if nobody answers: a server whose memcached is unavailable starts within 2 s (P14).
const LOOK: Duration = Duration::from_millis(1_500);
/// The largest value that memcached must take: its default.
const MIN_ITEM_BYTES: u64 = 1 << 20;

/// Values of `stats` and of `stats settings`.
pub(crate) type Stats = Vec<(String, String)>;

/// The value of `name`.
pub(crate) fn stat<'a>(stats: &'a Stats, name: &str) -> Option<&'a str> {
    stats.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl MemcachedStore {
    /// Examines whether this is a memcached that does what the store needs. Ends within about two seconds if nobody
    /// answers.
    pub async fn check_start(&self) -> Result<(), StartProblem> {
        self.examine().await.map(|_| ())
    }

    /// The same; returns settings that endanger exact limits.
    pub async fn examine(&self) -> Result<Vec<Warning>, StartProblem> {
        let until = Instant::now() + LOOK;
        let examination = self.shared.examine(until);
        let examined = tokio::time::timeout_at(until, examination).await;
        let too_late = || {
            let context = format!("memcached at {} did not answer in time", self.shared.link.place);
            Err(StoreError::new(StoreErrorKind::Unavailable, context).into())
        };
        examined.unwrap_or_else(|_| too_late())
    }
}

impl Shared {
    async fn examine(&self, until: Instant) -> Result<Vec<Warning>, StartProblem> {
        let stats = self.stats("", until).await.map_err(|error| self.judged(error))?;
        let version = stat(&stats, "version").unwrap_or("of an unknown version").to_owned();
        let settings = self.stats("settings", until).await.map_err(|error| self.judged(error))?;
        let place = &self.link.place;
        let wrong = |problem: String, remedy: &str| {
            Err(StartProblem::Misconfigured(Misconfiguration::new(problem, remedy)))
        };
        if stat(&settings, "cas_enabled") == Some("no") {
            let problem = format!(
                "memcached at {place} was started with -C, so it cannot tell whether a value has been changed"
            );
            return wrong(problem, "start it without -C");
        }
        let item_bytes = stat(&settings, "item_size_max").and_then(|value| value.parse().ok());
        if item_bytes.is_some_and(|bytes: u64| bytes < MIN_ITEM_BYTES) {
            let problem =
                format!("memcached at {place} takes no values of 1 MiB, which a long log needs");
            return wrong(problem, "start it without -I, or with -I 1m or more");
        }
        let tells_numbers = self.probe(until).await;
        let is_old =
            matches!(&tells_numbers, Err(error) if error.kind() == StoreErrorKind::Unsupported);
        if is_old || matches!(tells_numbers, Ok(false)) {
            let problem = format!(
                "memcached at {place} is {version}, which does not tell the CAS number of what it stores"
            );
            return wrong(problem, "accepted: 1.6.18 or later");
        }
        tells_numbers.map_err(|error| self.judged(error))?;
        let evicts = stat(&settings, "evictions") != Some("off");
        Ok(evicts.then(|| self.eviction_warning()).into_iter().collect())
    }

    fn eviction_warning(&self) -> Warning {
        let place = &self.link.place;
        Warning::new(format!(
            "memcached at {place} evicts values when its memory is full, and evicted limits start at 0; start it with -M, give \
             it memory for all limits (-m), and keep other data elsewhere"
        ))
    }

    /// What `stats` says of something, `""` for general values.
    pub(crate) async fn stats(&self, of: &str, until: Instant) -> Result<Stats, StoreError> {
        let connection = self.link.connection().await?;
        let reply = self.link.ask(&connection, &Command::Stats { of }, until).await;
        match reply.map_err(Failure::of_read)? {
            Reply::Stats(stats) => Ok(stats),
            other => {
                let context = format!("memcached answered `stats` with {other:?}");
                Err(StoreError::new(StoreErrorKind::Unexpected, context))
            }
        }
    }

    /// Whether waiting can help.
    fn judged(&self, error: StoreError) -> StartProblem {
        let place = &self.link.place;
        let (problem, remedy) = match error.kind() {
            StoreErrorKind::Unexpected => (
                format!("{place} does not speak memcached's protocol"),
                "check the host and the port in the URL of the store",
            ),
            StoreErrorKind::Unauthenticated => (
                format!("memcached at {place} requires a login"),
                "start it without -S and -Y, and let only Tollgate's nodes reach it",
            ),
            _ => return error.into(),
        };
        StartProblem::Misconfigured(Misconfiguration::new(problem, remedy))
    }
}
