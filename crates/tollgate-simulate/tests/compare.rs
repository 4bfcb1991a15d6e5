//! Comparisons of two policy files: their sums are those of two simulations, and a set does not differ from itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::{Fixture, azure};
use proptest::prelude::*;
use tollgate_simulate::{
    ComparisonReport, DiffArgs, LosingGaining, PolicyStatus, SimulateError, SubjectReport, diff,
    run,
};

/// Two policy files beside a trace.
struct Files {
    fixture: Fixture,
}

impl Files {
    fn new(trace: &str, old: &str, new: &str) -> Self {
        let fixture = Fixture::new(trace);
        std::fs::write(fixture.path("old.yaml"), old).unwrap();
        std::fs::write(fixture.path("new.yaml"), new).unwrap();
        Self { fixture }
    }

    fn args(&self, old: &str, new: &str) -> DiffArgs {
        let path = |name: &str| self.fixture.path(name);
        args(path(old), path(new), self.fixture.args.trace.clone())
    }

    fn diff(&self) -> Result<ComparisonReport, Vec<SimulateError>> {
        diff(&self.args("old.yaml", "new.yaml"))
    }
}

fn args(old: PathBuf, new: PathBuf, trace: PathBuf) -> DiffArgs {
    DiffArgs {
        old,
        new,
        trace,
        format: None,
        users: None,
        seed: None,
        unknown_api_keys: None,
        top: None,
        json: false,
    }
}

const TRACE: &str = "timestamp,userId,modelId,tenantId,apiKey,cost.tokens
0,ann,m,acme,secret-1,10
1,ann,m,acme,secret-1,10
2,ann,m,umbrella,secret-2,10
3,bob,m,,,7
4,bob,n,,,7
5,bob,n,,,7
";

#[test]
fn who_loses_and_who_gains_is_told_with_the_policy_and_the_time() {
    let files = Files::new(
        TRACE,
        "policies: [{id: a, scope: USER, limit: 2, window: 1m}, {id: gone, scope: GLOBAL, limit: 99, window: 1m}]",
        "policies: [{id: a, scope: USER, limit: 9, window: 1m}, {id: acme, scope: TENANT, match: {tenant: acme}, limit: 1, window: 1m}]",
    );
    let report = files.diff().unwrap();
    assert_eq!((report.checks, report.lost, report.gained), (6, 1, 1));
    assert_eq!((report.allowed.old, report.allowed.new), (5, 5));
    assert_eq!((report.tokens.old, report.tokens.new), (44, 41));
    let first = report.first_change.as_ref().unwrap();
    assert_eq!((first.line, first.at.as_str()), (3, "1970-01-01T00:00:01Z"));
    assert_eq!(first.new.policy_id.as_deref(), Some("acme"));
    assert_eq!((first.subject["user"].as_str(), first.subject["tenant"].as_str()), ("ann", "acme"));
    let policies: Vec<_> = report
        .policies
        .iter()
        .map(|one| (one.policy_id.as_str(), one.status, one.lost, one.gained))
        .collect();
    let expected = [
        ("a", PolicyStatus::Changed, 0, 1),
        ("gone", PolicyStatus::Removed, 0, 0),
        ("acme", PolicyStatus::Added, 1, 0),
    ];
    assert_eq!(policies, expected);
    let users = &report.subjects[0];
    // Ann of acme and ann of umbrella are two users.
    assert_eq!((users.count, users.mixed), (3, 0));
    assert_eq!([users.checks, users.tokens], [LosingGaining { losing: 1, gaining: 1 }; 2]);
    let loser = &users.losers[0];
    assert_eq!((loser.allowed.old, loser.allowed.new, loser.checks), (2, 1, 2));
    assert_eq!(loser.first_change_at.as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(users.gainers[0].subject["user"], "bob");
    let steps = &report.timeline.as_ref().unwrap().steps;
    assert_eq!(steps.iter().map(|step| step.checks).sum::<u64>(), 6);
    let text = report.to_string();
    for part in [
        "checks     6: allowed 5 (83.3 %) by old, 5 (83.3 %) by new: 0\n",
        "tokens     allowed 44 by old, 41 by new: -3\n",
        "decisions  1 checks lost, 1 gained\n",
        "user=ann: allowed by old, denied (acme) by new\n",
        "\nuser: 3 in all; checks: 1 lose, 1 gain; tokens: 1 lose, 1 gain\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(report.exit_code(), 1);
    // Keys are counted by their hashes, and never shown.
    assert!(!text.contains("secret") && !report.to_json().contains("secret"), "{text}");
    assert_eq!(report.subjects[1].count, 2);
}

#[test]
fn real_traffic_gives_the_sums_of_two_simulations() {
    let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/azure.yaml");
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&old).unwrap();
    let new = dir.path().join("new.yaml");
    std::fs::write(&new, text.replacen("limit: ", "limit: 1", 1)).unwrap();
    let report = diff(&args(old, new, azure("code"))).unwrap();
    assert_eq!((report.checks, report.allowed.old), (8_819, 7_025));
    assert_eq!(report.allowed.change(), i128::from(report.gained) - i128::from(report.lost));
    assert_eq!(report.subjects[0].count, 100);
}

#[test]
fn bad_files_and_traces_are_refused_with_their_place() {
    let good = "policies: [{id: a, scope: USER, limit: 2, window: 1m}]";
    let bad = "policies: [{id: a, scope: USER, limt: 2, window: 1m}]";
    let cases = [
        (
            TRACE,
            good,
            bad,
            "new.yaml:1:33: policies[0].limt: is not a field (did you mean `limit`?)",
        ),
        (TRACE, bad, good, "old.yaml:1:33: policies[0].limt: "),
        (
            "timestamp,userId\nsoon,a\n",
            good,
            good,
            "trace.csv:2: timestamp: is \"soon\"; accepted: ",
        ),
        ("time,user\n", good, good, "trace.csv:1: header: is \"time,user\", of no known format"),
    ];
    for (trace, old, new, says) in cases {
        let errors = Files::new(trace, old, new).diff().unwrap_err();
        assert!(errors.len() == 1 && errors[0].to_string().contains(says), "{says:?}: {errors:?}");
    }
    let files = Files::new(TRACE, good, good);
    let args = DiffArgs { seed: Some(1), ..files.args("old.yaml", "new.yaml") };
    assert!(diff(&args).unwrap_err()[0].to_string().starts_with("--seed: a csv trace"));
}

/// All three are read before anything is replayed, the trace up to its first bad line.
#[test]
fn every_bad_file_is_told() {
    let bad = "policies: [{id: a, scope: USER, limt: 2, window: 1m}]";
    let good = "policies: [{id: a, scope: USER, limit: 2, window: 1m}]";
    let trace = "timestamp,userId\n1,a\nsoon,a\nlate,a\n";
    let told = |files: &Files, args: &DiffArgs| {
        let folder = files.fixture.path("").display().to_string();
        let errors = diff(args).unwrap_err();
        assert!(errors.iter().all(|error| error.exit_code() == 2));
        let texts = errors.iter().map(|error| error.to_string().replace(&folder, ""));
        texts.map(|text| text[..text.find(": ").unwrap()].to_owned()).collect::<Vec<_>>()
    };
    let files = Files::new(trace, bad, bad);
    let args = files.args("old.yaml", "new.yaml");
    assert_eq!(told(&files, &args), ["old.yaml:1:12", "new.yaml:1:12", "trace.csv:3"]);
    let args = files.args("old.yaml", "none.yaml");
    assert_eq!(told(&files, &args), ["old.yaml:1:12", "NEW", "trace.csv:3"]);
    let args = DiffArgs { trace: "none.csv".into(), ..files.args("old.yaml", "new.yaml") };
    assert_eq!(diff(&args).unwrap_err()[2].to_string(), "cannot read none.csv");
    let files = Files::new("time,user\n", good, bad);
    let args = files.args("old.yaml", "new.yaml");
    assert_eq!(told(&files, &args), ["new.yaml:1:12", "trace.csv:1"]);
    // Only the trace can be standard input.
    let args = args_of_stdin(&files);
    assert_eq!(told(&files, &args), ["OLD", "NEW", "trace.csv:1"]);
}

fn args_of_stdin(files: &Files) -> DiffArgs {
    DiffArgs { old: "-".into(), new: "-".into(), ..files.args("old.yaml", "new.yaml") }
}

/// As a server does: a file without policies leaves the default of 100 requests an hour in force, which must not surprise.
#[test]
fn a_file_without_policies_is_called_the_built_in_default() {
    let files = Files::new(TRACE, "", "policies: [{id: a, scope: USER, limit: 2, window: 1m}]");
    let report = files.diff().unwrap();
    let [old, new] = [&report.policy_files.old, &report.policy_files.new].map(Option::as_deref);
    assert!(old.unwrap().ends_with("old.yaml (the built-in default)"), "{old:?}");
    assert!(new.unwrap().ends_with("new.yaml"), "{new:?}");
}

/// More checks with fewer tokens is neither a loss nor a gain.
#[test]
fn checks_and_tokens_are_counted_apart() {
    let files = Files::new(
        "timestamp,userId,cost.tokens\n0,mixed,90\n1,mixed,1\n2,mixed,1\n3,more,5\n4,more,5\n5,fewer,60\n",
        "policies: [{id: a, scope: USER, limit: 1, window: 1h}]",
        "policies: [{id: a, scope: USER, limit: 2, window: 1h}, {id: t, scope: USER, unit: tokens, limit: 50, window: 1h}]",
    );
    let report = files.diff().unwrap();
    let users = &report.subjects[0];
    assert_eq!(users.checks, LosingGaining { losing: 1, gaining: 2 });
    assert_eq!(users.tokens, LosingGaining { losing: 2, gaining: 1 });
    let names = |rows: &[SubjectReport]| {
        rows.iter().map(|row| row.subject["user"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&users.losers), ["fewer"]);
    assert_eq!(names(&users.gainers), ["more"]);
    assert_eq!((users.mixed, names(&users.mixed_subjects)), (1, vec!["mixed".to_owned()]));
    let text = report.to_string();
    let line = "\nuser: 3 in all; checks: 1 lose, 2 gain; tokens: 2 lose, 1 gain; 1 of them lose one and gain the other\n";
    assert!(text.contains(line), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(
        json["subjects"][0]["mixedSubjects"][0]["tokens"],
        serde_json::json!({"old": 90, "new": 2})
    );
}

fn policies() -> impl Strategy<Value = String> {
    let scope = prop::sample::select(vec!["GLOBAL", "USER", "MODEL", "TENANT"]);
    let unit = prop::sample::select(vec!["requests", "tokens"]);
    let mode = prop::sample::select(vec!["enforce", "enforce", "shadow"]);
    prop::collection::vec((scope, unit, 0..9_u32, 1..90_u32, mode), 1..5).prop_map(|policies| {
        let mut yaml = "policies:\n".to_owned();
        for (index, (scope, unit, limit, seconds, mode)) in policies.into_iter().enumerate() {
            writeln!(yaml, "  - {{id: p{index}, scope: {scope}, unit: {unit}, limit: {limit}, windowSeconds: {seconds}, mode: {mode}}}").unwrap();
        }
        yaml
    })
}

fn trace() -> impl Strategy<Value = String> {
    let line = (0..20_u64, 0..3_u8, 0..2_u8, prop::sample::select(vec!["", "t0", "t1"]), 0..6_u32);
    prop::collection::vec(line, 1..120).prop_map(|lines| {
        let mut text = "timestamp,userId,modelId,tenantId,cost.tokens\n".to_owned();
        let mut at = 1_700_000_000;
        for (step, user, model, tenant, tokens) in lines {
            at += step;
            writeln!(text, "{at},u{user},m{model},{tenant},{tokens}").unwrap();
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// The sums of a comparison are those of a simulation with each file.
    #[test]
    fn the_sums_are_those_of_two_simulations(trace in trace(), old in policies(), new in policies()) {
        let mut files = Files::new(&trace, &old, &new);
        let report = files.diff().unwrap();
        let mut sides = Vec::new();
        for name in ["old.yaml", "new.yaml"] {
            files.fixture.args.policies = Some(files.fixture.path(name));
            sides.push(run(&files.fixture.args).unwrap());
        }
        prop_assert_eq!(report.checks, sides[0].checks);
        prop_assert_eq!((report.allowed.old, report.allowed.new), (sides[0].admitted, sides[1].admitted));
        prop_assert_eq!(report.allowed.change(), i128::from(report.gained) - i128::from(report.lost));
        for one in &report.policies {
            let numbers = |side: &tollgate_simulate::Report| {
                let policy = side.policies.iter().find(|policy| policy.policy_id == one.policy_id);
                policy.map_or((0, 0), |policy| (policy.checks, policy.denied + policy.would_deny))
            };
            prop_assert_eq!((one.checks.old, one.refused.old), numbers(&sides[0]));
            prop_assert_eq!((one.checks.new, one.refused.new), numbers(&sides[1]));
        }
        let blamed = |of: fn(&tollgate_simulate::PolicyDiffReport) -> u64| report.policies.iter().map(of).sum::<u64>();
        prop_assert_eq!((blamed(|one| one.lost), blamed(|one| one.gained)), (report.lost, report.gained));
        let steps = report.timeline.iter().flat_map(|timeline| &timeline.steps);
        let sums = steps.fold((0, 0, 0), |sum, step| {
            (sum.0 + step.checks, sum.1 + step.allowed.old, sum.2 + step.allowed.new)
        });
        prop_assert_eq!(sums, (report.checks, report.allowed.old, report.allowed.new));
        // Every check has a user, and there are fewer than the report names.
        let users = &report.subjects[0];
        let named = || users.losers.iter().chain(&users.gainers).chain(&users.mixed_subjects);
        prop_assert_eq!(named().map(|one| one.allowed.change()).sum::<i128>(), report.allowed.change());
        prop_assert_eq!(named().map(|one| one.tokens.change()).sum::<i128>(), report.tokens.change());
        for (counted, change) in [
            (users.checks, (|one| one.allowed.change()) as fn(&SubjectReport) -> i128),
            (users.tokens, |one| one.tokens.change()),
        ] {
            let count = |sign: i128| named().filter(|one| change(one).signum() == sign).count() as u64;
            prop_assert_eq!(counted, LosingGaining { losing: count(-1), gaining: count(1) });
        }
        prop_assert!(users.losers.iter().all(|one| one.allowed.change() <= 0 && one.tokens.change() <= 0));
        prop_assert!(users.gainers.iter().all(|one| one.allowed.change() >= 0 && one.tokens.change() >= 0));
        prop_assert!(users.mixed_subjects.iter().all(|one| one.allowed.change() * one.tokens.change() < 0));
        prop_assert_eq!(report.first_change.is_some(), report.differs());
    }

    #[test]
    fn a_set_does_not_differ_from_itself(trace in trace(), policies in policies()) {
        let report = Files::new(&trace, &policies, &policies).diff().unwrap();
        prop_assert!(!report.differs() && report.first_change.is_none());
        prop_assert_eq!((report.allowed.change(), report.tokens.change(), report.exit_code()), (0, 0, 0));
        prop_assert!(report.policies.iter().all(|one| one.status == PolicyStatus::Same && one.checks.change() == 0));
        let none = LosingGaining::default();
        prop_assert!(report.subjects.iter().all(|kind| kind.checks == none && kind.tokens == none && kind.mixed == 0));
    }
}
