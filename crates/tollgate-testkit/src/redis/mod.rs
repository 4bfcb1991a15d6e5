//! Real Redis servers for tests: a single one, a primary with a replica and Sentinels, a Cluster; and a proxy with
//! faults. Each is a process with its own folder and port, and is killed when it is dropped.

mod cluster;
mod proxy;
mod sentinel;
mod server;
mod tls;

pub use cluster::RedisCluster;
pub use proxy::{Fault, Proxy};
pub use sentinel::RedisSentinels;
pub use server::RedisServer;
#[cfg(feature = "memcached")]
pub(crate) use server::{KEEPER, free_port, wait_for};
pub use tls::RedisMutualTls;
