//! The end of a server: what is in flight is answered, and no client can delay it (P13).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_server::ServeConfig;

use crate::support::{Client, Fixture};

const IN_FLIGHT: usize = 100;
const BODY: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request whose headers and half of whose body have arrived.
async fn half_request(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{}",
        BODY.len(),
        &BODY[..10]
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// An HTTP/2 client that connects and then sends nothing, not even the answer to a ping.
async fn silent_http2_peer(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    stream.write_all(&hello).await.unwrap();
    let mut first = [0; 9];
    stream.read_exact(&mut first).await.unwrap();
    stream
}

/// Waits until the server counts `count` requests in flight besides the one that asks.
async fn until_in_flight(fixture: &Fixture, count: usize) {
    let line = format!("\ntollgate_http_requests_in_flight {}\n", count + 1);
    timeout(PATIENCE, async {
        while !fixture.get("/metrics").await.body.contains(&line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the requests did not arrive");
}

async fn until_refused(address: SocketAddr) {
    timeout(PATIENCE, async {
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
    let whole = timeout(PATIENCE, draining).await.expect("not drained in time").unwrap();
    assert!(whole, "something was cut");
    drop((silent, nothing_said));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_time_is_over() {
    let drain = Duration::from_millis(300);
    let fixture = Fixture::start_with(|config| config.drain_timeout = drain).await;
    let mut half = half_request(fixture.address()).await;
    until_in_flight(&fixture, 1).await;
    let whole = timeout(PATIENCE, fixture.server.drain()).await.expect("not drained in time");
    assert!(!whole, "nothing was cut");
    let mut answer = Vec::new();
    _ = timeout(PATIENCE, half.read_to_end(&mut answer)).await.expect("the connection stays open");
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
    assert!(timeout(PATIENCE, draining).await.unwrap().unwrap());
}

/// The outcomes of the requests of one client, which keeps its connection alive for as long as the server allows.
#[derive(Debug, Default)]
struct Asked {
    answered: u32,
    /// Requests that were sent completely, and whose connection was closed without an answer.
    lost: u32,
    /// Connections that ended as announced.
    ended_well: u32,
}

/// Sends requests over kept-alive connections until no connection is accepted.
async fn ask_until_refused(address: SocketAddr, pause: Duration) -> Asked {
    let request = format!(
        "POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut asked = Asked::default();
    while let Ok(mut stream) = TcpStream::connect(address).await {
        loop {
            // A connection that ends before a request is sent loses none.
            if stream.write_all(request.as_bytes()).await.is_err() {
                break;
            }
            let answer = read_answer(&mut stream).await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                asked.lost += 1;
                break;
            }
            asked.answered += 1;
            if answer.to_lowercase().contains("connection: close") {
                asked.ended_well += 1;
                break;
            }
            tokio::time::sleep(pause).await;
            if has_ended(&stream) {
                break;
            }
        }
    }
    asked
}

/// One answer with its body, or why there is none.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap()) {
                return String::from_utf8(answer).unwrap();
            }
        }
        match timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("no answer and no end") {
            Ok(1..) => {}
            Ok(0) | Err(_) => return String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

/// Whether the server has closed an idle connection, as far as it is known here.
fn has_ended(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// P13 under load: every client that has sent a request gets an answer, over kept-alive connections and over new ones,
/// until no connection is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_clients_that_are_kept_alive_is_lost() {
    const CLIENTS: usize = 160;
    let yaml = "policies: [{id: p, scope: USER, limit: 100000000, windowSeconds: 3600}]";
    let fixture = Fixture::start_with_policies_and(yaml, patient_drain).await;
    let address = fixture.address();
    let mut asking = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        // Some send the next request at once, some after a pause.
        let pause = Duration::from_millis(u64::try_from(client % 8).unwrap() * 5);
        asking.spawn(ask_until_refused(address, pause));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let whole = timeout(PATIENCE, fixture.server.drain()).await.expect("it does not end");
    let asked = asking.join_all().await;
    let sum = |count: fn(&Asked) -> u32| asked.iter().map(count).sum::<u32>();
    let answered = sum(|one| one.answered);
    assert_eq!(sum(|one| one.lost), 0, "of {answered} that were answered");
    assert!(whole, "something was cut");
    assert!(sum(|one| one.ended_well) > 0, "nobody was told");
}

/// An idle connection is kept for a while: a request that is sent just then is answered, and the answer says that it is
/// the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_an_idle_connection_is_answered_while_the_server_drains() {
    let fixture = Fixture::start_with(patient_drain).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut client = fixture.client().await;
        assert_eq!(client.post("/rate-limit/check", BODY).await.status, 200);
        idle.push(client);
    }
    let mut http2 = Client::connect_http2(fixture.address()).await;
    assert_eq!(http2.post("/rate-limit/check", BODY).await.status, 200);
    let mut probe = fixture.client().await;
    let draining = tokio::spawn(fixture.server.drain());
    let last = loop {
        let answer = probe.send("GET", "/readyz", &[], "").await;
        if answer.header("connection").is_some() {
            break answer;
        }
    };
    assert_eq!((last.status, last.header("connection")), (503, Some("close")));
    for client in &mut idle {
        let answer = client.post("/rate-limit/check", BODY).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    // The HTTP/2 client was told by its protocol.
    assert!(timeout(PATIENCE, draining).await.unwrap().unwrap());
}

/// A drain in which no idle connection is closed, so that nothing depends on the speed of the machine.
fn patient_drain(config: &mut ServeConfig) {
    config.limits.drain_grace = Duration::from_hours(1);
    config.drain_timeout = Duration::from_hours(10);
}
