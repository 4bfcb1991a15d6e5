//! Upstreams that fail or are full.

use tollgate_gateway::mock_model::{Behaviour, Failure};

use crate::support::{CHAT, STREAM, Setup, until, whole};

const WELL: Behaviour = Behaviour::WELL;

fn failing(failure: Failure) -> Behaviour {
    Behaviour { failure: Some(failure), ..WELL }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_tried_elsewhere_once_before_its_answer_begins() {
    for failure in [500, 503, 429, 401].map(Failure::Status).into_iter().chain([Failure::Close]) {
        let setup = Setup { behaviours: &[failing(failure), WELL], ..Setup::default() };
        let fixture = setup.start().await;
        let answer = fixture.post(CHAT, STREAM).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{failure:?}");
        let requests = fixture.models.iter().map(|model| model.record().requests());
        assert_eq!(requests.collect::<Vec<_>>(), [1, 1], "{failure:?}");
        assert_eq!(fixture.used("output").await, 20);
        assert_eq!(fixture.used("requests").await, 1, "one lease");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_before_the_first_byte_costs_nothing() {
    let setup = Setup { behaviours: &[failing(Failure::Close)], ..Setup::default() };
    let fixture = setup.start().await;
    let answer = fixture.post(CHAT, STREAM).await;
    assert_eq!((answer.status, answer.field("x-should-retry")), (503, "true"));
    for policy in ["tokens", "requests", "slots"] {
        assert_eq!(fixture.used_now(policy).await, 0, "before the client is told: {policy}");
    }
    let body = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
    let answer = fixture.post("/v1/messages", body).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (503, Some("overloaded_error"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_after_its_head_never_began() {
    let whole = r#"{"model":"gpt","messages":[],"max_tokens":50}"#;
    for body in [STREAM, whole] {
        let failing = failing(Failure::CloseAfterHead);
        let fixture = Setup { behaviours: &[failing, WELL], ..Setup::default() }.start().await;
        let answer = fixture.post(CHAT, body).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{body}");
        let requests = fixture.models.iter().map(|model| model.record().requests());
        assert_eq!(requests.collect::<Vec<_>>(), [1, 1], "{body}");
        assert_eq!((fixture.used("output").await, fixture.used("requests").await), (20, 1));

        let alone = Setup { behaviours: &[failing], ..Setup::default() }.start().await;
        for _ in 0..10 {
            let answer = alone.post(CHAT, body).await;
            assert_eq!((answer.status, answer.field("x-should-retry")), (503, "true"), "{body}");
        }
        let requests = alone.model().record().requests();
        assert!((5..10).contains(&requests), "its breaker opens: {requests}");
        for policy in ["tokens", "requests", "slots"] {
            assert_eq!(alone.used(policy).await, 0, "{policy}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_often_gets_no_more_requests() {
    for status in [500, 503] {
        let setup = Setup { behaviours: &[failing(Failure::Status(status))], ..Setup::default() };
        let fixture = setup.start().await;
        for number in 0..20 {
            let answer = fixture.post(CHAT, STREAM).await;
            // No other upstream is left, so the first clients see what is wrong.
            assert!(answer.status == 503 || number < 5 && answer.status == status);
        }
        let requests = fixture.model().record().requests();
        assert!((5..10).contains(&requests), "{requests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_limit_is_passed_on_and_respected() {
    let setup = Setup { behaviours: &[failing(Failure::Status(429))], ..Setup::default() };
    let fixture = setup.start().await;
    for _ in 0..3 {
        let answer = fixture.post(CHAT, STREAM).await;
        assert_eq!(answer.status, 429);
        let wait_ms: u64 = answer.field("retry-after-ms").parse().unwrap();
        assert!((1..=2_000).contains(&wait_ms), "{wait_ms}");
    }
    assert_eq!(fixture.model().record().requests(), 1, "none is sent meanwhile");
    assert_eq!(fixture.used("requests").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_is_the_clients_passes_and_costs_a_request() {
    let fixture = Setup::default().start().await;
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=422")]).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["message"].as_str()),
        (422, Some("as asked"))
    );
    assert_eq!((fixture.used("requests").await, fixture.used("tokens").await), (1, 0));
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=500")]).await;
    assert_eq!(answer.status, 500);
    assert_eq!((fixture.used("requests").await, fixture.used("tokens").await), (1, 0));
    // A redirect is not followed, and not passed on.
    assert_eq!(fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=302")]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_full_upstream_in_a_bounded_queue() {
    let rest = "queue: {maxLength: 1, maxWaitMs: 600000}";
    let setup = Setup { upstream: ", maxConcurrency: 1", rest, ..Setup::default() };
    let fixture = setup.start().await;
    let slow = [("x-mock", "tokens=4000, pace-ms=1")];
    let first = fixture.begin(CHAT, STREAM, &slow).await;
    let other = format!("Bearer {}", fixture.other_key().await);
    let as_other = [("authorization", other.as_str())];
    let second = fixture.post_with(CHAT, STREAM, &as_other);
    let third = async {
        until("one waits", || fixture.gateway.waiting() == 1).await;
        let full = fixture.post(CHAT, STREAM).await;
        assert_eq!((full.status, full.json()["error"]["code"].as_str()), (429, Some("queue_full")));
        assert!(full.fields.contains_key("retry-after-ms"));
        drop(first);
    };
    let (second, ()) = tokio::join!(second, third);
    assert_eq!((second.status, second.is_whole), (200, true));
    assert_eq!(fixture.model().record().requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_loaded_upstream_gets_the_next_request() {
    let setup = Setup { behaviours: &[WELL, WELL, WELL], ..Setup::default() };
    let fixture = setup.start().await;
    let slow = [("x-mock", "tokens=4000, pace-ms=1")];
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(fixture.begin(CHAT, STREAM, &slow).await);
    }
    let requests = fixture.models.iter().map(|model| model.record().requests());
    assert_eq!(requests.collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_pass_through_only_if_they_are_configured() {
    let rest = "passThrough: [{path: /v1/rerank, upstreams: [up-0]}]";
    let fixture = Setup { rest, ..Setup::default() }.start().await;
    let answer = whole(fixture.begin("/v1/rerank", "{}", &[]).await).await;
    assert_eq!(answer.status, 404, "the mock model has none: its own answer passes");
    assert_eq!(answer.json()["error"]["message"], "as asked");
    assert_eq!((fixture.used("requests").await, fixture.used("tokens").await), (1, 0));
    assert_eq!(fixture.post("/v1/other", "{}").await.json()["error"]["code"], "unknown_url");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_quota_is_used_up_gets_nothing_until_it_resets() {
    let cases = [
        (CHAT, "x-ratelimit-remaining-requests=0; x-ratelimit-reset-requests=50s"),
        (
            "/v1/messages",
            "anthropic-ratelimit-output-tokens-remaining=0; anthropic-ratelimit-output-tokens-reset=9999-01-01T00:00:00Z",
        ),
    ];
    for (path, fields) in cases {
        let fixture = Setup::default().start().await;
        let body = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
        let answer = fixture.post_with(path, body, &[("x-mock-fields", fields)]).await;
        assert_eq!(answer.status, 200, "the last one that was left");
        let denied = fixture.post(path, body).await;
        assert_eq!((denied.status, denied.field("x-should-retry")), (429, "true"), "{path}");
        let wait_ms: u64 = denied.field("retry-after-ms").parse().unwrap();
        assert!((1..=60_000).contains(&wait_ms), "{wait_ms}");
        assert_eq!(fixture.model().record().requests(), 1);
        assert_eq!(fixture.used("requests").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_the_quota_still_has_room_for_it() {
    let fixture = Setup { behaviours: &[WELL, WELL], ..Setup::default() }.start().await;
    let fields = "x-ratelimit-remaining-tokens=300; x-ratelimit-reset-tokens=50s";
    let body = |cap: u64| format!(r#"{{"model":"gpt","max_tokens":{cap},"messages":[]}}"#);
    fixture.post_with(CHAT, &body(5), &[("x-mock-fields", fields)]).await;
    let requests =
        || fixture.models.iter().map(|model| model.record().requests()).collect::<Vec<_>>();
    assert_eq!(requests(), [1, 0]);
    for _ in 0..3 {
        assert_eq!(fixture.post(CHAT, &body(400)).await.status, 200);
    }
    assert_eq!(requests(), [1, 3], "too large for what is left at the first");
    fixture.post(CHAT, &body(200)).await;
    fixture.post(CHAT, &body(200)).await;
    assert_eq!(requests(), [2, 4], "what was sent is taken from what is left");
}
