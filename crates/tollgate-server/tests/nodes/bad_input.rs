//! A store that is named wrongly or cannot be used: a URL that is none is refused at start; with any other the
//! server starts degraded and says what is wrong and where it was set. No password is shown.

use std::time::Duration;

use tempfile::TempDir;
use tollgate_testkit::redis::RedisServer;

use super::support::{Node, tollgate};

const CANARY: &str = "canary-password";
/// What every line about a store that cannot be used has.
const AT_START: &str = r#""set_by":"--store""#;

#[test]
fn a_url_that_is_none_is_refused_with_its_place() {
    for (url, problem) in [
        ("rediss", "is not a URL"),
        ("redistribute://h", "unknown"),
        ("redis://", "host"),
        ("redis://h:0", "port"),
        ("redis://h:70000", "port"),
        ("redis://user:canary-password@h:x", "port"),
        ("redis://h/abc", "database"),
        ("redis-sentinel://h:1", "master"),
        ("redis-cluster://h:1/5", "database"),
        ("redis://h?canary-password=1", "prefix=…"),
        ("memcached://h", "no store"),
    ] {
        for by_flag in [true, false] {
            let directory = TempDir::new().unwrap();
            let mut command = tollgate(&directory);
            command.args(["serve", "--http", "127.0.0.1:0"]);
            let place = if by_flag {
                command.args(["--store", url]);
                "--store: "
            } else {
                command.env("TOLLGATE_STORE", url);
                "TOLLGATE_STORE: "
            };
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{url}: {said}");
            assert!(said.contains(place) && said.contains("accepted:"), "{url}: {said}");
            assert!(said.contains(problem), "{url}: {problem:?} in {said}");
            assert!(!said.contains(CANARY), "{said}");
        }
    }
}

/// Starts a node over `url`, which cannot be used; what it has logged by the time of two degraded checks.
async fn degraded_log(url: &str) -> String {
    let node = Node::start(url, &["--log-level", "trace"]);
    let mut client = node.client().await;
    for _ in 0..2 {
        let decision = client.check("alice", "m").await;
        assert!(decision.allowed && decision.degraded, "{url}: {decision:?}");
    }
    let start = tokio::time::Instant::now();
    while node.logged(AT_START) == 0 && start.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.end()
}

/// A port on which nothing listens.
fn silent_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_used_is_named_with_what_is_wrong() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let port = server.port();
    let mut missing = Vec::new();
    for (url, problem) in [
        (format!("redis://:{CANARY}@127.0.0.1:{}", silent_port()), "refused"),
        (format!("redis://:{CANARY}@127.0.0.1:{port}"), "authentication failed"),
        (format!("redis://nobody:{CANARY}@127.0.0.1:{port}"), "authentication failed"),
        (format!("redis://127.0.0.1:{port}"), "NOAUTH"),
        (format!("rediss://:{CANARY}@localhost:{port}"), "does it speak TLS?"),
        (format!("redis-cluster://:right@127.0.0.1:{port}"), "cluster"),
        (format!("redis-sentinel://127.0.0.1:{port}/main"), "SENTINEL"),
        (format!("redis://:{CANARY}@no-such-host.invalid:1"), "no-such-host.invalid"),
    ] {
        let log = degraded_log(&url).await;
        let at_start = log.lines().find(|line| line.contains(AT_START));
        let line = at_start.unwrap_or_default();
        if !line.contains(problem) {
            missing.push(format!("{url}: {problem:?} in {line}"));
        }
        assert!(!log.contains(CANARY), "{url}: {log}");
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A key that is not ours is an error in the log and a degraded decision; it stays, and other keys are decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_an_error_and_stays() {
    let server = RedisServer::start();
    let node = Node::start(&server.url(), &super::support::PATIENT);
    let mut client = node.client().await;
    while client.check("alice", "m").await.degraded {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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

/// TLS: a certificate that the system trusts is enough; any other is refused, and named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_that_is_trusted_is_spoken_to() {
    let (server, port, _files, certificate) = RedisServer::start_with_tls();
    let url = format!("rediss://localhost:{port}");
    let node = Node::start_with(&url, &super::support::PATIENT, |command, _| {
        command.env("SSL_CERT_FILE", &certificate);
    });
    let mut client = node.client().await;
    assert!(!client.check("alice", "m").await.degraded);
    assert_eq!(server.command(&["DBSIZE"]), ["1"]);
    let log = degraded_log(&url).await;
    assert!(log.contains("certificate"), "{log}");
    let log = degraded_log(&format!("redis://127.0.0.1:{port}")).await;
    assert!(log.contains(AT_START), "{log}");
}
