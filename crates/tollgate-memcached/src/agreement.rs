//! What all nodes that share a store must have in common, and whether they do.

use std::time::Duration;

use tokio::time::Instant;
use tollgate_store::StoreError;

use crate::connection::Failure;
use crate::protocol::{Command, Condition, Reply};
use crate::store::MemcachedStore;

impl MemcachedStore {
    /// Whether `value` is what the nodes that share this store have under `name`: true if no other node has given another
    /// value within `life` of its last call. Its key has the store's prefix, and expires.
    pub async fn agrees(
        &self,
        name: &str,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let link = &self.shared.link;
        let connection = link.connection().await?;
        let until = Instant::now() + self.shared.deadline;
        let key = format!("{}agreed-{name}", self.shared.keys.prefix);
        let get = Command::Get { key: &key };
        let reply = link.ask(&connection, &get, until).await.map_err(Failure::of_read)?;
        let condition = match reply {
            Reply::Value(kept, _) if kept != value.as_bytes() => return Ok(false),
            Reply::Value(_, cas) => Condition::Unchanged(cas),
            _ => Condition::Absent,
        };
        let expires_at_s = connection.expires_at_s(life);
        let set = Command::Set { key: &key, value: value.as_bytes(), expires_at_s, condition };
        // If another node stored at the same time, the next call compares.
        link.ask(&connection, &set, until).await.map_err(Failure::of_change)?;
        Ok(true)
    }
}
