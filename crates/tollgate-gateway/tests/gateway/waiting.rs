//! Streams that wait in the queue and begin with comments.

use http_body_util::BodyExt as _;

use crate::support::{Answer, CHAT, Fixture, STREAM, Setup, until, whole};

const SLOW: [(&str, &str); 1] = [("x-mock", "tokens=4000, pace-ms=1")];

/// A gateway whose only place is taken by a stream, and that stream.
async fn busy(max_wait_ms: u64) -> (Fixture, http::Response<hyper::body::Incoming>) {
    let rest = format!("queue: {{maxWaitMs: {max_wait_ms}, commentAfterMs: 10}}");
    let setup = Setup { upstream: ", maxConcurrency: 1", rest: &rest, ..Setup::default() };
    let fixture = setup.start().await;
    let first = fixture.begin(CHAT, STREAM, &SLOW).await;
    (fixture, first)
}

/// The rest of `answer` after its comments; it has at least one.
fn after_comments(answer: &Answer) -> &str {
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(answer.field("content-type"), "text/event-stream");
    // There is none if the answer comes before the body is first read.
    answer.body.trim_start_matches(": waiting\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_begins_with_comments_and_ends_as_usual() {
    let (fixture, first) = busy(600_000).await;
    let mut second = fixture.begin(CHAT, STREAM, &[]).await;
    assert_eq!(second.status(), 200);
    assert!(second.headers().contains_key("x-ratelimit-limit-tokens"));
    assert!(second.headers().contains_key("x-tollgate-overhead-ms"));
    let comment = second.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(comment.starts_with(b": waiting\n\n"));
    assert_eq!(fixture.gateway.waiting(), 1);
    drop(first);
    let answer = whole(second).await;
    let rest = answer.body.trim_start_matches(": waiting\n\n");
    assert!(
        answer.is_whole && rest.matches("word").count() == 20 && rest.ends_with("data: [DONE]\n\n")
    );
    assert_eq!(fixture.used("slots").await, 0);
    assert_eq!(fixture.gateway.monitor().in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_the_beginning_is_told_as_an_event() {
    let (fixture, first) = busy(200).await;
    let denied = fixture.post(CHAT, STREAM).await;
    let rest = after_comments(&denied);
    assert!(rest.starts_with("data: {\"error\":{\"code\":\"queue_full\","), "{rest}");
    assert!(rest.ends_with("}\n\n") && rest.matches("data:").count() == 1, "{rest}");
    drop(first);
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_upstream_is_told_as_an_event_too() {
    let (fixture, first) = busy(600_000).await;
    let failing = async {
        let refused = [("x-mock", "fail=422")];
        let begun = fixture.begin(CHAT, STREAM, &refused).await;
        drop(first);
        whole(begun).await
    };
    let failed = failing.await;
    let rest = after_comments(&failed);
    assert_eq!(rest, "data: {\"error\":{\"message\":\"as asked\",\"type\":\"mock\"}}\n\n");
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_up_its_place_and_its_lease() {
    let (fixture, first) = busy(600_000).await;
    let second = fixture.begin(CHAT, STREAM, &[]).await;
    assert_eq!(fixture.gateway.waiting(), 1);
    drop(second);
    until("the place is given up", || fixture.gateway.waiting() == 0).await;
    drop(first);
    assert_eq!(fixture.used("slots").await, 0);
    assert_eq!(fixture.model().record().requests(), 1);
}

/// As before the server ends, with running answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_queue_refuses_whoever_waits_and_charges_nothing() {
    let (fixture, first) = busy(600_000).await;
    let begun = fixture.begin(CHAT, STREAM, &[]).await;
    let silent = fixture.post(CHAT, r#"{"model":"gpt","messages":[]}"#);
    let closing = async {
        until("both wait", || fixture.gateway.waiting() == 2).await;
        fixture.gateway.close_queue();
    };
    let (silent, ()) = tokio::join!(silent, closing);
    let rest = after_comments(&whole(begun).await).to_owned();
    assert!(rest.starts_with("data: {\"error\":{\"code\":\"service_unavailable\","), "{rest}");
    assert_eq!((silent.status, silent.field("retry-after")), (503, "1"));
    // Whoever comes now is refused too, although there is room.
    drop(first);
    assert_eq!(fixture.used("slots").await, 0);
    assert_eq!(fixture.post(CHAT, STREAM).await.status, 503);
    assert_eq!(fixture.used("requests").await, 1);
    assert_eq!(fixture.model().record().requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_stream_waits_in_silence() {
    let (fixture, first) = busy(200).await;
    let denied = fixture.post(CHAT, r#"{"model":"gpt","messages":[]}"#).await;
    assert_eq!((denied.status, denied.json()["error"]["code"].as_str()), (429, Some("queue_full")));
    drop(first);
}
