//! What the tests share: a runtime, and a store with time enough.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate_redis::{RedisOptions, RedisStore};

/// Plenty: what is slow on a busy machine is no failure here.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// A store at `url` with time enough.
pub(crate) fn store_at(url: &str) -> RedisStore {
    let mut options = RedisOptions::default();
    options.deadline = DEADLINE;
    RedisStore::new(&url.parse().unwrap(), &options).unwrap()
}
