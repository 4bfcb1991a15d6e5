//! What the nodes tell each other through Redis: that usage was given back, by pub/sub.
//!
//! The scripts that give usage back publish its key, so that a node hears of it before it can be told anything
//! newer. Each primary is subscribed to by itself, as each runs scripts and fails by itself; in a Cluster the messages
//! of the others come too, and to hear of a key twice does no harm.

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

/// What follows the prefix in the name of the channel.
const CHANNEL: &str = "given-back";
/// How often a subscription is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// What is between two attempts to subscribe, and between two looks whether the primaries are the same.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// The least time between two such looks, however often slots move.
const MIN_LOOK_EVERY: Duration = Duration::from_millis(50);

/// What nodes that share a Redis are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Announcement<'a> {
    /// From here on everything that gives usage in this fault domain back is told.
    Connected(FaultDomain),
    /// For now nothing is told of this fault domain. A connection that went silent is found out within a second.
    Disconnected(FaultDomain),
    /// Usage of this key was given back: its [`key_bytes`](tollgate_store::key_bytes).
    GivenBack(&'a [u8]),
    /// Keys have moved to other servers: what was given back of them may have been told nowhere.
    Rearranged,
}

/// Who is told.
trait Tell: Fn(Announcement<'_>) + Send + Sync + 'static {}

impl<T: Fn(Announcement<'_>) + Send + Sync + 'static> Tell for T {}

/// The task that hears one primary.
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
    /// Tells `tell` what the nodes announce, for ever. It is called by the tasks that read from Redis, so it must
    /// not wait.
    pub async fn listen(self, tell: impl Fn(Announcement<'_>) + Send + Sync + 'static) {
        let tell = Arc::new(tell);
        let mut heard: Vec<Hearing> = Vec::new();
        loop {
            // What is wrong, the checks find out, and tell. Those that are known go on to be heard.
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

    /// Hears `primaries`, and nobody else any more.
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
            // It tells nothing after this.
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

    /// The channel that this store's nodes share.
    pub(crate) fn channel(&self) -> String {
        format!("{}{CHANNEL}", self.keys.prefix)
    }
}

/// Tells what `primary` announces on `channel`, for ever.
async fn hear_one(primary: Arc<Link>, channel: String, tell: Arc<impl Tell>) {
    loop {
        // What is wrong, the checks find out, and tell.
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

/// Asks for the time until there is no answer; so the server's clock is known also when nobody checks.
async fn ask_until_silent(primary: &Link, mut connection: MultiplexedConnection) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let answer = tokio::time::timeout(PING_TIMEOUT, primary.ask_time(&mut connection));
        match answer.await {
            Ok(Ok(())) => {}
            // It lives, and that is what was asked.
            Ok(Err(error)) if was_refused(&error) => {}
            _ => return,
        }
    }
}
