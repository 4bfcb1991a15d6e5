//! Admission tickets of requests that found no place in the queue.

use http::Response;
use hyper::body::Incoming;

use crate::support::{Answer, CHAT, Fixture, STREAM, Setup, until};

const SLOW: [(&str, &str); 1] = [("x-mock", "tokens=4000, pace-ms=1")];
const TICKET: &str = "x-tollgate-ticket";

/// A gateway whose only slot and only place in the queue are taken, and the stream in the slot.
async fn full(fixture: &Fixture) -> Response<Incoming> {
    fixture.begin(CHAT, STREAM, &SLOW).await
}

fn wait_ms(denied: &Answer) -> u64 {
    assert_eq!((denied.status, denied.json()["error"]["code"].as_str()), (429, Some("queue_full")));
    let wait_ms: u64 = denied.field("retry-after-ms").parse().unwrap();
    assert_eq!(denied.field("retry-after"), wait_ms.div_ceil(1_000).to_string());
    wait_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_gives_a_ticket_that_comes_first() {
    let rest = "queue: {maxLength: 1, maxWaitMs: 600000}";
    let setup = Setup { upstream: ", maxConcurrency: 1", rest, ..Setup::default() };
    let fixture = setup.start().await;
    let first = full(&fixture).await;
    let second = fixture.post(CHAT, STREAM);
    let third = async {
        until("one waits", || fixture.gateway.waiting() == 1).await;
        let denied = fixture.post(CHAT, STREAM).await;
        let due_ms = wait_ms(&denied);
        let ticket = denied.field(TICKET).to_owned();
        assert_eq!(ticket.len(), 32, "{ticket}");
        let early = fixture.post_with(CHAT, STREAM, &[(TICKET, &ticket)]).await;
        assert!(wait_ms(&early) <= due_ms);
        assert_eq!(early.field(TICKET), ticket);
        // A ticket of another key is ignored, and so is a value that is not a ticket.
        let other = format!("Bearer {}", fixture.other_key().await);
        let others = [("authorization", other.as_str()), (TICKET, &ticket)];
        let ignored = fixture.post_with(CHAT, STREAM, &others).await;
        wait_ms(&ignored);
        assert!(ignored.fields.contains_key(TICKET) && ignored.field(TICKET) != ticket);
        wait_ms(&fixture.post_with(CHAT, STREAM, &[(TICKET, "none")]).await);
        drop(first);
        ticket
    };
    let (second, ticket) = tokio::join!(second, third);
    assert_eq!(second.status, 200);
    // Nobody waits any more, so it need not wait for its due time.
    assert_eq!(fixture.post_with(CHAT, STREAM, &[(TICKET, &ticket)]).await.status, 200);
    let counts = fixture.gateway.monitor().tickets();
    assert_eq!((counts.issued, counts.used, counts.early, counts.ignored), (3, 1, 1, 1));
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_begun_gets_no_ticket() {
    let rest = "queue: {maxWaitMs: 100, commentAfterMs: 10}";
    let setup = Setup { upstream: ", maxConcurrency: 1", rest, ..Setup::default() };
    let fixture = setup.start().await;
    let _first = full(&fixture).await;
    let told = fixture.post(CHAT, STREAM).await;
    assert!(told.status == 200 && told.body.contains("queue_full"), "{}", told.body);
    let counts = fixture.gateway.monitor().tickets();
    assert_eq!((counts.issued, counts.expired), (1, 1));
    // Whatever is no stream waits in silence, and can be told.
    let denied = fixture.post(CHAT, r#"{"model":"gpt","messages":[]}"#).await;
    assert_eq!(denied.field(TICKET).len(), 32);
}
