//! nginx with `auth_request`, configured as the example that the documents name.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Answer, Backend, Client, Program, free_address, serve};

const EXAMPLE: &str = include_str!("../../../../examples/nginx/nginx.conf");

const POLICIES: &str = r"
policies:
  - {id: user, scope: USER, limit: 2, windowSeconds: 60}
  - {id: key, scope: API_KEY, limit: 5, windowSeconds: 60}
";

struct Nginx {
    _program: Program,
    _files: TempDir,
    address: SocketAddr,
}

impl Nginx {
    async fn start(tollgate: SocketAddr, backend: SocketAddr) -> Self {
        let (files, address) = (TempDir::new().unwrap(), free_address());
        let mut text = EXAMPLE.to_owned();
        for (port, other) in [("8000", tollgate), ("9000", backend), ("8080", address)] {
            let port = format!("127.0.0.1:{port}");
            assert!(text.contains(&port), "{port} is not in the example");
            text = text.replace(&port, &other.to_string());
        }
        let path = files.path().join("nginx.conf");
        std::fs::write(&path, text).unwrap();
        // Debian installs it where the PATH of a user may not lead.
        let installed = Path::new("/usr/sbin/nginx");
        let mut command =
            Command::new(if installed.exists() { installed } else { Path::new("nginx") });
        command.arg("-p").arg(files.path()).arg("-c").arg(&path).args(["-e", "stderr"]);
        command.args(["-g", "daemon off; worker_processes 1; master_process off;"]);
        let program = Program::start(command, address, &files.path().join("log")).await;
        Self { _program: program, _files: files, address }
    }
}

/// The header of basic authentication, from which nginx has its `$remote_user`.
const ALICE: (&str, &str) = ("authorization", "Basic YWxpY2U6c2VjcmV0");

impl Nginx {
    /// Each on a connection of its own: nginx closes it after an error page.
    async fn post(&self, headers: &[(&str, &str)]) -> Answer {
        let mut client = Client::connect(self.address).await;
        client.send("POST", "/v1/chat/completions?stream=true", headers, "{\"a\": 1}").await
    }
}

#[tokio::test]
async fn a_denial_is_429_with_the_wait_and_does_not_reach_the_backend() {
    let (server, _files) = serve(POLICIES, |_| {}).await;
    let backend = Backend::start(&[]).await;
    let nginx = Nginx::start(server.address(), backend.address).await;
    for left in [1, 0] {
        let answer = nginx.post(&[ALICE]).await;
        assert_eq!((answer.status, &*answer.body), (200, "answered"), "{:?}", answer.headers);
        assert_eq!(answer.header("ratelimit"), Some(&*format!("\"user\";r={left};t=60")));
    }
    let denied = nginx.post(&[ALICE]).await;
    assert_eq!(denied.status, 429, "{denied:?}");
    assert_eq!(denied.header("retry-after"), Some("60"));
    assert_eq!(denied.header("ratelimit-policy"), Some("\"user\";q=2;w=60"));
    assert_eq!(backend.requests(), 2);
}

#[tokio::test]
async fn what_a_client_says_of_itself_does_not_count() {
    let (server, _files) = serve(POLICIES, |_| {}).await;
    let backend = Backend::start(&[]).await;
    let nginx = Nginx::start(server.address(), backend.address).await;
    let forged = [ALICE, ("x-user-id", "mallory"), ("x-tollgate-cost", "0")];
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(nginx.post(&forged).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    let nobody = nginx.post(&[("x-user-id", "mallory")]).await;
    assert_eq!(nobody.status, 403, "{nobody:?}");
    assert_eq!(backend.requests(), 2);
}

#[tokio::test]
async fn without_tollgate_requests_pass() {
    let backend = Backend::start(&[]).await;
    let nginx = Nginx::start(free_address(), backend.address).await;
    let answer = nginx.post(&[ALICE]).await;
    assert_eq!((answer.status, &*answer.body), (200, "answered"));
}

/// Tollgate accepts 100 headers: a client that sends more must not get past it.
#[tokio::test]
async fn many_headers_do_not_get_past_a_limit() {
    let (server, _files) = serve(POLICIES, |_| {}).await;
    let backend = Backend::start(&[]).await;
    let nginx = Nginx::start(server.address(), backend.address).await;
    let names: Vec<String> = (0..150).map(|index| format!("h{index}")).collect();
    let mut headers = vec![ALICE];
    headers.extend(names.iter().map(|name| (name.as_str(), "v")));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(nginx.post(&headers).await.status);
    }
    // The backend of this test refuses so many as well, but they count.
    assert_eq!(statuses, [431, 431, 429]);
}

/// What Tollgate does not accept is refused, not passed on.
#[tokio::test]
async fn a_question_that_is_not_accepted_is_no_way_past_a_limit() {
    let (server, _files) = serve(POLICIES, |_| {}).await;
    let backend = Backend::start(&[]).await;
    let nginx = Nginx::start(server.address(), backend.address).await;
    let long = "k".repeat(300);
    let answer = nginx.post(&[ALICE, ("x-api-key", &long)]).await;
    assert_eq!((answer.status, backend.requests()), (403, 0), "{answer:?}");
}
