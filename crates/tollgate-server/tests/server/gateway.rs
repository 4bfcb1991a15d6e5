//! The gateway beside the other calls: one catalog, one store, one end.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tollgate_gateway::mock_model::{Behaviour, MockModel};
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

fn configuration(model: SocketAddr) -> (TempDir, impl FnOnce(&mut ServeConfig)) {
    let file = TempDir::new().unwrap();
    let path = file.path().join("gateway.yaml");
    let yaml = format!(
        "listen: 127.0.0.1:0\nupstreams: [{{id: a, baseUrl: 'http://{model}/v1', dialect: openai}}]\n\
         models: [{{id: gpt, upstreams: [a], onAbort: observed}}]\n"
    );
    fs::write(&path, yaml).unwrap();
    (file, |config: &mut ServeConfig| config.gateway = Some(path))
}

async fn start(behaviour: Behaviour, drain_timeout: Duration) -> Gateway {
    let model = MockModel::start(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour).await.unwrap();
    let (file, with_gateway) = configuration(model.address());
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
        let address = self.admin.fixture.server.gateway_address().unwrap();
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let body = r#"{"model":"gpt","stream":true,"messages":[]}"#;
        let request = Request::post("/v1/chat/completions")
            .header("host", "gateway.example")
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from_static(body.as_bytes())));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        // The connection lives as long as its answer.
        drop(sender);
        response
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
    let slow = Behaviour { tokens: 300, pace: Duration::from_millis(2), failure: None };
    let gateway = start(slow, PATIENCE).await;
    let answer = gateway.stream().await;
    let Gateway { admin, model, .. } = gateway;
    let draining = tokio::spawn(admin.fixture.server.drain());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    assert!(draining.await.unwrap(), "everything was answered");
    assert_eq!((model.record().output_tokens(), model.record().aborted()), (300, 0));
}

/// P18: after the drain timeout the server stops the remaining streams at the upstream and settles their leases. Then it ends.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_do_not_finish_in_time_are_stopped() {
    let endless = Behaviour { tokens: 1_000_000, pace: Duration::from_millis(5), failure: None };
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
    let (file, with_gateway) = configuration(SocketAddr::from(([127, 0, 0, 1], 9)));
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
