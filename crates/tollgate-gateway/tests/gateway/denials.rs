//! Every denial has the status, the body and the fields of the client's dialect, and charges nothing.

use std::time::Duration;

use serde_json::Value;

use crate::support::{CHAT, Fixture, POLICIES, STREAM, Setup};

async fn check(
    fixture: &Fixture,
    path: &str,
    body: &str,
    fields: &[(&str, &str)],
    expected: (u16, &str),
) {
    let answer = fixture.post_with(path, body, fields).await;
    let json = answer.json();
    let (status, kind) = expected;
    assert_eq!(
        (answer.status, &json["error"]["type"]),
        (status, &Value::from(kind)),
        "{path} {body}"
    );
    assert_eq!(json["type"] == "error", path.starts_with("/v1/messages"), "{path}");
    assert_eq!(answer.field("content-type"), "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_wrong_is_denied_in_its_dialect() {
    let fixture = Setup::default().start().await;
    let messages = "/v1/messages";
    let wrong = [("authorization", "Bearer wrong")];
    let wrong_key = [("x-api-key", "wrong")];
    check(&fixture, CHAT, STREAM, &wrong, (401, "invalid_request_error")).await;
    check(&fixture, messages, STREAM, &wrong_key, (401, "authentication_error")).await;
    check(&fixture, CHAT, STREAM, &[("x-api-key", "")], (401, "invalid_request_error")).await;
    check(&fixture, CHAT, "{", &[], (400, "invalid_request_error")).await;
    check(&fixture, messages, "{", &[], (400, "invalid_request_error")).await;
    check(&fixture, messages, r#"{"model":"gpt"}"#, &[], (400, "invalid_request_error")).await;
    let unknown = r#"{"model":"nope","max_tokens":1}"#;
    check(&fixture, CHAT, unknown, &[], (404, "invalid_request_error")).await;
    check(&fixture, messages, unknown, &[], (404, "not_found_error")).await;
    check(&fixture, "/v1/files", "", &[], (404, "invalid_request_error")).await;
    assert_eq!(fixture.get(CHAT, &[]).await.status, 405);
    fixture.revoke().await;
    check(&fixture, CHAT, STREAM, &[], (401, "invalid_request_error")).await;
    assert_eq!(fixture.model().record().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused() {
    let setup =
        Setup { rest: "maxBodyBytes: 1024\nmaxBodyMemoryBytes: 1048576\n", ..Setup::default() };
    let fixture = setup.start().await;
    let long = format!(r#"{{"model":"gpt","max_tokens":1,"x":"{}"}}"#, "x".repeat(1_100));
    check(&fixture, CHAT, &long, &[], (413, "invalid_request_error")).await;
    check(&fixture, "/v1/messages", &long, &[], (413, "request_too_large")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_is_told_when_to_come_back_and_then_succeeds() {
    let policies =
        POLICIES.replace("limit: 1000, windowSeconds: 60", "limit: 1, windowSeconds: 30");
    let fixture = Setup { policies: &policies, ..Setup::default() }.start().await;
    assert_eq!(fixture.post(CHAT, STREAM).await.status, 200);
    let used = fixture.used("tokens").await;
    let denied = fixture.post(CHAT, STREAM).await;
    assert_eq!(denied.status, 429);
    assert_eq!(denied.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(denied.field("x-should-retry"), "true");
    assert_eq!(denied.field("retry-after"), "30");
    let wait_ms: u64 = denied.field("retry-after-ms").parse().unwrap();
    let body = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
    let anthropic = fixture.post("/v1/messages", body).await;
    assert_eq!(anthropic.json()["error"]["type"], "rate_limit_error");
    assert_eq!(anthropic.field("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(fixture.used("tokens").await, used, "a denial charges nothing");
    fixture.clock.advance(Duration::from_millis(wait_ms));
    assert_eq!(fixture.post(CHAT, STREAM).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_fits_is_not_to_be_repeated() {
    let policies = POLICIES.replace("unit: tokens, limit: 100000", "unit: tokens, limit: 1000");
    let fixture = Setup { policies: &policies, ..Setup::default() }.start().await;
    let denied = fixture.post(CHAT, r#"{"model":"gpt","max_tokens":2000,"messages":[]}"#).await;
    assert_eq!((denied.status, denied.field("x-should-retry")), (429, "false"));
    assert_eq!(
        (denied.field("retry-after"), denied.json()["error"]["type"].as_str()),
        ("", Some("tokens"))
    );
}
