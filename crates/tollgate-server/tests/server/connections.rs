//! Connections: both versions of HTTP on one port, and clients that are slow, silent or send too much.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_server::ServeConfig;

use crate::support::{Client, Fixture};

const CHECK: &str = "/rate-limit/check";
const ALICE: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;
/// Longer than any of the timeouts below; a connection that still exists then was not closed.
const PATIENCE: Duration = Duration::from_secs(20);

fn short_timeouts(config: &mut ServeConfig) {
    config.limits.header_timeout = Duration::from_millis(200);
    config.limits.body_timeout = Duration::from_millis(200);
    config.limits.idle_timeout = Duration::from_millis(600);
}

/// Sends `bytes` and, every 50 ms, one byte of `drip`; returns what was received until the server closed.
async fn talk(address: SocketAddr, bytes: &[u8], drip: &[u8]) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(bytes).await.unwrap();
    let drip = drip.to_vec();
    let dripping = tokio::spawn(async move {
        for byte in drip {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        // Keeps its side open for as long as the test needs.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    // A reset counts as a close.
    _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answer))
        .await
        .expect("the server did not close");
    dripping.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port_with_many_streams() {
    let fixture = Fixture::start().await;
    let client = Client::connect_http2(fixture.address()).await;
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..120 {
        let mut stream = client.stream();
        streams.spawn(async move { stream.post("/rate-limit/enforce", ALICE).await.status });
    }
    let statuses = streams.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 100);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 20);
}

#[tokio::test]
async fn one_connection_serves_many_requests_after_refusals_too() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    for (body, status) in [(ALICE, 200), ("{", 400), ("{}", 422), (ALICE, 200)] {
        assert_eq!(client.post(CHECK, body).await.status, status);
    }
    let metrics = client.send("GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains("\ntollgate_http_connections 1\n"), "{metrics}");
}

#[tokio::test]
async fn peers_that_send_no_whole_request_are_cut() {
    let fixture = Fixture::start_with(short_timeouts).await;
    let headers = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let slow = [b'x'; 400];
    let cases: [(&str, &[u8], &[u8]); 5] = [
        ("says nothing", b"", b""),
        ("stops in its headers", headers, b""),
        ("drips its headers", headers, &slow),
        ("stops in the preface of HTTP/2", &preface[..10], b""),
        ("drips the first headers", b"", &slow),
    ];
    for (what, bytes, drip) in cases {
        let answer = talk(fixture.address(), bytes, drip).await;
        assert!(!answer.contains("200 OK"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let fixture = Fixture::start_with(short_timeouts).await;
    let answer =
        talk(fixture.address(), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn slow_second_headers_are_cut_too() {
    let fixture = Fixture::start_with(|config| {
        short_timeouts(config);
        config.limits.idle_timeout = Duration::from_hours(1);
    })
    .await;
    let request =
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nX-Slow: ";
    let answer = talk(fixture.address(), request, &[b'x'; 400]).await;
    assert_eq!(answer.matches("200 OK").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_the_connection_ends() {
    let fixture = Fixture::start_with(short_timeouts).await;
    let request =
        b"POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 1000\r\n\r\n{\"userId\"";
    for drip in [&b""[..], &[b' '; 400]] {
        let answer = talk(fixture.address(), request, drip).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("urn:tollgate:problem:body-timeout"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn headers_beyond_the_bounds_are_431() {
    let fixture = Fixture::start_with(|config| config.limits.max_header_bytes = 8_192).await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let many =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: 1\r\n".repeat(200));
    for request in [long, many] {
        let answer = talk(fixture.address(), request.as_bytes(), b"").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn no_more_connections_are_served_than_configured() {
    let fixture = Fixture::start_with(|config| config.limits.max_connections = 2).await;
    let mut first = fixture.client().await;
    let mut second = fixture.client().await;
    assert_eq!(first.post(CHECK, ALICE).await.status, 200);
    assert_eq!(second.post(CHECK, ALICE).await.status, 200);
    let mut third = fixture.client().await;
    let waiting = tokio::spawn(async move { third.post(CHECK, ALICE).await.status });
    assert_eq!(second.post(CHECK, ALICE).await.status, 200);
    assert!(!waiting.is_finished(), "a third connection was served");
    drop(first);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap(), 200);
}
