//! The two Azure traces, with expected counts. A program in another language, which shares no code with this one,
//! recomputed the counts of the default policy, and so also the rule for drawing users and models.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use tollgate_simulate::{Report, SimulateArgs, simulate};

use common::{args, azure, policies};

const COUNTER: &str = "
policies:
  - {id: user, scope: USER, limit: 30, windowSeconds: 60, algorithm: sliding_window_counter}
  - {id: model, scope: MODEL, limit: 100, windowSeconds: 7.5, algorithm: sliding_window_counter}
";
const TOKENS: &str = "
policies:
  - {id: tokens, scope: USER_MODEL, unit: tokens, limit: 20000, windowSeconds: 60}
  - {id: in, scope: GLOBAL, unit: input_tokens, limit: 200000, windowSeconds: 30}
  - {id: out, scope: USER, unit: output_tokens, limit: 700, windowSeconds: 10, algorithm: sliding_window_counter}
";
const SHADOW: &str = "
policies:
  - {id: user, scope: USER, limit: 20, windowSeconds: 60}
  - {id: tighter, scope: USER, limit: 10, windowSeconds: 60, mode: shadow}
";
const BAN_AND_EXEMPT: &str = "
policies:
  - {id: all, scope: USER, limit: 60, windowSeconds: 600}
  - {id: banned, scope: USER, match: {user: [user-2, user-9]}, limit: 0, windowSeconds: 1}
  - {id: partner, scope: USER, match: {user: user-1}, limit: null}
";

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/azure.yaml");
    std::fs::read_to_string(path).unwrap()
}

fn run(args: &SimulateArgs, yaml: &str) -> Report {
    simulate(args, policies(yaml)).unwrap_or_else(|error| panic!("{error}"))
}

fn verified(trace: &str) -> SimulateArgs {
    SimulateArgs { verify: true, ..args(azure(trace)) }
}

/// Runs `trace` with `yaml`, verified. `expected` has the numbers of checks, admissions and denials, and for each
/// policy what it denied or would have denied.
#[track_caller]
fn check(trace: &str, yaml: &str, expected: (u64, u64, u64), refused: &[(&str, u64)]) {
    let report = run(&verified(trace), yaml);
    assert_eq!((report.checks, report.admitted, report.denied), expected, "{report}");
    let by_policy = report.policies.iter();
    let by_policy: Vec<_> =
        by_policy.map(|p| (p.policy_id.as_str(), p.denied + p.would_deny)).collect();
    assert_eq!(by_policy, refused, "{report}");
    assert_eq!(report.reasons.values().sum::<u64>(), report.denied);
    let headlines = report.policies.iter().map(|policy| policy.headline_denials);
    assert_eq!(headlines.sum::<u64>(), report.denied);
    assert!(report.verified);
    assert_eq!((report.keys_evicted, report.trace.lines_reordered), (0, 0));
}

#[test]
fn the_default_policy_decides_as_an_independent_program_does() {
    check("code", "", (8_819, 6_857, 1_962), &[("default", 1_962)]);
    check("conv", "", (19_366, 12_472, 6_894), &[("default", 6_894)]);
    let drawn = SimulateArgs { users: Some(3), seed: Some(u64::MAX), ..args(azure("code")) };
    assert_eq!(run(&drawn, "").admitted, 1_500);
}

#[test]
fn counters_decide_as_the_reference_model_does() {
    check("code", COUNTER, (8_819, 7_721, 1_098), &[("user", 1_091), ("model", 14)]);
    check("conv", COUNTER, (19_366, 16_846, 2_520), &[("user", 2_520), ("model", 0)]);
}

#[test]
fn tokens_decide_as_the_reference_model_does() {
    check("code", TOKENS, (8_819, 4_888, 3_931), &[("tokens", 372), ("in", 3_752), ("out", 25)]);
    check("conv", TOKENS, (19_366, 14_500, 4_866), &[("tokens", 272), ("in", 691), ("out", 4_110)]);
}

#[test]
fn shadow_policies_deny_nothing() {
    check("code", SHADOW, (8_819, 7_140, 1_679), &[("user", 1_679), ("tighter", 2_713)]);
    check("conv", SHADOW, (19_366, 15_496, 3_870), &[("user", 3_870), ("tighter", 6_399)]);
}

#[test]
fn bans_deny_for_ever_and_exemptions_never() {
    check("code", BAN_AND_EXEMPT, (8_819, 7_206, 1_613), &[("all", 554), ("banned", 1_059)]);
    check("conv", BAN_AND_EXEMPT, (19_366, 14_400, 4_966), &[("all", 2_597), ("banned", 2_369)]);
}

#[test]
fn the_example_policies_decide_as_the_reference_model_does() {
    check(
        "code",
        &example(),
        (8_819, 7_025, 1_794),
        &[
            ("user-model-hour", 298),
            ("user-tokens-minute", 79),
            ("model-burst", 181),
            ("model-burst-small", 342),
            ("one-prompt", 879),
            ("abuser", 135),
            ("output-tokens-trial", 0),
        ],
    );
    check(
        "conv",
        &example(),
        (19_366, 15_258, 4_108),
        &[
            ("user-model-hour", 3_223),
            ("user-tokens-minute", 17),
            ("model-burst", 0),
            ("model-burst-small", 533),
            ("one-prompt", 87),
            ("abuser", 285),
            ("output-tokens-trial", 930),
        ],
    );
}

/// The whole output in the README.
#[test]
fn the_report_reads_as_in_the_readme() {
    let report = run(&args(azure("conv")), &example()).to_string();
    // The paths depend on the directory, the speed on the machine.
    let varies = ["trace ", "policies ", "replayed "];
    let report: Vec<_> =
        report.lines().filter(|line| !varies.iter().any(|start| line.starts_with(start))).collect();
    let expected = include_str!("azure_conv_report.txt");
    assert_eq!(report.join("\n").trim_end(), expected.trim_end());
}

#[test]
fn a_run_is_the_same_each_time_and_another_seed_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, seed| {
        let (report, decisions) = (dir.path().join(name), dir.path().join(format!("{name}.csv")));
        let outputs = SimulateArgs {
            report: Some(report.clone()),
            decisions: Some(decisions.clone()),
            ..args(azure("code"))
        };
        run(&SimulateArgs { seed: Some(seed), ..outputs }, &example());
        let mut report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let timing = report.as_object_mut().unwrap().remove("timing").unwrap();
        assert!(timing["checksPerSecond"].as_u64().unwrap() > 0);
        (report, std::fs::read_to_string(decisions).unwrap())
    };
    let first = run("first", 1);
    assert_eq!(first, run("again", 1));
    assert_ne!(first.1, run("other", 2).1);
}

#[test]
fn the_report_knows_the_peak_the_worst_key_and_the_time() {
    let report = run(&args(azure("conv")), "");
    let key = |user: &str| {
        let key = [("user", user), ("model", "model-1")];
        key.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    let peak = report.policies[0].peak.as_ref().unwrap();
    assert_eq!((peak.count, peak.per_mille), (100, 1_000));
    assert_eq!((&peak.key, peak.at.as_str()), (&key("user-1"), "2023-11-16T18:20:14.599803Z"));
    let worst = report.worst_key.unwrap();
    assert_eq!(
        (worst.policy_id.as_str(), &worst.key, worst.denied),
        ("default", &key("user-1"), 1_539)
    );
    assert_eq!(report.trace.earliest_at.as_deref(), Some("2023-11-16T18:15:46.68059Z"));
    assert_eq!(report.trace.latest_at.as_deref(), Some("2023-11-16T19:14:08.402527Z"));
    assert_eq!(report.trace.duration_seconds.as_ns(), 3_501_721_937_000);
    assert_eq!(report.trace.virtual_seconds, report.trace.duration_seconds);
}
