//! The store's behaviour when memcached or the network fails: P3, P6, P8, and values that are not Tollgate's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tollgate_core::{Charge, Limit, ManualClock, Subject, Timestamp};
use tollgate_store::{Store, StoreErrorKind};
use tollgate_testkit::Way;
use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::redis::{Fault, Proxy};

use crate::support::{RUNTIME, charge_of, hurried_store_at, limit_of, per_hour, store_at, usage};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

fn through(proxy: &Proxy) -> String {
    format!("memcached://127.0.0.1:{}", proxy.port())
}

/// A value of another program causes an error. It is not changed, and other keys are not affected.
#[test]
fn a_value_that_is_not_ours_is_an_error_and_stays() {
    let server = MemcachedServer::start();
    let store = store_at(&server.url());
    let (ours, subject) = (per_hour(100), Subject::new("alice", "m"));
    let long = "x".repeat(100_000);
    for value in ["", "abc", "TGM\u{1}", "TGM\u{1}\u{1}\u{1}\u{9}", &long] {
        let other = limit_of("q", "USER", 5, Duration::from_mins(1), Way::Log);
        let key = store.key(&other, &subject);
        server.set(&key, value);
        let before = server.command(&format!("get {key}"));
        let charges = [charge_of(&ours, &subject, 1), charge_of(&other, &subject, 1)];
        let error = RUNTIME.block_on(store.charge(&charges, None)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{value:.9}");
        assert!(format!("{error:?}").contains(&key), "{error:?} names the key");
        assert!(!error.may_have_charged());
        assert!(RUNTIME.block_on(store.reset(&other, &subject)).is_err());
        assert_eq!(server.command(&format!("get {key}")), before, "{value:.9}");
        RUNTIME.block_on(store.finish());
        assert_eq!(usage(&store, &charges[0]), 0, "the other limit was given back");
    }
}

/// P6: if an answer is lost after the commit, the error says so, and the same request id, sent again, is charged once.
#[test]
fn an_answer_lost_after_the_commit_charges_once() {
    const CHECKS: u64 = 100;
    let server = MemcachedServer::start();
    let (limit, subject) = (per_hour(10 * CHECKS), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    let direct = store_at(&server.url());
    for number in 0..CHECKS {
        let proxy = Proxy::start(server.port());
        let store = store_at(&through(&proxy));
        // The next change needs no read, so it is the commit whose answer is lost.
        assert!(RUNTIME.block_on(store.charge(&[charge], None)).unwrap().verdicts[0].allowed);
        proxy.set(Fault::DropAnswers);
        let id = format!("request {number}");
        let error = RUNTIME.block_on(store.charge(&[charge], Some(&id))).unwrap_err();
        assert!(error.may_have_charged(), "{error}");
        let count = 2 * (number + 1);
        assert_eq!(usage(&direct, &charge), count, "sent once");
        let again = RUNTIME.block_on(direct.charge(&[charge], Some(&id))).unwrap();
        assert_eq!(again.verdicts[0].usage, count, "the first answer");
        assert_eq!(usage(&direct, &charge), count, "charged once");
    }
}

/// P3 and P14: whatever is wrong, a call ends at its deadline, and there are at most 10 connects a second. When the fault has
/// ended, calls are answered.
#[test]
fn a_call_ends_at_its_deadline_and_the_store_recovers() {
    let server = MemcachedServer::start();
    let (limit, subject) = (per_hour(1_000_000), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    for fault in [Fault::BlackHole, Fault::Trickle(Duration::from_millis(50)), Fault::Reset] {
        let proxy = Proxy::start(server.port());
        let store = hurried_store_at(&through(&proxy));
        RUNTIME.block_on(async {
            store.charge(&[charge], None).await.unwrap();
            proxy.set(fault);
            for _ in 0..30 {
                let charges = [charge];
                let call = timeout(PATIENCE, store.charge(&charges, None));
                let error = call.await.expect("the call ends").unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{fault:?}: {error}");
            }
            assert!(proxy.most_accepted_in_a_second() <= 10, "{fault:?}");
            proxy.set(Fault::None);
            recovers(&store, &charge).await;
        });
    }
}

async fn recovers(store: &tollgate_memcached::MemcachedStore, charge: &Charge<'_>) {
    let recovery = async {
        while store.charge(&[*charge], None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, recovery).await.expect("it recovers");
}

/// P3: a process that is stopped, continued, killed and started again on the same port. What was admitted before it was killed
/// is forgotten, because memcached keeps nothing.
#[test]
fn a_server_that_is_stopped_or_restarted_is_used_again() {
    let server = MemcachedServer::start();
    let store = hurried_store_at(&server.url());
    let (limit, subject) = (per_hour(1_000_000), Subject::new("alice", "m"));
    let charge = charge_of(&limit, &subject, 1);
    RUNTIME.block_on(async {
        store.charge(&[charge], None).await.unwrap();
        server.pause();
        for _ in 0..5 {
            let charges = [charge];
            let error = timeout(PATIENCE, store.charge(&charges, None)).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        }
        server.resume();
        recovers(&store, &charge).await;
        assert!(store.peek(&[charge]).await.unwrap().verdicts[0].usage >= 2);
    });
    let port = server.port();
    server.kill();
    drop(server);
    RUNTIME.block_on(async {
        for _ in 0..5 {
            let error = store.charge(&[charge], None).await.unwrap_err();
            assert!(!error.may_have_charged(), "{error}");
        }
        let _server = MemcachedServer::start_on(port, &["-M"]);
        recovers(&store, &charge).await;
        assert_eq!(store.peek(&[charge]).await.unwrap().verdicts[0].usage, 1);
    });
}

/// A full memcached that may not evict refuses what is new, and says so; what it has stays.
#[test]
fn a_full_server_refuses_and_keeps_what_it_has() {
    let server = MemcachedServer::start_with(&["-M", "-m", "2"]);
    let store = store_at(&server.url());
    let limit = per_hour(1_000_000);
    let mut error = None;
    for number in 0..200_000 {
        let user = number.to_string();
        let subject = Subject::new(&user, "m");
        let charge = [charge_of(&limit, &subject, 1)];
        match RUNTIME.block_on(store.charge(&charge, None)) {
            Ok(_) => {}
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    let error = error.expect("it is full");
    assert_eq!(error.kind(), StoreErrorKind::OutOfMemory, "{error}");
    assert!(!error.may_have_charged() && error.remedy().is_some_and(|text| text.contains("-m")));
    assert_eq!(server.stat("evictions"), 0);
    let subject = Subject::new("0", "m");
    assert_eq!(usage(&store, &charge_of(&limit, &subject, 1)), 1);
}

/// P8: every value expires, within twice the window and the seconds to which memcached rounds. It never expires before what it
/// counts has left.
#[test]
fn every_value_expires() {
    let server = MemcachedServer::start();
    let store = store_at(&server.url());
    let subject = Subject::new("alice", "m");
    for window_ms in [1, 1_000, 60_000, 366 * 86_400_000] {
        for way in Way::ALL {
            server.command("flush_all");
            let limit = limit_of("p", "USER", 10_000, Duration::from_millis(window_ms), way);
            for number in 0..20 {
                let id = (number % 5 == 0).then(|| format!("id {number}"));
                let charges = [charge_of(&limit, &subject, number % 3)];
                RUNTIME.block_on(store.charge(&charges, id.as_deref())).unwrap();
            }
            let window_s = limit.counting().window().unwrap().as_ns() / 1_000_000_000;
            let most = i64::try_from(2 * window_s).unwrap() + 5;
            let name = store.key(&limit, &subject);
            let keys = server.keys();
            assert!(keys.iter().any(|(key, _)| *key == name) || window_ms == 1, "{way:?}");
            for (key, life_s) in server.keys() {
                let life_s = life_s.expect("it expires");
                assert!(life_s <= most, "{way:?}, {window_ms}, {key}: {life_s}");
            }
            let life_s = server.life_s(&name);
            assert!(life_s.is_none_or(|life_s| (0..=most).contains(&life_s)), "{life_s:?}");
            // A window of a calendar ends with its period, and a short one may be over.
            if way != Way::Calendar && window_s >= 60 {
                let least = i64::try_from(window_s).unwrap();
                assert!(life_s.is_some_and(|life_s| life_s >= least), "{way:?}: {life_s:?}");
            }
        }
    }
}

/// A node whose clock is an hour slow stores values that live as long as with the right clock: what it admitted counts, and
/// the time of the key does not step back.
#[test]
fn a_slow_clock_makes_nothing_expire_early() {
    let server = MemcachedServer::start();
    let at = |s: u64| ManualClock::at(Timestamp::from_ms(s * 1_000));
    let now_s = server.stat("time");
    let store = store_at(&server.url());
    let [fast, slow] =
        [at(now_s), at(now_s - 3_600)].map(|clock| store.with_clock(Arc::new(clock)));
    let limit: Arc<Limit> = limit_of("p", "USER", 2, Duration::from_mins(1), Way::Log);
    let subject = Subject::new("alice", "m");
    let charge = [charge_of(&limit, &subject, 1)];
    let admitted = [&slow, &fast, &slow, &fast, &slow]
        .map(|store| RUNTIME.block_on(store.charge(&charge, None)).unwrap().verdicts[0].allowed);
    // The first is out of the window by the fast clock; from then on both use its time.
    assert_eq!(admitted, [true, true, true, false, false]);
    let life_s = server.life_s(&store.key(&limit, &subject));
    assert!(life_s.is_some_and(|life_s| life_s >= 60), "{life_s:?}");
}
