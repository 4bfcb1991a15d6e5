//! `tollgate verify` against real servers, in the time of their stores.

use std::future::pending;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tollgate_core::{Clock as _, ManualClock, Timestamp};
use tollgate_verify::{
    Outcome, Promise, Report, Timeline, Verified, VerifyArgs, VerifyError, run_in,
};

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
    VerifyArgs { servers, window_seconds: 2, limit: 20, json: false, report: None }
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

#[tokio::test]
async fn a_token_that_may_only_read_is_refused() {
    let admin = Admin::start().await;
    let error = verify(&[&admin.fixture], Some(READ), pending).await.unwrap_err();
    assert!(error.to_string().contains("cannot create a policy"), "{error}");
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
    assert!(error.contains("does not answer like a Tollgate server"), "{error}");
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
