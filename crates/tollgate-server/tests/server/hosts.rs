//! Pages of other sites whose name points at this machine (DNS rebinding) get no answer, whatever they request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_server::AllowedHosts;

use crate::support::{Admin, Fixture, WRITE};

/// The whole answer to a request for `host`, with the admin token.
async fn ask(fixture: &Fixture, method: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(fixture.address()).await.unwrap();
    let body = r#"{"userId":"alice","modelId":"m"}"#;
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}Authorization: Bearer {WRITE}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const PATHS: [(&str, &str); 13] = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/rate-limit/check"),
    ("POST", "/rate-limit/peek"),
    ("POST", "/rate-limit/check/batch"),
    ("GET", "/admin/policies"),
    ("POST", "/admin/explain"),
    ("DELETE", "/admin/users/a"),
    ("GET", "/nothing"),
];

#[tokio::test]
async fn a_foreign_host_is_answered_421_at_every_path() {
    let admin = Admin::start_new(|_| {}).await;
    for (method, path) in PATHS {
        let answer = ask(&admin.fixture, method, path, "Host: evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{method} {path}: {answer}");
        assert!(answer.contains("urn:tollgate:problem:other-host"), "{answer}");
        assert!(!answer.contains("evil.example"), "{answer}");
        for malformed in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: a@localhost\r\n"] {
            let answer = ask(&admin.fixture, method, path, malformed).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {path} {malformed}: {answer}");
            assert!(answer.contains("urn:tollgate:problem:malformed-host"), "{answer}");
        }
        let address = admin.fixture.address();
        for own in [format!("{address}"), "localhost".to_owned(), "[::1]:80".to_owned()] {
            let answer = ask(&admin.fixture, method, path, &format!("Host: {own}\r\n")).await;
            let refused = ["HTTP/1.1 421 ", "HTTP/1.1 400 Bad Request\r\ncontent-type: x"];
            assert!(!refused.iter().any(|one| answer.starts_with(one)), "{path} {own}: {answer}");
            assert!(!answer.contains("-host"), "{method} {path} {own}: {answer}");
        }
    }
    let denied = admin.fixture.post("/rate-limit/peek", r#"{"userId":"alice","modelId":"m"}"#);
    assert_eq!(denied.await.json()["count"], 3, "only the three checks for its own hosts");
}

#[tokio::test]
async fn names_that_are_listed_are_answered() {
    let fixture = Fixture::start_with(|config| {
        config.allowed_hosts = AllowedHosts::new(["gate.internal"]);
    })
    .await;
    for (host, status) in [
        ("gate.internal", 200),
        ("GATE.internal:8000", 200),
        ("localhost", 200),
        ("other.internal", 421),
    ] {
        let answer = ask(&fixture, "GET", "/healthz", &format!("Host: {host}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}
