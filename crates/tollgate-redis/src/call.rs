//! One script, run within one deadline where its slot lives: sent again only when Redis has said that it did not
//! run it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use smallvec::{SmallVec, smallvec};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::link::{Failure, Link};
use crate::script::Script;
use crate::store::RedisStore;
use crate::url::shown;

/// How often one call is sent anew after Redis said that it did not run it.
const MAX_ATTEMPTS: usize = 4;

/// What is known of a call when its time is up.
#[derive(Default)]
pub(crate) struct Progress {
    sent: AtomicBool,
    link: Mutex<Option<Arc<Link>>>,
}

impl RedisStore {
    /// `call`, until its deadline.
    pub(crate) async fn in_time<T>(
        &self,
        progress: &Progress,
        charges: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Ok(answer) = tokio::time::timeout(self.deadline, call).await {
            return answer;
        }
        let context = format!("Redis has not answered within {} ms", self.deadline.as_millis());
        let error = StoreError::new(StoreErrorKind::Unavailable, context);
        // Relaxed: the call that set it has ended.
        if !progress.sent.load(Ordering::Relaxed) {
            return Err(error);
        }
        let link = progress.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(link) = link {
            link.drop_connection("an answer did not come in time");
            self.topology.distrust();
        }
        Err(if charges { error.after_send() } else { error })
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
        // Room for a check of one limit.
        let mut command = Cmd::with_capacity(3 + keys.len() + arguments.len(), 256);
        command.arg("EVALSHA").arg(&script.digest).arg(keys.len()).arg(keys).arg(arguments);
        let mut before: SmallVec<[Cmd; 2]> = SmallVec::new();
        let mut redirected: Option<Arc<Link>> = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let link = match redirected.take() {
                Some(link) => link,
                None => self.topology.link(slot).await?,
            };
            *progress.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
            // Relaxed: read by the same task.
            progress.sent.store(true, Ordering::Relaxed);
            let answer = if before.is_empty() {
                link.query(&command).await
            } else {
                link.query_after(&before, &command).await
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(Failure::NotSent(error)) => {
                    self.topology.distrust();
                    return Err(error);
                }
                Err(Failure::Redis(error)) => error,
            };
            let retry = attempt < MAX_ATTEMPTS;
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::NoScript) if retry => {
                    // There, and before `ASKING`, which holds for one command.
                    let mut load = redis::cmd("SCRIPT");
                    load.arg("LOAD").arg(script.text);
                    before.insert(0, load);
                    redirected = Some(link);
                }
                ErrorKind::Server(ServerErrorKind::Ask) if retry => {
                    before = smallvec![redis::cmd("ASKING")];
                    redirected = self.topology.redirect(&error)?;
                }
                ErrorKind::Server(
                    ServerErrorKind::Moved
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown,
                ) if retry => {
                    before.clear();
                    self.topology.distrust();
                    redirected = self.topology.redirect(&error)?;
                }
                ErrorKind::Server(ServerErrorKind::TryAgain) if retry => {
                    redirected = Some(link);
                    tokio::task::yield_now().await;
                }
                _ => {
                    self.topology.distrust();
                    return Err(store_error(&link, error));
                }
            }
        }
    }
}

/// What `error` of `link` is to the caller.
fn store_error(link: &Link, error: RedisError) -> StoreError {
    let place = format!("Redis at {}", shown(&link.address));
    let refused = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
    if !refused {
        let context = format!("{place} gave no answer");
        return StoreError::new(StoreErrorKind::Unavailable, context).after_send().caused_by(error);
    }
    let passing = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript
        )
    ) || matches!(error.code(), Some("BUSY" | "OOM" | "MISCONF" | "NOREPLICAS"));
    let kind = if passing { StoreErrorKind::Unavailable } else { StoreErrorKind::Unexpected };
    StoreError::new(kind, format!("{place} refused the call")).caused_by(error)
}
