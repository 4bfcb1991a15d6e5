//! `/metrics`: the counts, and that no client can add a series (P10).

use std::time::Duration;

use serde_json::json;

use crate::support::{Admin, Client, Fixture};

fn value(metrics: &str, series: &str) -> u64 {
    let line = metrics
        .lines()
        .find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    line[series.len() + 1..].parse().unwrap()
}

fn series(metrics: &str) -> usize {
    metrics.lines().filter(|line| !line.starts_with('#')).count()
}

#[tokio::test]
async fn checks_are_counted_by_outcome_policy_and_reason() {
    let yaml = "
policies:
  - {id: two, scope: USER, limit: 2, windowSeconds: 10}
  - {id: small, scope: USER, unit: tokens, limit: 10, windowSeconds: 10}
  - {id: ban, scope: TENANT, limit: 0, windowSeconds: 10}
";
    let fixture = Fixture::start_with_policies(yaml).await;
    let mut client = fixture.client().await;
    let check = |extra: &str| format!(r#"{{"userId":"a","modelId":"m"{extra}}}"#);
    for body in [
        check(""),
        check(""),
        check(""),
        check(r#","cost":{"tokens":11}"#),
        check(r#","tenantId":"t""#),
    ] {
        client.post("/rate-limit/check", &body).await;
        client.post("/rate-limit/peek", &body).await;
    }
    let metrics = fixture.get("/metrics").await.body;
    let checks = |outcome: &str, policy: &str, reason: &str| {
        let labels = format!(r#"outcome="{outcome}",policy="{policy}",reason="{reason}""#);
        value(&metrics, &format!("tollgate_checks_total{{{labels}}}"))
    };
    assert_eq!(checks("allowed", "two", ""), 2);
    assert_eq!(checks("denied", "two", "limit_exceeded"), 1);
    assert_eq!(checks("denied", "small", "cost_exceeds_limit"), 1);
    assert_eq!(checks("denied", "ban", "banned"), 1);
    assert_eq!(value(&metrics, r#"tollgate_decision_duration_seconds_count{call="check"}"#), 5);
    assert_eq!(value(&metrics, r#"tollgate_decision_duration_seconds_count{call="peek"}"#), 5);
    assert!(metrics.contains(r#"_bucket{le="+Inf",call="check"} 5"#), "{metrics}");
    assert_eq!(value(&metrics, "tollgate_http_requests_in_flight"), 1);
    assert!(metrics.contains(r#"tollgate_build_info{version=""#));
    assert!(metrics.ends_with("# EOF\n"));
}

/// R10: what a policy in shadow mode would have denied is counted, and nothing is denied.
#[tokio::test]
async fn what_a_shadow_policy_would_deny_is_counted() {
    let yaml = "policies: [{id: s, scope: USER, limit: 1, windowSeconds: 10, mode: shadow}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    for _ in 0..3 {
        let answer = fixture.post("/rate-limit/check", r#"{"userId":"a","modelId":"m"}"#).await;
        assert_eq!(answer.json()["allowed"], true);
    }
    let metrics = fixture.get("/metrics").await.body;
    for (outcome, count) in [("allowed", 1), ("would_deny", 2)] {
        let series =
            format!(r#"tollgate_shadow_decisions_total{{outcome="{outcome}",policy="s"}}"#);
        assert_eq!(value(&metrics, &series), count);
    }
    assert!(!metrics.contains(r#"checks_total{outcome="allowed",policy="s""#), "{metrics}");
}

#[tokio::test]
async fn a_check_that_no_limit_meets_is_counted_without_a_policy() {
    let yaml = "policies: [{id: t, scope: TENANT, limit: 1, windowSeconds: 10}]";
    let fixture = Fixture::start_with_policies(yaml).await;
    fixture.post("/rate-limit/check", r#"{"userId":"a","modelId":"m"}"#).await;
    let metrics = fixture.get("/metrics").await.body;
    let unmet = r#"tollgate_checks_total{outcome="allowed",policy="(none)",reason=""}"#;
    assert_eq!(value(&metrics, unmet), 1);
}

/// If the catalog's database is unavailable, so that the last known records are used, a metric says so, as `/readyz`
/// does.
#[tokio::test]
async fn whether_the_catalogs_database_answers_is_a_metric() {
    /// Longer than it takes to notice that a database is unavailable; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(20);
    let admin = Admin::start().await;
    let until = async |up: u64, status: &str| {
        let noticed = async {
            loop {
                let metrics = admin.fixture.get("/metrics").await.body;
                if value(&metrics, "tollgate_catalog_up") == up {
                    return value(&metrics, "tollgate_catalog_outages_total");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outages = tokio::time::timeout(PATIENCE, noticed).await.expect("it is not noticed");
        let ready = admin.fixture.get("/readyz").await.json();
        assert_eq!(ready["parts"]["catalog"]["status"], status);
        outages
    };
    assert_eq!(until(1, "ok").await, 0);
    let elsewhere = admin.database().with_extension("away");
    for outages in [1, 2] {
        std::fs::rename(admin.database(), &elsewhere).unwrap();
        assert_eq!(until(0, "degraded").await, outages);
        std::fs::rename(&elsewhere, admin.database()).unwrap();
        assert_eq!(until(1, "ok").await, outages);
    }
}

/// 100,000 users, models, tenants, keys, addresses and attributes, over more policies than have their own series.
#[tokio::test]
async fn no_identity_adds_a_series() {
    let policies: Vec<String> = (0..300)
        .map(|n| {
            format!(
                "  - {{id: policy-{n}, scope: USER_MODEL, match: {{region: r-{n}}}, limit: {n}, \
                 windowSeconds: 60}}"
            )
        })
        .collect();
    let fixture =
        Fixture::start_with_policies(&format!("policies:\n{}\n", policies.join("\n"))).await;
    let mut client = Client::connect(fixture.address()).await;
    let before = fixture.get("/metrics").await.body;
    for round in 0..100 {
        let checks: Vec<_> = (0..1_000)
            .map(|n| {
                let id = format!("canary-{round}-{n}");
                json!({"userId": id, "modelId": id, "tenantId": id, "apiKey": id, "service": id,
                       "ip": format!("10.{round}.{}.{}", n / 256, n % 256),
                       "attributes": {id.clone(): id, "region": format!("r-{}", n % 300)}, "requestId": id})
            })
            .collect();
        let body = json!({ "checks": checks }).to_string();
        let answer = client.post_unchecked("/rate-limit/check/batch", &body).await;
        assert_eq!(answer.status, 200);
    }
    let after = fixture.get("/metrics").await.body;
    assert_eq!(series(&after), series(&before));
    assert!(series(&after) <= 500, "{} series", series(&after));
    assert!(!after.contains("canary") && !after.contains("10.0.0."), "{after}");
}

/// P15: a parser of `text/plain` gets what it reads, and Prometheus gets `OpenMetrics`.
#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let fixture = Fixture::start().await;
    fixture.post("/rate-limit/check", r#"{"userId":"a","modelId":"m"}"#).await;
    let mut client = fixture.client().await;
    let text = client.send("GET", "/metrics", &[("accept", "text/plain")], "").await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.body.contains("# TYPE tollgate_policy_reloads_total counter\n"), "{}", text.body);
    assert!(!text.body.contains("# EOF") && !text.body.contains("# UNIT"), "{}", text.body);
    let newer = client.send("GET", "/metrics", &[], "").await;
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(newer.header("content-type"), Some(openmetrics));
    assert!(newer.body.ends_with("# EOF\n"));
    let samples = |body: &str| body.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&text.body), samples(&newer.body));
}
