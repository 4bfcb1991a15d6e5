//! What an operator should know of a Redis at start: that it would evict limits, or that rights are missing.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tollgate_store::{StoreError, StoreErrorKind};

use crate::call::Progress;
use crate::key::slot;
use crate::link::Failure;
use crate::script::RESET;
use crate::store::RedisStore;

/// How long one answer may take here. Not the deadline of a check: nobody waits for this, and a machine that is too busy for
/// that deadline is no reason to say that Redis was not reached.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Something about a Redis that works against exact limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl Warning {
    fn new(problem: String) -> Self {
        Self(problem)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Warning {}

impl RedisStore {
    /// Looks at each primary for what works against exact limits. An error means that one could not be asked.
    ///
    /// Needs the right to `INFO`; without it there is a warning that nothing could be said. Ends within some seconds, also
    /// where a connection has gone silent: whoever asks again then gets another one.
    pub async fn warnings(&self) -> Result<Vec<Warning>, StoreError> {
        let mut warnings = Vec::new();
        for link in self.topology.primaries().await? {
            let place = format!("Redis at {}:{}", link.address.0, link.address.1);
            let mut info = redis::cmd("INFO");
            info.arg("memory");
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, link.query::<String>(&info)).await;
            let text = match answer {
                Ok(Ok(text)) => text,
                Err(_) => {
                    link.drop_connection("INFO was not answered in time");
                    let seconds = ANSWER_TIMEOUT.as_secs();
                    let context = format!("{place} has not answered INFO within {seconds} s");
                    return Err(StoreError::new(StoreErrorKind::Unavailable, context));
                }
                Ok(Err(Failure::NotSent(error))) => return Err(error),
                Ok(Err(Failure::Redis(error))) => {
                    let problem = format!("{place} does not say whether it evicts keys: {error}");
                    warnings.push(Warning(problem));
                    continue;
                }
            };
            let value = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.split_once(':'));
                lines.find(|(known, _)| *known == name).map_or("", |(_, value)| value.trim())
            };
            let policy = value("maxmemory_policy");
            if value("maxmemory") != "0" && policy != "noeviction" {
                warnings.push(Warning(format!(
                    "{place} has maxmemory-policy {policy}: when its memory is full it drops limits \
                     that are in force; accepted: noeviction"
                )));
            }
        }
        if let Some(warning) = self.missing_rights().await? {
            warnings.push(warning);
        }
        Ok(warnings)
    }

    /// Runs the scripts on a key of their own, for the rights that they need.
    async fn missing_rights(&self) -> Result<Option<Warning>, StoreError> {
        let key = format!("{}probe", self.keys.prefix);
        let (slot, progress) = (slot(&key), Progress::default());
        // No limit has an empty name: nobody takes notice.
        let (keys, told) = ([key.as_str()], [self.channel().into_bytes(), Vec::new()]);
        let patient = Self { deadline: ANSWER_TIMEOUT, ..self.clone() };
        let call = patient.run::<i64>(&RESET, slot, &keys, &told, &progress);
        match patient.in_time(&progress, false, call).await {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == StoreErrorKind::Unexpected => {
                let cause = error.source().map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                Ok(Some(Warning::new(format!("{error}: {cause}"))))
            }
            Err(error) => Err(error),
        }
    }
}
