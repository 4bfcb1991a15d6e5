//! The memory of unfinished requests is bounded over all connections (P19). The tests use the server's own count of its
//! allocations; one test measures the process.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::command_line::Process;
use crate::common::tollgate;
use crate::support::{Admin, Client, Fixture, WRITE};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
const MAX_MEMORY: usize = 1 << 20;
const PIECE: usize = 100 << 10;

/// The beginning of a request for `path`, whose declared body is four times as long as what is sent.
async fn half_sent(address: SocketAddr, path: &str, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITE}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        4 * sent
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A client that is refused may not read the whole answer.
    _ = stream.write_all(&vec![b' '; sent]).await;
    stream
}

async fn counted(fixture: &Fixture, name: &str) -> usize {
    let text = fixture.get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn held(fixture: &Fixture) -> usize {
    counted(fixture, "tollgate_http_request_memory_bytes").await
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited until {what}"));
}

/// The answer to a request that was refused before it was complete.
async fn refusal(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for field in ["retry-after: 1", "content-type: application/problem+json", "connection: close"] {
        assert!(head.contains(field), "no {field} in {head}");
    }
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["type"], "urn:tollgate:problem:too-many-unfinished-requests");
    answer
}

async fn start() -> Admin {
    Admin::start_with(|config| {
        config.limits.max_body_memory_bytes = MAX_MEMORY;
        // Timeouts release nothing during the test.
        config.limits.body_timeout = Duration::from_hours(1);
        config.limits.header_timeout = Duration::from_hours(1);
        config.limits.idle_timeout = Duration::from_hours(1);
    })
    .await
}

/// Fills the memory with half-sent bodies; returns the connections that hold it.
async fn fill(admin: &Admin) -> Vec<TcpStream> {
    let address = admin.fixture.address();
    let paths = ["/rate-limit/check/batch", "/admin/import", "/admin/policies/validate"];
    let mut streams = Vec::new();
    let mut refused = 0;
    for number in 0.. {
        let before = held(&admin.fixture).await;
        let stream = half_sent(address, paths[number % paths.len()], PIECE).await;
        // Either the count has grown by what was sent, or a request was refused.
        until("it is counted or refused", async || {
            let now = held(&admin.fixture).await;
            assert!(now <= MAX_MEMORY, "{now} bytes are held");
            refused = counted(&admin.fixture, "tollgate_http_requests_without_memory_total").await;
            refused > 0 || now >= before + PIECE
        })
        .await;
        if refused > 0 {
            refusal(stream).await;
            return streams;
        }
        streams.push(stream);
        assert!(streams.len() < MAX_MEMORY / PIECE, "more is held than there may be");
    }
    streams
}

#[tokio::test]
async fn unfinished_bodies_share_a_bound_and_give_all_of_it_back() {
    let admin = start().await;
    let streams = fill(&admin).await;
    assert!(streams.len() >= 3, "only {} fitted", streams.len());
    // Other requests are refused at once, whatever they send, except small requests that arrive in one piece.
    for path in ["/rate-limit/check/batch", "/admin/import"] {
        refusal(half_sent(admin.fixture.address(), path, 10 * PIECE).await).await;
    }
    let check = r#"{"userId":"alice","modelId":"m"}"#;
    assert_eq!(admin.fixture.post("/rate-limit/check", check).await.status, 200);
    let answer = in_two_pieces(&admin.fixture, check).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Requests that end release their memory, and others have room again.
    drop(streams);
    until("all is given back", async || held(&admin.fixture).await == 0).await;
    fill_one(&admin).await;
}

/// The answer to a check whose body arrives in two pieces: the second is sent once the first is counted.
async fn in_two_pieces(fixture: &Fixture, check: &str) -> String {
    let before = held(fixture).await;
    let mut stream = TcpStream::connect(fixture.address()).await.unwrap();
    let (first, second) = check.split_at(check.len() / 2);
    let head = format!(
        "POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        check.len()
    );
    stream.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    until("the first piece is counted", async || held(fixture).await > before).await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

async fn fill_one(admin: &Admin) {
    let stream = half_sent(admin.fixture.address(), "/admin/import", PIECE).await;
    until("it is counted", async || held(&admin.fixture).await >= PIECE).await;
    drop(stream);
    until("it is given back", async || held(&admin.fixture).await == 0).await;
}

/// A body of many small pieces takes only the memory in which it is stored.
#[tokio::test]
async fn what_is_counted_is_what_arrives_and_not_what_is_announced() {
    let admin = start().await;
    let mut stream = half_sent(admin.fixture.address(), "/rate-limit/check/batch", 1_000_000).await;
    drop(stream);
    until("all is given back", async || held(&admin.fixture).await == 0).await;
    stream = TcpStream::connect(admin.fixture.address()).await.unwrap();
    let head = "POST /rate-limit/check/batch HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 4000000\r\n\r\n[";
    stream.write_all(head.as_bytes()).await.unwrap();
    until("it is counted", async || held(&admin.fixture).await > 0).await;
    let little = held(&admin.fixture).await;
    assert!(little < 20_000, "{little} bytes for one");
}

#[tokio::test]
async fn unfinished_heads_share_the_bound() {
    let admin = start().await;
    let bodies = fill(&admin).await;
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(30_000));
    let mut heads = Vec::new();
    let mut refused = false;
    for _ in 0..MAX_MEMORY / head.len() {
        let mut stream = TcpStream::connect(admin.fixture.address()).await.unwrap();
        let before = counted(&admin.fixture, "tollgate_http_requests_without_memory_total").await;
        let held_before = held(&admin.fixture).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        until("it is counted or refused", async || {
            let now = counted(&admin.fixture, "tollgate_http_requests_without_memory_total").await;
            refused = now > before;
            refused || held(&admin.fixture).await >= held_before + head.len()
        })
        .await;
        if refused {
            refusal(stream).await;
            break;
        }
        heads.push(stream);
    }
    assert!(refused, "{} heads fitted", heads.len());
    // A head that becomes complete is answered, and then holds nothing.
    if let Some(mut whole) = heads.pop() {
        whole.write_all(b"\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, whole.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    drop((bodies, heads));
    until("all is given back", async || held(&admin.fixture).await == 0).await;
}

/// The test of the process: 250 connections, each with most of a body of 4 MiB.
#[test]
fn half_sent_bodies_of_4_mib_take_the_bound_of_memory_and_no_more() {
    const CONNECTIONS: usize = 250;
    const SENT: usize = (4 << 20) - 1_000;
    const BOUND_KIB: usize = 64 << 10;
    const MOST_HELD: usize = BOUND_KIB * 1_024 / SENT + 1;
    let directory = TempDir::new().unwrap();
    let mut command = tollgate(&directory);
    // No timeout releases or closes anything.
    for timeout in ["BODY", "HEADER", "IDLE"] {
        command.env(format!("TOLLGATE_{timeout}_TIMEOUT_MS"), "3600000");
    }
    let process = Process::start(&mut command);
    let address = process.address().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // As many connections without unfinished requests: their number has a separate bound.
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(address).await;
            assert_eq!(client.send("GET", "/healthz", &[], "").await.status, 200);
            idle.push(client);
        }
        let before = process.memory_kib();
        drop(idle);
        let mut sending = JoinSet::new();
        for _ in 0..CONNECTIONS {
            sending.spawn(send_most(address, SENT));
        }
        // The others are held, and never end.
        for number in MOST_HELD..CONNECTIONS {
            let refused = timeout(PATIENCE, sending.join_next()).await;
            let answer = refused.unwrap_or_else(|_| panic!("{number} are held")).unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
        }
        let grown = process.memory_kib().saturating_sub(before);
        assert!(grown <= BOUND_KIB * 11 / 10, "grew by {grown} KiB");
    });
}

/// Sends most of a batch and waits for the answer; never returns if the server waits for the rest.
async fn send_most(address: SocketAddr, sent: usize) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = format!(
        "POST /rate-limit/check/batch HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        sent + 1_000
    );
    let writing = tokio::spawn(async move {
        // A client that is refused may not be able to send all of it.
        _ = write.write_all(head.as_bytes()).await;
        _ = write.write_all(&vec![b' '; sent]).await;
        write
    });
    let mut answer = Vec::new();
    // A reset after the answer counts as an end.
    _ = read.read_to_end(&mut answer).await;
    drop(writing.await);
    String::from_utf8(answer).unwrap()
}
