//! The files that a simulation reads and writes.

mod common;

use common::{Fixture, policies};
use tollgate_simulate::run;
use tollgate_simulate::trace::TraceFormat;

const ONE_A_MINUTE: &str =
    "policies: [{id: 'a \"quoted\", id', scope: USER, limit: 1, windowSeconds: 60}]";

#[test]
fn the_decisions_have_one_line_for_each_check() {
    let trace = "timestamp,userId,modelId,cost.requests\n0,a,m,\n1.5,a,m,\n1.5,b,m,2\n60,a,m,\n";
    let fixture = Fixture::new(trace).with_outputs().verified();
    let report = fixture.run(&policies(ONE_A_MINUTE)).unwrap();
    let expected = "index,allowed,policyId,retryAfterMs,line\n\
         0,true,\"a \"\"quoted\"\", id\",0,2\n\
         1,false,\"a \"\"quoted\"\", id\",58500,3\n\
         2,false,\"a \"\"quoted\"\", id\",,4\n\
         3,true,\"a \"\"quoted\"\", id\",0,5\n";
    assert_eq!(fixture.read("decisions.csv"), expected);
    assert_eq!((report.reasons["limit_exceeded"], report.reasons["cost_exceeds_limit"]), (1, 1));
    assert_eq!(fixture.files(), ["decisions.csv", "report.json", "trace.csv"]);
}

/// R4: a check that meets no limit is allowed, without a policy.
#[test]
fn a_check_that_no_limit_meets_names_no_policy() {
    let fixture = Fixture::new("timestamp,userId,modelId\n0,a,m\n").with_outputs().verified();
    let tenants = "policies: [{id: tenants, scope: TENANT, limit: 0, windowSeconds: 60}]";
    let report = fixture.run(&policies(tenants)).unwrap();
    let expected = "index,allowed,policyId,retryAfterMs,line\n0,true,,0,2\n";
    assert_eq!(fixture.read("decisions.csv"), expected);
    assert_eq!((report.policies[0].checks, &report.worst_key), (0, &None));
}

#[test]
fn a_trace_without_checks_gives_an_empty_report() {
    let fixture = Fixture::new("timestamp,userId,modelId").with_outputs().verified();
    let report = fixture.run(&policies("")).unwrap();
    assert_eq!((report.checks, &report.trace.earliest_at, &report.worst_key), (0, &None, &None));
    assert_eq!(fixture.read("decisions.csv"), "index,allowed,policyId,retryAfterMs,line\n");
    assert!(report.to_string().contains("checks     0: admitted 0 (0.0 %), denied 0 (0.0 %)"));
}

#[test]
fn byte_order_marks_crlf_quotes_and_any_order_of_columns_are_read() {
    let trace = "\u{feff}\"modelId\",timestamp,userId,attributes.region\r\n\
         \"m, \"\"1\"\"\",2023-11-16T18:17:04Z,a,eu\r\n\r\n\"m, \"\"1\"\"\",1700158625,a,\"eu\"";
    let fixture = Fixture::new(trace).with_outputs();
    let by_region = "policies: [{id: p, per: [region, model], limit: 1, windowSeconds: 1.0}]";
    let report = fixture.run(&policies(by_region)).unwrap();
    // The second check comes when the first leaves the window.
    assert_eq!((report.checks, report.admitted), (2, 2));
    let key = &report.policies[0].peak.as_ref().unwrap().key;
    assert_eq!((key["region"].as_str(), key["model"].as_str()), ("eu", "m, \"1\""));
    assert!(report.trace.format_guessed);
}

#[test]
fn every_column_of_a_check_reaches_the_policies() {
    let trace = "timestamp,userId,modelId,tenantId,apiKey,service,ip,tier,modelTier,attributes.region,cost.images\n\
         0,u,m,t,k,s,203.0.113.7,free,small,eu,3\n0,u,m,,,,,,,,\n";
    let fixture = Fixture::new(trace).verified();
    let conditions = "match: {tier: free, modelTier: small, region: eu}";
    let per = "per: [user, model, tenant, apiKey, service, ip]";
    let yaml = format!(
        "policies: [{{id: p, {per}, {conditions}, unit: images, limit: 5, windowSeconds: 1}}]"
    );
    let report = fixture.run(&policies(&yaml)).unwrap();
    let policy = &report.policies[0];
    assert_eq!((report.checks, policy.checks, policy.peak.as_ref().unwrap().count), (2, 1, 3));
    let values: Vec<_> = policy.peak.as_ref().unwrap().key.values().map(String::as_str).collect();
    assert_eq!(values, ["k", "203.0.113.7", "m", "s", "t", "u"]);
}

/// R8: an address is one key, however it is written.
#[test]
fn an_ipv6_address_is_one_key_in_all_its_forms() {
    let trace = "timestamp,userId,modelId,ip\n\
         0,a,m,2001:db8::1\n0,b,m,2001:0DB8:0:0:0:0:0:1\n0,c,m,::ffff:203.0.113.7\n0,d,m,203.0.113.7\n";
    let fixture = Fixture::new(trace).verified();
    let by_ip = "policies: [{id: p, scope: IP, limit: 1, windowSeconds: 60}]";
    let report = fixture.run(&policies(by_ip)).unwrap();
    assert_eq!((report.admitted, report.denied, report.keys_held), (2, 2, 2));
}

/// Servers write their lines a little out of order: each is decided at its own time.
#[test]
fn lines_out_of_order_are_decided_in_the_order_of_their_times() {
    let trace = "timestamp,userId,modelId\n100,a,m\n161,b,m\n40,a,m\n160,a,m\n161,a,m\n221,a,m\n";
    let fixture = Fixture::new(trace).with_outputs().verified();
    let report = fixture.run(&policies(ONE_A_MINUTE)).unwrap();
    assert_eq!(report.trace.lines_reordered, 2);
    assert_eq!(report.trace.duration_seconds.as_ns(), 181_000_000_000);
    assert_eq!(report.trace.virtual_seconds.as_ns(), 181_000_000_000);
    let decisions = fixture.read("decisions.csv");
    let allowed: Vec<_> = decisions.lines().skip(1).map(|line| line.contains("true")).collect();
    assert_eq!(allowed, [true, true, true, true, false, true]);
    let lines: Vec<_> =
        decisions.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(lines, ["4", "2", "5", "3", "6", "7"]);
    assert!(report.to_string().contains("2 lines are earlier than one before them"));
}

#[test]
fn a_line_far_behind_its_turn_is_refused_with_its_number() {
    let lines = |count: usize| "100,a,m\n".repeat(count);
    let trace = |before: usize| format!("timestamp,userId,modelId\n{}50,b,m\n", lines(before));
    let most = tollgate_simulate::trace::MAX_READ_AHEAD;
    let fixture = Fixture::new(trace(most - 1)).with_outputs();
    assert_eq!(fixture.run(&policies("")).unwrap().trace.lines_reordered, 1);
    let fixture = Fixture::new(trace(most + 5)).with_outputs();
    let error = fixture.run(&policies("")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let error = error.to_string();
    let place = format!("trace.csv:{}: timestamp: is before the time of line", most + 7);
    assert!(error.contains(&place), "{error}");
    assert!(
        error.contains("accepted: lines at most 100000 lines later than their turn"),
        "{error}"
    );
}

#[test]
fn a_run_that_fails_leaves_the_files_of_the_last_one() {
    let trace = "timestamp,userId,modelId\n0,a,m\n1,a,m\n";
    let fixture = Fixture::new(trace).with_outputs();
    fixture.run(&policies("")).unwrap();
    let before = (fixture.read("report.json"), fixture.read("decisions.csv"));
    let many = "0,a,m\n".repeat(10_000);
    std::fs::write(&fixture.args.trace, format!("{trace}{many}1,a\n")).unwrap();
    fixture.run(&policies("")).unwrap_err();
    assert_eq!((fixture.read("report.json"), fixture.read("decisions.csv")), before);
    assert_eq!(fixture.files(), ["decisions.csv", "report.json", "trace.csv"]);
}

#[test]
fn outputs_may_not_replace_inputs_devices_or_each_other() {
    let policies = policies("");
    let fixture = || Fixture::new("timestamp,userId,modelId\n0,a,m\n").with_outputs();
    let check = |fixture: &Fixture, flag: &str, problem: &str| {
        let error = fixture.run(&policies).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(flag) && message.contains(problem), "{message}");
        assert_eq!(error.exit_code(), 2);
        assert_eq!(fixture.files(), ["trace.csv"]);
    };
    let mut same = fixture();
    same.args.decisions = same.args.report.clone();
    check(&same, "--decisions: ", "is the file of --report; accepted: ");
    let mut input = fixture();
    input.args.report = Some(input.path("./trace.csv"));
    check(&input, "--report: ", "is the file of --trace; accepted: ");
    let mut device = fixture();
    device.args.report = Some("/dev/null".into());
    check(&device, "--report: ", "/dev/null is not a regular file; accepted: ");
}

#[test]
fn an_output_in_a_directory_that_is_not_there_is_refused_before_the_replay() {
    let mut fixture = Fixture::new("timestamp,userId,modelId\n0,a,m\nnot read\n");
    fixture.args.report = Some(fixture.path("missing/report.json"));
    let error = fixture.run(&policies("")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot write {}", fixture.path("missing/report.json").display())
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn the_report_is_json_with_the_words_of_the_api() {
    let trace = "timestamp,userId,modelId\n0,a,m\n0.5,a,m\n";
    let mut fixture = Fixture::new(trace).with_outputs().verified();
    fixture.args.format = Some(TraceFormat::Csv);
    fixture.run(&policies(ONE_A_MINUTE)).unwrap();
    let mut report: serde_json::Value = serde_json::from_str(&fixture.read("report.json")).unwrap();
    report.as_object_mut().unwrap().remove("timing").unwrap();
    let expected = serde_json::json!({
        "trace": {
            "file": fixture.args.trace, "format": "csv", "formatGuessed": false, "users": null, "seed": null,
            "earliestAt": "1970-01-01T00:00:00Z", "latestAt": "1970-01-01T00:00:00.5Z",
            "durationSeconds": 0.5, "virtualSeconds": 0.5, "linesReordered": 0,
        },
        "policiesFile": null, "checks": 2, "admitted": 1, "denied": 1,
        "reasons":
            {"limit_exceeded": 1, "cost_exceeds_limit": 0, "banned": 0, "store_unavailable": 0},
        "policies": [{
            "policyId": "a \"quoted\", id", "scope": "USER", "unit": "requests",
            "algorithm": "sliding_window_log", "mode": "enforce", "limit": 1, "windowSeconds": 60,
            "checks": 2, "admitted": 1, "denied": 1, "headlineDenials": 1, "wouldDeny": 0,
            "peak": {"count": 1, "perMille": 1000, "key": {"user": "a"}, "at": "1970-01-01T00:00:00Z"},
        }],
        "worstKey": {"policyId": "a \"quoted\", id", "key": {"user": "a"}, "denied": 1},
        "keysHeld": 1, "keysEvicted": 0, "verified": true,
    });
    assert_eq!(report, expected);
}

#[test]
fn the_policies_come_from_the_policy_file_and_the_report_reads_well() {
    let mut fixture = Fixture::new("timestamp,userId,modelId\n0,a,m\n1,a,m\n");
    let path = fixture.path("policies.yaml");
    std::fs::write(&path, ONE_A_MINUTE).unwrap();
    fixture.args.policies = Some(path.clone());
    let printed = run(&fixture.args).unwrap().to_string();
    assert!(printed.contains(&format!("policies   {}\n", path.display())), "{printed}");
    assert!(
        printed.contains("checks     2: admitted 1 (50.0 %), denied 1 (50.0 %)\n"),
        "{printed}"
    );
}

#[test]
fn an_invalid_policy_file_is_refused_with_its_line_before_anything_is_written() {
    let mut fixture = Fixture::new("timestamp,userId,modelId\n0,a,m\n").with_outputs();
    let path = fixture.path("policies.yaml");
    std::fs::write(&path, "policies:\n  - {id: p, scope: USER, limit: -1, windowSeconds: 1}\n")
        .unwrap();
    fixture.args.policies = Some(path.clone());
    let error = run(&fixture.args).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(&format!("{}:2:", path.display())), "{message}");
    assert!(message.contains("; accepted: "), "{message}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(fixture.files(), ["policies.yaml", "trace.csv"]);
}
