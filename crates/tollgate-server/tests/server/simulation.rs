//! `simulate` decides as `serve` does, with the same document or the same catalog; and it reads what `serve` records.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_core::Timestamp;
use tollgate_server::{RecordConfig, ServeConfig};

use crate::common::tollgate;
use crate::support::{Admin, Fixture};

/// When the clock of a fixture begins.
const START_MS: u64 = 1_800_000_001_234;

const DOCUMENT: &str = "
tiers: [{id: pro, priority: premium}, {id: bulk, priority: batch}]
modelTiers: [{id: large}]
models: [{id: gpt-4, modelTier: large}]
tenants: [{id: acme, tier: pro}, {id: umbrella}]
users:
  - {id: ann, tenantId: acme}
  - {id: bob, tenantId: acme, tier: bulk}
  - {id: cleo, tenantId: umbrella}
policies:
  - {id: default, scope: USER, limit: 4, window: 10s}
  - {id: pro, scope: USER, match: {tier: pro}, limit: 7, window: 10s}
  - {id: large, scope: MODEL_TIER, limit: 30, window: 1m, algorithm: token_bucket, burst: 12}
  - {id: tenant, scope: TENANT, limit: 40, window: 1m, shares: {batch: 0.5, standard: 0.8}}
  - {id: tokens, scope: USER, unit: tokens, limit: 500, window: 20s, algorithm: sliding_window_counter}
  - {id: keys, scope: API_KEY, limit: 6, window: 30s}
  - {id: region, per: [region], match: {region: {present: true}}, limit: 9, window: 10s, mode: shadow}
  - {id: office, per: [ip], match: {ip: 192.0.2.0/24}, limit: 8, window: 1m}
  - {id: banned, scope: USER, match: {user: mallory}, limit: 0}
";

/// The cells of a check in the trace, and its body.
struct Sent {
    line: String,
    body: Value,
}

const HEADER: &str = "timestamp,userId,modelId,tenantId,apiKey,service,ip,tier,requestId,cost.tokens,attributes.region\n";

/// A mix of users, models, tiers, keys, request ids and costs; the same every time. `at_ms` counts from the start.
fn sent(number: u64, at_ms: u64, keys: &[&str]) -> Sent {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ number << 7;
    let pick = |shift: u32, from: &[&str]| {
        let length = u64::try_from(from.len()).unwrap();
        from[usize::try_from((mixed >> shift) % length).unwrap()].to_owned()
    };
    let cells = [
        ("userId", pick(3, &["ann", "bob", "cleo", "stranger", "mallory"])),
        ("modelId", pick(9, &["gpt-4", "small"])),
        ("tenantId", pick(14, &["", "", "umbrella", "acme"])),
        ("apiKey", pick(19, keys)),
        ("service", pick(24, &["", "chat"])),
        ("ip", pick(28, &["", "192.0.2.7", "203.0.113.9"])),
        ("tier", pick(33, &["", "", "bulk", "pro"])),
        // Now and then a check is sent again.
        ("requestId", if number % 5 < 2 { format!("r{}", number / 10) } else { String::new() }),
        ("cost.tokens", pick(38, &["", "0", "30", "120"])),
        ("attributes.region", pick(43, &["", "eu", "us"])),
    ];
    let mut body = json!({});
    for (name, value) in &cells {
        match *name {
            _ if value.is_empty() => {}
            "cost.tokens" => body["cost"] = json!({"tokens": value.parse::<u64>().unwrap()}),
            "attributes.region" => body["attributes"]["region"] = json!(value),
            "tier" => body["attributes"]["tier"] = json!(value),
            name => body[name] = json!(value),
        }
    }
    let ms = START_MS + at_ms;
    let cells: Vec<_> = cells.iter().map(|(_, value)| value.as_str()).collect();
    let line = format!("{}.{:03},{}\n", ms / 1_000, ms % 1_000, cells.join(","));
    Sent { line, body }
}

/// A decision as the decisions file has it: allowed, the policy and the wait.
fn decision(answer: &Value) -> String {
    let wait = answer["retryAfterMs"].as_u64().map(|ms| ms.to_string()).unwrap_or_default();
    format!("{},{},{wait}", answer["allowed"], answer["policyId"].as_str().unwrap_or_default())
}

/// The decisions of `tollgate simulate` on `trace` with `arguments`.
fn simulated(trace: &Path, arguments: &[&str]) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("decisions.csv");
    let mut command = tollgate(&folder);
    command.args(["simulate", "--trace"]).arg(trace).arg("--decisions").arg(&file).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let (rest, _) = line.rsplit_once(',').unwrap();
        rest.split_once(',').unwrap().1.to_owned()
    });
    rows.collect()
}

/// Sends 600 checks to `fixture`, writes them as a trace to `trace`, and returns what the server decided.
async fn serve(fixture: &Fixture, keys: &[&str], trace: &Path) -> Vec<String> {
    let mut client = fixture.client().await;
    let (mut text, mut decided, mut at_ms) = (HEADER.to_owned(), Vec::new(), 0);
    for number in 0..600 {
        at_ms += number * 37 % 211;
        let Sent { line, body } = sent(number, at_ms, keys);
        fixture.clock.set(Timestamp::from_ms(START_MS + at_ms));
        let answer = client.post("/rate-limit/check", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        decided.push(decision(&answer.json()));
        text.push_str(&line);
    }
    std::fs::write(trace, text).unwrap();
    decided
}

/// Asserts that both decided alike, and that the checks exercise what they should.
fn check_alike(served: &[String], simulated: &[String], policies: &[&str]) {
    assert_eq!(served.len(), simulated.len());
    for (number, (served, simulated)) in served.iter().zip(simulated).enumerate() {
        assert_eq!(served, simulated, "check {number}: serve and simulate");
    }
    for policy in policies {
        let denied = format!("false,{policy},");
        assert!(served.iter().any(|one| one.starts_with(&denied)), "{policy} denies nothing");
    }
}

const DENYING: [&str; 4] = ["default", "pro", "keys", "banned"];

#[tokio::test]
async fn simulate_decides_as_serve_does_with_the_same_document() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace.csv");
    let fixture = Fixture::start_with_policies(DOCUMENT).await;
    let served = serve(&fixture, &["", "key-one", "key-two"], &trace).await;
    let file = fixture.policy_file().display().to_string();
    check_alike(&served, &simulated(&trace, &["--policies", &file]), &DENYING);
    let url = format!("file:{file}");
    check_alike(&served, &simulated(&trace, &["--catalog", &url]), &[]);
}

#[tokio::test]
async fn simulate_decides_as_serve_does_with_the_same_catalog() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace.csv");
    let admin = Admin::start().await;
    let headers = [("content-type", "application/yaml")];
    let imported = admin.send("POST", "/admin/import", &headers, DOCUMENT).await;
    assert_eq!(imported.status, 200, "{}", imported.body);
    let mut keys = vec![String::new(), "unknown-key".to_owned()];
    for (id, tier) in [("one", None), ("two", Some("bulk")), ("gone", None)] {
        let body = json!({"id": id, "tenantId": "acme", "tier": tier, "revoked": id == "gone"});
        let made = admin.make("/admin/api-keys", body).await;
        keys.push(made["key"].as_str().unwrap().to_owned());
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let served = serve(&admin.fixture, &keys, &trace).await;
    let url = format!("sqlite:{}", admin.database().display());
    check_alike(&served, &simulated(&trace, &["--catalog", &url]), &["default", "banned"]);
    assert!(served.iter().any(|one| one == "false,,"), "no revoked key was denied");
}

#[test]
fn a_catalog_that_is_not_there_is_refused_and_not_made() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.csv"), "timestamp,userId,modelId\n").unwrap();
    for (url, says) in [
        ("sqlite:none.db", "none.db is not a file"),
        ("mysql://u:canary@h/d", "the scheme of the catalog is unknown"),
        ("file:none.yaml", "none.yaml"),
    ] {
        let mut command = tollgate(&folder);
        let output =
            command.args(["simulate", "--trace", "t.csv", "--catalog", url]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(says) && !error.contains("canary"), "{error}");
    }
    assert!(!folder.path().join("none.db").exists());
}

fn record(config: &mut ServeConfig, file: &Path, hash_ids: bool) {
    let (file, max_bytes) = (file.to_owned(), 1 << 20);
    config.record = Some(RecordConfig { file, sample_millionths: 1_000_000, max_bytes, hash_ids });
}

/// A recording is a trace: it replays with the policies of the server, and holds no API key.
#[tokio::test]
async fn what_a_server_records_can_be_simulated() {
    let folder = TempDir::new().unwrap();
    let (trace, recorded) = (folder.path().join("trace.csv"), folder.path().join("recorded.csv"));
    let fixture =
        Fixture::start_with_policies_and(DOCUMENT, |config| record(config, &recorded, false)).await;
    let served = serve(&fixture, &["", "canary-key-one", "canary-key-two"], &trace).await;
    let peeked = fixture.post("/rate-limit/peek", r#"{"userId":"peek","modelId":"m"}"#).await;
    assert_eq!(peeked.status, 200);
    let metrics = fixture.get("/metrics").await.body;
    assert!(metrics.contains("tollgate_record_lines_dropped_total 0"), "{metrics}");
    // Draining completes the file.
    assert!(fixture.server.drain().await);
    let text = std::fs::read_to_string(&recorded).unwrap();
    assert!(!text.contains("canary") && !text.contains("peek"), "{text}");
    // The recording has the time of the system; the checks came at the times of the trace.
    let trace = std::fs::read_to_string(&trace).unwrap();
    let times: Vec<_> = trace.lines().map(|line| line.split(',').next().unwrap()).collect();
    let lines = text.lines().zip(times).map(|(line, time)| {
        let rest = line.split_once(',').unwrap().1;
        format!("{time},{rest}\n")
    });
    std::fs::write(&recorded, lines.collect::<String>()).unwrap();
    let file = folder.path().join("policies.yaml");
    std::fs::write(&file, DOCUMENT).unwrap();
    check_alike(
        &served,
        &simulated(&recorded, &["--policies", &file.display().to_string()]),
        &DENYING,
    );
}

/// What leases used is in the recording, so that reservations can be compared with it.
#[tokio::test]
async fn what_leases_used_is_recorded_for_simulations_of_leases() {
    let folder = TempDir::new().unwrap();
    let recorded = folder.path().join("recorded.csv");
    let policies =
        "policies: [{id: out, scope: USER, unit: output_tokens, limit: 1000, windowSeconds: 60}]";
    let fixture =
        Fixture::start_with_policies_and(policies, |config| record(config, &recorded, false)).await;
    let mut client = fixture.client().await;
    for used in [30, 70, 100] {
        let body = json!({"userId": "ann", "modelId": "m", "cost": {"output_tokens": 90}});
        let reserved = client.post("/rate-limit/leases", &body.to_string()).await.json();
        let path = format!("/rate-limit/leases/{}", reserved["lease"]["id"].as_str().unwrap());
        let settle = json!({"seq": 1, "usage": {"output_tokens": used}}).to_string();
        assert_eq!(client.post(&format!("{path}/settle"), &settle).await.status, 200);
    }
    // Nobody settles this one, and this check is none.
    client.post("/rate-limit/leases", r#"{"userId":"bob","modelId":"m"}"#).await;
    client.post("/rate-limit/check", r#"{"userId":"bob","modelId":"m"}"#).await;
    assert!(fixture.server.drain().await);
    let (file, report) = (folder.path().join("policies.yaml"), folder.path().join("report.json"));
    std::fs::write(&file, policies).unwrap();
    let [trace, file, out] = [&recorded, &file, &report].map(|path| path.display().to_string());
    let arguments = [
        "simulate",
        "--trace",
        &trace,
        "--policies",
        &file,
        "--leases",
        "--reserve",
        "80",
        "--report",
        &out,
    ];
    let output = tollgate(&folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let leases = &report["leases"];
    assert_eq!((&leases["lines"], &leases["outputTokens"]), (&json!(3), &json!(200)), "{leases}");
    let cap =
        leases["reservations"].as_array().unwrap().iter().find(|one| one["reservation"] == "cap");
    assert_eq!(cap.unwrap()["reservedTokens"], 270, "{leases}");
}

#[tokio::test]
async fn a_recording_with_hashed_ids_names_nobody() {
    let folder = TempDir::new().unwrap();
    let recorded = folder.path().join("recorded.csv");
    let fixture =
        Fixture::start_with_policies_and(DOCUMENT, |config| record(config, &recorded, true)).await;
    let body = json!({"userId": "canary-u", "modelId": "gpt-4", "tenantId": "canary-t", "apiKey": "canary-k",
        "ip": "192.0.2.7", "requestId": "canary-r"});
    for _ in 0..2 {
        assert_eq!(fixture.post("/rate-limit/check", &body.to_string()).await.status, 200);
    }
    assert!(fixture.server.drain().await);
    let text = std::fs::read_to_string(&recorded).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(!text.contains("canary") && !text.contains("192.0.2.7"), "{text}");
    assert!(text.contains("gpt-4"), "{text}");
    let policies = folder.path().join("policies.yaml");
    std::fs::write(&policies, DOCUMENT).unwrap();
    assert_eq!(simulated(&recorded, &["--policies", &policies.display().to_string()]).len(), 2);
}

#[test]
fn settings_of_the_recording_are_checked() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    let clear = "timestamp,userId,modelId,tenantId,apiKeyId,service,ip,tier,modelTier,priority,requestId,attributes,costs,userTenantId,maxOutputTokens,outputTokens,durationMs\n\
                 1.5,ann,m,,,,,,,standard,,,,\n";
    std::fs::write(folder.path().join("clear.csv"), clear).unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["--record", "clear.csv", "--record-hash-ids"],
            1,
            "clear.csv cannot be written: it has ids in clear text",
        ),
        (&["--record-sample", "0.1"], 2, "--record-sample: is given without --record"),
        (&["--record", "r.csv", "--record-sample", "1.5"], 2, "accepted: a number from 0 to 1"),
        (&["--record", "r.csv", "--record-max-bytes", "5"], 2, "accepted: an integer from 65536"),
        (&["--record", "r.csv", "--record-hash-ids", "maybe"], 2, "--record-hash-ids"),
        (
            &["--record", "notes.txt"],
            1,
            "notes.txt cannot be written: it exists and is no recording",
        ),
    ];
    for (arguments, code, says) in cases {
        let mut command = tollgate(&folder);
        let serve = command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json"]);
        let output = serve.args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}
