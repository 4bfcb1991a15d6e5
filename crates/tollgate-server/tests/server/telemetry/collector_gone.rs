//! A collector that fails harms no check, and does not delay the end of a server.

use std::net::TcpListener;
use std::time::Duration;

use tollgate_server::{OtlpConfig, ServeConfig};
use tollgate_testkit::otlp::{Answer, Collector};

use super::{CHECK, sampling, to};
use crate::support::Fixture;

/// Far longer than anything takes here, and shorter than the time that a request to the collector may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// More than wait at a time: each check has two spans.
const CHECKS: usize = 5_000;

async fn check(fixture: &Fixture, checks: usize) {
    let mut client = fixture.client().await;
    for _ in 0..checks {
        let answer = client.post_unchecked("/rate-limit/check", CHECK).await;
        assert_eq!(answer.status, 200);
    }
}

async fn ends(fixture: Fixture) {
    let drained = tokio::time::timeout(PATIENCE, fixture.server.drain()).await;
    assert!(drained.expect("the server waits for the collector"));
}

/// Waits until the metric has at least this value.
async fn until(fixture: &Fixture, name: &str, least: u64) {
    let value = async || {
        let page = fixture.get("/metrics").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let reached = async {
        while value().await < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the metric stays below");
}

const DROPPED: &str = "tollgate_otlp_spans_dropped_total ";
const EXPORTED: &str = "tollgate_otlp_spans_exported_total ";

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_spans_which_are_counted() {
    let collector = Collector::answering(Answer::Nothing);
    let mut otlp = OtlpConfig::new(collector.endpoint().parse().unwrap());
    otlp.timeout = Duration::from_hours(1);
    otlp.traces = Some(sampling(1_000_000, true));
    let fixture = Fixture::start_with(|config: &mut ServeConfig| config.otlp = Some(otlp)).await;
    check(&fixture, CHECKS).await;
    // What neither waits nor is being sent.
    until(&fixture, DROPPED, 2 * CHECKS as u64 - 8_192 - 512).await;
    ends(fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_is_counted() {
    for status in [400, 503] {
        let collector = Collector::answering(Answer::Status(status));
        let fixture = Fixture::start_with(to(&collector, sampling(1_000_000, true))).await;
        check(&fixture, 5).await;
        until(&fixture, DROPPED, 10).await;
        ends(fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_does_no_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut otlp = OtlpConfig::new(endpoint.parse().unwrap());
    otlp.traces = Some(sampling(1_000_000, true));
    let fixture = Fixture::start_with(|config: &mut ServeConfig| config.otlp = Some(otlp)).await;
    check(&fixture, 5).await;
    until(&fixture, DROPPED, 10).await;
    ends(fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_while_the_server_runs_and_are_counted() {
    let collector = Collector::start();
    let fixture = Fixture::start_with(to(&collector, sampling(1_000_000, true))).await;
    check(&fixture, 1_000).await;
    until(&fixture, EXPORTED, 2_000).await;
    assert_eq!(collector.received().spans.len(), 2_000);
    until(&fixture, DROPPED, 0).await;
    ends(fixture).await;
}
