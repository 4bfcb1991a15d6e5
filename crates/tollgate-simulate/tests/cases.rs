//! Test files: what they decide, how they show a difference, and how they refuse what they cannot read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use tollgate_core::{Check, Timestamp};
use tollgate_simulate::{Replay, TestArgs, TestReport, test};

const POLICIES: &str = "
tiers: [{id: pro}]
tenants: [{id: acme, tier: pro}]
users: [{id: ann, tenantId: acme}]
policies:
  - {id: per-minute, scope: USER, limit: 3, window: 1m}
  - {id: pro, scope: USER, match: {tier: pro}, limit: 5, window: 1m}
  - {id: pool, scope: GLOBAL, limit: 4, window: 1h, mode: shadow}
  - {id: tokens, scope: USER, unit: output_tokens, limit: 100, window: 1m, reserve: {output_tokens: {atMost: 60}}}
  - {id: slots, scope: USER, unit: concurrency, limit: 2}
  - {id: day, scope: TENANT, limit: 10, calendar: day, timeZone: Europe/Berlin}
";

/// The results of the test file `text`, beside `policies.yaml`.
fn tested(text: &str) -> (TempDir, TestReport) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policies.yaml"), POLICIES).unwrap();
    let file = dir.path().join("cases.yaml");
    std::fs::write(&file, text).unwrap();
    let report = test(&TestArgs { files: vec![file], policies: None, json: false });
    (dir, report)
}

/// The cases of `policies.yaml`, all of which must pass.
#[track_caller]
fn passes(cases: &str) {
    let (_dir, report) = tested(&format!("policies: policies.yaml\ncases:\n{cases}"));
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!((report.failed, report.exit_code()), (0, 0), "{report}");
    assert!(report.passed > 0);
}

#[test]
fn checks_are_decided_as_by_a_server_that_has_just_started() {
    passes("
  - name: the window slides
    given: [{userId: bob, times: 2, ago: 59s}, {userId: bob, ago: 1m}]
    check: {userId: bob}
    expect: {allowed: true, policyId: per-minute, count: 3, remaining: 0, scope: USER, unit: requests}
  - name: a given check with another order in the file is earlier all the same
    given: [{userId: bob, times: 2}, {userId: bob, ago: 10s}]
    check: {userId: bob}
    expect: {allowed: false, reason: limit_exceeded, retryAfterMs: 50000, resetAfterMs: 60000}
  - name: the catalog gives ann her tenant's tier
    given: [{userId: ann, times: 4}]
    check: {userId: ann}
    expect: {allowed: true, policyId: pro, limit: 5}
  - name: a limit in shadow mode takes part and does not deny
    given: [{userId: bob, times: 3}, {userId: cleo, times: 1}]
    check: {userId: dan, cost: {requests: 2}}
    expect: {allowed: true, limits: [{policyId: per-minute}, {policyId: pool, allowed: false, count: 4}, {policyId: tokens}, {policyId: slots}]}
");
}

#[test]
fn reservations_hold_slots_reserve_by_the_policies_and_are_settled() {
    passes("
  - name: two leases hold both slots
    given: [{userId: bob, reserve: true, cost: {output_tokens: 1}, times: 2}]
    check: {userId: bob, reserve: true}
    expect: {allowed: false, policyId: slots, unit: concurrency}
  - name: a lease that has expired holds none
    given: [{userId: bob, reserve: true, ttlMs: 1000, cost: {output_tokens: 1}, times: 2, ago: 2s}]
    check: {userId: bob, reserve: true, cost: {output_tokens: 1}}
    expect: {allowed: true}
  - name: a policy reserves what the check does not name
    given: [{userId: bob, reserve: true, ago: 1s}]
    check: {userId: bob, reserve: true}
    expect: {allowed: false, policyId: tokens, count: 60}
  - name: what was not used is given back
    given: [{userId: bob, reserve: true, settle: {output_tokens: 20}, ago: 1s}]
    check: {userId: bob, reserve: true, cost: {output_tokens: 80}}
    expect: {allowed: true, limits: [{policyId: per-minute}, {policyId: pool}, {policyId: tokens, count: 100}, {policyId: slots, count: 1}]}
");
}

#[test]
fn calendars_and_absolute_times_and_request_ids_count() {
    passes(
        "
  - name: a day ends at midnight in Berlin
    at: 2026-01-14T23:00:00Z
    given: [{tenantId: umbrella, times: 10, at: '2026-01-14T22:59:59.999Z'}]
    check: {tenantId: umbrella}
    expect: {allowed: true, limits: [{policyId: pool, allowed: false}, {policyId: day, count: 1}]}
  - name: a request id counts once
    given: [{userId: bob, requestId: r, times: 9}]
    check: {userId: bob}
    expect: {allowed: true, count: 2}
  - name: nothing limits a service
    check: {service: chat}
    expect: {allowed: true, limits: [{policyId: pool}]}
",
    );
}

#[test]
fn a_case_that_fails_shows_each_field_and_what_took_part() {
    let (dir, report) = tested("
policies: policies.yaml
cases:
  - name: passes
    check: {userId: bob}
    expect: {allowed: true}
  - name: the fourth
    given: [{userId: bob, times: 5, ago: 20s}]
    check: {userId: bob, cost: {output_tokens: 101}}
    expect:
      allowed: true
      retryAfterMs: 0
      limits: [{policyId: per-minute, count: 3}, {policyId: other}, {policyId: pool}, {policyId: tokens, allowed: true}]
");
    assert_eq!((report.passed, report.failed, report.exit_code()), (1, 1, 1));
    let shown = report.to_string().replace(&format!("{}/", dir.path().display()), "");
    let expected = "cases.yaml, with policies.yaml
  ok    passes
  FAIL  the fourth (line 7)
        field                   expected              got
        allowed                 true                  false
        retryAfterMs            0                     null
        limits[other]           \"takes part\"          \"does not take part\"
        limits[tokens].allowed  true                  false
        limits[slots]           \"does not take part\"  \"takes part\"
        limits: per-minute 3 of 3 requests, denies; pool 3 of 4 requests; tokens 0 of 100 output_tokens, denies; slots 0 of 2 concurrency
        given[0]: 2 of 5 checks were denied, by per-minute

cases: 2, passed: 1, failed: 1
";
    assert_eq!(shown, expected);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let case = &json["files"][0]["cases"][1];
    assert_eq!((&case["passed"], &case["line"]), (&false.into(), &7.into()));
    assert_eq!(case["differences"][1]["got"], serde_json::Value::Null);
    assert_eq!(case["limits"][1]["mode"], "shadow");
}

/// Each text is refused with a message that has the part beside it.
#[track_caller]
fn refused(cases: &[(String, &str)]) {
    for (text, says) in cases {
        let (_dir, report) = tested(text);
        assert_eq!(report.errors.len(), 1, "{text}: {report}");
        let error = &report.errors[0];
        assert!(error.to_string().contains(says), "{says:?} is not in {error}");
        assert_eq!((error.exit_code(), report.exit_code()), (2, 2));
    }
}

const ALLOWED: &str = "{allowed: true}";

/// The file with a case of `check` and `expect`.
fn case(check: &str, expect: &str) -> String {
    format!("policies: policies.yaml\ncases: [{{name: a, check: {check}, expect: {expect}}}]\n")
}

/// The file with a case before which `given` came.
fn given(given: &str) -> String {
    let given = format!("given: [{given}], check: {{userId: a}}, expect: {{allowed: true}}");
    format!("policies: policies.yaml\ncases: [{{name: a, {given}}}]\n")
}

#[test]
fn bad_files_and_expectations_are_refused_with_their_place() {
    refused(&[
        (String::new(), "cases.yaml: is empty; accepted: a map with `policies`"),
        ("# nothing yet\n".to_owned(), "cases.yaml: is empty; accepted: a map with `policies`"),
        ("null".to_owned(), "cases.yaml: is empty; accepted: a map with `policies`"),
        ("[]".to_owned(), "1:1: is a list; accepted: a map with `policies`"),
        ("cases: [".to_owned(), "1:8: is not YAML"),
        ("cases: []".to_owned(), "1:1: policies: is missing; accepted: the path of a policy file"),
        ("policies: p\ncases: []".to_owned(), "2:8: cases: is empty; accepted: a list of cases"),
        (
            "policies: p\nx-notes: 1\ncase: 1".to_owned(),
            "3:1: case: is not a field (did you mean `cases`?)",
        ),
        ("policies: [p]\ncases: 1".to_owned(), "1:11: policies: is a list; accepted: the path"),
        (
            "policies: p\nunknownApiKeys: dny\ncases: 1".to_owned(),
            "unknownApiKeys: \"dny\" is not accepted (did you mean `deny`?)",
        ),
        (case("{userId: a}", "{}"), "cases[0].expect: expects nothing; accepted: "),
        (
            case("{userId: a}", "{alowed: true}"),
            "cases[0].expect.alowed: is not a field (did you mean `allowed`?); accepted: `allowed`, ",
        ),
        (
            case("{userId: a}", "{allowed: 1}"),
            "cases[0].expect.allowed: 1 is a number; accepted: `true` or `false`",
        ),
        (case("{userId: a}", "{limit: -1}"), "cases[0].expect.limit: -1 is negative; accepted: "),
        (
            case("{userId: a}", "{reason: ban}"),
            "cases[0].expect.reason: \"ban\" is not a reason; accepted: `limit_exceeded`",
        ),
        (case("{userId: a}", "{limits: [{}]}"), "cases[0].expect.limits[0].policyId: is missing"),
        (
            case("{userId: a}", "{limits: [{policyId: a}, {policyId: a}]}"),
            "cases[0].expect.limits[1]: names \"a\" again",
        ),
    ]);
}

#[test]
fn bad_checks_are_refused_with_their_place() {
    refused(&[
        (
            case("{user: a}", ALLOWED),
            "cases[0].check.user: is not a field (did you mean `userId`?)",
        ),
        (case("{}", ALLOWED), "cases[0].check: names no subject; accepted: at least one of userId"),
        (case("{userId: 5}", ALLOWED), "cases[0].check.userId: 5 is a number; accepted: "),
        (case("{userId: ''}", ALLOWED), "cases[0].check.userId: is empty; accepted: "),
        (case("{ip: 1.2.3}", ALLOWED), "cases[0].check.ip: \"1.2.3\" is not an IP address"),
        (
            case("{userId: a, cost: {tokens: 1.5}}", ALLOWED),
            "cases[0].check.cost.tokens: 1.5 is not written as an integer; accepted: ",
        ),
        (
            case("{userId: a, cost: {Tokens: 1}}", ALLOWED),
            "cases[0].check.cost.Tokens: is not a unit of costs; accepted: ",
        ),
        (
            case("{userId: a, cost: {concurrency: 1}}", ALLOWED),
            "cases[0].check.cost.concurrency: is not a unit of costs",
        ),
        (
            case("{userId: a, attributes: {user: b}}", ALLOWED),
            "cases[0].check.attributes.user: is not the name of an attribute",
        ),
        (
            case("{userId: a, attributes: [b]}", ALLOWED),
            "cases[0].check.attributes: is a list; accepted: a map",
        ),
        (case("{userId: a, ttlMs: 5}", ALLOWED), "cases[0].check.ttlMs: is only of a reservation"),
        (
            case("{userId: a, reserve: true, ttlMs: 5}", ALLOWED),
            "cases[0].check.ttlMs: 5 is out of range; accepted: an integer from 100",
        ),
        (case("{userId: a, times: 2}", ALLOWED), "cases[0].check.times: is not a field"),
        (
            given("{userId: a, agoo: 1s}"),
            "cases[0].given[0].agoo: is not a field (did you mean `ago`?)",
        ),
        (
            given("{userId: a, ago: 1}"),
            "cases[0].given[0].ago: 1 is a number; accepted: a duration",
        ),
        (
            given("{userId: a, ago: 1s, at: 3}"),
            "cases[0].given[0].at: is given beside ago; accepted: one of ago and at",
        ),
        (
            given("{userId: a, at: tomorrow}"),
            "cases[0].given[0].at: is \"tomorrow\"; accepted: seconds since",
        ),
        (
            given("{userId: a, at: '2030-01-01T00:00:00Z'}"),
            "cases[0].given[0].at: is after the check",
        ),
        (
            given("{userId: a, times: 1000001}"),
            "cases[0].given[0].times: 1000001 is out of range; accepted: an integer from 0 to 1000000",
        ),
        (
            given("{userId: a, settle: {tokens: 1}}"),
            "cases[0].given[0].settle: is only of a reservation",
        ),
        (
            given("5"),
            "cases[0].given[0]: 5 is a number; accepted: a map with the fields of a check",
        ),
        (
            "policies: nope.yaml\ncases: [{name: a, check: {userId: a}, expect: {allowed: true}}]"
                .to_owned(),
            "nope.yaml: cannot be read",
        ),
    ]);
}

/// Each number of a test file: its place, the least and the greatest that is accepted, what is beyond them, and the message.
#[test]
fn numbers_are_accepted_up_to_their_bounds_and_refused_with_them_beyond() {
    const AMOUNTS: (&str, &str) = ("0", "9007199254740991");
    let amounts = "an integer from 0 to 9007199254740991";
    let numbers = "an integer from 0 to 9007199254740991, or null";
    let mut fields = vec![
        (given("{userId: a, times: N}"), ("0", "1000000"), "an integer from 0 to 1000000"),
        (
            given("{userId: a, reserve: true, ttlMs: N}"),
            ("100", "3600000"),
            "an integer from 100 to 3600000 (milliseconds)",
        ),
        (
            case("{userId: a, reserve: true, ttlMs: N}", ALLOWED),
            ("100", "3600000"),
            "an integer from 100 to 3600000 (milliseconds)",
        ),
        (case("{userId: a, cost: {tokens: N}}", ALLOWED), AMOUNTS, amounts),
        (given("{userId: a, reserve: true, settle: {tokens: N}}"), AMOUNTS, amounts),
    ];
    for field in ["limit", "count", "remaining", "retryAfterMs", "resetAfterMs"] {
        fields.push((case("{userId: a}", &format!("{{{field}: N}}")), AMOUNTS, numbers));
        let limits = format!("{{limits: [{{policyId: p, {field}: N}}]}}");
        fields.push((case("{userId: a}", &limits), AMOUNTS, numbers));
    }
    for (text, (least, greatest), accepted) in fields {
        // Only the policy file, which is not there, is refused: the number was read.
        let with = |number: &str| text.replace('N', number).replace("policies.yaml", "none.yaml");
        for good in [least, greatest] {
            refused(&[(with(good), "none.yaml: cannot be read")]);
        }
        let below = (least.parse::<i64>().unwrap() - 1).to_string();
        let above = (greatest.parse::<i64>().unwrap() + 1).to_string();
        for bad in [below.as_str(), "-1", "1.5", "many", &above, "99999999999999999999"] {
            refused(&[(with(bad), &format!("; accepted: {accepted}"))]);
        }
    }
    let durations = "; accepted: a duration from 1ms to 366d";
    let times = "; accepted: seconds since 1970-01-01T00:00:00Z with at most 9 decimals";
    let at = |at: &str| given("{userId: a, at: 0}").replace("check:", &format!("at: {at}, check:"));
    for (text, says) in [
        (given("{userId: a, ago: 0ms}"), durations),
        (given("{userId: a, ago: 1ms}"), "none.yaml: cannot be read"),
        (given("{userId: a, ago: 366d}"), "none.yaml: cannot be read"),
        (given("{userId: a, ago: 366d1ms}"), durations),
        (at("-1"), times),
        (at("0"), "none.yaml: cannot be read"),
        (at("16725225600"), "none.yaml: cannot be read"),
        (at("16725225600.000000001"), times),
    ] {
        refused(&[(text.replace("policies.yaml", "none.yaml"), says)]);
    }
}

#[test]
fn another_policy_file_can_take_the_place_of_the_named_one() {
    let (dir, report) =
        tested("cases: [{name: a, check: {userId: a}, expect: {allowed: false, reason: banned}}]");
    assert_eq!(report.exit_code(), 2);
    let candidate = dir.path().join("candidate.yaml");
    std::fs::write(&candidate, "policies: [{id: none, scope: USER, limit: 0, window: 1m}]")
        .unwrap();
    let files = vec![dir.path().join("cases.yaml")];
    let report = test(&TestArgs { files, policies: Some(candidate), json: false });
    assert_eq!(report.exit_code(), 0, "{report}");
}

#[test]
fn the_examples_pass() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies");
    let entries = std::fs::read_dir(examples).unwrap();
    let files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".test.yaml"))
        .collect();
    assert!(!files.is_empty());
    let report = test(&TestArgs { files, policies: None, json: false });
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(report.exit_code(), 0, "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A case decides what a replay of its checks decides.
    #[test]
    fn a_case_agrees_with_a_replay(
        limits in prop::collection::vec((0..6_u64, 1..90_u32), 1..4),
        given in prop::collection::vec((0..2_u8, 1..4_u32, 1..120_u64), 0..6),
    ) {
        let mut policies = "policies:\n".to_owned();
        for (index, (limit, seconds)) in limits.iter().enumerate() {
            let scope = if index % 2 == 0 { "USER" } else { "GLOBAL" };
            writeln!(policies, "  - {{id: p{index}, scope: {scope}, limit: {limit}, windowSeconds: {seconds}}}").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("policies.yaml"), &policies).unwrap();
        let set = tollgate_catalog::policy_file::load(&dir.path().join("policies.yaml")).unwrap();
        let mut replay = Replay::new(&set);
        let start = Timestamp::from_ms(1_767_225_600_000);
        let mut sorted = given.clone();
        sorted.sort_by_key(|(_, _, seconds)| std::cmp::Reverse(*seconds));
        for (user, times, seconds) in &sorted {
            replay.advance_to(start.before(std::time::Duration::from_secs(*seconds)));
            let user = format!("u{user}");
            for _ in 0..*times {
                replay.decide(&Check::new(&user, "m"));
            }
        }
        replay.advance_to(start);
        let check = Check::new("u0", "m");
        let (_, decision) = replay.decide(&check);
        let headline = decision.headline().unwrap();
        let wait = decision.retry_after_ms().map_or("null".to_owned(), |ms| ms.to_string());
        let given: Vec<_> = given
            .iter()
            .map(|(user, times, seconds)| format!("{{userId: u{user}, modelId: m, times: {times}, ago: {seconds}s}}"))
            .collect();
        let limits: Vec<_> = decision
            .limits()
            .iter()
            .map(|one| format!("{{policyId: {}, count: {}, resetAfterMs: {}}}", one.limit.policy_id(), one.count, one.reset_after_ms))
            .collect();
        let text = format!(
            "policies: policies.yaml\ncases:\n  - name: one\n    given: [{}]\n    check: {{userId: u0, modelId: m}}\n    \
             expect: {{allowed: {}, policyId: {}, retryAfterMs: {wait}, limits: [{}]}}\n",
            given.join(", "), decision.allowed(), headline.limit.policy_id(), limits.join(", "),
        );
        let file = dir.path().join("cases.yaml");
        std::fs::write(&file, text).unwrap();
        let report = test(&TestArgs { files: vec![file], policies: None, json: false });
        prop_assert_eq!(report.exit_code(), 0, "{}\n{:?}", report, report.errors);
    }
}
