//! The store's behaviour when Redis or the network fails: P3, P6, P8, and rights.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tollgate_core::{Amount, Charge, Limit, Subject};
use tollgate_redis::{RedisOptions, RedisStore, StartProblem};
use tollgate_store::{Store, StoreErrorKind};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{Fault, Proxy, RedisServer};

use crate::support::{RUNTIME, limit_of, per_hour, store_at};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

fn charge_of<'a>(limit: &'a Arc<Limit>, subject: &'a Subject<'a>, cost: u64) -> Charge<'a> {
    Charge { limit, subject, cost: Amount::new(cost).unwrap() }
}

fn usage(store: &RedisStore, charge: &Charge<'_>) -> u64 {
    RUNTIME.block_on(store.peek(&[*charge])).unwrap().verdicts[0].usage
}

/// If the scripts were flushed, as after a failover, they are loaded again, and nothing is charged twice.
#[test]
fn scripts_are_loaded_again_when_redis_has_forgotten_them() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let (limit, subject) = (per_hour(100), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    for count in 1..=3 {
        server.command(&["SCRIPT", "FLUSH"]);
        let charged = RUNTIME.block_on(store.charge(&[charge], None)).unwrap();
        assert_eq!(charged.verdicts[0].usage, count);
    }
}

/// A key of another type or of another program causes an error. It is not changed, and other keys are not affected.
#[test]
fn a_key_that_is_not_ours_is_an_error_and_stays() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let ours = per_hour(100);
    let subject = Subject::new("alice", "m");
    let long = "x".repeat(100);
    for way in Way::ALL {
        let other = limit_of("q", "USER", 5, Duration::from_mins(1), way);
        let key = store.key(&other, &subject);
        let strings = ["", "abc", &long].map(|text| vec!["SET", &key, text]);
        for write in [vec!["RPUSH", &key, "a"]].into_iter().chain(strings) {
            server.command(&["DEL", &key]);
            server.command(&write);
            let before = server.command(&["DUMP", &key]);
            let charges = [charge_of(&ours, &subject, 1), charge_of(&other, &subject, 1)];
            let error = RUNTIME.block_on(store.charge(&charges, None)).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{way:?}, {write:?}");
            assert!(format!("{error:?}").contains(&key), "{error:?} names the key");
            assert!(!error.may_have_charged());
            assert!(RUNTIME.block_on(store.reset(&other, &subject)).is_err());
            assert_eq!(server.command(&["DUMP", &key]), before, "{way:?}, {write:?}");
            assert_eq!(usage(&store, &charges[0]), 0, "the other limit was not charged");
        }
    }
}

/// P6: if an answer is lost after the charge, the error says so, and the same request id, sent again, is charged once.
#[test]
fn an_answer_lost_after_the_commit_charges_once() {
    const CHECKS: u64 = 1_000;
    let server = RedisServer::start();
    let (limit, subject) = (per_hour(10 * CHECKS), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    let direct = store_at(&server.url());
    for number in 0..CHECKS {
        let proxy = Proxy::start(server.port());
        let store = store_at(&proxy.url());
        assert_eq!(usage(&store, &charge), number);
        proxy.set(Fault::DropAnswers);
        let id = format!("request {number}");
        let error = RUNTIME.block_on(store.charge(&[charge], Some(&id))).unwrap_err();
        assert!(error.may_have_charged(), "{error}");
        assert_eq!(usage(&direct, &charge), number + 1, "sent once");
        let again = RUNTIME.block_on(direct.charge(&[charge], Some(&id))).unwrap();
        assert_eq!(again.verdicts[0].usage, number + 1, "the first answer");
        assert_eq!(usage(&direct, &charge), number + 1, "charged once");
    }
}

/// P3: whatever is wrong, a call ends at its deadline. When the fault has ended, calls are answered.
#[test]
fn a_call_ends_at_its_deadline_and_the_store_recovers() {
    let server = RedisServer::start();
    let (limit, subject) = (per_hour(1_000_000), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    for fault in [Fault::BlackHole, Fault::Trickle(Duration::from_millis(50)), Fault::Reset] {
        let proxy = Proxy::start(server.port());
        let store =
            RedisStore::new(&proxy.url().parse().unwrap(), &RedisOptions::default()).unwrap();
        RUNTIME.block_on(async {
            store.charge(&[charge], None).await.unwrap();
            proxy.set(fault);
            let start = tokio::time::Instant::now();
            for _ in 0..10 {
                // No answer comes through the proxy, so it is the deadline that ends the call.
                let charges = [charge];
                let call = timeout(PATIENCE, store.charge(&charges, None));
                let error = call.await.expect("the call ends").unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{fault:?}: {error}");
            }
            let seconds = start.elapsed().as_secs() + 1;
            assert!(proxy.accepted() <= 1 + 10 * seconds, "{fault:?}: {}", proxy.accepted());
            proxy.set(Fault::None);
            let recovery = async {
                while store.charge(&[charge], None).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, recovery).await.expect("it recovers");
        });
    }
}

/// P8: every key expires within 2W and a second.
#[test]
fn every_key_expires() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let subject = Subject::new("alice", "m");
    for window_ms in [1, 10, 1_000, 60_000, 366 * 86_400_000] {
        for way in Way::ALL {
            server.command(&["FLUSHALL"]);
            let limit = limit_of("p", "USER", 10_000, Duration::from_millis(window_ms), way);
            for number in 0..400 {
                let id = (number % 100 == 0).then(|| format!("id {number}"));
                let cost = if number > 300 { 3 } else { 1 };
                let charges = [charge_of(&limit, &subject, cost)];
                RUNTIME.block_on(store.charge(&charges, id.as_deref())).unwrap();
            }
            for key in server.command(&["KEYS", "*"]) {
                let life_ms: i64 = server.command(&["PTTL", &key])[0].parse().unwrap();
                // -2: it has expired since; 0: it expires within this millisecond.
                let window_ms = limit.counting().window().unwrap().as_ns() / 1_000_000;
                let bound_ms = i64::try_from(2 * window_ms).unwrap() + 1_000;
                assert!(
                    life_ms == -2 || (0..=bound_ms).contains(&life_ms),
                    "{window_ms}: {life_ms}"
                );
            }
        }
    }
}

/// A node reports that it has reached its Redis once this examination has succeeded. So it must end whatever happens to
/// the connection: a dead connection is closed, and the next attempt uses another.
#[test]
fn the_look_at_start_outlives_a_connection_that_has_gone_silent() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = store_at(&proxy.url());
    assert_eq!(RUNTIME.block_on(store.examine()).unwrap(), []);
    for silence in [Fault::LoseAnswers, Fault::BlackHole] {
        proxy.set(silence);
        let problem = RUNTIME.block_on(store.examine()).unwrap_err();
        assert!(matches!(problem, StartProblem::Unavailable(_)), "{silence:?}: {problem:?}");
        proxy.set(Fault::None);
        until_looked_at(&store);
    }
}

/// A machine that is too busy to answer a check in time has reached its Redis nevertheless.
#[test]
fn the_look_at_start_does_not_depend_on_the_deadline_of_checks() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let mut options = RedisOptions::default();
    options.deadline = Duration::from_millis(1);
    let store = RedisStore::new(&proxy.url().parse().unwrap(), &options).unwrap();
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    until_looked_at(&store);
    let (limit, subject) = (per_hour(100), Subject::new("alice", "m"));
    let late = RUNTIME.block_on(store.charge(&[charge_of(&limit, &subject, 1)], None));
    assert!(late.is_err(), "a check is not waited for as long");
}

/// Repeats the examination until it succeeds, because connections are made at a bounded pace.
fn until_looked_at(store: &RedisStore) {
    let looking = async {
        while store.examine().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let looked = RUNTIME.block_on(async { tokio::time::timeout(PATIENCE, looking).await });
    looked.expect("Redis is not reached");
}
