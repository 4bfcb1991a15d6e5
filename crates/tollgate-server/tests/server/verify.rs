//! `tollgate verify` against real servers, in the time of their stores.

use std::future::pending;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tollgate_core::{Clock as _, ManualClock, Timestamp};
use tollgate_server::Secret;
use tollgate_verify::{
    Outcome, Promise, Report, Timeline, Verified, VerifyArgs, VerifyError, run_in,
};

use crate::common::tollgate;
use crate::support::{Admin, Fixture, READ, WRITE};

/// The time of a server's store.
struct StoreTime(ManualClock);

impl Timeline for StoreTime {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Moves the time on.
    async fn sleep_until(&self, time: Timestamp) {
        self.0.set(time.max(self.now()));
    }
}

fn args(servers: &[SocketAddr]) -> VerifyArgs {
    let servers = servers.iter().map(|address| format!("http://{address}")).collect();
    VerifyArgs { servers, window_seconds: Some(2), limit: Some(20), json: false, report: None }
}

/// The report, if nothing failed.
fn whole(verified: Verified) -> Result<Report, VerifyError> {
    verified.failures.into_iter().next().map_or(verified.result, Err)
}

pub(crate) async fn verify(
    servers: &[&Fixture],
    token: Option<&str>,
    interrupted: impl AsyncFnMut(),
) -> Result<Report, VerifyError> {
    let addresses: Vec<_> = servers.iter().map(|one| one.server.address()).collect();
    let time = StoreTime(servers[0].clock.clone());
    whole(run_in(&args(&addresses), token, interrupted, &time).await)
}

/// With a token, a policy is made for the run: it overrides those for everybody, and nothing of it is left.
#[tokio::test]
async fn a_server_keeps_every_promise() {
    let admin = Admin::start().await;
    let everybody = json!({"id": "everybody", "scope": "GLOBAL", "limit": 10, "windowSeconds": 60});
    admin.ask("POST", "/admin/policies", &everybody).await;
    let report = verify(&[&admin.fixture], Some(WRITE), pending).await.unwrap();
    assert_eq!(report.outcome(), Outcome::Kept, "{report}");
    let promises: Vec<_> = report.findings.iter().map(|finding| finding.promise).collect();
    assert_eq!(promises, [Promise::Limit, Promise::Denials, Promise::Retry, Promise::Window]);
    assert_eq!((report.limit, report.window_ms, report.exit_code()), (20, 2_000, 0));
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["findings"][0]["outcome"], "kept");
    let left = admin.ask("GET", "/admin/policies", &Value::Null).await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
    let usage = admin.ask("GET", "/admin/usage?policy=everybody", &Value::Null).await;
    assert!(!usage.body.contains(r#""count":1"#), "{}", usage.body);
}

/// A run that is interrupted deletes its policy.
#[tokio::test]
async fn an_interrupted_run_cleans_up() {
    let admin = Admin::start().await;
    let mut is_interrupted = false;
    let interrupted = async || {
        if std::mem::replace(&mut is_interrupted, true) {
            return pending().await;
        }
        while !admin.get("/admin/policies").await.body.contains("tollgate-verify-") {}
    };
    let error = verify(&[&admin.fixture], Some(WRITE), interrupted).await.unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().contains("interrupted")),
        (130, true),
        "{error}"
    );
    let left = admin.ask("GET", "/admin/policies", &Value::Null).await.json();
    assert_eq!(left["items"], json!([]));
}

pub(crate) const POLICY: &str =
    "policies: [{id: mine, per: [tollgate_verify], limit: 20, windowSeconds: 2}]";

/// Two servers that each count for themselves are found, without a token, by a policy that they have.
#[tokio::test]
async fn nodes_that_do_not_share_are_found() {
    let nodes =
        [Fixture::start_with_policies(POLICY).await, Fixture::start_with_policies(POLICY).await];
    let report = verify(&[&nodes[0], &nodes[1]], None, pending).await.unwrap();
    let nodes = report.findings.last().unwrap();
    assert_eq!((nodes.promise, nodes.outcome), (Promise::Nodes, Outcome::Broken), "{report}");
    assert_eq!((report.exit_code(), &*report.policy_id), (1, "mine"));
}

/// Without a limit to test, or with one for everybody, the error says what to do.
#[tokio::test]
async fn what_cannot_be_tested_is_refused() {
    let refused = async |yaml: &str, token, parts: &[&str]| {
        let server = Fixture::start_with_policies(yaml).await;
        let error = verify(&[&server], token, pending).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    let empty = "policies: []";
    refused(empty, None, &["no policy applies", "TOLLGATE_ADMIN_TOKEN", "per: [tollgate_verify]"])
        .await;
    let all = "policies: [{id: all, scope: GLOBAL, limit: 9, windowSeconds: 9}]";
    refused(all, None, &[r#"["all"] apply"#, r#"overrides: ["all"]"#]).await;
    let counter = POLICY.replace("limit", "algorithm: sliding_window_counter, limit");
    refused(&counter, None, &[r#"["mine"] apply"#, "accepted: a sliding window"]).await;
    refused(empty, Some("a-token-of-nobody"), &["cannot create a policy", "token"]).await;
}

/// The error names the variable that holds the token, and does not show the token.
#[tokio::test]
async fn a_token_that_may_not_write_is_refused() {
    let admin = Admin::start().await;
    for token in [READ, "a-token-of-nobody"] {
        let error = verify(&[&admin.fixture], Some(token), pending).await.unwrap_err();
        let text = error.to_string();
        for part in ["cannot create a policy", "TOLLGATE_ADMIN_TOKEN", "that may write"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(token), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
}

/// A policy file cannot be changed over HTTP: the error says which policy to add to it.
#[tokio::test]
async fn a_catalog_that_cannot_be_changed_needs_a_policy_of_its_own() {
    let yaml = "policies: [{id: users, scope: USER, limit: 9, windowSeconds: 9}]";
    let server = Fixture::start_with_policies_and(yaml, |config| {
        config.admin_token = Some(Secret::new(WRITE));
    })
    .await;
    let error = verify(&[&server], Some(WRITE), pending).await.unwrap_err().to_string();
    for part in ["cannot create a policy", "such as {id: tollgate-verify, per: [tollgate_verify]"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// The flags ask for a policy. One of the deployment with other numbers is not taken for it: with a token it is overridden
/// for the run, and without one the run is refused.
#[tokio::test]
async fn another_limit_than_that_of_the_deployment_is_never_ignored() {
    let admin = Admin::start().await;
    let mine = json!({"id": "mine", "per": ["tollgate_verify"], "limit": 20, "windowSeconds": 2});
    admin.ask("POST", "/admin/policies", &mine).await;
    let address = admin.fixture.server.address();
    let time = StoreTime(admin.fixture.clock.clone());
    let run = async |limit, window_seconds, token| {
        let args = VerifyArgs { limit, window_seconds, ..args(&[address]) };
        whole(run_in(&args, token, pending, &time).await)
    };
    for (limit, window_seconds) in [(None, None), (Some(20), None), (Some(20), Some(2))] {
        let report = run(limit, window_seconds, Some(WRITE)).await.unwrap();
        assert_eq!((&*report.policy_id, report.limit, report.window_ms), ("mine", 20, 2_000));
    }
    let report = run(Some(7), None, Some(WRITE)).await.unwrap();
    assert!(report.policy_id.starts_with("tollgate-verify-"), "{report}");
    assert_eq!((report.limit, report.window_ms), (7, 2_000));
    assert_eq!(report.outcome(), Outcome::Kept, "{report}");
    for (limit, window_seconds, flag) in
        [(Some(7), Some(2), "--limit 7"), (Some(20), Some(3), "--window-seconds 3")]
    {
        let error = run(limit, window_seconds, None).await.unwrap_err();
        let text = error.to_string();
        for part in [flag, "mine", "20 requests in 2 s", "TOLLGATE_ADMIN_TOKEN"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(error.exit_code(), 2);
    }
}

/// Before any call: a token that cannot be sent, and no authority to verify a certificate with.
#[test]
fn what_the_environment_gives_is_checked_first() {
    let directory = TempDir::new().unwrap();
    let run = |name: &str, value: &str| {
        let mut command = tollgate(&directory);
        let command = command.args(["verify", "--server", "https://127.0.0.1:1"]);
        let output = command.env(name, value).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{error}");
        error
    };
    let error = run("TOLLGATE_ADMIN_TOKEN", "");
    assert!(error.starts_with("error: TOLLGATE_ADMIN_TOKEN: is empty; accepted: "), "{error}");
    let error = run("SSL_CERT_FILE", "/nonexistent/ca.pem");
    for part in ["/nonexistent/ca.pem", "accepted", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// Whatever else answers there, or if nobody does, the error names the address and the problem.
#[tokio::test]
async fn what_is_no_tollgate_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let time = StoreTime(ManualClock::at(Timestamp::from_ms(1)));
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1_024];
        _ = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        // The listener is closed, and nobody else gets its port while the connection is open.
        stream
    });
    let error =
        whole(run_in(&args(&[address]), None, pending, &time).await).unwrap_err().to_string();
    for part in ["does not answer like a Tollgate server", "200 OK", r#""hi""#, "accepted"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(error.contains(&address.to_string()), "{error}");
    let stream = other.await.unwrap();
    let error =
        whole(run_in(&args(&[address]), None, pending, &time).await).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    drop(stream);
    for (address, problem) in [
        ("ftp://h", "neither http nor https"),
        ("h:8000", "neither http nor https"),
        ("http://", "not a URL"),
        ("http://me:secret@h", "user or a password"),
        ("http://h/?a", "query"),
    ] {
        let mut args = args(&[]);
        args.servers.push(address.to_owned());
        let error = whole(run_in(&args, None, pending, &time).await).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(problem) && text.contains("accepted") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}

/// A server beside itself would prove only that it shares its counts with itself.
#[tokio::test]
async fn a_server_that_is_given_twice_is_refused() {
    let time = StoreTime(ManualClock::at(Timestamp::from_ms(1)));
    let mut args = args(&[]);
    args.servers.extend(["http://h:8000".to_owned(), "http://h:8000/".to_owned()]);
    let error = whole(run_in(&args, None, pending, &time).await).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("http://h:8000 is given twice") && text.contains("each server once"),
        "{text}"
    );
    assert_eq!(error.exit_code(), 2);
}
