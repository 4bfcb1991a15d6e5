//! What the nodes tell each other through Redis: that usage was given back, by pub/sub.
//!
//! The scripts that give usage back publish its key, so that a node hears of it before it can be told anything
//! newer. Each primary is subscribed to, as each runs scripts; in a Cluster the messages of the others come too,
//! and to hear of a key twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tollgate_store::StoreError;

use crate::link::Link;
use crate::store::RedisStore;

/// What follows the prefix in the name of the channel.
const CHANNEL: &str = "given-back";
/// How often a subscription is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// What is between two attempts to subscribe.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What nodes that share a Redis are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Announcement<'a> {
    /// From here on everything that gives usage back is told.
    Connected,
    /// For now nothing is told. A connection that went silent is found out within a second.
    Disconnected,
    /// Usage of this key was given back: its [`key_bytes`](tollgate_store::key_bytes).
    GivenBack(&'a [u8]),
}

/// Subscriptions to all primaries, and the end of any of them.
struct Subscriptions {
    primaries: Vec<Arc<Link>>,
    connections: Vec<MultiplexedConnection>,
    lost: Arc<Notify>,
}

impl RedisStore {
    /// Tells `tell` what the nodes announce, for ever. It is called by the tasks that read from Redis, so it must
    /// not wait.
    pub async fn listen(self, tell: impl Fn(Announcement<'_>) + Send + Sync + 'static) {
        let tell = Arc::new(tell);
        loop {
            // What is wrong, the checks find out, and tell.
            if let Ok(subscriptions) = self.subscribe(&tell).await {
                tell(Announcement::Connected);
                self.until_lost(&subscriptions).await;
                tell(Announcement::Disconnected);
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// The channel that this store's nodes share.
    pub(crate) fn channel(&self) -> String {
        format!("{}{CHANNEL}", self.keys.prefix)
    }

    async fn subscribe(
        &self,
        tell: &Arc<impl Fn(Announcement<'_>) + Send + Sync + 'static>,
    ) -> Result<Subscriptions, StoreError> {
        let primaries = self.topology.primaries().await?;
        let lost = Arc::new(Notify::new());
        let mut connections = Vec::with_capacity(primaries.len());
        for primary in &primaries {
            let (tell, lost) = (Arc::clone(tell), Arc::clone(&lost));
            let push = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                match (push.kind, push.data.as_slice()) {
                    (PushKind::Message, [_, Value::BulkString(key)]) => {
                        tell(Announcement::GivenBack(key));
                    }
                    (PushKind::Disconnection, _) => lost.notify_one(),
                    _ => {}
                }
                Ok(())
            };
            connections.push(primary.subscribe(&self.channel(), push).await?);
        }
        Ok(Subscriptions { primaries, connections, lost })
    }

    /// Waits until a subscription has ended or is silent, or other servers have become the primaries.
    async fn until_lost(&self, subscriptions: &Subscriptions) {
        let mut pings: JoinSet<()> =
            subscriptions.connections.iter().cloned().map(ping_until_silent).collect();
        let primaries_changed = async {
            loop {
                tokio::time::sleep(PING_EVERY).await;
                let now = self.topology.primaries().await.unwrap_or_default();
                let of_then = &subscriptions.primaries;
                let same = now.len() == of_then.len()
                    && now.iter().all(|link| of_then.iter().any(|known| Arc::ptr_eq(known, link)));
                if !same {
                    return;
                }
            }
        };
        tokio::select! {
            () = subscriptions.lost.notified() => {}
            _ = pings.join_next() => {}
            () = primaries_changed => {}
        }
    }
}

async fn ping_until_silent(mut connection: MultiplexedConnection) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let command = redis::cmd("PING");
        let answer = command.query_async::<Value>(&mut connection);
        if !matches!(tokio::time::timeout(PING_TIMEOUT, answer).await, Ok(Ok(_))) {
            return;
        }
    }
}
