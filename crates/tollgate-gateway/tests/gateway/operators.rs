//! What operators see: counts, the state of upstreams, the access log, the overhead.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tollgate_core::PriorityClass;
use tollgate_gateway::GatewayMonitor;
use tollgate_gateway::config::Dialect;
use tollgate_gateway::mock_model::{Behaviour, Failure};
use tollgate_gateway::monitor::{ModelTraffic, RequestOutcome, UpstreamResult, UpstreamState};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{CHAT, Fixture, POLICIES, STREAM, Setup, until};

/// What was counted for the model of every fixture and for no model, under `operation`.
fn traffic<'a>(monitor: &'a GatewayMonitor, model: &str, operation: &str) -> ModelTraffic<'a> {
    let is_it = |one: &ModelTraffic<'_>| {
        one.model == model && one.operation == operation && one.dialect == Dialect::OpenAi
    };
    monitor.traffic().find(is_it).unwrap()
}

/// The outcomes that were counted, over all operations and dialects.
fn outcomes(fixture: &Fixture, model: &str) -> Vec<(&'static str, u64)> {
    let names = RequestOutcome::ALL.map(RequestOutcome::name);
    let mut counts = [0; RequestOutcome::ALL.len()];
    for one in fixture.gateway.monitor().traffic().filter(|one| one.model == model) {
        counts.iter_mut().zip(one.outcomes).for_each(|(sum, count)| *sum += count);
    }
    names.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_once_by_how_it_ended() {
    let fixture = Setup::default().start().await;
    fixture.post(CHAT, STREAM).await;
    fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=cut, tokens=200, pace-ms=1")]).await;
    fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=no-final")]).await;
    fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=422")]).await;
    fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=503")]).await;
    fixture.post_with(CHAT, STREAM, &[("authorization", "Bearer nobody")]).await;
    fixture.post(CHAT, r#"{"model":"none","messages":[]}"#).await;
    fixture.get("/v1/models", &[]).await;
    let left = fixture.begin(CHAT, STREAM, &[("x-mock", "tokens=4000, pace-ms=5")]).await;
    drop(left);
    until("the client has left", || fixture.gateway.monitor().in_flight() == 0).await;
    let expected = [
        ("completed", 1),
        ("client_left", 1),
        ("upstream_broke_off", 2),
        ("upstream_error", 1),
        ("no_upstream", 1),
    ];
    assert_eq!(outcomes(&fixture, "gpt"), expected);
    let none = [("completed", 1), ("unauthorized", 1), ("invalid", 1)];
    assert_eq!(outcomes(&fixture, "(none)"), none);
    assert_eq!(fixture.gateway.monitor().in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_and_a_denial_are_counted_as_such() {
    let policies =
        POLICIES.replace("unit: output_tokens, limit: 100000", "unit: output_tokens, limit: 60");
    let model = ", reserveOutputTokens: 10";
    let fixture = Setup { policies: &policies, model, ..Setup::default() }.start().await;
    fixture.post_with(CHAT, STREAM, &[("x-mock", "tokens=1000, pace-ms=1")]).await;
    fixture.post(CHAT, r#"{"model":"gpt","max_tokens":50,"messages":[]}"#).await;
    assert_eq!(outcomes(&fixture, "gpt"), [("cut", 1), ("limited", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_times_are_counted_by_model_and_operation() {
    let fixture = Setup::default().start().await;
    fixture.post(CHAT, STREAM).await;
    fixture.post(CHAT, r#"{"model":"gpt","messages":[]}"#).await;
    fixture.post("/v1/embeddings", r#"{"model":"gpt","input":"hi"}"#).await;
    let monitor = fixture.gateway.monitor();
    let chats: Vec<_> = monitor
        .traffic()
        .filter(|one| one.model == "gpt" && one.operation == "chat" && one.duration.count() > 0)
        .collect();
    let [chat] = &chats[..] else { panic!("one of the endpoints was used") };
    assert_eq!((chat.duration.count(), chat.output.count(), chat.output.sum), (2, 2, 40));
    assert_eq!(chat.first_chunk.count(), 1, "only streams have one");
    // 20 tokens, the finish reason and the end; the chunk with the usage does not pass.
    assert_eq!(chat.per_chunk.count(), 21);
    assert_eq!((chat.tokens[1], chat.output_so_far), (40, 40));
    let embeddings = traffic(monitor, "gpt", "embeddings");
    assert!(embeddings.input.sum > 0 && embeddings.tokens[0] == embeddings.input.sum);
    assert_eq!((embeddings.tokens[1], embeddings.first_chunk.count()), (0, 0));
    let waits: Vec<_> =
        monitor.queues().map(|queue| (queue.class, queue.length, queue.waits.count())).collect();
    assert_eq!(waits.len(), PriorityClass::ALL.len());
    assert_eq!(waits[2], (PriorityClass::Standard, 0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_and_the_state_of_upstreams_are_shown() {
    let failing = Behaviour { failure: Some(Failure::Status(503)), ..Behaviour::default() };
    let setup = Setup { behaviours: &[failing, Behaviour::default()], ..Setup::default() };
    let fixture = setup.start().await;
    for _ in 0..6 {
        assert_eq!(fixture.post(CHAT, STREAM).await.status, 200);
    }
    let body = r#"{"model":"gpt","max_tokens":500,"stream":true,"messages":[]}"#;
    let slow = fixture.begin(CHAT, body, &[("x-mock", "tokens=4000, pace-ms=5")]).await;
    let monitor = fixture.gateway.monitor();
    let [failed, well, _] = &monitor.upstreams().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((failed.id, failed.requests_in_flight), ("up-0", 0));
    assert!(matches!(failed.state, UpstreamState::Open | UpstreamState::HalfOpen));
    assert_eq!(failed.results[UpstreamResult::Refused as usize], 5);
    assert_eq!(failed.retries, 5);
    assert_eq!((well.id, well.state), ("up-1", UpstreamState::Available));
    assert_eq!((well.requests_in_flight, well.max_concurrency), (1, 64));
    assert!((500..600).contains(&well.tokens_in_flight), "{}", well.tokens_in_flight);
    assert_eq!(well.results[UpstreamResult::Answered as usize], 7);
    assert_eq!((monitor.in_flight(), monitor.models_without_upstream()), (1, vec![]));
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_upstreams_all_fail_is_named() {
    let limited = Behaviour { failure: Some(Failure::Status(429)), ..Behaviour::default() };
    let setup = Setup { behaviours: &[limited], ..Setup::default() };
    let fixture = setup.start().await;
    let monitor = fixture.gateway.monitor();
    for path in [CHAT, "/v1/messages"] {
        assert!(monitor.models_without_upstream().is_empty());
        let body = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
        assert_eq!(fixture.post(path, body).await.status, 429);
    }
    assert_eq!(monitor.models_without_upstream(), ["gpt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_how_long_the_gateway_took() {
    let fixture = Setup::default().start().await;
    let answers = [
        fixture.post(CHAT, STREAM).await,
        fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=422")]).await,
        fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=close")]).await,
        fixture.post(CHAT, "no JSON").await,
        fixture.post("/v1/other", "{}").await,
        fixture.post_with(CHAT, STREAM, &[("authorization", "Bearer nobody")]).await,
        fixture.get("/v1/models", &[]).await,
    ];
    for answer in answers {
        let overhead = answer.field("x-tollgate-overhead-ms").parse::<f64>();
        assert!(overhead.is_ok_and(|ms| ms > 0.0), "{} {}", answer.status, answer.body);
    }
}

/// Keeps the events of the access log as `name=value` pairs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tollgate_gateway::access"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Everything of these tests runs on one thread, where the log is set.
#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_nothing_about_who_asked() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let fixture = Setup { rest: "accessLog: true", ..Setup::default() }.start().await;
    let body = r#"{"model":"gpt","user":"alice@example.com","stream":true,"messages":[{"role":"user","content":"a secret"}]}"#;
    fixture.post(CHAT, body).await;
    fixture.post("/v1/other/alice", body).await;
    until("both are logged", || log.0.lock().unwrap().len() == 2).await;
    let lines = log.0.lock().unwrap().clone();
    for part in [
        r#"method="POST" path="/v1/chat/completions" dialect="openai" model="gpt" upstream="up-0""#,
        r#"status=200 outcome="completed""#,
        "output_tokens=20 ",
        "first_byte_ms=",
        "duration_ms=",
        "reserved_tokens=4",
        "queue_wait_ms=",
        "overhead_ms=",
    ] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(
        lines[1].contains(r#"path="(other)" dialect="openai" status=404 outcome="invalid""#),
        "{}",
        lines[1]
    );
    let said = lines.concat();
    let key = fixture.key.split('_').next_back().unwrap();
    for secret in ["alice", "secret", "word", "acme", key, "127.0.0.1", "upstream-key"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[tokio::test]
async fn nothing_is_logged_unless_it_is_asked_for() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let fixture = Setup::default().start().await;
    fixture.post(CHAT, STREAM).await;
    until("it has ended", || fixture.gateway.monitor().in_flight() == 0).await;
    assert!(log.0.lock().unwrap().is_empty());
}
