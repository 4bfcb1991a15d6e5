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
