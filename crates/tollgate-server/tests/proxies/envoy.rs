//! Envoy in front of gRPC, configured as the example that the documents name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate_server::{Server, StoreConfig};
use tollgate_testkit::redis::RedisServer;

use crate::support::{ANY_PORT, Answer, Backend, Client, Program, configured, free_address, serve};

const EXAMPLE: &str = include_str!("../../../../examples/envoy/envoy.yaml");

/// The tokens that the backend says each answer takes.
const TOKENS: &str = "300";

struct Envoy {
    _program: Program,
    _files: TempDir,
    address: SocketAddr,
}

impl Envoy {
    /// Envoy with `workers` threads and the example's configuration as `changed`.
    async fn start(
        tollgate: &Server,
        backend: SocketAddr,
        workers: usize,
        changed: impl FnOnce(String) -> String,
    ) -> Self {
        let (files, address) = (TempDir::new().unwrap(), free_address());
        let mut text = changed(EXAMPLE.to_owned());
        let tollgate = tollgate.grpc_address().unwrap();
        for (port, other) in [("8080", address), ("8081", tollgate), ("9000", backend)] {
            let place = format!("port_value: {port}}}");
            assert!(text.contains(&place), "{place} is not in the example");
            text = text.replace(&place, &format!("port_value: {}}}", other.port()));
        }
        let path = files.path().join("envoy.yaml");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(program());
        command.arg("-c").arg(&path).args(["--concurrency", &workers.to_string()]);
        command.args(["--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "warn"]);
        let program = Program::start(command, address, &files.path().join("log")).await;
        Self { _program: program, _files: files, address }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

/// Envoy, as `scripts/setup tests` installs it.
fn program() -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let targets = target.into_iter().chain([PathBuf::from(root)]);
    let libraries = targets.filter_map(|target| std::fs::read_dir(target.join("envoy/lib")).ok());
    let python = libraries.flatten().map_while(Result::ok);
    let programs = python.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    let found = programs.into_iter().find(|program| program.is_file());
    found.expect("Envoy is not installed; `scripts/setup tests` installs it")
}

async fn post(client: &mut Client, user: &str) -> Answer {
    let headers = [("x-user-id", user), ("x-model-id", "gpt-4")];
    client.send("POST", "/v1/chat/completions", &headers, "{}").await
}

/// Of many parallel requests, exactly as many pass as the limit admits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_the_limit_passes_over_all_workers() {
    const LIMIT: usize = 50;
    let yaml = "policies: [{id: user, scope: USER_MODEL, limit: 50, windowSeconds: 60}]";
    let (server, _files) = serve(yaml, |config| config.grpc = Some(ANY_PORT)).await;
    let backend = Backend::start(&[]).await;
    // Far longer than an answer takes, so that a slow machine does not let requests pass.
    let patient = |text: String| text.replace("timeout: 0.02s", "timeout: 20s");
    let envoy = Envoy::start(&server, backend.address, 4, patient).await;
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let mut client = envoy.client().await;
        clients.spawn(async move {
            let mut passed = 0;
            for _ in 0..10 {
                let answer = post(&mut client, "alice").await;
                match answer.status {
                    200 => passed += 1,
                    429 => assert_eq!(answer.header("retry-after"), Some("60"), "{answer:?}"),
                    status => panic!("{status}: {answer:?}"),
                }
            }
            passed
        });
    }
    let passed: usize = clients.join_all().await.into_iter().sum();
    assert_eq!((passed, backend.requests()), (LIMIT, LIMIT as u64));
    let answer = post(&mut envoy.client().await, "alice").await;
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=0;t=60"));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("50, 50;w=60;name=\"user\""));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
}

/// The usage of the limit of tokens, which is charged when a stream has ended. It is charged after the client has its answer, so the
/// test waits until it is.
async fn wait_for_tokens(server: &Server, user: &str, expected: u64) {
    let mut client = Client::connect(server.address()).await;
    let body = format!(r#"{{"userId":"{user}","cost":{{"tokens":0}}}}"#);
    let headers = [("content-type", "application/json")];
    for _ in 0..3_000 {
        let answer = client.send_to("localhost", "POST", "/rate-limit/peek", &headers, &body).await;
        let decision: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let limits = decision["limits"].as_array().unwrap();
        let tokens = limits.iter().find(|limit| limit["policyId"] == "tokens").unwrap();
        if tokens["count"] == expected {
            return;
        }
        assert!(tokens["count"].as_u64().unwrap() < expected, "{tokens}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{expected} tokens were never charged");
}

const TOKENS_POLICY: &str = "policies:
  - {id: requests, scope: USER_MODEL, limit: 100, windowSeconds: 60}
  - {id: tokens, scope: USER, unit: tokens, limit: 500, windowSeconds: 60, overLimit: charge}";

#[tokio::test]
async fn tokens_are_charged_at_the_end_of_a_stream_also_of_one_that_breaks_off() {
    let (server, _files) = serve(TOKENS_POLICY, |config| config.grpc = Some(ANY_PORT)).await;
    let backend = Backend::start(&[("x-total-tokens", TOKENS)]).await;
    let patient = |text: String| text.replace("timeout: 0.02s", "timeout: 20s");
    let envoy = Envoy::start(&server, backend.address, 1, patient).await;
    let mut client = envoy.client().await;
    assert_eq!(post(&mut client, "alice").await.status, 200);
    wait_for_tokens(&server, "alice", 300).await;
    // This client goes away after the head of an answer that never ends.
    backend.hold_answers();
    client
        .break_off("/v1/chat/completions", &[("x-user-id", "alice"), ("x-model-id", "gpt-4")])
        .await;
    wait_for_tokens(&server, "alice", 600).await;
    backend.release_answers();
    let denied = post(&mut envoy.client().await, "alice").await;
    assert_eq!(denied.status, 429, "600 of 500 tokens are used: {denied:?}");
    assert_eq!(post(&mut envoy.client().await, "bob").await.status, 200);
}

#[tokio::test]
async fn policies_in_shadow_mode_let_requests_pass() {
    let yaml = "policies: [{id: trial, scope: USER, limit: 1, windowSeconds: 60, mode: shadow}]";
    let (server, _files) = serve(yaml, |config| config.grpc = Some(ANY_PORT)).await;
    let backend = Backend::start(&[]).await;
    let strict = |text: String| {
        text.replace("failure_mode_deny: false", "failure_mode_deny: true")
            .replace("timeout: 0.02s", "timeout: 20s")
    };
    let envoy = Envoy::start(&server, backend.address, 1, strict).await;
    for _ in 0..3 {
        assert_eq!(post(&mut envoy.client().await, "alice").await.status, 200);
    }
    let metrics = metrics(&server).await;
    let denied = "tollgate_shadow_decisions_total{outcome=\"would_deny\",policy=\"trial\"} ";
    let count = metrics.split(denied).nth(1).and_then(|rest| rest.split('\n').next());
    let count: u64 = count.unwrap().parse().unwrap();
    assert!(count >= 2, "{metrics}");
}

async fn metrics(server: &Server) -> String {
    let mut client = Client::connect(server.address()).await;
    client.send_to("localhost", "GET", "/metrics", &[], "").await.body
}

/// Envoy gives up after 20 ms. The calls to Redis go on, so the breaker sees that it hangs, and then the failure mode answers at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_opens_the_breaker_although_envoy_gives_up_sooner() {
    let redis = RedisServer::start();
    let yaml = "policies: [{id: user, scope: USER, limit: 1000000, windowSeconds: 60}]";
    let (config, _files) = configured(yaml, |config| {
        config.grpc = Some(ANY_PORT);
        config.store = StoreConfig::Redis(Box::new(redis.url().parse().unwrap()));
    });
    let server = Server::start(&config).await.unwrap();
    let backend = Backend::start(&[]).await;
    let strict = |text: String| text.replace("failure_mode_deny: false", "failure_mode_deny: true");
    let envoy = Envoy::start(&server, backend.address, 1, strict).await;
    let mut client = envoy.client().await;
    redis.pause();
    let hung = post(&mut client, "alice").await;
    assert_eq!(hung.status, 500, "Envoy's own failure mode: {hung:?}");
    for _ in 0..1_000 {
        let is_open = metrics(&server).await.contains("tollgate_store_breaker{state=\"open\"} 1\n");
        // A request that serves as the probe of an open breaker waits for Redis, and Envoy does not.
        if post(&mut client, "alice").await.status == 200 && is_open {
            redis.resume();
            return;
        }
    }
    redis.resume();
    panic!("the breaker never opened, or the failure mode did not answer");
}
