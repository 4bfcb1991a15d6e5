//! Streams at their limits: extended, cut as their dialect ends one, or finished as debt.

use crate::support::{CHAT, Fixture, POLICIES, STREAM, Setup};

/// A gateway whose streams reserve 10 tokens at first, of 60 in all.
async fn tight(model: &str) -> Fixture {
    let policies =
        POLICIES.replace("unit: output_tokens, limit: 100000", "unit: output_tokens, limit: 60");
    let setup = Setup { policies: &policies, model, ..Setup::default() };
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_more_while_there_is_room() {
    let fixture = tight(", reserveOutputTokens: 10").await;
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "tokens=35")]).await;
    assert!(answer.is_whole && answer.body.matches("word").count() == 35);
    assert!(answer.body.contains(r#""finish_reason":"stop""#));
    assert_eq!(fixture.used("output").await, 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_at_its_limit_ends_as_its_dialect_ends_one() {
    let cases = [
        (CHAT, STREAM, r#""finish_reason":"length""#, "data: [DONE]\n\n"),
        (
            "/v1/responses",
            r#"{"model":"gpt","stream":true,"input":"x"}"#,
            r#""reason":"max_output_tokens""#,
            "}\n\n",
        ),
    ];
    for (path, body, reason, last) in cases {
        let fixture = tight(", reserveOutputTokens: 10").await;
        let answer = fixture.post_with(path, body, &[("x-mock", "tokens=1000, pace-ms=1")]).await;
        assert!(answer.is_whole && answer.body.contains(reason), "{}", answer.body);
        assert!(answer.body.ends_with(last));
        // 10, 20 and 40 were granted, and 80 were not.
        assert_eq!(answer.body.matches("word").count(), 40);
        assert_eq!(fixture.used("output").await, 40);
        assert_eq!(fixture.used("slots").await, 0);
        crate::support::until("the upstream is stopped", || fixture.model().record().active() == 0)
            .await;
        assert_eq!(fixture.model().record().aborted(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_finish_as_debt() {
    let fixture = tight(", reserveOutputTokens: 10, onLimit: finish").await;
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "tokens=100")]).await;
    assert!(answer.is_whole && answer.body.matches("word").count() == 100);
    assert_eq!(fixture.used("output").await, 100, "40 above the limit");
    let denied = fixture.post(CHAT, STREAM).await;
    assert_eq!(denied.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_ignores_its_cap_is_stopped() {
    let policies =
        POLICIES.replace("unit: output_tokens, limit: 100000", "unit: output_tokens, limit: 60");
    let fixture = Setup { policies: &policies, ..Setup::default() }.start().await;
    let body = r#"{"model":"gpt","max_tokens":10,"stream":true,"messages":[]}"#;
    let ignores = [("x-mock", "tokens=5000, pace-ms=1, fail=ignores-cap")];
    let answer = fixture.post_with(CHAT, body, &ignores).await;
    assert!(answer.is_whole && answer.body.ends_with("data: [DONE]\n\n"));
    // Twice the cap and the slack.
    assert_eq!(answer.body.matches("word").count(), 84);
    assert_eq!(fixture.used("output").await, 84);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_cap_reserves_what_answers_usually_use() {
    let fixture = Setup::default().start().await;
    let slow = [("x-mock", "tokens=4000, pace-ms=5")];
    let reserved = async || {
        let before = fixture.used("output").await;
        let stream = fixture.begin(CHAT, STREAM, &slow).await;
        let reserved = fixture.used_now("output").await - before;
        drop(stream);
        reserved
    };
    assert_eq!(reserved().await, 4_096, "nothing is known yet");
    fixture.clock.advance(std::time::Duration::from_mins(2));
    for _ in 0..20 {
        fixture.post(CHAT, STREAM).await;
        // A request without an answer teaches nothing.
        fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=422")]).await;
    }
    let usual = reserved().await;
    assert!((20..=21).contains(&usual), "{usual}");
    // One that needs more asks for it.
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "tokens=200")]).await;
    assert_eq!(answer.body.matches("word").count(), 200);
}
