//! A Cluster that grows or is large: no check is affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::{Amount, Charge, Subject};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;
use tollgate_testkit::redis::RedisCluster;

use crate::support::{RUNTIME, per_hour};

/// Enough time on a busy machine; moving a slot takes a part of it.
const DEADLINE: Duration = Duration::from_secs(5);
const CLIENTS: usize = 4;
const MOVED_SLOTS: u32 = 150;

fn store(url: &str) -> RedisStore {
    let mut options = RedisOptions::default();
    options.deadline = DEADLINE;
    RedisStore::new(&url.parse().unwrap(), &options).unwrap()
}

/// The Cluster grows from three to four primaries while checks continue, some with a request id, so that a script has
/// one key that has moved and one that is new. No check fails, each is charged once, and few connections are made.
#[test]
fn a_fourth_primary_is_added_under_load() {
    let mut cluster = RedisCluster::of(3, 0).patient();
    let store = store(&cluster.url());
    let stop = Arc::new(AtomicBool::new(false));
    let (failed, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let limit = per_hour(1_000_000);
    // SeqCst throughout: the clients must see what the test does.
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (store, limit, stop) = (store.clone(), limit.clone(), Arc::clone(&stop));
        let (failed, asked) = (Arc::clone(&failed), Arc::clone(&asked));
        clients.spawn_on(
            async move {
                let mut counts = vec![0_u64; 100];
                for number in 0_usize.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let user = format!("user-{client}-{}", number % counts.len());
                    let subject = Subject::new(&user, "m");
                    let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                    let id = (number % 10 == 0).then(|| format!("{client}-{number}"));
                    asked.fetch_add(1, Ordering::SeqCst);
                    match store.charge(&[charge], id.as_deref()).await {
                        Ok(answer) => {
                            let at = number % counts.len();
                            counts[at] += 1;
                            assert_eq!(answer.verdicts[0].usage, counts[at], "exact");
                        }
                        Err(error) => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            panic!("{error:?}");
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            },
            RUNTIME.handle(),
        );
    }
    while asked.load(Ordering::SeqCst) < 1_000 && clients.try_join_next().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.add_primary();
    cluster.move_to_last(MOVED_SLOTS);
    // Each client uses each of its users once more, so that keys that have moved are requested from their new servers.
    let enough = asked.load(Ordering::SeqCst) + 2 * 100 * CLIENTS as u64;
    while asked.load(Ordering::SeqCst) < enough && clients.try_join_next().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::SeqCst);
    RUNTIME.block_on(async {
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", asked.load(Ordering::SeqCst));
    let last = cluster.nodes().last().unwrap();
    let keys: u64 = last.command(&["DBSIZE"])[0].parse().unwrap();
    assert!(keys > 0, "some keys have moved");
    // Its own connection, those of the other nodes' MIGRATE and of redis-cli, and one or two of the store.
    let named = last.command(&["CLIENT", "LIST"]).concat();
    let of_store = named.lines().filter(|line| line.contains("cmd=evalsha")).count();
    assert!((1..=2).contains(&of_store), "{named}");
}

/// A new node over 20 primaries decides from its first checks on, wherever their limits lie.
#[test]
fn a_cold_start_on_a_large_cluster_decides_at_once() {
    const PRIMARIES: usize = 20;
    let cluster = RedisCluster::of(PRIMARIES, 0);
    let (store, limit) = (store(&cluster.url()), per_hour(100));
    RUNTIME.block_on(async {
        let mut checks = JoinSet::new();
        for user in 0..200 {
            let (store, limit) = (store.clone(), limit.clone());
            checks.spawn(async move {
                let user = format!("user-{user}");
                let subject = Subject::new(&user, "m");
                let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                store.charge(&[charge], None).await.unwrap();
            });
        }
        while let Some(check) = checks.join_next().await {
            check.unwrap();
        }
    });
    let used = cluster.nodes().iter().filter(|node| node.command(&["DBSIZE"])[0] != "0").count();
    assert_eq!(used, PRIMARIES);
}
