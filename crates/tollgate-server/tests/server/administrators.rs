//! Administrators: distinguished by their tokens, in the audit log and in the server's log (P15).

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_catalog::directory::Actor;
use tollgate_server::{AdminToken, Role, Secret};

use crate::command_line::Process;
use crate::common::tollgate;
use crate::support::{Admin, WRITE};

const ALICE: &str = "the-token-of-alice";
const BOB: &str = "the-token-of-bob";
/// The number of wrong tokens that an address may send in a minute.
const GUESSES: usize = 10;

fn token(name: &str, role: Role, token: &str) -> AdminToken {
    AdminToken { actor: Actor::new(name).unwrap(), role, token: Secret::new(token) }
}

/// The audit log says who changed what and when: under the name of the token, which is `admin` for the unnamed one.
#[tokio::test]
async fn the_audit_log_distinguishes_the_owners_of_named_tokens() {
    let admin = Admin::start_new(|config| {
        config.admin_tokens =
            vec![token("alice", Role::Write, ALICE), token("bob", Role::Read, BOB)];
    })
    .await;
    let json = [("content-type", "application/json")];
    let calls = [
        (ALICE, "POST", "/admin/tenants", r#"{"id":"a"}"#, 201),
        (WRITE, "PATCH", "/admin/tenants/a", r#"{"name":"A"}"#, 200),
        (ALICE, "POST", "/admin/import", r#"{"tiers":[{"id":"t"}]}"#, 200),
        (BOB, "DELETE", "/admin/tenants/a", "", 403),
        (BOB, "GET", "/admin/tenants/a", "", 200),
        (ALICE, "DELETE", "/admin/tenants/a", "", 204),
    ];
    for (token, method, path, body, status) in calls {
        let answer = admin.send_as(token, method, path, &json, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    let actors = async |query: &str| -> Vec<Value> {
        let changes = admin.get(&format!("/admin/audit{query}")).await.json();
        changes["items"].as_array().unwrap().iter().map(|change| change["actor"].clone()).collect()
    };
    assert_eq!(actors("").await, ["alice", "alice", "admin", "alice"]);
    assert_eq!(actors("?actor=admin").await, ["admin"]);
}

/// A signed-in administrator can see their name and whether they may change anything.
#[tokio::test]
async fn the_session_has_the_name_and_the_role_of_the_token() {
    let admin = Admin::start_with(|config| {
        config.admin_tokens =
            vec![token("alice", Role::Write, ALICE), token("bob", Role::Read, BOB)];
    })
    .await;
    for (token, actor, role) in [(ALICE, "alice", "write"), (BOB, "bob", "read")] {
        let session = admin.send_as(token, "GET", "/admin/session", &[], "").await;
        assert_eq!(session.json(), json!({"actor": actor, "role": role}));
    }
}

/// The lines of `log` with a message that begins with `message`.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["message"].as_str().unwrap().starts_with(message)).collect()
}

/// Events that are not in the audit log: resets of usage, and wrong tokens. No line contains a token or an API key, at
/// any level.
#[test]
fn the_log_tells_who_resets_usage_and_from_where_tokens_are_guessed() {
    let directory = TempDir::new().unwrap();
    let mut command = tollgate(&directory);
    command
        .env("TOLLGATE_LOG_LEVEL", "trace")
        .env("TOLLGATE_ADMIN_TOKENS", format!("alice:write:{ALICE}, bob:read:{BOB}"));
    let process = Process::start(&mut command);
    let check =
        r#"{"userId":"u","modelId":"m","apiKey":"the-secret-key","attributes":{"x":"the-secret"}}"#;
    let reset = process.post("/admin/usage/reset", ALICE, check);
    assert!(reset.starts_with("HTTP/1.1 200 "), "{reset}");
    assert!(process.post("/admin/usage/reset", BOB, check).starts_with("HTTP/1.1 403 "));
    for _ in 0..GUESSES {
        let refused = process.post("/admin/usage/reset", "the-token-that-is-guessed", check);
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    }
    // Further wrong tokens are refused without a comparison; the right one never is.
    for (token, status) in [("the-token-that-is-guessed", 429), (BOB, 403), (ALICE, 200)] {
        let answer = process.post("/admin/usage/reset", token, check);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let (_, log) = process.end("-TERM");
    let resets = lines(&log, "usage was reset");
    assert_eq!(resets.len(), 2, "{log}");
    let fields = ["level", "actor", "policies", "user", "model", "with_api_key"];
    let told: Vec<_> = fields.iter().map(|field| resets[0][field].clone()).collect();
    assert_eq!(
        told,
        [json!("INFO"), json!("alice"), json!("default"), json!("u"), json!("m"), json!(true)]
    );
    let guesses = lines(&log, "a wrong admin token was sent");
    assert_eq!(guesses.len(), GUESSES, "{log}");
    assert!(guesses.iter().all(|one| one["level"] == "WARN" && one["address"] == "127.0.0.1"));
    let locked_out = lines(&log, "too many wrong admin tokens");
    assert_eq!((locked_out.len(), &locked_out[0]["address"]), (1, &json!("127.0.0.1")), "{log}");
    assert!(!log.contains("the-token") && !log.contains("the-secret"), "{log}");
}

/// A lease is not in the audit log either. The line does not have its whole id, with which it could be settled.
#[test]
fn the_log_tells_who_releases_a_lease_by_hand() {
    let directory = TempDir::new().unwrap();
    let mut command = tollgate(&directory);
    command.env("TOLLGATE_ADMIN_TOKENS", format!("alice:write:{ALICE}"));
    let process = Process::start(&mut command);
    let body = r#"{"userId":"u","modelId":"m"}"#;
    let reserved = process.post("/rate-limit/leases", "", body);
    let (_, body) = reserved.split_once("\r\n\r\n").unwrap();
    let lease = &serde_json::from_str::<Value>(body).unwrap()["lease"]["id"];
    let id = lease.as_str().unwrap();
    for _ in 0..2 {
        let released = process.ask("DELETE", &format!("/admin/leases/{id}"), ALICE, "");
        assert!(released.starts_with("HTTP/1.1 200 "), "{released}");
    }
    let (_, log) = process.end("-TERM");
    let releases = lines(&log, "a lease was released by hand");
    assert_eq!(releases.len(), 1, "the second one changed nothing: {log}");
    let fields = ["level", "actor", "policies", "was", "user", "model"];
    let told: Vec<_> = fields.iter().map(|field| releases[0][field].clone()).collect();
    let expected = ["INFO", "alice", "default", "live", "u", "m"];
    assert_eq!(told, expected.map(Value::from));
    assert!(!log.contains(id), "{log}");
}

/// The errors of an invalid list name the numbers of the entries and show nothing of them, because any part may be a
/// token.
#[test]
fn a_wrong_list_of_tokens_is_refused_without_being_shown() {
    let directory = TempDir::new().unwrap();
    let list = format!("alice:write:{ALICE}, canary-token-without-name bob:{BOB}:read");
    let output = tollgate(&directory)
        .args(["serve", "--http", "0.0.0.0:0"])
        .env("TOLLGATE_ADMIN_TOKENS", list)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in [
        "TOLLGATE_ADMIN_TOKENS: entry 2: it is not NAME:ROLE:TOKEN; accepted: NAME:ROLE:TOKEN, several",
        "TOLLGATE_ADMIN_TOKENS: entry 3: its role is neither `read` nor `write`",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(!error.contains("canary") && !error.contains("the-token"), "{error}");
}

/// If a write token is set, none is generated, and the server may listen on other addresses; a read token is not
/// enough.
#[test]
fn a_named_token_that_writes_is_as_good_as_the_one_without_a_name() {
    let directory = TempDir::new().unwrap();
    let serve = |role: &str| {
        let mut command = tollgate(&directory);
        command.env("TOLLGATE_ADMIN_TOKENS", format!("alice:{role}:{ALICE}"));
        command
    };
    let elsewhere = |role: &str| {
        let flags = ["serve", "--http", "0.0.0.0:0", "--catalog", "file:none.yaml"];
        let output = serve(role).args(flags).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = elsewhere("read");
    assert!(refused.contains("can be reached from other machines"), "{refused}");
    let started = elsewhere("write");
    assert!(!started.contains("can be reached") && started.contains("none.yaml"), "{started}");

    let mut process = Process::start(serve("write").stdout(Stdio::piped()));
    let made = process.post("/admin/tenants", ALICE, r#"{"id":"a"}"#);
    assert!(made.starts_with("HTTP/1.1 201 "), "{made}");
    let told = process.told();
    assert!(told.starts_with("console: ") && !told.contains("token"), "{told}");
}
