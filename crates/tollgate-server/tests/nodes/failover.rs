//! P4: the loss of a primary costs what it had not yet sent to its replica, and no more.

use std::collections::BTreeMap;

use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, every_key_expires, until, until_ready};

const LIMIT: u64 = 100;
const USERS: usize = 30;
/// Charges of each user that reach the replica,
const REPLICATED: u64 = 40;
/// and charges that do not.
const LOST: u64 = 25;

/// The replica of the first primary of `cluster`.
fn replica_of(cluster: &RedisCluster) -> &RedisServer {
    let port = Some(cluster.nodes()[0].port().to_string());
    cluster.nodes().iter().find(|node| node.info("master_port") == port).unwrap()
}

/// Cuts all replicas of `primary` off, without touching anything else. If the link were only paused, the replica would
/// catch up from what waits in the sockets.
async fn cut_replication(primary: &RedisServer, replica: &RedisServer) {
    until("the replica has caught up", async || {
        primary.info("master_repl_offset") == replica.info("slave_repl_offset")
    })
    .await;
    primary.command(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
    primary.command(&["CLIENT", "KILL", "TYPE", "replica"]);
    until("the link is down", async || {
        replica.info("master_link_status").as_deref() == Some("down")
    })
    .await;
}

/// The link is cut for a known number of charges before the primary is killed. The excess of a key is at most that
/// number, and there is none where no primary was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_excess_after_a_failover_is_at_most_what_was_not_replicated() {
    let cluster = RedisCluster::start();
    // A lost call counts as denied, not as admitted without the store.
    let node = Node::start(&cluster.url(), &["--on-store-error", "deny"]);
    let mut client = node.client().await;
    until_ready(&node).await;
    let mut admitted = BTreeMap::new();
    let mut charge = async |times: u64| {
        for user in 0..USERS {
            for _ in 0..times {
                let decision = client.check(format!("user-{user}"), "m").await;
                *admitted.entry(user).or_insert(0) += u64::from(decision.allowed);
            }
        }
    };
    charge(REPLICATED).await;
    let (primary, replica) = (&cluster.nodes()[0], replica_of(&cluster));
    primary.wait_until_replicated();
    cut_replication(primary, replica).await;
    charge(LOST).await;
    let keys_lost = primary.command(&["DBSIZE"])[0].parse::<usize>().unwrap();
    primary.kill();
    until("the replica is the primary", async || replica.info("role").as_deref() == Some("master"))
        .await;
    for (user, admitted) in &mut admitted {
        until("the limit is spent", async || {
            let mut decision = client.check(format!("user-{user}"), "m").await;
            while decision.allowed {
                *admitted += 1;
                decision = client.check(format!("user-{user}"), "m").await;
            }
            decision.reason.as_deref() == Some("limit_exceeded")
        })
        .await;
    }
    let excess: Vec<u64> = admitted.values().map(|admitted| admitted - LIMIT).collect();
    assert!(excess.iter().all(|excess| *excess <= LOST), "{excess:?}");
    // If nothing was lost, the test would prove nothing.
    let exceeded = excess.iter().filter(|excess| **excess == LOST).count();
    assert!((1..=keys_lost).contains(&exceeded), "{keys_lost} keys were lost: {excess:?}");
    let whole = excess.iter().filter(|excess| **excess == 0).count();
    assert_eq!(exceeded + whole, USERS, "{excess:?}");
    every_key_expires(replica);
}
