//! What is in the spans of each protocol, and how they nest.

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tollgate_gateway::mock_model::{Behaviour, Failure, MockModel};
use tollgate_grpc::proto::tollgate::v1::CheckRequest;
use tollgate_server::{ServeConfig, Server, StoreConfig};
use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::otlp::{Collector, Received, Span, hex};
use tollgate_testkit::redis::RedisServer;

use super::{CHECK, SPAN_ID, ended, is_within, named, of, sampling, to, traceparent};
use crate::grpc::client;
use crate::support::{Admin, Client, Fixture};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

fn status(span: &Span) -> i32 {
    span.status.as_ref().map_or(0, |status| status.code)
}

/// No span may hold what a check says.
fn hold_no_id(received: &Received) {
    let all = format!("{:?}", received.spans);
    assert!(!all.contains("canary"), "{all}");
}

#[tokio::test]
async fn a_check_over_http_continues_the_trace_of_its_caller() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(0, true))).await;
    let traceparent = traceparent(TRACE_ID, true);
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", &*traceparent),
        ("tracestate", "vendor=1"),
    ];
    fixture.client().await.send("POST", "/rate-limit/check", &headers, CHECK).await;
    let received = ended(fixture, &collector).await;
    assert_eq!(received.spans.len(), 2);
    let request = named(&received, "POST /rate-limit/check");
    assert_eq!((hex(&request.trace_id).as_str(), request.kind), (TRACE_ID, SERVER));
    assert_eq!(
        (hex(&request.parent_span_id).as_str(), &*request.trace_state),
        (SPAN_ID, "vendor=1")
    );
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/rate-limit/check"),
        ("url.path", "/rate-limit/check"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(of(request, key).as_deref(), Some(value), "{key}");
    }
    let check = named(&received, "check");
    is_within(check, request);
    assert_eq!(of(check, "tollgate.allowed").as_deref(), Some("true"));
    assert_eq!(of(check, "tollgate.policy").as_deref(), Some("default"));
    assert_eq!(of(check, "tollgate.retry_after_ms"), None);
    hold_no_id(&received);
}

#[tokio::test]
async fn a_denial_says_why_and_for_how_long_and_is_no_error() {
    let collector = Collector::start();
    let yaml = "policies: [{id: one, per: [user], limit: 1, windowSeconds: 60}]";
    let configure = to(&collector, sampling(1_000_000, true));
    let fixture = Fixture::start_with_policies_and(yaml, configure).await;
    fixture.post("/rate-limit/check", CHECK).await;
    assert_eq!(fixture.post("/rate-limit/enforce", CHECK).await.status, 429);
    let received = ended(fixture, &collector).await;
    let request = named(&received, "POST /rate-limit/enforce");
    assert_eq!(
        (of(request, "http.response.status_code").as_deref(), status(request)),
        (Some("429"), 0)
    );
    let mut checks = received.spans.iter().filter(|span| span.name == "check");
    let check =
        checks.find(|span| of(span, "tollgate.allowed").as_deref() == Some("false")).unwrap();
    is_within(check, request);
    assert_eq!(of(check, "tollgate.reason").as_deref(), Some("limit_exceeded"));
    assert_eq!(of(check, "tollgate.policy").as_deref(), Some("one"));
    assert_eq!(of(check, "tollgate.retry_after_ms").as_deref(), Some("60000"));
    assert_eq!(status(check), 0);
}

#[tokio::test]
async fn a_lease_is_traced_without_its_id() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(1_000_000, true))).await;
    let lease = fixture.post("/rate-limit/leases", CHECK).await.json();
    let id = lease["lease"]["id"].as_str().unwrap();
    fixture.client().await.send("DELETE", &format!("/rate-limit/leases/{id}"), &[], "").await;
    let received = ended(fixture, &collector).await;
    let released = named(&received, "DELETE /rate-limit/leases/{id}");
    is_within(named(&received, "update_lease"), released);
    is_within(named(&received, "reserve"), named(&received, "POST /rate-limit/leases"));
    assert!(!format!("{:?}", received.spans).contains(id));
    hold_no_id(&received);
}

#[tokio::test]
async fn a_batch_is_one_span_with_a_bounded_number_within_it() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(1_000_000, true))).await;
    let checks: Vec<_> = (0..200).map(|n| json!({"userId": format!("u{n}")})).collect();
    fixture.post("/rate-limit/check/batch", &json!({"checks": checks}).to_string()).await;
    let received = ended(fixture, &collector).await;
    let batch = named(&received, "check_batch");
    is_within(batch, named(&received, "POST /rate-limit/check/batch"));
    assert_eq!(of(batch, "tollgate.checks").as_deref(), Some("200"));
    assert_eq!(received.spans.len(), 2);
}

#[tokio::test]
async fn a_check_over_grpc_is_traced_by_its_method() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(|config| {
        config.grpc = Some(([127, 0, 0, 1], 0).into());
        to(&collector, sampling(0, true))(config);
    })
    .await;
    let mut client = client::tollgate(&fixture).await;
    let call = |user: &str| {
        let check = CheckRequest { user_id: user.to_owned(), ..CheckRequest::default() };
        let mut request = tonic::Request::new(check);
        let traceparent = traceparent(TRACE_ID, true).parse().unwrap();
        request.metadata_mut().insert("traceparent", traceparent);
        request
    };
    client.check(call("canary-alice")).await.unwrap();
    client.peek(call("")).await.unwrap_err();
    drop(client);
    let received = ended(fixture, &collector).await;
    let request = named(&received, "tollgate.v1.RateLimiter/Check");
    assert_eq!((hex(&request.parent_span_id).as_str(), request.kind), (SPAN_ID, SERVER));
    assert_eq!(of(request, "rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(of(request, "rpc.method").as_deref(), Some("tollgate.v1.RateLimiter/Check"));
    assert_eq!(of(request, "rpc.response.status_code").as_deref(), Some("OK"));
    is_within(named(&received, "check"), request);
    let refused = named(&received, "tollgate.v1.RateLimiter/Peek");
    assert_eq!(of(refused, "rpc.response.status_code").as_deref(), Some("INVALID_ARGUMENT"));
    hold_no_id(&received);
}

/// What a check over a networked store sends to the collector.
async fn over(store: StoreConfig) -> Received {
    let collector = Collector::start();
    let mut config = ServeConfig::default();
    config.http = ([127, 0, 0, 1], 0).into();
    config.catalog = tollgate_server::CatalogConfig::BuiltIn;
    config.store = store;
    to(&collector, sampling(1_000_000, true))(&mut config);
    let server = Server::start(&config).await.unwrap();
    let mut client = Client::connect(server.address()).await;
    let answer = client.post("/rate-limit/check", CHECK).await.json();
    assert_eq!((&answer["allowed"], &answer["degraded"]), (&json!(true), &json!(false)));
    drop(client);
    assert!(server.drain().await);
    collector.received()
}

fn names_its_database(received: &Received, operation: &str, system: &str, port: u16) {
    let call = named(received, operation);
    is_within(call, named(received, "check"));
    assert_eq!(call.kind, CLIENT);
    for (key, value) in [
        ("db.system.name", system),
        ("db.operation.name", operation),
        ("server.address", "127.0.0.1"),
        ("server.port", &port.to_string()),
        ("tollgate.store_call", "charge"),
    ] {
        assert_eq!(of(call, key).as_deref(), Some(value), "{key}");
    }
    hold_no_id(received);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_redis_is_a_span_within_the_check() {
    let redis = RedisServer::start();
    let store = StoreConfig::Redis(Box::new(redis.url().parse().unwrap()));
    names_its_database(&over(store).await, "EVALSHA", "redis", redis.port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_memcached_is_a_span_within_the_check() {
    let memcached = MemcachedServer::start();
    let store = StoreConfig::Memcached(Box::new(memcached.url().parse().unwrap()));
    names_its_database(&over(store).await, "ms", "memcached", memcached.port());
}

/// What a request to the gateway sends to the collector, and the `traceparent` that its upstream gets.
async fn through_gateway(behaviour: Behaviour, is_sampled: bool) -> (Received, String) {
    let collector = Collector::start();
    let model = MockModel::start(([127, 0, 0, 1], 0).into(), behaviour).await.unwrap();
    let file = TempDir::new().unwrap();
    let path = file.path().join("gateway.yaml");
    let yaml = format!(
        "listen: 127.0.0.1:0\nupstreams: [{{id: a, baseUrl: 'http://{}/v1', dialect: openai}}]\n\
         models: [{{id: gpt, upstreams: [a]}}]\n",
        model.address()
    );
    std::fs::write(&path, yaml).unwrap();
    let admin = Admin::start_with(|config| {
        config.gateway = Some(path);
        to(&collector, sampling(0, true))(config);
    })
    .await;
    admin.make("/admin/tenants", json!({"id": "canary-tenant"})).await;
    let key = json!({"id": "canary-key", "tenantId": "canary-tenant"});
    let key = admin.make("/admin/api-keys", key).await;
    let address = admin.fixture.server.gateway_address().unwrap();
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let body = r#"{"model":"gpt","messages":[{"role":"user","content":"canary"}]}"#;
    let request = Request::post("/v1/chat/completions")
        .header("host", "gateway.example")
        .header("authorization", format!("Bearer {}", key["key"].as_str().unwrap()))
        .header("traceparent", traceparent(TRACE_ID, is_sampled))
        .header("tracestate", "vendor=1")
        .body(Full::new(Bytes::from_static(body.as_bytes())));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    drop(sender);
    let (fields, _) = model.record().last().unwrap();
    assert_eq!(fields["tracestate"], "vendor=1");
    let forwarded = fields["traceparent"].to_str().unwrap().to_owned();
    (ended(admin.fixture, &collector).await, forwarded)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_gets_the_trace_and_its_span_says_what_was_used() {
    let (received, forwarded) = through_gateway(Behaviour::WELL, true).await;
    let request = named(&received, "POST /v1/chat/completions");
    assert_eq!(hex(&request.trace_id), TRACE_ID);
    assert_eq!(of(request, "http.response.status_code").as_deref(), Some("200"));
    is_within(named(&received, "reserve"), request);
    let call = named(&received, "chat gpt");
    is_within(call, request);
    assert_eq!(forwarded, format!("00-{TRACE_ID}-{}-01", hex(&call.span_id)));
    assert_eq!(call.kind, CLIENT);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("tollgate.upstream", "a"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt"),
        ("gen_ai.usage.output_tokens", "20"),
    ] {
        assert_eq!(of(call, key).as_deref(), Some(value), "{key}");
    }
    assert!(of(call, "gen_ai.usage.input_tokens").is_some());
    // The lease is settled in the body of the answer, and the trace has that too.
    let settlement = named(&received, "update_lease");
    is_within(settlement, request);
    assert!(settlement.start_time_unix_nano >= call.start_time_unix_nano);
    // The request lasts as long as its answer.
    assert!(request.end_time_unix_nano >= call.end_time_unix_nano);
    hold_no_id(&received);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_of_an_upstream_is_an_error_of_its_span() {
    let fails = Behaviour { failure: Some(Failure::Status(503)), ..Behaviour::WELL };
    let (received, _) = through_gateway(fails, true).await;
    let call = named(&received, "chat gpt");
    assert_eq!((of(call, "error.type").as_deref(), status(call)), (Some("503"), ERROR));
    let request = named(&received, "POST /v1/chat/completions");
    assert_eq!((of(request, "error.type").as_deref(), status(request)), (Some("503"), ERROR));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_sampled_reaches_its_upstream_as_it_came() {
    let (received, forwarded) = through_gateway(Behaviour::WELL, false).await;
    assert!(received.spans.is_empty(), "{:?}", received.spans);
    assert_eq!(forwarded, traceparent(TRACE_ID, false));
}
