//! The gateway beside the other calls: one catalog, one store, one end.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tollgate_gateway::mock_model::{Behaviour, Failure, MockModel};
use tollgate_server::{CatalogConfig, ServeConfig, Server, StartError};

use crate::support::Admin;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_mins(1);

struct Gateway {
    admin: Admin,
    model: MockModel,
    key: String,
    _file: TempDir,
}

fn configuration(
    model: SocketAddr,
    max_concurrency: u32,
) -> (TempDir, impl FnOnce(&mut ServeConfig)) {
    let file = TempDir::new().unwrap();
    let path = file.path().join("gateway.yaml");
    let yaml = format!(
        "listen: 127.0.0.1:0\nqueue: {{maxWaitMs: 600000}}\n\
         upstreams: [{{id: a, baseUrl: 'http://{model}/v1', dialect: openai, maxConcurrency: {max_concurrency}}}]\n\
         models: [{{id: gpt, upstreams: [a], onAbort: observed}}]\n"
    );
    fs::write(&path, yaml).unwrap();
    (file, |config: &mut ServeConfig| config.gateway = Some(path))
}

async fn start(behaviour: Behaviour, drain_timeout: Duration) -> Gateway {
    start_with(behaviour, drain_timeout, 64).await
}

async fn start_with(
    behaviour: Behaviour,
    drain_timeout: Duration,
    max_concurrency: u32,
) -> Gateway {
    let model = MockModel::start(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour).await.unwrap();
    let (file, with_gateway) = configuration(model.address(), max_concurrency);
    let configure = |config: &mut ServeConfig| {
        config.drain_timeout = drain_timeout;
        with_gateway(config);
    };
    let admin = Admin::start_with(configure).await;
    admin.make("/admin/tenants", json!({"id": "acme"})).await;
    let slots = json!({"id": "slots", "per": ["tenant"], "unit": "concurrency", "limit": 2});
    admin.make("/admin/policies", slots).await;
    let tokens = json!({
        "id": "output", "per": ["tenant"], "unit": "output_tokens", "limit": 100_000, "windowSeconds": 60,
    });
    admin.make("/admin/policies", tokens).await;
    let made = admin.make("/admin/api-keys", json!({"id": "k", "tenantId": "acme"})).await;
    let key = made["key"].as_str().unwrap().to_owned();
    Gateway { admin, model, key, _file: file }
}

impl Gateway {
    /// The beginning of a stream.
    async fn stream(&self) -> Response<Incoming> {
        self.begin_stream().await.unwrap()
    }

    /// A stream to come, which may end with the server.
    fn begin_stream(
        &self,
    ) -> impl Future<Output = Result<Response<Incoming>, hyper::Error>> + use<> {
        let address = self.admin.fixture.server.gateway_address().unwrap();
        let authorization = format!("Bearer {}", self.key);
        async move {
            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let body = r#"{"model":"gpt","stream":true,"messages":[]}"#;
            let request = Request::post("/v1/chat/completions")
                .header("host", "gateway.example")
                .header("authorization", authorization)
                .body(Full::new(Bytes::from_static(body.as_bytes())));
            let response = sender.send_request(request.unwrap()).await;
            // The connection lives as long as its answer.
            drop(sender);
            response
        }
    }

    /// The usage of a limit of the tenant, as the other calls see it.
    async fn used(&self, policy: &str) -> Value {
        let body = json!({"apiKey": self.key, "modelId": "gpt"}).to_string();
        let peeked = self.admin.fixture.post("/rate-limit/peek", &body).await.json();
        let limits = peeked["limits"].as_array().unwrap().clone();
        limits.iter().find(|limit| limit["policyId"] == policy).unwrap()["count"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_shares_limits_keys_and_metrics_with_the_other_calls() {
    let gateway = start(Behaviour::default(), Duration::from_secs(8)).await;
    let answer = gateway.stream().await;
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    assert_eq!((gateway.used("slots").await, gateway.used("output").await), (json!(0), json!(20)));
    let metrics = gateway.admin.fixture.get("/metrics").await.body;
    for event in ["reserved", "settled"] {
        let line = format!("tollgate_lease_events_total{{event=\"{event}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
    // What the other calls hold, the gateway does not have.
    let lease = json!({"apiKey": gateway.key, "modelId": "gpt"}).to_string();
    for _ in 0..2 {
        assert_eq!(gateway.admin.fixture.post("/rate-limit/leases", &lease).await.status, 201);
    }
    assert_eq!(gateway.stream().await.status(), 429);
}

/// P13: a stream that is running when the server is told to end is delivered whole.
#[tokio::test(flavor = "multi_thread")]
async fn running_streams_finish_when_the_server_drains() {
    let slow = Behaviour { tokens: 300, pace: Duration::from_millis(2), ..Behaviour::WELL };
    let gateway = start(slow, PATIENCE).await;
    let answer = gateway.stream().await;
    let Gateway { admin, model, .. } = gateway;
    let draining = tokio::spawn(admin.fixture.server.drain());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    assert!(draining.await.unwrap(), "everything was answered");
    assert_eq!((model.record().output_tokens(), model.record().aborted()), (300, 0));
}

/// Whoever waits would get the place of a stream that is stopped, and be charged for an answer that it does not get.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_waits_is_refused_before_running_streams_are_stopped() {
    let endless =
        Behaviour { tokens: 1_000_000, pace: Duration::from_millis(5), ..Behaviour::WELL };
    let gateway = start_with(endless, Duration::from_secs(4), 1).await;
    let mut first = gateway.stream().await.into_body();
    assert!(first.frame().await.unwrap().is_ok());
    let second = tokio::spawn(gateway.begin_stream());
    let waits = async {
        let metric = "tollgate_gateway_queue_length{class=\"standard\"} 1\n";
        while !gateway.admin.fixture.get("/metrics").await.body.contains(metric) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("it waits");
    let Gateway { admin, model, .. } = gateway;
    assert!(!admin.fixture.server.drain().await, "the first stream was not finished");
    let refused = second.await.unwrap().expect("it is answered before its connection is closed");
    assert_eq!((refused.status(), model.record().requests()), (StatusCode::SERVICE_UNAVAILABLE, 1));
}

/// P18: after the drain timeout the server stops the remaining streams at the upstream and settles their leases. Then it ends.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_do_not_finish_in_time_are_stopped() {
    let endless =
        Behaviour { tokens: 1_000_000, pace: Duration::from_millis(5), ..Behaviour::WELL };
    let gateway = start(endless, Duration::from_millis(300)).await;
    let mut answer = gateway.stream().await.into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    let Gateway { admin, model, .. } = gateway;
    assert!(!admin.fixture.server.drain().await, "the stream was not finished");
    let stopped = async {
        while model.record().active() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("the upstream goes on");
    assert_eq!(model.record().aborted(), 1);
}

#[tokio::test]
async fn a_gateway_that_cannot_work_is_refused_at_the_start() {
    let (file, with_gateway) = configuration(SocketAddr::from(([127, 0, 0, 1], 9)), 64);
    let mut config = ServeConfig::default();
    config.catalog = CatalogConfig::BuiltIn;
    config.http = SocketAddr::from(([127, 0, 0, 1], 0));
    with_gateway(&mut config);
    let refused = Server::start(&config).await.unwrap_err();
    assert!(matches!(refused, StartError::GatewayCatalog), "{refused}");
    let url = format!("sqlite:{}", file.path().join("catalog.db").display());
    config.catalog = CatalogConfig::Database(tollgate_server::Secret::new(url));
    fs::write(config.gateway.as_ref().unwrap(), "listen: here").unwrap();
    let refused = Server::start(&config).await.unwrap_err().to_string();
    assert!(refused.contains("gateway.yaml:1:9: listen: \"here\" is not accepted"), "{refused}");
    assert!(refused.contains("upstreams: is missing"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_the_gateway_name_what_is_configured_and_nobody() {
    let gateway = start(Behaviour::default(), Duration::from_secs(8)).await;
    let answer = gateway.stream().await;
    answer.into_body().collect().await.unwrap();
    let metrics = gateway.admin.fixture.get("/metrics").await.body;
    let operation =
        r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt""#;
    for line in [
        r#"tollgate_gateway_requests_total{dialect="openai",model="gpt",outcome="completed"} 1"#,
        r#"tollgate_gateway_tokens_total{dialect="openai",model="gpt",kind="output"} 20"#,
        &format!(r#"gen_ai_client_token_usage_sum{{{operation},gen_ai_token_type="output"}} 20.0"#),
        &format!(
            r#"gen_ai_client_token_usage_bucket{{le="64.0",{operation},gen_ai_token_type="output"}} 1"#
        ),
        &format!("gen_ai_client_operation_time_to_first_chunk_seconds_count{{{operation}}} 1"),
        &format!("gen_ai_client_operation_time_per_output_chunk_seconds_count{{{operation}}} 21"),
        r#"tollgate_gateway_queue_length{class="standard"} 0"#,
        r#"tollgate_gateway_queue_wait_seconds_count{class="standard"} 1"#,
        r#"tollgate_gateway_tickets_total{event="issued"} 0"#,
        r#"tollgate_gateway_upstream_state{state="available",upstream="a"} 1"#,
        r#"tollgate_gateway_upstream_requests_in_flight{upstream="a"} 0"#,
        r#"tollgate_gateway_upstream_requests_total{result="answered",upstream="a"} 1"#,
        r#"tollgate_gateway_retries_total{upstream="a"} 0"#,
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} in\n{metrics}");
    }
    for name in [gateway.key.as_str(), "acme"] {
        assert!(!metrics.contains(name), "{name}");
    }
    let mut client = gateway.admin.fixture.client().await;
    let text = client.send("GET", "/metrics", &[("accept", "text/plain")], "").await.body;
    assert!(text.contains("# TYPE tollgate_gateway_requests_total counter\n"), "{text}");
    assert!(text.contains("# TYPE gen_ai_client_token_usage histogram\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_usable_upstream_degrades_the_server() {
    let limited = Behaviour { failure: Some(Failure::Status(429)), ..Behaviour::default() };
    let gateway = start(limited, Duration::from_secs(8)).await;
    let ready = gateway.admin.fixture.get("/readyz").await.json();
    assert_eq!(
        (&ready["status"], &ready["parts"]["gateway"]),
        (&json!("ready"), &json!({"status": "ok"}))
    );
    assert_eq!(gateway.stream().await.status(), 429);
    let ready = gateway.admin.fixture.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")));
    let part = &ready.json()["parts"]["gateway"];
    assert_eq!(
        (&part["status"], &part["cause"]),
        (&json!("degraded"), &json!("modelsWithoutUpstream"))
    );
    assert_eq!(part["models"], json!(["gpt"]));
}

#[tokio::test]
async fn a_server_without_a_gateway_has_no_part_for_it() {
    let admin = Admin::start_with(|_| {}).await;
    let ready = admin.fixture.get("/readyz").await.json();
    assert!(ready["parts"].get("gateway").is_none(), "{ready}");
    let traffic = admin.get("/admin/traffic").await.json();
    assert_eq!(traffic, json!({"gateway": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_of_the_gateway_is_shown_to_administrators() {
    let slow = Behaviour { tokens: 100_000, pace: Duration::from_millis(2), ..Behaviour::WELL };
    let gateway = start(slow, Duration::ZERO).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut answer = gateway.stream().await;
        let status = answer.status().as_u16();
        assert!(status == 429 || answer.body_mut().frame().await.unwrap().is_ok());
        streams.push((status, answer));
    }
    assert_eq!(streams.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 429]);
    let shown = gateway.admin.get("/admin/traffic").await.json()["gateway"].clone();
    assert_eq!((&shown["inFlight"], &shown["denials"]), (&json!(2), &json!({"limited": 1})));
    assert_eq!(shown["models"].as_array().unwrap().len(), 1);
    assert_eq!(shown["models"][0]["model"], "gpt");
    assert_eq!(shown["models"][0]["requests"], json!({"limited": 1}));
    assert!(shown["models"][0]["outputSoFar"].as_u64().unwrap() >= 2);
    let upstream = &shown["upstreams"][0];
    assert_eq!((&upstream["id"], &upstream["state"]), (&json!("a"), &json!("available")));
    assert_eq!(
        (&upstream["requestsInFlight"], &upstream["maxConcurrency"]),
        (&json!(2), &json!(64))
    );
    assert!(upstream["tokensInFlight"].as_u64().unwrap() > 8_000);
    let classes = shown["queues"].as_array().unwrap().iter().map(|queue| queue["class"].clone());
    assert_eq!(classes.collect::<Vec<_>>(), ["internal", "premium", "standard", "batch"]);
    assert_eq!(gateway.admin.fixture.get("/admin/traffic").await.status, 401);
}
