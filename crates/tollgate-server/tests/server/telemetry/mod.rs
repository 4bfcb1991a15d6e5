//! Traces and metrics over OTLP, as a collector receives them.

mod collector_gone;
mod process;
mod spans;

use std::collections::BTreeSet;

use tollgate_server::{OtlpConfig, Sampling, ServeConfig};
use tollgate_testkit::otlp::{Collector, Data, Number, Received, Span, attribute, hex};

use crate::support::Fixture;

const CHECK: &str = r#"{"userId":"canary-alice","modelId":"gpt-4"}"#;
const SPAN_ID: &str = "00f067aa0ba902b7";

/// The field of a caller whose trace has this id.
fn traceparent(trace_id: &str, is_sampled: bool) -> String {
    format!("00-{trace_id}-{SPAN_ID}-0{}", u8::from(is_sampled))
}

fn sampling(millionths: u32, follows_parent: bool) -> Sampling {
    Sampling { millionths, follows_parent }
}

/// Sends to `collector`, and traces so much.
fn to(collector: &Collector, sampling: Sampling) -> impl FnOnce(&mut ServeConfig) + use<> {
    let mut otlp = OtlpConfig::new(collector.endpoint().parse().unwrap());
    otlp.traces = Some(sampling);
    |config| config.otlp = Some(otlp)
}

/// What `collector` has when the server has ended.
async fn ended(fixture: Fixture, collector: &Collector) -> Received {
    assert!(fixture.server.drain().await);
    collector.received()
}

fn named<'a>(received: &'a Received, name: &str) -> &'a Span {
    let names: Vec<_> = received.spans.iter().map(|span| &span.name).collect();
    let mut found = received.spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {names:?}"));
    assert!(found.next().is_none(), "several {name} in {names:?}");
    span
}

fn of(span: &Span, key: &str) -> Option<String> {
    attribute(&span.attributes, key)
}

/// Checks that `inner` is directly within `outer`.
fn is_within(inner: &Span, outer: &Span) {
    assert_eq!(inner.trace_id, outer.trace_id);
    assert_eq!(inner.parent_span_id, outer.span_id, "{} in {}", inner.name, outer.name);
    assert!(inner.start_time_unix_nano >= outer.start_time_unix_nano);
    assert!(inner.end_time_unix_nano >= inner.start_time_unix_nano);
}

/// Sends a check in each of these traces, and returns the ids of those that the collector gets.
async fn sampled_of(ids: &[String], sampling: Sampling, parent: bool) -> BTreeSet<String> {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling)).await;
    let mut client = fixture.client().await;
    for id in ids {
        let traceparent = traceparent(id, parent);
        let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
        let answer = client.send("POST", "/rate-limit/check", &headers, CHECK).await;
        assert_eq!(answer.status, 200);
    }
    drop(client);
    let received = ended(fixture, &collector).await;
    received.spans.iter().map(|span| hex(&span.trace_id)).collect()
}

/// Ids that are spread over their whole range, the same in every run.
fn trace_ids(count: u128) -> Vec<String> {
    let id = |n: u128| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (0..count).map(|n| format!("{:032x}", id(n))).collect()
}

#[tokio::test]
async fn the_part_that_is_sampled_depends_on_the_trace_alone() {
    let ids = trace_ids(200);
    let tenth = sampled_of(&ids, sampling(100_000, false), false).await;
    // The rule of the OpenTelemetry SDKs: the lower 63 bits of the first half of the low word.
    let is_in = |id: &&String| {
        let low = u64::from_str_radix(&id[16..], 16).unwrap() >> 1;
        low < (1_u64 << 63) / 10
    };
    let expected: BTreeSet<_> = ids.iter().filter(is_in).cloned().collect();
    assert_eq!(tenth, expected);
    assert!((10..40).contains(&tenth.len()), "{}", tenth.len());
    let all = sampled_of(&ids, sampling(1_000_000, false), false).await;
    assert_eq!(all.len(), ids.len());
    assert!(sampled_of(&ids, sampling(0, false), true).await.is_empty());
}

#[tokio::test]
async fn the_callers_decision_is_followed() {
    let ids = trace_ids(3);
    assert!(sampled_of(&ids, sampling(1_000_000, true), false).await.is_empty());
    assert_eq!(sampled_of(&ids, sampling(0, true), true).await.len(), 3);
}

#[tokio::test]
async fn only_calls_that_decide_are_traced() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(1_000_000, true))).await;
    for path in ["/metrics", "/healthz", "/readyz", "/admin/policies", "/rate-limit/unknown"] {
        fixture.get(path).await;
    }
    fixture.post("/rate-limit/peek", CHECK).await;
    let received = ended(fixture, &collector).await;
    let names: Vec<_> = received.spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["peek", "POST /rate-limit/peek"]);
}

#[tokio::test]
async fn the_metrics_are_those_of_the_metrics_page() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(0, true))).await;
    for _ in 0..3 {
        fixture.post("/rate-limit/check", CHECK).await;
    }
    let page = fixture.get("/metrics").await.body;
    let received = ended(fixture, &collector).await;
    assert_eq!(attribute(&received.resource, "service.name").as_deref(), Some("tollgate"));
    assert!(attribute(&received.resource, "service.version").is_some());
    let families = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(received.metrics.len(), families);
    let took =
        received.metrics.iter().find(|metric| metric.name == "tollgate_decision_duration_seconds");
    let Some(Data::Histogram(took)) = took.and_then(|metric| metric.data.clone()) else {
        panic!("{:?}", received.metrics.iter().map(|m| &m.name).collect::<Vec<_>>())
    };
    let checks = took
        .data_points
        .iter()
        .find(|point| attribute(&point.attributes, "call").as_deref() == Some("check"));
    let checks = checks.unwrap();
    assert_eq!((checks.count, checks.bucket_counts.iter().sum::<u64>()), (3, 3));
    assert_eq!(checks.bucket_counts.len(), checks.explicit_bounds.len() + 1);
    let version = received.metrics.iter().find(|m| m.name == "tollgate_policies_version");
    let Some(Data::Gauge(version)) = version.and_then(|metric| metric.data.clone()) else {
        panic!("no version")
    };
    assert_eq!(version.data_points[0].value, Some(Number::AsInt(1)));
}
