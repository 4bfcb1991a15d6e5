//! Calendars over HTTP (R18): a limit says its period, and how long the current one lasts.

use serde_json::json;

use crate::support::Fixture;

/// Clocks in Nepal have not been set since 1986.
const CATALOG: &str = "
policies:
  - {id: daily, scope: USER, limit: 1, calendar: day, timeZone: Asia/Kathmandu}
";

#[tokio::test]
async fn an_answer_has_the_period_and_its_length() {
    let fixture = Fixture::start_with_policies(CATALOG).await;
    let body = r#"{"userId":"alice","modelId":"m"}"#;
    assert_eq!(fixture.post("/rate-limit/enforce", body).await.status, 200);
    let denied = fixture.post("/rate-limit/enforce", body).await;
    assert_eq!(denied.status, 429);
    assert_eq!(denied.header("ratelimit-policy"), Some("\"daily\";q=1;w=86400"));
    let denied = denied.json();
    let limit = &denied["limits"][0];
    assert_eq!((&limit["algorithm"], &limit["calendar"]), (&json!("calendar"), &json!("day")));
    assert_eq!(limit["timeZone"], "Asia/Kathmandu");
    assert_eq!(
        (&denied["windowSeconds"], &limit["windowSeconds"]),
        (&json!(86_400), &json!(86_400))
    );
    assert_eq!(limit["retryAfterMs"], limit["resetAfterMs"]);
    assert!(limit["retryAfterMs"].as_u64().is_some_and(|ms| (1..=86_400_000).contains(&ms)));
}
