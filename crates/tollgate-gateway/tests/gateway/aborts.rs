//! However an answer ends, its lease is settled once and is never free (P18).

use http_body_util::BodyExt as _;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::support::{CHAT, Fixture, STREAM, Setup, until};

const ABORTS: usize = 1_000;
/// So many at a time.
const TOGETHER: usize = 50;

const REQUESTS: [(&str, &str); 3] = [
    (CHAT, STREAM),
    ("/v1/responses", r#"{"model":"gpt","stream":true,"input":"x"}"#),
    ("/v1/messages", r#"{"model":"gpt","stream":true,"max_tokens":1000000,"messages":[]}"#),
];

/// An answer that would take a quarter of an hour.
const ENDLESS: [(&str, &str); 1] = [("x-mock", "tokens=1000000, pace-ms=1")];

/// Reads at least `bytes` of an answer that does not end by itself, and goes away.
async fn abort_after(fixture: &Fixture, (path, body): (&str, &str), bytes: usize) {
    let mut body = fixture.begin(path, body, &ENDLESS).await.into_body();
    let mut read = 0;
    while read < bytes {
        read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_leave_no_lease_and_no_stream() {
    let model = ", maxOutputTokens: 1000000, onAbort: observed";
    let setup = Setup { policies: &generous(), model, ..Setup::default() };
    let fixture = setup.start().await;
    // The same numbers in every run.
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..ABORTS / TOGETHER {
        let aborts = (0..TOGETHER).map(|index| {
            let bytes = usize::try_from(random.next_u32() % 3_000).unwrap();
            abort_after(&fixture, REQUESTS[index % REQUESTS.len()], bytes)
        });
        futures_util::future::join_all(aborts).await;
    }
    // None of them can end by itself: the upstream has seen its reader go away.
    until("the upstream is stopped", || fixture.model().record().aborted() == ABORTS as u64).await;
    assert_eq!(fixture.model().record().active(), 0);
    let charged = fixture.used("output").await;
    assert_eq!(fixture.used("slots").await, 0);
    assert_eq!(fixture.used("requests").await, ABORTS as u64);
    let generated = fixture.model().record().output_tokens();
    assert!(charged > 0 && charged <= generated, "{charged} of {generated}");
    assert_eq!((fixture.gateway.waiting(), fixture.gateway.unsettled()), (0, 0));
}

fn generous() -> String {
    crate::support::POLICIES.replace("limit: 100000", "limit: 100000000")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_keeps_its_reservation_unless_told_otherwise() {
    let cases = [(", maxOutputTokens: 100", 100), (", maxOutputTokens: 100, onAbort: observed", 0)];
    for (model, at_least) in cases {
        let fixture = Setup { model, ..Setup::default() }.start().await;
        abort_after(&fixture, REQUESTS[0], 500).await;
        let used = fixture.used("output").await;
        assert!(used >= at_least && used <= 100 && used > 0, "{model}: {used}");
        assert_eq!(fixture.used("slots").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_is_not_hidden() {
    let fixture = Setup { model: ", onAbort: observed", ..Setup::default() }.start().await;
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=cut, pace-ms=1")]).await;
    assert!(!answer.is_whole, "the client sees that it is not whole");
    assert_eq!(fixture.used("output").await, 10);
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=no-final")]).await;
    assert!(answer.is_whole && !answer.body.contains("[DONE]"));
    assert_eq!(fixture.used("output").await, 10 + 20);
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_the_queue_pays_nothing() {
    let setup = Setup {
        upstream: ", maxConcurrency: 1",
        rest: "queue: {maxWaitMs: 600000}",
        ..Setup::default()
    };
    let fixture = setup.start().await;
    let slow = [("x-mock", "tokens=4000, pace-ms=1")];
    let first = fixture.begin(CHAT, STREAM, &slow).await;
    let waits = tokio::time::timeout(std::time::Duration::from_millis(200), async {
        fixture.post(CHAT, STREAM).await
    });
    let (waited, ()) = tokio::join!(waits, until("it waits", || fixture.gateway.waiting() == 1));
    assert!(waited.is_err());
    until("it has left", || fixture.gateway.waiting() == 0).await;
    until("it is settled", || fixture.gateway.unsettled() == 1).await;
    assert_eq!(fixture.used_now("requests").await, 1);
    drop(first);
    assert_eq!(fixture.used("slots").await, 0);
}
