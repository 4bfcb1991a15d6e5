//! The least rights of a user suffice. Each missing right is reported with the line that grants it.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Amount, Charge, LeaseUpdate, ManualClock, Subject, Totals, Ttl};
use tollgate_redis::{Announcement, RedisStore, RedisUrl, StartProblem, least_rights};
use tollgate_store::resilience::{Breaker, BreakerOptions, BreakerState};
use tollgate_store::{LeaseRequest, Store, StoreErrorKind};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{RedisCluster, RedisSentinels, RedisServer};

use crate::support::{RUNTIME, limit_of, per_hour, store_at};

/// Creates `user` again, with these rights and the password `secret`.
fn set_user(server: &RedisServer, user: &str, rights: &str) {
    let mut command = vec!["ACL", "SETUSER", user, "reset", "on", ">secret"];
    command.extend(rights.split_whitespace());
    server.command(&command);
}

fn url_of(server: &RedisServer, user: &str) -> String {
    format!("redis://{user}:secret@127.0.0.1:{}", server.port())
}

fn least(url: &str) -> String {
    let url: RedisUrl = url.parse().unwrap();
    least_rights(&url)
}

/// Everything that a store does, over limits in one slot and in several.
fn use_all(store: RedisStore) {
    let user = per_hour(1_000);
    let window = Duration::from_hours(1);
    let model = limit_of("m", "MODEL", 400, window, Way::Log);
    let counter = limit_of("c", "USER", 400, window, Way::Counter);
    for number in 0..400 {
        let name = (number % 3).to_string();
        let subject = Subject::new(&name, "m");
        let cost = Amount::new(1 + number % 2).unwrap();
        let charge = |limit| Charge { limit, subject: &subject, cost };
        let id = number.to_string();
        let charges = [charge(&user), charge(&model), charge(&counter)];
        RUNTIME.block_on(store.charge(&charges, Some(&id))).unwrap();
    }
    RUNTIME.block_on(store.reset(&user, &Subject::new("0", "m"))).unwrap();
    let subject = Subject::new("0", "m");
    let charges = [Charge { limit: &user, subject: &subject, cost: Amount::ONE }];
    let request = LeaseRequest::new(&charges, Ttl::DEFAULT).named(Some("id"));
    let id = RUNTIME.block_on(store.reserve(&request)).unwrap().lease.unwrap().id;
    assert_eq!(RUNTIME.block_on(store.live_leases(10)).unwrap().leases.len(), 1);
    let (observed, wanted) = (Totals::none(), Totals::none());
    let extend = LeaseUpdate::Extend { seq: Amount::ONE, ttl: Some(Ttl::MAX), observed, wanted };
    for update in [extend, LeaseUpdate::Release] {
        RUNTIME.block_on(store.update_lease(&id, &update)).unwrap().unwrap();
    }
    let found = RUNTIME.block_on(store.examine()).unwrap();
    assert_eq!(found, []);
    assert!(RUNTIME.block_on(hears(store)), "it hears of what others give back");
}

/// Whether `store` can receive announcements of other nodes.
async fn hears(store: RedisStore) -> bool {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let listening = store.listen(move |announcement| {
        if matches!(announcement, Announcement::Connected(_)) {
            let _ = tell.send(());
        }
    });
    tokio::select! {
        () = listening => false,
        connected = told.recv() => connected.is_some(),
        () = tokio::time::sleep(Duration::from_secs(30)) => false,
    }
}

#[test]
fn the_least_rights_suffice() {
    let server = RedisServer::start();
    set_user(&server, "least", &least("redis://h"));
    use_all(store_at(&url_of(&server, "least")));
    let url = format!("{}/3", url_of(&server, "least"));
    set_user(&server, "least", &least(&url));
    use_all(store_at(&url));
}

#[test]
fn the_least_rights_for_a_cluster_suffice() {
    let cluster = RedisCluster::start();
    for node in cluster.nodes() {
        set_user(node, "least", &least(&cluster.url()));
    }
    use_all(store_at(&cluster.url().replace("://", "://least:secret@")));
}

#[test]
fn the_least_rights_behind_sentinels_suffice() {
    let sentinels = RedisSentinels::start();
    set_user(&sentinels.primary, "least", &least(&sentinels.url()));
    use_all(store_at(&sentinels.url().replace("://", "://least:secret@")));
}

/// A right that only long logs need is lost at run time. Checks of other limits succeed without it, but the breaker stays open
/// until a probe finds that it is back.
#[test]
fn a_right_that_few_checks_need_keeps_the_breaker_open_until_it_is_back() {
    let server = RedisServer::start();
    set_user(&server, "less", &least("redis://h"));
    let store = store_at(&url_of(&server, "less"));
    let clock = ManualClock::default();
    let breaker = Breaker::new(store, clock.clone(), BreakerOptions::default(), Arc::new(()));
    let (limit, subject) = (per_hour(1_000), Subject::new("alice", "m"));
    let charge = |user: &str| {
        let subject = Subject::new(user, "m");
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
        RUNTIME.block_on(breaker.charge(&[charge], None))
    };
    server.command(&["ACL", "SETUSER", "less", "-hset"]);
    let error = (0..1_000).find_map(|_| charge("alice").err()).unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Forbidden);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(charge("bob").unwrap_err().kind(), StoreErrorKind::NotAsked);
        RUNTIME.block_on(breaker.tend());
        assert_eq!(breaker.state(), BreakerState::Open);
    }
    server.command(&["ACL", "SETUSER", "less", "+hset"]);
    clock.advance(Duration::from_secs(1));
    RUNTIME.block_on(breaker.tend());
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(charge("alice").is_ok() && charge("bob").is_ok());
    RUNTIME.block_on(breaker.reset(&limit, &subject)).unwrap();
    RUNTIME.block_on(breaker.reset(&limit, &Subject::new("bob", "m"))).unwrap();
    let left = server.command(&["KEYS", "*"]);
    assert!(left.len() <= 1, "only the usage of the probe, for some seconds: {left:?}");
}

/// A right is lost at run time. The error of a reset says what is missing.
#[test]
fn a_reset_says_which_right_it_lacks() {
    let server = RedisServer::start();
    set_user(&server, "less", &least("redis://h"));
    let store = store_at(&url_of(&server, "less"));
    let (limit, subject) = (per_hour(10), Subject::new("alice", "m"));
    RUNTIME.block_on(store.reset(&limit, &subject)).unwrap();
    for (lost, missing) in [("resetchannels", "&tg:*"), ("-publish", "+publish")] {
        server.command(&["ACL", "SETUSER", "less", lost]);
        let error = RUNTIME.block_on(store.reset(&limit, &subject)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Forbidden);
        assert!(error.to_string().ends_with(&format!("ACL SETUSER less {missing}")), "{error}");
    }
}

/// For each single right: without it the start fails, names the right and the line that grants it, and leaves no key.
#[test]
fn each_missing_right_is_named() {
    let server = RedisServer::start();
    let all = least("redis://h");
    for right in all.split_whitespace().filter(|right| *right != "-@all") {
        let less: Vec<_> = all.split_whitespace().filter(|one| *one != right).collect();
        set_user(&server, "less", &less.join(" "));
        let store = store_at(&url_of(&server, "less"));
        let found = RUNTIME.block_on(store.check_start());
        match right {
            // Without these rights the store works; without `INFO` it cannot detect eviction, and without `SCAN` it lists no leases.
            "+info" => {
                found.unwrap();
                let warnings = RUNTIME.block_on(store.examine()).unwrap();
                assert!(warnings[0].to_string().contains("whether it evicts"), "{warnings:?}");
            }
            "+ping" => found.unwrap(),
            "+scan" => {
                found.unwrap();
                let error = RUNTIME.block_on(store.live_leases(1)).unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Forbidden);
                assert!(error.to_string().ends_with("ACL SETUSER less +scan"), "{error}");
            }
            _ => {
                let Err(StartProblem::Misconfigured(problem)) = found else {
                    panic!("{right}: {found:?}")
                };
                let said = problem.to_string();
                assert!(said.ends_with(&format!("ACL SETUSER less {right}")), "{right}: {said}");
                assert!(!said.contains("secret"), "{said}");
            }
        }
    }
    assert_eq!(server.command(&["DBSIZE"]), ["0"]);
}

/// The same for the rights that only a Cluster needs.
#[test]
fn each_right_that_a_cluster_lacks_is_named() {
    let cluster = RedisCluster::of(3, 0);
    let all = least(&cluster.url());
    for right in ["+cluster|slots", "+asking", "~tg:*"] {
        let less: Vec<_> = all.split_whitespace().filter(|one| *one != right).collect();
        for node in cluster.nodes() {
            set_user(node, "less", &less.join(" "));
        }
        let store = store_at(&cluster.url().replace("://", "://less:secret@"));
        let said = RUNTIME.block_on(store.check_start()).unwrap_err().to_string();
        assert!(said.ends_with(&format!("ACL SETUSER less {right}")), "{right}: {said}");
    }
}
