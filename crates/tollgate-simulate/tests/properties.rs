//! Random traces and policies: every decision of the replay equals that of the reference model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;

use proptest::prelude::*;

use common::{Fixture, policies};

fn policy() -> impl Strategy<Value = String> {
    let scope = prop::sample::select(vec!["GLOBAL", "USER", "MODEL", "USER_MODEL", "TENANT"]);
    let unit = prop::sample::select(vec!["requests", "tokens"]);
    let limit = prop_oneof![
        1 => Just("null".to_owned()),
        1 => Just("0".to_owned()),
        8 => (1..12_u32).prop_map(|limit| limit.to_string()),
    ];
    let window = prop::sample::select(vec!["0.001", "0.5", "1", "7", "60"]);
    let algorithm = prop::sample::select(vec!["sliding_window_log", "sliding_window_counter"]);
    let mode = prop::sample::select(vec!["enforce", "enforce", "enforce", "shadow"]);
    let conditions = prop::sample::select(vec![
        "",
        "match: {user: u0},",
        "match: {user: [u0, u1], tenant: t0},",
    ]);
    (scope, unit, limit, window, algorithm, mode, conditions).prop_map(
        |(scope, unit, limit, window, algorithm, mode, conditions)| {
            format!(
                "scope: {scope}, unit: {unit}, limit: {limit}, windowSeconds: {window}, \
                 algorithm: {algorithm}, mode: {mode}, {conditions}"
            )
        },
    )
}

fn policy_file() -> impl Strategy<Value = String> {
    prop::collection::vec(policy(), 1..6).prop_map(|policies| {
        let mut yaml = "policies:\n".to_owned();
        for (index, policy) in policies.iter().enumerate() {
            writeln!(yaml, "  - {{id: p{index}, {policy}}}").unwrap();
        }
        yaml
    })
}

/// Lines of a trace: mostly forward in time, sometimes far ahead or back, on and between whole milliseconds.
fn trace() -> impl Strategy<Value = (String, usize)> {
    let step_ns = prop_oneof![
        4 => 0..400_000_000_i64,
        2 => (0..2_000_i64).prop_map(|ms| ms * 1_000_000),
        1 => 0..100_000_000_000_i64,
        1 => -3_000_000_000_i64..0,
    ];
    let tokens =
        prop_oneof![Just(String::new()), (0..14_u32).prop_map(|tokens| tokens.to_string())];
    let tenant = prop::sample::select(vec!["", "t0", "t1"]);
    let line = (step_ns, 0..3_u8, 0..2_u8, tenant, tokens);
    prop::collection::vec(line, 0..150).prop_map(|lines| {
        let mut text = "timestamp,userId,modelId,tenantId,cost.tokens\n".to_owned();
        let mut at_ns = 1_700_000_000_000_000_000_i64;
        for (step_ns, user, model, tenant, tokens) in &lines {
            at_ns += step_ns;
            let (seconds, ns) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
            writeln!(text, "{seconds}.{ns:09},u{user},m{model},{tenant},{tokens}").unwrap();
        }
        (text, lines.len())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// P1, R1–R7 and R10 through the whole replay: `--verify` finds no difference, and every check has its line and is
    /// counted once.
    #[test]
    fn a_replay_is_what_the_reference_model_says((trace, checks) in trace(), yaml in policy_file()) {
        let fixture = Fixture::new(trace).with_outputs().verified();
        let report = fixture.run(&policies(&yaml));
        let report = report.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(report.checks, checks as u64);
        prop_assert_eq!(report.admitted + report.denied, report.checks);
        let decisions = fixture.read("decisions.csv");
        let denied = decisions.lines().skip(1).filter(|line| line.contains(",false,")).count();
        prop_assert_eq!((decisions.lines().count(), denied as u64), (checks + 1, report.denied));
        for policy in &report.policies {
            let peak = policy.peak.as_ref().map_or(0, |peak| peak.count);
            prop_assert!(peak <= policy.limit, "{} of {}", peak, policy.limit);
        }
    }
}
