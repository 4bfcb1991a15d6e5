//! C12: Sentinels that disagree. A Sentinel that missed a failover names the previous primary, which still says that it
//! is one: nothing may be charged there.

use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::{Amount, Charge, Subject};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;
use tollgate_testkit::redis::RedisServer;

use crate::support::{RUNTIME, per_hour};

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_mins(1), "waited until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a user's check is decided.
async fn charged(store: &RedisStore, user: &str) -> bool {
    let (limit, subject) = (per_hour(1_000), Subject::new(user, "m"));
    let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
    store.charge(&[charge], None).await.is_ok()
}

fn keys(server: &RedisServer) -> u64 {
    server.command(&["DBSIZE"])[0].parse().unwrap()
}

#[test]
fn a_stale_sentinel_is_not_believed() {
    let old = RedisServer::start();
    let new = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {}", old.port())]);
    // The Sentinels do not know each other.
    for server in [&old, &new] {
        server.command(&["ACL", "SETUSER", "default", "-publish"]);
    }
    let stale = RedisServer::start_sentinel(old.port(), 2);
    let right = RedisServer::start_sentinel(old.port(), 1);
    RUNTIME.block_on(async {
        let replicas = |sentinel: &RedisServer| {
            let lines = sentinel.command(&["SENTINEL", "replicas", "main"]);
            lines.iter().filter(|line| *line == "master-link-status").count()
        };
        until("the replica is linked and known", async || {
            new.info("master_link_status").as_deref() == Some("up") && replicas(&right) == 1
        })
        .await;
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", stale.port(), right.port());
        let url = format!("redis-sentinel://{hosts}/main");
        let mut options = RedisOptions::default();
        options.deadline = Duration::from_secs(5);
        let store = RedisStore::new(&url.parse().unwrap(), &options).unwrap();
        until("it is decided", async || charged(&store, "before").await).await;
        assert_eq!(keys(&old), 1);
        // The old primary cannot be demoted, because it is on the other side of a partition.
        old.command(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]);
        right.command(&["SENTINEL", "FAILOVER", "main"]);
        let named = |sentinel: &RedisServer| {
            sentinel.command(&["SENTINEL", "get-master-addr-by-name", "main"])[1].clone()
        };
        until("the failover is over", async || named(&right) == new.port().to_string()).await;
        assert_eq!(named(&stale), old.port().to_string(), "it was left behind");
        assert_eq!(old.command(&["ROLE"])[0], "master");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, mut decided) = (keys(&old), 0);
        for number in 0..100 {
            decided += u64::from(charged(&store, &format!("after-{number}")).await);
        }
        assert_eq!(keys(&old), before, "no charge goes to the old primary");
        assert_eq!((decided, keys(&new)), (100, 1 + 100));
        // A node that starts now asks the outdated Sentinel first.
        let fresh = RedisStore::new(&url.parse().unwrap(), &options).unwrap();
        assert!(charged(&fresh, "fresh").await);
        assert_eq!(keys(&old), before);
    });
}
