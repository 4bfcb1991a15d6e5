//! What an operator should know of a Redis at start: that it would evict limits, or that rights are missing.

use std::error::Error;
use std::fmt;

use tollgate_store::{StoreError, StoreErrorKind};

use crate::call::Progress;
use crate::key::slot;
use crate::link::Failure;
use crate::script::RESET;
use crate::store::RedisStore;
use crate::url::shown;

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
    /// Needs the right to `INFO`; without it there is a warning that nothing could be said.
    pub async fn warnings(&self) -> Result<Vec<Warning>, StoreError> {
        let mut warnings = Vec::new();
        for link in self.topology.primaries().await? {
            let place = format!("Redis at {}", shown(&link.address));
            let mut info = redis::cmd("INFO");
            info.arg("memory");
            let text: String = match link.query(&info).await {
                Ok(text) => text,
                Err(Failure::NotSent(error)) => return Err(error),
                Err(Failure::Redis(error)) => {
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
        let call = self.run::<i64>(&RESET, slot, &keys, &told, &progress);
        match self.in_time(&progress, false, call).await {
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
