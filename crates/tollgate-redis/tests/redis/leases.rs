//! Leases while Redis, the network or their holder fails (P7, P16, P17).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::lease::ledger::Ending;
use tollgate_core::{
    Amount, Attribute, Charge, Counting, LeaseUpdate, Limit, Per, Policy, PolicyId, Quality,
    Subject, Totals, Ttl, Unit, Window,
};
use tollgate_redis::RedisStore;
use tollgate_store::{Effect, LeaseId, LeaseRequest, LeaseState, Reserved, Store, StoreErrorKind};
use tollgate_testkit::redis::{Fault, Proxy, RedisCluster, RedisServer};

use crate::support::{RUNTIME, owner, per_hour, store_at};

/// How long a Cluster may take to choose a new primary.
const FAILOVER: Duration = Duration::from_secs(30);

fn amount(amount: u64) -> Amount {
    Amount::new(amount).unwrap()
}

/// At most so many leases at a time for each user, or for all.
fn slots(id: &str, per: Vec<Attribute>, limit: u64) -> Arc<Limit> {
    let window = Window::new(Window::MIN).unwrap();
    let id = PolicyId::new(id).unwrap();
    let policy = Policy::new(id, Per::new(per).unwrap(), Some(amount(limit)), window);
    let (unit, counting) = (Unit::Concurrency, Counting::Concurrency);
    Arc::new(Limit::of(&Policy { unit, counting, ..policy }).unwrap())
}

fn of_user(limit: u64) -> Arc<Limit> {
    slots("slots", vec![Attribute::User], limit)
}

async fn reserve(store: &RedisStore, limits: &[&Arc<Limit>], cost: u64, ttl: Ttl) -> Reserved {
    let subject = Subject::new("alice", "m");
    let charges: Vec<_> = limits
        .iter()
        .map(|limit| Charge { limit, subject: &subject, cost: amount(cost) })
        .collect();
    store.reserve(&LeaseRequest::new(&charges, ttl)).await.unwrap()
}

async fn lease(store: &RedisStore, limits: &[&Arc<Limit>], cost: u64, ttl: Ttl) -> LeaseId {
    reserve(store, limits, cost, ttl).await.lease.expect("it is admitted").id
}

fn settle(seq: u64, used: u64) -> LeaseUpdate {
    let usage = Totals::none().with(Unit::Requests, amount(used));
    LeaseUpdate::Settle { seq: amount(seq), usage, quality: Quality::Exact }
}

async fn usage(store: &RedisStore, limit: &Arc<Limit>) -> u64 {
    let subject = Subject::new("alice", "m");
    let charge = Charge { limit, subject: &subject, cost: Amount::ONE };
    store.peek(&[charge]).await.unwrap().verdicts[0].usage
}

fn charged(state: &LeaseState) -> Vec<u64> {
    state.holds.iter().map(|hold| hold.charged).collect()
}

/// P17: each settlement is sent again because its answer was lost, and counts once.
#[test]
fn a_thousand_lost_answers_of_settle_count_once() {
    const LEASES: u64 = 1_000;
    let server = RedisServer::start();
    let direct = store_at(&server.url());
    let (limit, slots) = (per_hour(100 * LEASES), of_user(2));
    RUNTIME.block_on(async {
        let mut expected = 0;
        for number in 0..LEASES {
            let id = lease(&direct, &[&limit, &slots], 10, Ttl::DEFAULT).await;
            // Less, as much, and more than was reserved.
            let update = settle(1, number % 30);
            let proxy = Proxy::start(server.port());
            let store = store_at(&proxy.url());
            assert_eq!(usage(&store, &slots).await, 1);
            // The record is read, and then the script is run.
            proxy.set(Fault::DropAnswers);
            let error = store.update_lease(&id, &update).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            proxy.set(Fault::None);
            let state = direct.update_lease(&id, &update).await.unwrap().unwrap();
            expected += number % 30;
            assert_eq!((state.ending, charged(&state)), (Ending::Settled, vec![number % 30, 0]));
            let again = direct.update_lease(&id, &update).await.unwrap().unwrap();
            assert_eq!((again.effect, charged(&again)), (Effect::Repeated, charged(&state)));
            assert_eq!(usage(&direct, &limit).await, expected, "lease {number}");
        }
        assert_eq!(usage(&direct, &slots).await, 0);
    });
}

/// P16, R15: nobody frees the slots of a holder that was killed; they are free at the end of its time to live.
#[test]
fn a_holder_that_is_killed_frees_its_slots_at_its_time_to_live() {
    const LEASES: u64 = 500;
    let server = RedisServer::start();
    let clock = Arc::new(tollgate_core::ManualClock::default());
    clock.set(tollgate_core::Timestamp::from_ms(1_700_000_000_000));
    let store = store_at(&server.url()).with_test_clock(clock.clone()).with_hint(clock.clone());
    let (slots, limit) = (of_user(LEASES), per_hour(10 * LEASES));
    RUNTIME.block_on(async {
        let ttl = Ttl::from_ms(30_000).unwrap();
        for _ in 0..LEASES {
            lease(&store, &[&slots, &limit], 2, ttl).await;
        }
        assert!(reserve(&store, &[&slots, &limit], 2, ttl).await.lease.is_none());
        clock.advance(Duration::from_millis(29_999));
        assert_eq!(usage(&store, &slots).await, LEASES);
        clock.advance(Duration::from_millis(1));
        assert_eq!(usage(&store, &slots).await, 0);
        assert_eq!(usage(&store, &limit).await, 2 * LEASES, "rate holds stay as reserved");
        assert!(reserve(&store, &[&slots, &limit], 2, ttl).await.lease.is_some());
    });
}

/// A Redis that keeps nothing has forgotten the lease and what it was charged: the settlement changes nothing, and is no error.
#[test]
fn a_lease_is_unknown_after_a_restart_without_its_data() {
    let server = RedisServer::start();
    let (port, url) = (server.port(), server.url());
    let store = store_at(&url);
    let (limit, slots) = (per_hour(100), of_user(1));
    let id = RUNTIME.block_on(lease(&store, &[&limit, &slots], 10, Ttl::DEFAULT));
    server.kill();
    drop(server);
    let _server = RedisServer::start_on(port, &[]);
    RUNTIME.block_on(async {
        let began = Instant::now();
        let state = loop {
            match store.update_lease(&id, &settle(1, 5)).await {
                Ok(state) => break state,
                Err(error) => assert!(began.elapsed() < FAILOVER, "{error}"),
            }
        };
        assert_eq!(state, None);
        assert_eq!((usage(&store, &limit).await, usage(&store, &slots).await), (0, 0));
        lease(&store, &[&limit, &slots], 10, Ttl::DEFAULT).await;
    });
}

/// A Redis that keeps its data still has the lease after a restart, and it is settled once.
#[test]
fn a_lease_is_settled_after_a_restart_with_its_data() {
    let folder = tempfile_folder();
    let settings = ["--appendonly", "yes", "--appendfsync", "always", "--dir", &folder];
    let server = RedisServer::start_with(&settings);
    let port = server.port();
    let store = store_at(&server.url());
    let (limit, slots) = (per_hour(100), of_user(1));
    let id = RUNTIME.block_on(lease(&store, &[&limit, &slots], 10, Ttl::MAX));
    server.kill();
    drop(server);
    let _server = RedisServer::start_on(port, &settings);
    RUNTIME.block_on(async {
        let began = Instant::now();
        let state = loop {
            match store.update_lease(&id, &settle(1, 4)).await {
                Ok(state) => break state.unwrap(),
                Err(error) => assert!(began.elapsed() < FAILOVER, "{error}"),
            }
        };
        assert_eq!(charged(&state), [4, 0]);
        assert_eq!((usage(&store, &limit).await, usage(&store, &slots).await), (4, 0));
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

fn tempfile_folder() -> String {
    let name = format!("tollgate-leases-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// The lease lies in several slots of a Cluster. A primary with one of them is lost after it was replicated; any node settles the
/// lease at the new one.
#[test]
fn a_lease_is_settled_after_a_primary_of_a_cluster_is_lost() {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url());
    let (user, all) = (per_hour(100), slots("all", vec![], 3));
    RUNTIME.block_on(async {
        let subject = Subject::new("alice", "m");
        let id = lease(&store, &[&user, &all], 10, Ttl::MAX).await;
        assert_eq!((usage(&store, &user).await, usage(&store, &all).await), (10, 1));
        let primary = owner(&cluster, &store.key(&user, &subject));
        primary.wait_until_replicated();
        primary.kill();
        let (began, other) = (Instant::now(), store_at(&cluster.url()));
        let state = loop {
            match other.update_lease(&id, &settle(1, 3)).await {
                Ok(state) => break state.unwrap(),
                Err(error) => {
                    assert!(began.elapsed() < FAILOVER, "no new primary: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        assert_eq!(charged(&state), [3, 0]);
        let again = other.update_lease(&id, &settle(1, 3)).await.unwrap().unwrap();
        assert_eq!(charged(&again), [3, 0]);
        assert_eq!((usage(&other, &user).await, usage(&other, &all).await), (3, 0));
    });
}

/// P2: what a reservation holds in one slot of a Cluster is given back when another slot denies.
#[test]
fn a_reservation_that_another_slot_denies_holds_nothing() {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url());
    let (user, all, limit) = (of_user(5), slots("all", vec![], 1), per_hour(100));
    RUNTIME.block_on(async {
        let first = lease(&store, &[&user, &limit, &all], 2, Ttl::MAX).await;
        for _ in 0..5 {
            assert!(reserve(&store, &[&user, &limit, &all], 2, Ttl::MAX).await.lease.is_none());
            store.finish().await;
        }
        let held =
            [usage(&store, &user).await, usage(&store, &limit).await, usage(&store, &all).await];
        assert_eq!(held, [1, 2, 1]);
        store.update_lease(&first, &LeaseUpdate::Release).await.unwrap().unwrap();
        assert_eq!(usage(&store, &limit).await, 0);
    });
    let keys: Vec<_> =
        cluster.nodes()[..3].iter().flat_map(|node| node.command(&["KEYS", "*"])).collect();
    let leases = keys.iter().filter(|key| key.contains("l{")).count();
    assert_eq!(leases, 2, "the released lease in two slots: {keys:?}");
}

/// R14: whatever window a lease has, its updates let no key expire before what the checks count has left, nor much later (P8).
#[test]
fn an_update_of_a_lease_keeps_the_life_of_a_key() {
    /// By how much later keys expire under the clock of a test.
    const SLACK: Duration = Duration::from_mins(10);
    let server = RedisServer::start();
    let clock = Arc::new(tollgate_core::ManualClock::default());
    clock.set(tollgate_core::Timestamp::from_ms(1_700_000_000_000));
    let store = store_at(&server.url()).with_test_clock(clock.clone()).with_hint(clock.clone());
    let hour = Duration::from_hours(1);
    let subject = Subject::new("alice", "m");
    let windows = [(hour / 60, hour), (hour, hour / 60), (hour, hour), (hour / 60, hour * 24)];
    for (nth, (leased, checked)) in windows.into_iter().enumerate() {
        let limit = |length| {
            let id = PolicyId::new(&format!("p{nth}")).unwrap();
            let per = Per::new(vec![Attribute::User]).unwrap();
            let policy = Policy::new(id, per, Some(amount(1_000)), Window::new(length).unwrap());
            Arc::new(Limit::of(&policy).unwrap())
        };
        let (old, new) = (limit(leased), limit(checked));
        let key = store.key(&old, &subject);
        let life = || {
            let ms: u64 = server.command(&["PTTL", &key])[0].parse().unwrap();
            Duration::from_millis(ms)
        };
        RUNTIME.block_on(async {
            let id = lease(&store, &[&old], 3, Ttl::MAX).await;
            let charge = Charge { limit: &new, subject: &subject, cost: amount(5) };
            assert!(store.charge(&[charge], None).await.unwrap().verdicts[0].allowed);
            // Debt, which is given back and charged again: its life must not add up.
            for seq in 1..=40 {
                clock.advance(Duration::from_secs(50));
                let used = if seq % 2 == 1 { 10 } else { 3 };
                let state = store.update_lease(&id, &settle(seq, used)).await.unwrap().unwrap();
                assert_eq!(state.effect, Effect::Changed);
                let (life, longest) = (life(), checked.max(leased));
                assert!(life > longest, "{life:?}, {leased:?}, {checked:?}");
                assert!(life <= SLACK + 2 * longest + Duration::from_secs(1), "{life:?}");
            }
        });
    }
}

/// R12: a request id that names another lease by now is none of an old lease's, and every slot of a Cluster says the same.
#[test]
fn a_request_id_names_the_lease_that_was_reserved_last() {
    let cluster = RedisCluster::start();
    let clock = Arc::new(tollgate_core::ManualClock::default());
    clock.set(tollgate_core::Timestamp::from_ms(1_700_000_000_000));
    let store = store_at(&cluster.url()).with_test_clock(clock.clone()).with_hint(clock.clone());
    // Nothing but the time to live decides for how long the request id is remembered.
    let (user, all) = (of_user(3), slots("all", vec![], 3));
    let subject = Subject::new("alice", "m");
    let charges = [&user, &all].map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    let request = LeaseRequest::new(&charges, Ttl::from_ms(1_000).unwrap()).named(Some("id"));
    let extend = |seq| LeaseUpdate::Extend {
        seq: amount(seq),
        ttl: Ttl::from_ms(5_000),
        observed: Totals::none(),
        wanted: Totals::none(),
    };
    RUNTIME.block_on(async {
        let reserve = || async { store.reserve(&request).await.unwrap().lease.unwrap() };
        let first = reserve().await;
        store.update_lease(&first.id, &extend(1)).await.unwrap().unwrap();
        clock.advance(Duration::from_millis(4_999));
        let again = reserve().await;
        assert_eq!((&again.id, again.lives_for), (&first.id, Duration::from_millis(1)));
        clock.advance(Duration::from_millis(1));
        let second = reserve().await;
        assert_ne!(second.id, first.id);
        // Late, it is released, or revived: neither changes what the id names.
        store.update_lease(&first.id, &extend(2)).await.unwrap().unwrap();
        assert_eq!(reserve().await.id, second.id);
        store.update_lease(&first.id, &LeaseUpdate::Release).await.unwrap().unwrap();
        assert_eq!(reserve().await.id, second.id);
        assert_eq!((usage(&store, &user).await, usage(&store, &all).await), (1, 1));
        // A release that was cut off after the first slot: the lease that follows holds a slot in both.
        store.update_lease(&second.id, &LeaseUpdate::Release).await.unwrap().unwrap();
        let third = reserve().await;
        let in_first_slot = store.key(&user, &subject);
        let tag = in_first_slot.split(['{', '}']).nth(1).unwrap();
        let keys = format!("*q{{{tag}}}*");
        for node in &cluster.nodes()[..3] {
            for key in node.command(&["KEYS", &keys]).iter().filter(|key| !key.is_empty()) {
                node.command(&["DEL", key]);
            }
        }
        let fourth = reserve().await;
        assert_ne!(fourth.id, third.id);
        assert_eq!((usage(&store, &user).await, usage(&store, &all).await), (2, 2));
        assert_eq!(reserve().await.id, fourth.id);
    });
}

/// The list finds leases in every slot of a Cluster, each once and with all that it holds.
#[test]
fn live_leases_are_listed_over_all_primaries() {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url());
    let (user, all) = (per_hour(100), slots("all", vec![], 50));
    RUNTIME.block_on(async {
        let mut ids = Vec::new();
        for number in 0..30 {
            let user_id = number.to_string();
            let subject = Subject::new(&user_id, "m");
            let charges =
                [&all, &user].map(|limit| Charge { limit, subject: &subject, cost: amount(2) });
            let charges = if number % 2 == 0 { &charges[..] } else { &charges[1..] };
            let request = LeaseRequest::new(charges, Ttl::MAX).with_note(user_id.as_bytes());
            ids.push(store.reserve(&request).await.unwrap().lease.unwrap().id);
        }
        for id in &ids[..10] {
            store.update_lease(id, &settle(1, 1)).await.unwrap().unwrap();
        }
        let live = store.live_leases(100).await.unwrap();
        assert!(live.is_complete);
        let mut listed: Vec<_> = live.leases.iter().collect();
        listed.sort_by_key(|lease| ids.iter().position(|id| *id == lease.id));
        assert_eq!(
            listed.iter().map(|lease| &lease.id).collect::<Vec<_>>(),
            ids[10..].iter().collect::<Vec<_>>()
        );
        for (number, lease) in (10..).zip(listed) {
            let charged: Vec<_> = lease.holds.iter().map(|hold| hold.charged).collect();
            let expected = if number % 2 == 0 { vec![1, 2] } else { vec![2] };
            assert_eq!((charged, &*lease.note), (expected, number.to_string().as_bytes()));
        }
        let some = store.live_leases(7).await.unwrap();
        assert_eq!((some.leases.len(), some.is_complete), (7, false));
        // What cannot be read hides no other lease, and the list says that one may be missing.
        let primary = &cluster.nodes()[0];
        let free = (0..).map(|number| format!("tg:l-{number}"));
        let stored = |key: &String| {
            primary.command(&["CLUSTER", "KEYSLOT", key])[0].parse::<u32>().unwrap() < 5_000
        };
        let key = free.into_iter().find(stored).unwrap();
        primary.command(&["HSET", &key, "field", "value"]);
        let live = store.live_leases(100).await.unwrap();
        assert_eq!((live.leases.len(), live.is_complete), (20, false));
        primary.command(&["SET", &key, "garbage"]);
        let live = store.live_leases(100).await.unwrap();
        assert_eq!((live.leases.len(), live.is_complete), (20, false));
        primary.command(&["DEL", &key]);
        assert!(store.live_leases(100).await.unwrap().is_complete);
    });
}

/// A value of another program under the key of slots or of a lease is an error, before anything is written. No key is without an
/// expiry (P8).
#[test]
fn a_foreign_value_is_an_error_and_every_key_expires() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let (slots, limit) = (of_user(5), per_hour(100));
    let subject = Subject::new("alice", "m");
    let key = store.key(&slots, &subject);
    server.command(&["SET", &key, "x"]);
    let charges =
        [&limit, &slots].map(|limit| Charge { limit, subject: &subject, cost: amount(3) });
    RUNTIME.block_on(async {
        let error = store
            .reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT).named(Some("id")))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{error:?}");
        assert_eq!(usage(&store, &limit).await, 0);
        assert_eq!(server.command(&["KEYS", "*"]), std::slice::from_ref(&key));
        server.command(&["DEL", &key]);
        let reserved = store
            .reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT).named(Some("id")))
            .await
            .unwrap();
        let id = reserved.lease.unwrap().id;
        let keys = server.command(&["KEYS", "*"]);
        assert_eq!(keys.len(), 4, "two limits, a lease and a request id: {keys:?}");
        for key in keys {
            let ttl = server.command(&["PTTL", &key]).concat();
            assert!(ttl.parse::<i64>().unwrap() > 0, "{key} lives for {ttl}");
            assert!(!key.contains(&id.as_str()[1..]), "no key gives an id away");
        }
        server.command(&["DEL", &key]);
        server.command(&["RPUSH", &key, "x"]);
        let error = store.update_lease(&id, &settle(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{error:?}");
        assert_eq!(usage(&store, &limit).await, 3, "nothing was changed");
        server.command(&["DEL", &key]);
        let state = store.update_lease(&id, &settle(1, 1)).await.unwrap().unwrap();
        assert_eq!((state.effect, charged(&state)), (Effect::Changed, vec![1, 0]));
        let lease = server.command(&["KEYS", "*l-*"]).concat();
        server.command(&["SET", &lease, "x", "KEEPTTL"]);
        let error = store.update_lease(&id, &settle(2, 1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{error:?}");
    });
}
