//! A primary with a replica, monitored by three Sentinels.

use super::server::{RedisServer, wait_for};

/// Two servers and the Sentinels that say which of them is the primary.
#[derive(Debug)]
pub struct RedisSentinels {
    /// The initial primary.
    pub primary: RedisServer,
    /// The initial replica.
    pub replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// A primary called `main`, a replica that is linked, and Sentinels that know both and each other.
    pub fn start() -> Self {
        let primary = RedisServer::start();
        let of = format!("127.0.0.1 {}", primary.port());
        let replica = RedisServer::start_with(&["--replicaof", &of]);
        wait_for("the replica to be linked", || {
            replica.info("master_link_status").is_some_and(|status| status == "up")
        });
        let sentinels: Vec<_> =
            (0..3).map(|_| RedisServer::start_sentinel(primary.port(), 2)).collect();
        wait_for("the Sentinels to know each other", || {
            sentinels.iter().all(|sentinel| {
                let known = |command| sentinel.command(&["SENTINEL", command, "main"]);
                let named = |lines: Vec<String>| lines.iter().filter(|l| *l == "runid").count();
                named(known("sentinels")) == 2 && named(known("replicas")) == 1
            })
        });
        Self { primary, replica, sentinels }
    }

    /// The Sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// `redis-sentinel://…/main`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-sentinel://{}/main", hosts.join(","))
    }
}
