//! Many nodes on one memcached, each with a store of its own: exactly the limit (P1), all or nothing (R3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::{Charge, Limit, Subject};
use tollgate_memcached::MemcachedStore;
use tollgate_store::{Store, admits};
use tollgate_testkit::Way;
use tollgate_testkit::memcached::MemcachedServer;

use crate::support::{RUNTIME, charge_of, limit_of, store_at};

/// How often the clients compete for a key, unless [`ROUNDS_VARIABLE`] says otherwise.
const ROUNDS: usize = 100;
/// The variable with the number of rounds.
const ROUNDS_VARIABLE: &str = "TOLLGATE_MEMCACHED_ROUNDS";
const NODES: usize = 3;
const CLIENTS: usize = 64;

fn rounds() -> usize {
    let rounds = std::env::var(ROUNDS_VARIABLE).ok().map(|text| text.parse().unwrap());
    rounds.unwrap_or(ROUNDS)
}

fn nodes(server: &MemcachedServer) -> Vec<MemcachedStore> {
    let node = |_| {
        let store = store_at(&server.url());
        RUNTIME.spawn(store.clone().listen());
        store
    };
    (0..NODES).map(node).collect()
}

/// 64 clients of three nodes compete for one key: exactly its limit is admitted, in every way of counting.
#[test]
fn clients_of_three_nodes_are_admitted_exactly_to_the_limit() {
    const LIMIT: u64 = 150;
    let server = MemcachedServer::start();
    let nodes = nodes(&server);
    // Windows that do not end meanwhile.
    let month = Duration::from_hours(30 * 24);
    for round in 0..rounds() {
        let way = Way::ALL[round % Way::ALL.len()];
        let limit = limit_of(&format!("p{round}"), "USER", LIMIT, month, way);
        let admitted = RUNTIME.block_on(async {
            let mut clients = JoinSet::new();
            for client in 0..CLIENTS {
                let (store, limit) = (nodes[client % NODES].clone(), Arc::clone(&limit));
                clients.spawn(async move {
                    let subject = Subject::new("alice", "m");
                    let mut admitted = 0;
                    for _ in 0..5 {
                        let charge = [charge_of(&limit, &subject, 1)];
                        let charged = store.charge(&charge, None).await.unwrap();
                        admitted += u64::from(charged.verdicts[0].allowed);
                    }
                    admitted
                });
            }
            clients.join_all().await.into_iter().sum::<u64>()
        });
        assert_eq!(admitted, LIMIT, "{way:?}, round {round}");
    }
}

/// Checks of a user's and a model's limit, from three nodes: neither limit is ever exceeded, and what is charged at the end is
/// exactly what was admitted.
#[test]
fn crossing_limits_of_three_nodes_hold() {
    const USERS: [&str; 3] = ["ann", "bob", "cem"];
    let server = MemcachedServer::start();
    let nodes = nodes(&server);
    let hour = Duration::from_hours(1);
    let by_user = limit_of("user", "USER", 90, hour, Way::Log);
    let by_model = limit_of("model", "MODEL", 200, hour, Way::Counter);
    let admitted: Arc<[AtomicU64; 3]> = Arc::default();
    RUNTIME.block_on(async {
        let mut clients = JoinSet::new();
        for client in 0..24 {
            let (store, admitted) = (nodes[client % NODES].clone(), Arc::clone(&admitted));
            let (by_user, by_model) = (Arc::clone(&by_user), Arc::clone(&by_model));
            clients.spawn(async move {
                for index in 0..40 {
                    let user = (client + index) % USERS.len();
                    let subject = Subject::new(USERS[user], "m");
                    let limits: [&Arc<Limit>; 2] = [&by_user, &by_model];
                    let charges: [Charge<'_>; 2] =
                        limits.map(|limit| charge_of(limit, &subject, 1));
                    let decided = store.charge(&charges, None).await.unwrap();
                    // Relaxed: read after the clients have ended.
                    let allowed = admits(&charges, &decided.verdicts);
                    admitted[user].fetch_add(u64::from(allowed), Ordering::Relaxed);
                }
            });
        }
        clients.join_all().await;
        for node in &nodes {
            node.finish().await;
        }
    });
    let admitted: Vec<u64> =
        admitted.iter().map(|admitted| admitted.load(Ordering::Relaxed)).collect();
    let total: u64 = admitted.iter().sum();
    assert!(total <= 200 && admitted.iter().all(|count| *count <= 90), "{admitted:?}");
    for (user, admitted) in USERS.iter().zip(&admitted) {
        let subject = Subject::new(user, "m");
        let charges = [&by_user, &by_model].map(|limit| charge_of(limit, &subject, 1));
        let peeked = RUNTIME.block_on(nodes[0].peek(&charges)).unwrap().verdicts;
        assert_eq!((peeked[0].usage, peeked[1].usage), (*admitted, total), "{user}");
    }
}

/// A request id that is sent to several nodes at once is charged once (R12).
#[test]
fn a_request_id_is_charged_once_by_all_nodes_together() {
    let server = MemcachedServer::start();
    let nodes = nodes(&server);
    let hour = Duration::from_hours(1);
    let limits = [
        limit_of("user", "USER", 1_000, hour, Way::Log),
        limit_of("model", "MODEL", 1_000, hour, Way::Bucket),
    ];
    let subject = Subject::new("alice", "m");
    let charges = [&limits[0], &limits[1]].map(|limit| charge_of(limit, &subject, 1));
    RUNTIME.block_on(async {
        for number in 0..50 {
            let id = format!("request {number}");
            let [a, b, c] = [0, 1, 2].map(|node| nodes[node].charge(&charges, Some(&id)));
            let (a, b, c) = tokio::join!(a, b, c);
            for charged in [a, b, c] {
                assert!(charged.unwrap().verdicts.iter().all(|verdict| verdict.allowed));
            }
        }
        let peeked = nodes[0].peek(&charges[..1]).await.unwrap().verdicts;
        assert_eq!(peeked[0].usage, 50);
    });
}
