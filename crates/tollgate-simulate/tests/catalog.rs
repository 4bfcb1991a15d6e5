//! A simulation completes checks from its document, as a server does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Fixture;
use tollgate_simulate::run;

const DOCUMENT: &str = "
tiers: [{id: pro, priority: premium}, {id: bulk, priority: batch}]
modelTiers: [{id: large}]
models: [{id: gpt-4, modelTier: large}]
tenants: [{id: acme, tier: pro}]
users: [{id: ann, tenantId: acme}, {id: bob, tenantId: acme, tier: bulk}]
policies:
  - {id: default, scope: USER, limit: 1, window: 1m}
  - {id: pro, scope: USER, match: {tier: pro}, limit: 3, window: 1m}
  - {id: large, scope: MODEL_TIER, limit: 4, window: 1h}
  - {id: tenant, scope: TENANT, limit: 100, window: 1h, shares: {batch: 0.01}}
  - {id: keys, scope: API_KEY, limit: 2, window: 1m}
";

/// The lines that say `allowed`, of the simulation of `trace` with `DOCUMENT`.
fn allowed(trace: &str, change: impl FnOnce(&mut Fixture)) -> (String, tollgate_simulate::Report) {
    let mut fixture = Fixture::new(trace).with_outputs();
    std::fs::write(fixture.path("policies.yaml"), DOCUMENT).unwrap();
    fixture.args.policies = Some(fixture.path("policies.yaml"));
    change(&mut fixture);
    let report = run(&fixture.args).unwrap();
    let decisions = fixture.read("decisions.csv");
    let rows = decisions.lines().skip(1).map(|line| {
        let cells: Vec<_> = line.split(',').collect();
        format!("{}{}", if cells[1] == "true" { "+" } else { "-" }, cells[2])
    });
    (rows.collect::<Vec<_>>().join(" "), report)
}

/// P10: policies for tiers, tenants and model tiers meet the checks of users and models that the document lists.
#[test]
fn tiers_tenants_and_model_tiers_come_from_the_document() {
    let ann = "0,ann,m,acme\n".repeat(4);
    let trace = format!(
        "timestamp,userId,modelId,tenantId\n{ann}1,bob,m,acme\n1,stranger,gpt-4,\n1,stranger,m,\n"
    );
    let (rows, report) = allowed(&trace, |fixture| fixture.args.verify = true);
    assert_eq!(rows, "+pro +pro +pro -pro -tenant +default -default");
    let checks: Vec<_> = report.policies.iter().map(|one| (&*one.policy_id, one.checks)).collect();
    assert_eq!(checks, [("default", 3), ("pro", 4), ("large", 1), ("tenant", 5), ("keys", 0)]);
}

#[test]
fn api_keys_count_under_their_hash_or_are_denied() {
    let trace =
        "timestamp,userId,modelId,apiKey\n0,a,m,key-1\n0,b,m,key-1\n0,c,m,key-1\n0,d,m,key-2\n";
    let (rows, _) = allowed(trace, |_| {});
    assert_eq!(rows, "+default +default -keys +default");
    let (rows, report) =
        allowed(trace, |fixture| fixture.args.unknown_api_keys = Some("deny".to_owned()));
    assert_eq!(rows, "- - - -");
    assert_eq!(report.reasons.get("api_key_unknown"), Some(&4));
}

/// A recorded check keeps the class, the tier and the key's id that the server found.
#[test]
fn a_line_with_a_priority_is_not_completed_again() {
    let trace = "timestamp,userId,modelId,apiKeyId,tier,priority,requestId\n\
                 0,ann,m,k,bulk,batch,\n0,ann,m,k,bulk,batch,\n0,bob,m,,pro,standard,r1\n0,bob,m,,pro,standard,r1\n";
    let (rows, report) = allowed(trace, |_| {});
    assert_eq!(rows, "+default -default +pro +pro");
    // Sent again with its request id, the check is charged once.
    let pro = report.policies.iter().find(|one| one.policy_id == "pro").unwrap();
    assert_eq!(pro.peak.as_ref().unwrap().count, 1);
}

#[test]
fn attributes_and_costs_may_be_json_objects() {
    let trace = "timestamp,userId,modelId,attributes,costs\n\
                 0,a,m,\"{\"\"region\"\":\"\"eu\"\"}\",\"{\"\"tokens\"\":7}\"\n0,a,m,,\n";
    let document = "policies: [{id: eu, per: [region], unit: tokens, limit: 10, window: 1m}]";
    let mut fixture = Fixture::new(trace).with_outputs();
    std::fs::write(fixture.path("policies.yaml"), document).unwrap();
    fixture.args.catalog = Some(format!("file:{}", fixture.path("policies.yaml").display()));
    let report = run(&fixture.args).unwrap();
    assert_eq!(
        (report.policies[0].checks, report.policies[0].peak.as_ref().unwrap().count),
        (1, 7)
    );
    for (cell, says) in [
        ("{}x", "is \"{}x\""),
        ("{\"\"user\"\":\"\"x\"\"}", "names the attribute \"user\""),
        ("{\"\"a\"\":5}", "a JSON object of texts"),
    ] {
        let trace = format!("timestamp,userId,modelId,attributes\n0,a,m,\"{cell}\"\n");
        std::fs::write(&fixture.args.trace, trace).unwrap();
        let error = run(&fixture.args).unwrap_err().to_string();
        assert!(error.contains("trace.csv:2: attributes: ") && error.contains(says), "{error}");
    }
    let trace = "timestamp,userId,costs\n0,a,\"{\"\"concurrency\"\":1}\"\n";
    std::fs::write(&fixture.args.trace, trace).unwrap();
    let error = run(&fixture.args).unwrap_err().to_string();
    let says =
        "trace.csv:2: costs: names \"concurrency\", which has no cost: a lease holds one slot";
    assert!(error.contains(says), "{error}");
}

/// R16: a trace has no leases, so its checks meet a limit of concurrency that nobody uses.
#[test]
fn a_limit_of_concurrency_admits_every_check() {
    let policies = "policies: [{id: slots, scope: USER, unit: concurrency, limit: 1}]";
    let (rows, report) = allowed("timestamp,userId\n0,a\n0,a\n", |fixture| {
        std::fs::write(fixture.path("policies.yaml"), policies).unwrap();
        fixture.args.verify = true;
    });
    assert_eq!(rows, "+slots +slots");
    let text = report.to_string();
    assert!(text.contains("1 leases at a time"), "{text}");
}

#[test]
fn a_trace_with_request_ids_cannot_be_verified() {
    let mut fixture = Fixture::new("timestamp,userId,modelId,requestId\n0,a,m,r\n");
    fixture.args.verify = true;
    let error = run(&fixture.args).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("--verify: the reference model knows no request ids"));
}

/// Every column of the tables is explained.
#[test]
fn the_report_explains_its_columns() {
    let (_, report) = allowed("timestamp,userId,modelId\n0,a,m\n", |_| {});
    let text = report.to_string();
    for column in [
        "checks",
        "admitted",
        "denied",
        "would deny",
        "peak usage",
        "of its limit",
        "whose",
        "when",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{column} "))),
            "{column}\n{text}"
        );
    }
}
