//! Errors of the whole store: each opens the breaker, has its own kind and says what to do. A server that accepts no
//! writes is replaced by the one to which its name leads now (C6).

use std::time::Duration;

use tollgate_core::{Amount, Charge, Subject};
use tollgate_redis::RedisStore;
use tollgate_store::{Store, StoreError, StoreErrorKind};
use tollgate_testkit::redis::{Proxy, RedisServer};

use crate::support::{RUNTIME, per_hour, store_at};

async fn charge(store: &RedisStore) -> Result<u64, StoreError> {
    let (limit, subject) = (per_hour(1_000), Subject::new("alice", "m"));
    let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
    store.charge(&[charge], None).await.map(|answer| answer.verdicts[0].usage)
}

/// The error of a charge on `server` with this `login`.
fn failure(server: &RedisServer, login: &str) -> StoreError {
    let store = store_at(&format!("redis://{login}127.0.0.1:{}", server.port()));
    RUNTIME.block_on(charge(&store)).unwrap_err()
}

#[test]
fn each_error_of_the_whole_store_has_its_kind_and_says_what_to_do() {
    let user = |server: &RedisServer, rights: &str| {
        let mut command = vec!["ACL", "SETUSER", "u", "reset", "on", ">secret"];
        command.extend(rights.split_whitespace());
        server.command(&command);
    };
    let start = |settings: &[&str]| RedisServer::start_with(settings);
    let prepare: [(&str, &dyn Fn() -> RedisServer, &str, StoreErrorKind); 9] = [
        ("no password", &|| start(&["--requirepass", "x"]), "", StoreErrorKind::Unauthenticated),
        (
            "a wrong password",
            &|| start(&["--requirepass", "x"]),
            ":secret@",
            StoreErrorKind::Unauthenticated,
        ),
        (
            "no right to the keys",
            &|| {
                let server = start(&[]);
                user(&server, "~other:* &* +@all");
                server
            },
            "u:secret@",
            StoreErrorKind::Forbidden,
        ),
        (
            "no scripting",
            &|| {
                let server = start(&[]);
                user(&server, "~* &* +@all -@scripting");
                server
            },
            "u:secret@",
            StoreErrorKind::Forbidden,
        ),
        (
            "no right to a command of the script",
            &|| {
                let server = start(&[]);
                user(&server, "~* &* +@all -set");
                server
            },
            "u:secret@",
            StoreErrorKind::Forbidden,
        ),
        (
            "scripts renamed away",
            &|| start(&["--rename-command", "EVALSHA", "\"\""]),
            "",
            StoreErrorKind::Unsupported,
        ),
        ("no memory", &|| start(&["--maxmemory", "1kb"]), "", StoreErrorKind::OutOfMemory),
        (
            "no replicas",
            &|| start(&["--min-replicas-to-write", "1"]),
            "",
            StoreErrorKind::TooFewReplicas,
        ),
        ("a replica", &|| start(&["--replicaof", "127.0.0.1 1"]), "", StoreErrorKind::ReadOnly),
    ];
    for (what, server, login, kind) in prepare {
        let error = failure(&server(), login);
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        assert!(!error.kind().concerns_one_check() && error.remedy().is_some(), "{what}");
        assert!(!error.may_have_charged(), "{what}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

/// C6: the primary behind a name is demoted, and the name leads to another: the next check is decided there.
#[test]
fn a_demoted_primary_is_left_at_once() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::start(first.port());
    let store = store_at(&proxy.url());
    RUNTIME.block_on(async {
        assert_eq!(charge(&store).await.unwrap(), 1);
        first.command(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
        proxy.lead_to(second.port());
        // The call is sent again over a new connection, so not even this check is degraded.
        assert_eq!(charge(&store).await.unwrap(), 1);
        assert_eq!(charge(&store).await.unwrap(), 2);
        assert_eq!(proxy.accepted(), 2);
    });
}

/// While the name leads to the demoted server, the errors say so, and it does not get a storm of connections.
#[test]
fn a_demoted_primary_is_not_stormed() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::start(first.port());
    let store = store_at(&proxy.url());
    RUNTIME.block_on(async {
        assert_eq!(charge(&store).await.unwrap(), 1);
        first.command(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(2) {
            let error = charge(&store).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error:?}");
        }
        let most = proxy.most_accepted_in_a_second();
        assert!(most <= 10, "{most} connections in a second");
    });
}
