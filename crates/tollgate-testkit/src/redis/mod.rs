//! Real Redis servers for tests: one, a primary with a replica and Sentinels, a Cluster; and a proxy with
//! faults. Each is a process with a folder and a port of its own, and is killed when it is dropped.

mod cluster;
mod proxy;
mod sentinel;
mod server;
mod tls;

pub use cluster::RedisCluster;
pub use proxy::{Fault, Proxy};
pub use sentinel::RedisSentinels;
pub use server::RedisServer;
pub use tls::RedisMutualTls;
