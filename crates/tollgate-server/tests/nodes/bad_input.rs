//! A store with a wrong URL, or one that cannot be used: an invalid URL stops the start; with any other the server
//! starts degraded and logs what is wrong and where it was set. No password is shown.

use std::process::Command;

use tempfile::TempDir;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, PATIENT, refusal, reserved_port, serve, until, until_enforcing};

const CANARY: &str = "canary-password";
/// Where a store can be set, with the names in messages.
const PLACES: [&str; 3] = ["--store", "TOLLGATE_STORE", "tollgate.toml:2"];

/// Sets the store at `place`.
fn set_store(command: &mut Command, directory: &TempDir, place: &str, url: &str) {
    match place {
        "--store" => command.args(["--store", url]),
        "TOLLGATE_STORE" => command.env("TOLLGATE_STORE", url),
        _ => {
            let text = format!("# where usage lives\nstore = {url:?}\n");
            std::fs::write(directory.path().join("tollgate.toml"), text).unwrap();
            command
        }
    };
}

#[test]
fn a_url_that_is_none_is_refused_with_its_place() {
    for (url, problem) in [
        ("rediss", "is not a URL"),
        ("redistribute://user:canary-password@h", "scheme"),
        ("redis://user:canary-password@", "host"),
        ("redis://user:canary-password@h:0", "port"),
        ("redis://user:canary-password@h:70000", "port"),
        ("redis://user:canary-password@h:x", "port"),
        ("redis://user:canary-password@h/abc", "database"),
        ("redis://user:canary-password%zz%41@h", "password is only partly percent-encoded"),
        ("redis://user:canary-password%ff@h", "password is not percent-encoded UTF-8"),
        ("redis://user:canary-password@a,b", "2 hosts"),
        ("redis-sentinel://user:canary-password@h:1", "master"),
        ("redis-cluster://user:canary-password@h:1/5", "database"),
        (
            "redis://h?canary-password=1",
            "option 1 after its `?` is not one of prefix, db, ca, cert",
        ),
        ("redis://user:12?prefix=canary-password@h", "it can be read in two ways"),
        ("redis://user:canary-password@h?ca=canary-password", "`ca` without TLS"),
        ("redis+unix://user:canary-password@h/x", "Unix socket has no host"),
        ("redis:user:canary-password@h", "it has no `://`"),
        ("memcached://user:canary-password@h", "a user or a password"),
        ("memcached://h:canary-password", "no valid port"),
        ("memcache://canary-password", "the scheme of the store is unknown"),
    ] {
        for place in PLACES {
            let directory = TempDir::new().unwrap();
            let mut command = serve(&directory);
            command.args(["--log-level", "trace"]);
            set_store(&mut command, &directory, place, url);
            let (code, said) = refusal(&mut command);
            assert_eq!(code, Some(2), "{url}: {said}");
            assert!(said.contains(&format!("{place}: ")), "{url}: {place} in {said}");
            assert!(said.contains("accepted:"), "{url}: {said}");
            assert!(said.contains(problem), "{url}: {problem:?} in {said}");
            assert!(!said.contains(CANARY), "{url}: {said}");
        }
    }
}

/// Starts a node over `url`, set at `place`, which cannot be used. The node decides without it and, at the most verbose
/// level, logs the problem and its place without the password. Returns that line.
async fn told_of(url: &str, place: &str, arguments: &[&str]) -> String {
    let arguments = [&["--log-level", "trace"], arguments].concat();
    let node = Node::start_with(&arguments, |command, directory| {
        set_store(command, directory, place, url);
    });
    let mut client = node.client().await;
    for _ in 0..2 {
        let decision = client.check("alice", "m").await;
        assert!(decision.allowed && decision.degraded, "{url}: {decision:?}");
    }
    let set_by = format!(r#""set_by":"{place}""#);
    until("it tells what is wrong", async || node.logged(&set_by) > 0).await;
    let (_, ready) = client.get("/readyz").await;
    assert!(ready.contains(r#""status":"degraded""#), "{url}: {ready}");
    let log = node.end();
    assert!(!log.contains(CANARY), "{url}: {log}");
    log.lines().find(|line| line.contains(&set_by)).unwrap().to_owned()
}

/// An unavailable store is named in the log, and the server starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_named_with_what_is_wrong() {
    let (_reserved, silent_port) = reserved_port();
    for (url, problem) in [
        (format!("redis://:{CANARY}@127.0.0.1:{silent_port}"), "refused"),
        (format!("redis://:{CANARY}@no-such-host.invalid:1"), "no-such-host.invalid"),
        (format!("redis://:p@{CANARY}:w?x@127.0.0.1:{silent_port} \n"), "refused"),
        (format!("unix://:{CANARY}@/no/such.sock"), "/no/such.sock"),
    ] {
        let line = told_of(&url, PLACES[0], &[]).await;
        assert!(line.contains(problem), "{url}: {problem:?} in {line}");
    }
}

/// C14 and C15: a problem that only a wrong configuration can cause stops the start and names the remedy, unless a
/// degraded start is allowed; then the log says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_configured_wrongly_stops_the_start() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let no_scripts = RedisServer::start_with(&["--rename-command", "EVALSHA", ""]);
    let no_rights = RedisServer::start();
    no_rights.command(&[
        "ACL",
        "SETUSER",
        "u",
        "on",
        ">canary-password",
        "~*",
        "&*",
        "+@all",
        "-@scripting",
    ]);
    let cluster = RedisCluster::of(3, 0);
    let (port, of_cluster) = (server.port(), cluster.nodes()[0].port());
    let cases = [
        (format!("redis://:{CANARY}@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://nobody:{CANARY}@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://127.0.0.1:{port}"), "NOAUTH"),
        (format!("redis://127.0.0.1:{}", no_scripts.port()), "EVALSHA"),
        (
            format!("redis://u:{CANARY}@127.0.0.1:{}", no_rights.port()),
            "ACL SETUSER u +script|load +evalsha",
        ),
        (format!("redis://127.0.0.1:{of_cluster}"), "this is a Cluster; use redis-cluster://"),
        (format!("redis-cluster://:right@127.0.0.1:{port}"), "cluster-enabled no"),
        (format!("redis-sentinel://127.0.0.1:{port}/main"), "NOAUTH"),
        (format!("rediss://:{CANARY}@localhost:{port}"), "does not use TLS"),
        (format!("rediss://:{CANARY}@localhost:{port}?ca=/no/such.pem"), "/no/such.pem"),
    ];
    for (url, problem) in &cases {
        let directory = TempDir::new().unwrap();
        let mut command = serve(&directory);
        command.args(["--log-level", "trace"]).args(PATIENT).args(["--store", url]);
        let (code, said) = refusal(&mut command);
        assert_eq!(code, Some(2), "{url}: {said}");
        assert!(said.contains(problem), "{url}: {problem:?} in {said}");
        assert!(!said.contains(CANARY), "{url}: {said}");
    }
    let allowed = ["--start-degraded", "--store-timeout-ms", "5000"];
    // If a file cannot be read, there is no store to start with; a node of a Cluster decides some of the keys.
    let without_store = cases
        .iter()
        .filter(|(url, problem)| !url.contains("?ca=") && !problem.contains("a Cluster"));
    for (url, problem) in without_store {
        let line = told_of(url, PLACES[0], &allowed).await;
        assert!(line.contains(problem), "{url}: {problem:?} in {line}");
    }
    for place in PLACES {
        told_of(&cases[0].0, place, &allowed).await;
        let directory = TempDir::new().unwrap();
        let mut command = serve(&directory);
        set_store(command.args(PATIENT), &directory, place, &cases[0].0);
        let (code, said) = refusal(&mut command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("error: {place}: ")), "{place} in {said}");
    }
}

/// A degraded start is a setting like the others. If the store comes back with a wrong configuration, it is logged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_store_that_comes_later_is_told() {
    let (reserved, port) = reserved_port();
    let node = Node::start(&format!("redis://127.0.0.1:{port}"), &PATIENT);
    until("it tells that it is away", async || node.logged("is unavailable") > 0).await;
    drop(reserved);
    let _server = RedisServer::start_on(port, &["--requirepass", "right"]);
    until("it tells what is wrong", async || node.logged("NOAUTH") > 0).await;
    let (_, ready) = node.client().await.get("/readyz").await;
    assert!(ready.contains(r#""status":"degraded""#), "{ready}");
    let log = node.end();
    let said = log.lines().filter(|line| line.contains("cannot be used as it is configured"));
    assert_eq!(said.count(), 1, "{log}");
}

/// No part of a URL in the wrong place is shown either.
#[test]
fn a_url_in_the_wrong_place_is_not_shown() {
    let url = format!("redis://:{CANARY}@h:1");
    let directory = TempDir::new().unwrap();
    let file = format!("store = \"{url}\nhttp = 1\n");
    std::fs::write(directory.path().join("broken.toml"), file).unwrap();
    let file = format!("\"{url}\" = 1\n");
    std::fs::write(directory.path().join("key.toml"), file).unwrap();
    let stored = format!("--stor={url}");
    for arguments in [
        &[url.as_str()] as &[&str],
        &["--stor", &url],
        &[&stored],
        &["--max-keys", &url],
        &["--http", &url],
        &["--start-degraded", &url],
        &["--config", "broken.toml"],
        &["--config", "key.toml"],
    ] {
        let (code, said) = refusal(serve(&directory).args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(!said.contains("canary") && !said.contains("password"), "{arguments:?}: {said}");
    }
}

/// A foreign key is an error in the log and a degraded decision; it is not changed, and other keys are decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_an_error_and_stays() {
    let server = RedisServer::start();
    let node = Node::start(&server.url(), &PATIENT);
    let mut client = node.client().await;
    until_enforcing(&node).await;
    server.command(&["FLUSHALL"]);
    assert!(!client.check("alice", "m").await.degraded);
    let key = server.command(&["KEYS", "tg:*"]).pop().unwrap();
    server.command(&["DEL", &key]);
    server.command(&["RPUSH", &key, "not ours"]);
    for _ in 0..3 {
        let decision = client.check("alice", "m").await;
        assert!(decision.allowed && decision.degraded, "{decision:?}");
    }
    assert_eq!(server.command(&["LRANGE", &key, "0", "-1"]), ["not ours"]);
    assert!(!client.check("bob", "m").await.degraded);
    let log = node.end();
    assert!(log.contains("WRONGTYPE"), "{log}");
}

/// TLS: a certificate that the system trusts is accepted; any other is refused and named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_that_is_trusted_is_spoken_to() {
    let (server, port, _files, certificate) = RedisServer::start_with_tls();
    let url = format!("rediss://localhost:{port}");
    let node = Node::start_with(&PATIENT, |command, _| {
        command.env("SSL_CERT_FILE", &certificate).args(["--store", &url]);
    });
    let mut client = node.client().await;
    assert!(!client.check("alice", "m").await.degraded);
    let keys = server.command(&["KEYS", "tg:*"]);
    assert_eq!(keys.iter().filter(|key| !key.starts_with("tg:agreed-")).count(), 1, "{keys:?}");
    let line = told_of(&url, PLACES[0], &["--start-degraded"]).await;
    assert!(line.contains("certificate"), "{line}");
    // TLS to a server without it also fails with a clear message.
    let url = format!("redis://:{CANARY}@127.0.0.1:{port}");
    let line = told_of(&url, PLACES[0], &["--start-degraded"]).await;
    assert!(line.contains("uses TLS"), "{line}");
}
