//! `tollgate policies test` and `tollgate policies diff`, run as processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The exit code of `tollgate policies` with `arguments`, and its texts.
fn policies<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.arg("policies").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_example_passes() {
    let file = in_project("examples/policies/openai-tiers.test.yaml");
    let (code, output, error) = policies(&["test".as_ref(), file.as_os_str()]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{output}");
    assert!(output.ends_with("\n\ncases: 7, passed: 7, failed: 0\n"), "{output}");
}

/// The document shows what the program prints, as text and as JSON.
#[test]
fn the_example_of_the_document_is_decided_as_it_says() {
    let document = std::fs::read_to_string(in_project("docs/INTEGRATION.md")).unwrap();
    let (_, section) = document.split_once("### Test policies before they are in force\n").unwrap();
    let block = |language: &str| {
        let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
        block.split_once("```").unwrap().0
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policies.test.yaml"), block("yaml")).unwrap();
    let policies = "policies: [{id: per-minute, scope: USER, limit: 3, window: 1h}]";
    std::fs::write(dir.path().join("policies.yaml"), policies).unwrap();
    let run = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let command = command.args(["policies", "test", "policies.test.yaml"]).args(flags);
        let output = command.current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = |text: &str| -> Vec<_> {
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let (command, shown) = block("console").split_once('\n').unwrap();
    assert_eq!(command, "$ tollgate policies test policies.test.yaml");
    assert_eq!(lines(&run(&[])), lines(shown));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&run(&["--json"])), json(block("json")));
}

/// A policy file that cannot be read is told with where it is named.
#[test]
fn a_missing_policy_file_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.test.yaml");
    let text =
        "policies: none.yaml\ncases: [{name: a, check: {userId: a}, expect: {allowed: true}}]";
    std::fs::write(&file, text).unwrap();
    let (code, output, error) = policies(&["test".as_ref(), file.as_os_str()]);
    assert_eq!((code, output.as_str()), (Some(2), ""));
    let missing = dir.path().join("none.yaml");
    let expected = format!(
        "error: {}: policies: {}: cannot be read: No such file or directory (os error 2); accepted: the path of a policy file, \
         relative to the test file\n",
        file.display(),
        missing.display()
    );
    assert_eq!(error, expected);
    let diff = ["diff".as_ref(), file.as_os_str(), missing.as_os_str(), "--trace".as_ref()];
    let (code, _, error) = policies(&[diff.as_slice(), &[missing.as_os_str()]].concat());
    assert_eq!(code, Some(2));
    let unreadable = format!("error: NEW: {}: cannot be read", missing.display());
    assert!(error.lines().any(|line| line.starts_with(&unreadable)), "{error}");
    let flag = ["test".as_ref(), file.as_os_str(), "--policies".as_ref(), missing.as_os_str()];
    let (code, _, error) = policies(&flag);
    assert_eq!(code, Some(2));
    assert!(
        error.starts_with(&format!("error: --policies: {}: cannot be read", missing.display())),
        "{error}"
    );
}

/// Without a check nothing is compared, which is not "no decision differs". A policy that equals the built-in one is the
/// file's own.
#[test]
fn a_diff_needs_a_check_and_names_the_built_in_policy_only_where_it_applies() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string()
    };
    let own =
        write("own.yaml", "policies: [{id: default, scope: USER_MODEL, limit: 100, window: 1h}]");
    let none = write("none.yaml", "policies: []");
    let diff = |trace: &str| {
        let trace = write("trace.csv", trace);
        policies(&["diff".into(), own.clone(), none.clone(), "--trace".into(), trace])
    };
    let (code, output, error) = diff("timestamp,userId\n");
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(
        error.contains("trace.csv: has no check, so nothing can be compared; accepted: "),
        "{error}"
    );
    let (code, output, _) = diff("timestamp,userId,modelId\n0,a,m\n");
    assert_eq!(code, Some(0));
    assert!(output.contains("own.yaml\nnew "), "{output}");
    assert!(output.contains("none.yaml (the built-in default)\n"), "{output}");
    let (_, output, _) = policies(&["validate".into(), own.clone()]);
    assert!(output.ends_with("own.yaml: valid, policies: 1\n"), "{output}");
}

/// 1 says that a decision is another one, 2 that a file is bad; the other files are tested all the same.
#[test]
fn failing_cases_and_bad_files_have_codes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string()
    };
    write("p.yaml", "policies: [{id: banned, scope: USER, limit: 0, window: 1m}]");
    let case = |expect: &str| {
        format!("policies: p.yaml\ncases: [{{name: a, check: {{userId: a}}, expect: {expect}}}]")
    };
    let failing = write("failing.yaml", &case("{allowed: true}"));
    let bad = write("bad.yaml", &case("{alowed: true}"));
    let test = std::ffi::OsString::from("test");
    let (code, output, error) = policies(&[test.clone(), failing.clone()]);
    assert_eq!((code, error.as_str()), (Some(1), ""));
    assert!(output.contains("  FAIL  a (line 2)\n"), "{output}");
    let (code, output, error) = policies(&[test, bad.clone(), failing, "--json".into()]);
    assert_eq!(code, Some(2));
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["failed"], 1);
    let place = format!("error: {}:2:48: cases[0].expect.alowed: is not a field", bad.display());
    assert!(error.starts_with(&place), "{error}");
    assert_eq!(policies(&["test"]).0, Some(2));
}

/// Real traffic: 0 without a difference, 1 with one, 2 for a bad trace.
#[test]
fn a_diff_on_real_traffic_says_who_loses() {
    let trace = in_project("data/azure-llm-inference-2023/AzureLLMInferenceTrace_code.csv");
    let old = in_project("examples/azure.yaml");
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.yaml");
    std::fs::write(&new, "policies: [{id: few, scope: USER, limit: 5, window: 1m}]").unwrap();
    let diff = |new: &Path, trace: &Path| {
        let flags = ["diff".as_ref(), old.as_os_str(), new.as_os_str(), "--trace".as_ref()];
        policies(&[flags.as_slice(), &[trace.as_os_str()]].concat())
    };
    let (code, output, error) = diff(&old, &trace);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(output.contains("\ndecisions  0 checks lost, 0 gained\n"), "{output}");
    let (code, output, _) = diff(&new, &trace);
    assert_eq!(code, Some(1));
    assert!(output.contains("\nchecks     8,819: allowed 7,025 (79.7 %) by old, "), "{output}");
    assert!(
        output.contains("\nfew ") && output.contains("\nuser: 100 in all; checks: "),
        "{output}"
    );
    std::fs::write(dir.path().join("bad.csv"), "timestamp,userId\nsoon,a\n").unwrap();
    let (code, output, error) = diff(&new, &dir.path().join("bad.csv"));
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(error.contains("bad.csv:2: timestamp: is \"soon\"; accepted: "), "{error}");
}

#[test]
fn every_bad_file_of_a_diff_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string()
    };
    let (old, new) = (write("old.yaml", "policies: 1"), write("new.yaml", "polices: []"));
    let trace = write("trace.csv", "timestamp,userId\n0,a\nsoon,a\n");
    let (code, output, error) = policies(&["diff".into(), old, new, "--trace".into(), trace]);
    assert_eq!((code, output.as_str()), (Some(2), ""));
    let names: Vec<_> = ["old.yaml:", "new.yaml:", "trace.csv:3:"].into();
    assert_eq!(error.lines().count(), names.len(), "{error}");
    let pairs = error.lines().zip(names);
    assert!(
        pairs.into_iter().all(|(line, name)| line.starts_with("error: ") && line.contains(name)),
        "{error}"
    );
}

/// `diff` and `simulate` read a trace from a pipe as from a file.
#[test]
fn a_trace_can_come_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.yaml"), dir.path().join("new.yaml"));
    std::fs::write(&old, "policies: [{id: a, scope: USER, limit: 2, window: 1m}]").unwrap();
    std::fs::write(&new, "policies: [{id: a, scope: USER, limit: 1, window: 1m}]").unwrap();
    let piped = |arguments: &[&std::ffi::OsStr], text: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let diff = ["policies", "diff"].map(std::ffi::OsStr::new);
    let (trace, stdin) = (std::ffi::OsStr::new("--trace"), std::ffi::OsStr::new("-"));
    let diff = [diff[0], diff[1], old.as_os_str(), new.as_os_str(), trace, stdin];
    let (code, output, error) = piped(&diff, "timestamp,userId\n0,a\n1,a\n");
    assert_eq!((code, error.as_str()), (Some(1), ""));
    assert!(output.contains("standard input") && output.contains("1 checks lost"), "{output}");
    let (code, _, error) = piped(&diff, "timestamp,userId\nsoon,a\n");
    assert_eq!(code, Some(2));
    assert!(error.starts_with("error: standard input:2: timestamp: is \"soon\""), "{error}");
    let simulate = ["simulate", "--policies"].map(std::ffi::OsStr::new);
    let simulate = [simulate[0], simulate[1], new.as_os_str(), trace, stdin];
    let (code, output, _) = piped(&simulate, "timestamp,userId\n0,a\n1,a\n");
    assert_eq!(code, Some(0));
    assert!(output.contains("standard input"), "{output}");
}
