//! What all nodes that share a store must have in common, and whether they do.

use std::time::Duration;

use tollgate_store::StoreError;

use crate::call::Progress;
use crate::key::slot;
use crate::script::AGREE;
use crate::store::RedisStore;

impl RedisStore {
    /// Whether `value` is what the nodes that share this store have under `name`: true if no other node has given another
    /// value within `life` of its last call. Its key has the store's prefix, and expires.
    pub async fn agrees(
        &self,
        name: &str,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let key = format!("{}agreed-{name}", self.keys.prefix);
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let arguments = [value.as_bytes().to_vec(), life_ms.to_string().into_bytes()];
        let (slot, progress) = (slot(&key), Progress::default());
        let keys = [key.as_str()];
        let call = self.run::<Vec<u8>>(&AGREE, slot, &keys, &arguments, &progress);
        self.in_time(&progress, false, call).await.map(|kept| kept == value.as_bytes())
    }
}
