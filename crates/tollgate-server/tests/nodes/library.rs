//! Programs that embed the library share their limits with servers, over Redis and over memcached.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::shared::{ConnectError, Policies, ResilienceOptions, SharedLimiter};
use tollgate::{Check, PolicySet, Ttl};
use tollgate_store::Store;
use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Node, PATIENT, until, until_ready};

#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../../../tollgate/examples/shared.rs"]
mod example;

const LIMIT: u32 = 100;
const POLICIES: &str =
    "policies:\n  - {id: requests, scope: USER, limit: 100, windowSeconds: 3600}\n";
const SLOTS: &str = "  - {id: slots, scope: USER, unit: concurrency, limit: 1}\n";

fn patient() -> ResilienceOptions {
    let mut options = ResilienceOptions::default();
    options.timeout = Some(Duration::from_secs(10));
    options
}

fn policy_file(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("policies.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// 16 clients of a server and 16 tasks with the library send checks for one key at once: exactly the limit passes.
async fn one_limit_is_shared<S: Store>(node: &Node, limiter: SharedLimiter<S>) {
    let limiter = Arc::new(limiter);
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let mut client = node.client().await;
        tasks.spawn(async move {
            let mut admitted = 0;
            for _ in 0..8 {
                let decision = client.check("alice", "m").await;
                assert!(!decision.degraded);
                admitted += u32::from(decision.allowed);
            }
            admitted
        });
        let limiter = Arc::clone(&limiter);
        tasks.spawn(async move {
            let mut admitted = 0;
            for _ in 0..8 {
                let decision = limiter.check(&Check::new("alice", "m")).await.unwrap();
                assert!(!decision.degraded());
                admitted += u32::from(decision.allowed());
            }
            admitted
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), LIMIT);
    // What one clears, the other sees.
    assert!(!limiter.check(&Check::new("alice", "m")).await.unwrap().allowed());
    assert_eq!(limiter.reset(&Check::new("alice", "m")).await.unwrap()[0].as_str(), "requests");
    let mut client = node.client().await;
    until("the server sees it", async || client.check("alice", "m").await.allowed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_the_library_share_a_limit_over_redis() {
    let server = RedisServer::start();
    let node = Node::start_with_policies(&server.url(), &PATIENT, POLICIES);
    until_ready(&node).await;
    let (_dir, path) = policy_file(POLICIES);
    let limiter = SharedLimiter::redis(&server.url(), Policies::File(path), &patient()).await;
    one_limit_is_shared(&node, limiter.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_the_library_share_a_limit_over_a_cluster() {
    let cluster = RedisCluster::start().patient();
    let node = Node::start_with_policies(&cluster.url(), &PATIENT, POLICIES);
    until_ready(&node).await;
    let (_dir, path) = policy_file(POLICIES);
    let limiter = SharedLimiter::redis(&cluster.url(), Policies::File(path), &patient()).await;
    one_limit_is_shared(&node, limiter.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_the_library_share_a_limit_over_memcached() {
    let server = MemcachedServer::start();
    let node = Node::start_with_policies(&server.url(), &PATIENT, POLICIES);
    until_ready(&node).await;
    let (_dir, path) = policy_file(POLICIES);
    let limiter = SharedLimiter::memcached(&server.url(), Policies::File(path), &patient()).await;
    one_limit_is_shared(&node, limiter.unwrap()).await;
}

/// A lease of the library takes the slot that a server would give, and a server may settle it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_settles_a_lease_of_the_library() {
    let server = RedisServer::start();
    let text = format!("{POLICIES}{SLOTS}");
    let node = Node::start_with_policies(&server.url(), &PATIENT, &text);
    until_ready(&node).await;
    let (_dir, path) = policy_file(&text);
    let limiter = SharedLimiter::redis(&server.url(), Policies::File(path), &patient()).await;
    let limiter = limiter.unwrap();
    let check = Check::new("alice", "m");
    let lease = limiter.reserve(&check, Ttl::DEFAULT).await.unwrap().lease.unwrap();
    let mut client = node.client().await;
    let reserve = json!({"userId": "alice", "modelId": "m"}).to_string();
    assert_eq!(client.post("/rate-limit/leases", &reserve).await.0, 429);
    let settle = format!("/rate-limit/leases/{}/settle", lease.id());
    let (status, text) = client.post(&settle, r#"{"seq": 1, "usage": {"requests": 0}}"#).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(client.post("/rate-limit/leases", &reserve).await.0, 201);
    assert!(limiter.reserve(&check, Ttl::DEFAULT).await.unwrap().lease.is_none());
    assert_eq!(limiter.peek(&check).await.unwrap().limits()[0].count, 1);
}

/// A change of the file reaches the library, and a store that is away is answered for by the failure mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_follows_its_file_and_survives_its_store() {
    let server = RedisServer::start();
    let (_dir, path) = policy_file(POLICIES);
    let policies = Policies::File(path.clone());
    let options = ResilienceOptions::default();
    let limiter = SharedLimiter::redis(&server.url(), policies, &options).await.unwrap();
    let check = Check::new("alice", "m");
    let decided = || async { limiter.check(&check).await.unwrap() };
    until("the store decides", async || !decided().await.degraded()).await;
    std::fs::write(&path, POLICIES.replace("limit: 100", "limit: 7")).unwrap();
    until("the change is in force", async || limiter.policies_version() > 1).await;
    assert_eq!(decided().await.limits()[0].limit.amount().get(), 7);
    drop(server);
    until("the failure mode decides", async || decided().await.degraded()).await;
    assert!(decided().await.allowed());
}

/// With the database of a server, the library knows its policies and counts under its keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_uses_the_database_of_a_server() {
    let (server, dir) = (RedisServer::start(), TempDir::new().unwrap());
    let database = format!("sqlite:{}", dir.path().join("tollgate.db").display());
    let node = Node::start_with(&PATIENT, |command, _| {
        command.args(["--store", &server.url(), "--catalog", &database]);
    });
    until_ready(&node).await;
    let secret = std::fs::read(dir.path().join("tollgate.db.secret")).unwrap();
    let policies = Policies::Database { url: database, api_key_secret: secret };
    let limiter = SharedLimiter::redis(&server.url(), policies, &patient()).await.unwrap();
    let mut client = node.client().await;
    for _ in 0..60 {
        assert!(client.check("alice", "m").await.allowed);
    }
    let decision = limiter.check(&Check::new("alice", "m")).await.unwrap();
    let status = &decision.limits()[0];
    assert_eq!((status.limit.amount().get(), status.count), (u64::from(LIMIT), 61));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_at_once() {
    let set = || PolicySet::new(Vec::new()).unwrap();
    let options = ResilienceOptions::default();
    let refused =
        SharedLimiter::redis("redis://:canary@h:port", set(), &options).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ConnectError::Url { .. }) && text.contains("accepted: "), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let refused = SharedLimiter::memcached("redis://h", set(), &options).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Url { .. }), "{refused}");
    let server = RedisServer::start_with(&["--requirepass", "another"]);
    let refused = SharedLimiter::redis(&server.url(), set(), &options).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Misconfigured(_)), "{refused}");
    let (server, dir) = (RedisServer::start(), TempDir::new().unwrap());
    let missing = Policies::File(dir.path().join("missing.yaml"));
    let refused = SharedLimiter::redis(&server.url(), missing, &options).await.unwrap_err();
    assert!(refused.to_string().contains("missing.yaml"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_shares_three_requests_a_minute() {
    let server = RedisServer::start();
    for expected in [[true, true, true, false, false], [false; 5]] {
        let mut out = Vec::new();
        example::run(&server.url(), &mut out).await.unwrap();
        let answers: Vec<bool> =
            String::from_utf8(out).unwrap().lines().map(|line| line.ends_with("allowed")).collect();
        assert_eq!(answers, expected);
    }
}
