//! TLS: private authorities and certificates, and the errors about those that do not match. On Redis only, because the
//! Valkey of the tests is built without TLS.

#![cfg(test)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate_core::{Amount, Charge, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_redis::{RedisOptions, RedisStore, StartProblem};
use tollgate_store::Store as _;
use tollgate_testkit::redis::RedisMutualTls;

/// Very long, so that a slow machine does not cause failures here.
const DEADLINE: Duration = Duration::from_secs(30);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

fn store_at(url: &str) -> RedisStore {
    let mut options = RedisOptions::default();
    options.deadline = DEADLINE;
    RedisStore::new(&url.parse().unwrap(), &options).unwrap()
}

fn found(url: &str) -> Result<(), StartProblem> {
    RUNTIME.block_on(store_at(url).check_start())
}

#[track_caller]
fn refused(url: &str, parts: &[&str]) {
    let found = found(url);
    let Err(StartProblem::Misconfigured(problem)) = found else { panic!("{url}: {found:?}") };
    for part in parts {
        assert!(problem.to_string().contains(part), "{url}: no {part:?} in {problem}");
    }
}

#[test]
fn a_client_shows_its_certificate_to_a_server_of_its_authority() {
    let redis = RedisMutualTls::start();
    let (at, file) = (redis.address(), |name: &str| redis.file(name));
    let ca = format!("ca={}", file("ca.pem"));
    let client = format!("cert={}&key={}", file("client.pem"), file("client.key"));
    let other = format!("cert={}&key={}", file("other.pem"), file("other.key"));
    found(&format!("rediss://{at}?{ca}&{client}")).unwrap();
    found(&format!("valkeys://{at}/3?{ca}&{client}")).unwrap();
    redis.server.command(&["CONFIG", "SET", "requirepass", "secret"]);
    found(&format!("rediss://:secret@{at}?{ca}&{client}")).unwrap();
    refused(&format!("rediss://{at}?{ca}&{client}"), &["NOAUTH", "rediss://[USER]:PASSWORD@"]);
    refused(&format!("rediss://:secret@{at}?{client}"), &["not trusted", "?ca=FILE"]);
    refused(
        &format!("rediss://:secret@{at}?{ca}"),
        &["requires clients to present a certificate", "?cert=FILE&key=FILE"],
    );
    refused(&format!("rediss://{at}?{ca}"), &["requires clients to present a certificate"]);
    refused(&format!("rediss://:secret@{at}?{ca}&{other}"), &["certificate"]);
    let by_address = at.replace("localhost", "127.0.0.1");
    refused(&format!("rediss://{by_address}?{ca}&{client}"), &["not trusted", "write the host"]);
    refused(&format!("redis://:secret@{at}"), &["uses TLS", "use rediss in place of redis"]);
    let plain = redis.server.port();
    refused(&format!("rediss://:secret@localhost:{plain}?{ca}&{client}"), &["does not use TLS"]);
    refused(&format!("redis-cluster://{at}"), &["uses TLS"]);
}

/// A file with the wrong content is named before anything connects.
#[test]
fn a_wrong_file_is_named() {
    let redis = RedisMutualTls::start();
    let file = |name: &str| redis.file(name);
    let (ca, key, client) = (file("ca.pem"), file("client.key"), file("client.pem"));
    let (none, other) = (file("none.pem"), file("other.key"));
    for (query, parts) in [
        (format!("ca={none}"), ["`ca`", &none, "No such file"]),
        (format!("ca={key}"), ["`ca`", &key, "it contains no certificate in PEM"]),
        (format!("cert={none}&key={key}"), ["`cert`", &none, "No such file"]),
        (format!("cert={key}&key={key}"), ["`cert`", &key, "it contains no certificate in PEM"]),
        (format!("cert={client}&key={none}"), ["`key`", &none, "No such file"]),
        (format!("cert={client}&key={ca}"), ["`key`", &ca, "it contains no private key in PEM"]),
        (format!("cert={client}&key={other}"), ["`key`", &other, "KeyMismatch"]),
        (format!("ca={}", file("")), ["`ca`", "cannot be used", "directory"]),
    ] {
        let url = format!("rediss://localhost:1?{query}").parse().unwrap();
        let error = RedisStore::new(&url, &RedisOptions::default()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{query}: no {part:?} in {error}");
        }
    }
}

/// A connection that Redis closed while nothing was being sent is not used for a check.
#[test]
fn a_connection_that_was_closed_while_idle_costs_no_check() {
    let redis = RedisMutualTls::start();
    let [ca, client, key] = ["ca.pem", "client.pem", "client.key"].map(|name| redis.file(name));
    let store = store_at(&format!("rediss://{}?ca={ca}&cert={client}&key={key}", redis.address()));
    let (per, window) = (Per::from_scope("USER").unwrap(), Window::new(Duration::from_hours(1)));
    let policy = Policy::new(PolicyId::new("p").unwrap(), per, Amount::new(1_000), window.unwrap());
    let limit = Arc::new(Limit::of(&policy).unwrap());
    let subject = Subject::new("alice", "m");
    let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    for round in 1..=5 {
        let charged = RUNTIME.block_on(store.charge(&charge, None)).unwrap();
        assert_eq!(charged.verdicts[0].usage, round);
        redis.server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        RUNTIME.block_on(async {
            while store.is_connected() {
                tokio::task::yield_now().await;
            }
        });
    }
}
