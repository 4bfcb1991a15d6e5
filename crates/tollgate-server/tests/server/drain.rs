//! The end of a server: what is in flight is answered, and nobody can hold it up (P13).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::Fixture;

const IN_FLIGHT: usize = 100;
const BODY: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;
/// What P13 gives a server to end.
const BOUND: Duration = Duration::from_secs(10);

/// A request whose headers have come and whose body is half there.
async fn half_request(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{}",
        BODY.len(),
        &BODY[..10]
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// A peer of HTTP/2 that says hello and then nothing, not even to a ping.
async fn silent_http2_peer(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    stream.write_all(&hello).await.unwrap();
    let mut first = [0; 9];
    stream.read_exact(&mut first).await.unwrap();
    stream
}

/// Waits until the server counts `count` requests in flight beside the one that asks.
async fn until_in_flight(fixture: &Fixture, count: usize) {
    let line = format!("\ntollgate_http_requests_in_flight {}\n", count + 1);
    timeout(BOUND, async {
        while !fixture.get("/metrics").await.body.contains(&line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the requests did not arrive");
}

async fn until_refused(address: SocketAddr) {
    timeout(BOUND, async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("connections are still accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_flight_is_answered_and_silent_peers_do_not_matter() {
    let fixture = Fixture::start().await;
    let address = fixture.address();
    let mut halves = Vec::new();
    for _ in 0..IN_FLIGHT {
        halves.push(half_request(address).await);
    }
    let silent = silent_http2_peer(address).await;
    let mut idle = fixture.client().await;
    assert_eq!(idle.post("/rate-limit/check", BODY).await.status, 200);
    let nothing_said = TcpStream::connect(address).await.unwrap();
    until_in_flight(&fixture, IN_FLIGHT).await;

    let started = Instant::now();
    let draining = tokio::spawn(fixture.server.drain());
    until_refused(address).await;
    let mut answered = 0;
    for mut half in halves {
        half.write_all(&BODY.as_bytes()[10..]).await.unwrap();
        let mut answer = String::new();
        half.read_to_string(&mut answer).await.unwrap();
        answered += usize::from(answer.starts_with("HTTP/1.1 200 OK"));
    }
    assert_eq!(answered, IN_FLIGHT);
    let whole = timeout(BOUND, draining).await.expect("not drained in time").unwrap();
    assert!(whole, "something was cut");
    assert!(started.elapsed() < BOUND);
    drop((silent, nothing_said));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_time_is_over() {
    let drain = Duration::from_millis(300);
    let fixture = Fixture::start_with(|config| config.drain_timeout = drain).await;
    let mut half = half_request(fixture.address()).await;
    until_in_flight(&fixture, 1).await;
    let whole = timeout(BOUND, fixture.server.drain()).await.expect("not drained in time");
    assert!(!whole, "nothing was cut");
    let mut answer = Vec::new();
    _ = timeout(BOUND, half.read_to_end(&mut answer)).await.expect("the connection stays open");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_draining_server_says_that_it_is_not_ready() {
    let fixture = Fixture::start().await;
    let address = fixture.address();
    // A pipelined request: its head is read only after the first is answered, while the server drains.
    let mut half = half_request(address).await;
    until_in_flight(&fixture, 1).await;
    let draining = tokio::spawn(fixture.server.drain());
    until_refused(address).await;
    half.write_all(&BODY.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(timeout(BOUND, draining).await.unwrap().unwrap());
}
