//! P4 and related cases in which a primary is lost or slots move: the excess is exactly what was not replicated, and no
//! redirection reaches a caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::{Amount, Charge, Limit, Subject};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;
use tollgate_testkit::redis::{RedisCluster, RedisSentinels, RedisServer};

use crate::support::{RUNTIME, owner, per_hour, store_at};

/// How long Sentinels or a Cluster may take to choose a new primary.
const FAILOVER: Duration = Duration::from_secs(30);
const LIMIT: u64 = 100;
/// The number of charges that the replica has, and of those that it lacks.
const REPLICATED: u64 = 40;
const LOST: u64 = 25;

/// Long enough for a busy machine to answer, and short enough to notice that a primary is gone.
fn store_with_deadline(url: &str) -> RedisStore {
    let mut options = RedisOptions::default();
    options.deadline = Duration::from_secs(2);
    RedisStore::new(&url.parse().unwrap(), &options).unwrap()
}

/// Whether one more check is admitted; `None` without an answer.
async fn admitted(store: &RedisStore, limit: &Arc<Limit>, user: &str) -> Option<bool> {
    let subject = Subject::new(user, "m");
    let charge = Charge { limit, subject: &subject, cost: Amount::ONE };
    let answer = store.charge(&[charge], None).await.ok()?;
    Some(answer.verdicts[0].allowed)
}

async fn admit(store: &RedisStore, limit: &Arc<Limit>, count: u64) {
    for _ in 0..count {
        assert_eq!(admitted(store, limit, "alice").await, Some(true));
    }
}

/// From now on `primary` replicates nothing, and its replica cannot reconnect.
fn cut_replication(primary: &RedisServer) {
    primary.command(&["ACL", "SETUSER", "default", "-psync", "-sync", "-replconf"]);
    primary.command(&["CLIENT", "KILL", "TYPE", "replica"]);
}

/// P4: charges that were not replicated are lost with the primary, and nothing else is: the excess is exactly those.
/// Calls that failed during the failover do not count as admitted, and none of them was charged.
async fn excess_after_losing(primary: &RedisServer, store: &RedisStore) {
    let limit = per_hour(LIMIT);
    admit(store, &limit, REPLICATED).await;
    primary.wait_until_replicated();
    cut_replication(primary);
    admit(store, &limit, LOST).await;
    primary.kill();
    let lost_at = Instant::now();
    let mut after = 0;
    loop {
        match admitted(store, &limit, "alice").await {
            Some(true) => after += 1,
            Some(false) => break,
            None => {
                assert!(lost_at.elapsed() < FAILOVER, "no new primary");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert_eq!(REPLICATED + LOST + after, LIMIT + LOST, "the excess is what was not replicated");
}

#[test]
fn a_primary_behind_sentinels_loses_what_was_not_replicated_and_no_more() {
    let servers = RedisSentinels::start();
    let store = store_with_deadline(&servers.url());
    RUNTIME.block_on(async {
        while admitted(&store, &per_hour(LIMIT), "somebody").await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        excess_after_losing(&servers.primary, &store).await;
    });
    let role = servers.replica.info("role");
    assert_eq!(role.as_deref(), Some("master"), "the replica of before");
}

#[test]
fn a_primary_of_a_cluster_loses_what_was_not_replicated_and_no_more() {
    let cluster = RedisCluster::start();
    let store = store_with_deadline(&cluster.url());
    let key = store.key(&per_hour(LIMIT), &Subject::new("alice", "m"));
    RUNTIME.block_on(excess_after_losing(owner(&cluster, &key), &store));
}

/// A slot moves while it is charged: MOVED and ASK reach no caller, and exactly the limit is admitted.
#[test]
fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url());
    let limit = per_hour(LIMIT);
    let key = store.key(&limit, &Subject::new("alice", "m"));
    RUNTIME.block_on(admit(&store, &limit, 30));
    let from = owner(&cluster, &key);
    let to = cluster.nodes()[..3].iter().find(|node| node.port() != from.port()).unwrap();
    let slot = from.command(&["CLUSTER", "KEYSLOT", &key]).concat();
    let id = |node: &RedisServer| node.command(&["CLUSTER", "MYID"]).concat();
    let (from_id, to_id) = (id(from), id(to));
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    RUNTIME.block_on(admit(&store, &limit, 10));
    // The next check is redirected with ASK to a server that does not know the script either.
    from.command(&["MIGRATE", "127.0.0.1", &to.port().to_string(), &key, "0", "5000"]);
    RUNTIME.block_on(admit(&store, &limit, 20));
    for node in [to, from] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    RUNTIME.block_on(async {
        admit(&store, &limit, LIMIT - 60).await;
        assert_eq!(admitted(&store, &limit, "alice").await, Some(false));
    });
    assert_eq!(owner(&cluster, &key).port(), to.port());
}
