//! Announcements between nodes, by pub/sub in Redis: usage was given back.
//!
//! The scripts that give usage back publish its key in the same step, so a node receives the announcement before any
//! newer verdict on that key. There is one subscription per primary, because each primary runs scripts and can fail
//! independently. In a Cluster a message may arrive more than once; that is harmless.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tollgate_store::{FaultDomain, StoreError};

use crate::errors::was_refused;
use crate::link::Link;
use crate::store::RedisStore;

/// The channel is this name after the prefix.
const CHANNEL: &str = "given-back";
/// How often a subscription is checked with a PING.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long the answer to the PING may take.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// The time between two attempts to subscribe, and between two checks whether the primaries have changed.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// The minimum time between two such checks, however often slots move.
const MIN_LOOK_EVERY: Duration = Duration::from_millis(50);

/// What nodes that share a Redis announce to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Announcement<'a> {
    /// From now on, every change that gives back usage in this fault domain is announced.
    Connected(FaultDomain),
    /// Nothing is announced for this fault domain at the moment. A dead connection is detected within a second.
    Disconnected(FaultDomain),
    /// Usage of this key was given back: its [`key_bytes`](tollgate_store::key_bytes).
    GivenBack(&'a [u8]),
    /// Keys have moved to other servers; announcements about them may have been lost.
    Rearranged,
}

/// The callback that receives announcements.
trait Tell: Fn(Announcement<'_>) + Send + Sync + 'static {}

impl<T: Fn(Announcement<'_>) + Send + Sync + 'static> Tell for T {}

/// The task that listens to one primary.
struct Hearing {
    primary: Arc<Link>,
    task: JoinHandle<()>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RedisStore {
    /// Calls `tell` for every announcement, and never returns. The tasks that read from Redis call `tell`, so it must
    /// not block.
    pub async fn listen(self, tell: impl Fn(Announcement<'_>) + Send + Sync + 'static) {
        let tell = Arc::new(tell);
        let mut heard: Vec<Hearing> = Vec::new();
        loop {
            // If this fails, checks fail too and report the error. Known primaries are still listened to.
            if let Ok(primaries) = self.topology.primaries().await {
                self.hear(&mut heard, primaries, &tell).await;
            }
            let changed = tokio::time::timeout(RETRY_EVERY, self.topology.changed.notified());
            if changed.await.is_ok() {
                tell(Announcement::Rearranged);
                tokio::time::sleep(MIN_LOOK_EVERY).await;
            }
        }
    }

    /// Listens to exactly these `primaries`.
    async fn hear(
        &self,
        heard: &mut Vec<Hearing>,
        primaries: Vec<Arc<Link>>,
        tell: &Arc<impl Tell>,
    ) {
        let is_primary =
            |link: &Arc<Link>| primaries.iter().any(|primary| Arc::ptr_eq(primary, link));
        while let Some(at) = heard.iter().position(|hearing| !is_primary(&hearing.primary)) {
            let mut gone = heard.swap_remove(at);
            gone.task.abort();
            // Wait for the task to end, so that it announces nothing after `Disconnected`.
            let _ = (&mut gone.task).await;
            tell(Announcement::Disconnected(gone.primary.domain));
        }
        for primary in primaries {
            if !heard.iter().any(|hearing| Arc::ptr_eq(&hearing.primary, &primary)) {
                let hearing = hear_one(Arc::clone(&primary), self.channel(), Arc::clone(tell));
                heard.push(Hearing { primary, task: tokio::spawn(hearing) });
            }
        }
    }

    /// The channel of all nodes that use this prefix.
    pub(crate) fn channel(&self) -> String {
        format!("{}{CHANNEL}", self.keys.prefix)
    }
}

/// Passes on the announcements of `primary` on `channel`. Never returns.
async fn hear_one(primary: Arc<Link>, channel: String, tell: Arc<impl Tell>) {
    loop {
        // If this fails, checks fail too and report the error.
        let lost = Arc::new(Notify::new());
        if let Ok(connection) = subscribed(&primary, &channel, &tell, &lost).await {
            tell(Announcement::Connected(primary.domain));
            tokio::select! {
                () = lost.notified() => {}
                () = ask_until_silent(&primary, connection) => {}
            }
            tell(Announcement::Disconnected(primary.domain));
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

async fn subscribed(
    primary: &Arc<Link>,
    channel: &str,
    tell: &Arc<impl Tell>,
    lost: &Arc<Notify>,
) -> Result<MultiplexedConnection, StoreError> {
    let (tell, lost) = (Arc::clone(tell), Arc::clone(lost));
    let push = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
        match (push.kind, push.data.as_slice()) {
            (PushKind::Message, [_, Value::BulkString(key)]) => tell(Announcement::GivenBack(key)),
            (PushKind::Disconnection, _) => lost.notify_one(),
            _ => {}
        }
        Ok(())
    };
    primary.subscribe(channel, push).await
}

/// Asks for the server's time until no answer comes. This also keeps the estimate of the server's clock fresh when
/// there are no checks.
async fn ask_until_silent(primary: &Link, mut connection: MultiplexedConnection) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let answer = tokio::time::timeout(PING_TIMEOUT, primary.ask_time(&mut connection));
        match answer.await {
            Ok(Ok(())) => {}
            // Any answer shows that the connection is alive.
            Ok(Err(error)) if was_refused(&error) => {}
            _ => return,
        }
    }
}
