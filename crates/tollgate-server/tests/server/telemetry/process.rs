//! The program with the variables of the OpenTelemetry standard.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use tempfile::TempDir;
use tollgate_testkit::otlp::{Collector, attribute};

use super::CHECK;
use crate::common::tollgate;
use crate::support::Client;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_the_variables_of_the_standard_sends_until_its_end() {
    let collector = Collector::start();
    let directory = TempDir::new().unwrap();
    let mut server = tollgate(&directory)
        .args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--log-level", "trace"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20the-canary")
        .env("OTEL_SERVICE_NAME", "gate")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut lines = String::new();
    let address = loop {
        let start = lines.len();
        assert_ne!(log.read_line(&mut lines).unwrap(), 0, "{lines}");
        let line: serde_json::Value = serde_json::from_str(&lines[start..]).unwrap();
        if let Some(url) = line["http"].as_str() {
            break url.strip_prefix("http://").unwrap().parse().unwrap();
        }
    };
    let answer = Client::connect(address).await.post("/rate-limit/check", CHECK).await;
    assert_eq!(answer.status, 200);
    let pid = server.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    log.read_to_string(&mut lines).unwrap();
    assert!(server.wait().unwrap().success(), "{lines}");
    let received = collector.received();
    assert_eq!(received.spans.len(), 2, "{lines}");
    assert!(!received.metrics.is_empty());
    let of = |key| attribute(&received.resource, key);
    assert_eq!(of("service.name").as_deref(), Some("gate"));
    assert_eq!(of("deployment.environment.name").as_deref(), Some("test"));
    assert!(of("service.instance.id").is_some());
    for head in &received.heads {
        assert!(head.contains("authorization: bearer the-canary"), "{head}");
    }
    assert!(!lines.contains("canary"), "{lines}");
}

#[test]
fn a_bad_variable_is_refused_at_the_start() {
    let directory = TempDir::new().unwrap();
    let output = tollgate(&directory)
        .args(["serve", "--otlp-endpoint", "http://127.0.0.1:4318"])
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not accepted; accepted: "),
        "{error}"
    );
}
