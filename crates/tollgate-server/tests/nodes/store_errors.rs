//! P20: while a limit is not enforced, `/readyz`, the metrics and the log say so, and say when it is over, even if
//! nobody sends checks meanwhile.

use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, PATIENT, until, until_enforcing, until_ready};

async fn until_degraded(node: &Node) {
    let mut client = node.client().await;
    until("it says that it is degraded", async || {
        client.get("/readyz").await.1.contains(r#""status":"degraded""#)
    })
    .await;
}

/// A right that is revoked, a primary that is demoted and memory that is full, at run time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_whole_store_is_said_until_it_is_over() {
    let cases: [(&str, &[&str], &[&str]); 3] = [
        (
            "forbidden",
            &["ACL", "SETUSER", "default", "-evalsha"],
            &["ACL", "SETUSER", "default", "+evalsha"],
        ),
        ("read_only", &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (
            "out_of_memory",
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
        ),
    ];
    for (kind, breaks, mends) in cases {
        let server = RedisServer::start();
        let node = Node::start(&server.url(), &PATIENT);
        let mut client = node.client().await;
        until_ready(&node).await;
        until_enforcing(&node).await;
        until_ready(&node).await;
        assert_eq!(node.counted("tollgate_store_enforcing").await, 1);
        server.command(breaks);
        until("the breaker is open", async || {
            client.check("alice", "m").await;
            node.logged("the store is unavailable") > 0
        })
        .await;
        until_degraded(&node).await;
        assert_eq!(node.counted("tollgate_store_enforcing").await, 0, "{kind}");
        assert_eq!(node.counted("tollgate_store_failing_parts").await, 1, "{kind}");
        let failures = format!(r#"tollgate_store_failures_total{{kind="{kind}"}}"#);
        assert!(node.counted(&failures).await > 0, "{kind}");
        let ready = client.get("/readyz").await.1;
        assert!(ready.contains(&format!(r#""cause":"{kind}""#)), "{kind}: {ready}");
        server.command(mends);
        // Nobody sends a check.
        until_ready(&node).await;
        assert!(!client.check("bob", "m").await.degraded, "{kind}");
        let log = node.end();
        let told: Vec<_> =
            log.lines().filter(|line| line.contains("the store is unavailable")).collect();
        assert!(told.iter().any(|line| line.contains(&format!(r#""kind":"{kind}""#))), "{log}");
        assert!(told.iter().all(|line| line.contains("what_to_do")), "{log}");
        let over = log.lines().filter(|line| line.contains("the store is available again"));
        assert_eq!(over.count(), told.len(), "each is said to be over: {log}");
    }
}

/// One primary of three fails: the log says that it is a part of the store, and which one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_fails_is_said_to_be_a_part_of_the_store() {
    let cluster = RedisCluster::of(3, 0);
    let node = Node::start(&cluster.url(), &PATIENT);
    let mut client = node.client().await;
    until_ready(&node).await;
    let primary = &cluster.nodes()[0];
    primary.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut users = 0..;
    until("a part of the store is unavailable", async || {
        client.check(format!("user-{}", users.next().unwrap_or(0)), "m").await;
        node.logged("a part of the store is unavailable") > 0
    })
    .await;
    let log = node.end();
    let mut told = log.lines().filter(|line| line.contains("the store is unavailable"));
    let at = format!("Redis at 127.0.0.1:{} refused the call", primary.port());
    assert!(told.all(|line| line.contains("a part of") && line.contains(&at)), "{log}");
}

/// A key that Tollgate did not write degrades only its own checks; it is logged and counted, and no breaker opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_is_said_while_it_is_asked_for() {
    let server = RedisServer::start();
    let node = Node::start(&server.url(), &PATIENT);
    let mut client = node.client().await;
    until_enforcing(&node).await;
    server.command(&["FLUSHALL"]);
    until("alice is decided", async || !client.check("alice", "m").await.degraded).await;
    let key = server.command(&["KEYS", "tg:*"]).pop().unwrap();
    server.command(&["DEL", &key]);
    server.command(&["SET", &key, "somebody else's"]);
    until_ready(&node).await;
    until("the checks are degraded", async || client.check("alice", "m").await.degraded).await;
    until_degraded(&node).await;
    assert!(node.counted(r#"tollgate_store_failures_total{kind="foreign_key"}"#).await > 0);
    assert_eq!(node.counted(r#"tollgate_store_breaker{state="closed"}"#).await, 1);
    assert_eq!(server.command(&["GET", &key]), ["somebody else's"]);
    // Some time after the last of them, the server is ready again.
    until_ready(&node).await;
}
