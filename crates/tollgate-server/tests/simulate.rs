//! `tollgate simulate`, run as a process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn tollgate_simulate(args: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("simulate");
    for (flag, path) in args {
        command.arg(flag).arg(path);
    }
    command
}

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn code_and_texts(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_on_real_traffic_prints_its_report_and_writes_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (report, decisions) = (dir.path().join("report.json"), dir.path().join("decisions.csv"));
    let mut command = tollgate_simulate(&[
        ("--trace", &in_project("data/azure-llm-inference-2023/AzureLLMInferenceTrace_code.csv")),
        ("--policies", &in_project("examples/azure.yaml")),
        ("--report", &report),
        ("--decisions", &decisions),
    ]);
    let (code, output, error) = code_and_texts(command.arg("--verify").output().unwrap());
    // Without a terminal there is no progress bar.
    assert_eq!((code, error.as_str()), (Some(0), ""), "{output}");
    assert!(
        output.contains("\nchecks     8,819: admitted 7,025 (79.7 %), denied 1,794 (20.3 %)\n"),
        "{output}"
    );
    assert!(
        output.ends_with("verified: the reference model gives the same 8,819 decisions\n"),
        "{output}"
    );
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["admitted"], &report["verified"]), (&7_025.into(), &true.into()));
    assert_eq!(std::fs::read_to_string(decisions).unwrap().lines().count(), 8_820);
    assert_eq!(files_in(dir.path()), ["decisions.csv", "report.json"]);
}

#[test]
fn a_bad_line_ends_with_code_2_and_its_place_on_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, report) = (dir.path().join("trace.csv"), dir.path().join("report.json"));
    std::fs::write(&trace, "timestamp,userId,modelId\n1,a,m\nnever,a,m\n").unwrap();
    let mut command = tollgate_simulate(&[("--trace", &trace), ("--report", &report)]);
    let (code, output, error) = code_and_texts(command.output().unwrap());
    assert_eq!((code, output.as_str()), (Some(2), ""));
    let expected = format!("error: {}:3: timestamp: is \"never\"; accepted: ", trace.display());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(files_in(dir.path()), ["trace.csv"]);
}

#[test]
fn bad_flags_end_with_code_2() {
    let cases: [&[&str]; 4] = [
        &[],
        &["--trace", "t.csv", "--users", "0"],
        &["--trace", "t.csv", "--seed", "-1"],
        &["--trace", "t.csv", "--format", "json"],
    ];
    for flags in cases {
        let (code, output, error) =
            code_and_texts(tollgate_simulate(&[]).args(flags).output().unwrap());
        assert_eq!((code, output.as_str()), (Some(2), ""), "{flags:?}");
        assert!(error.starts_with("error: "), "{flags:?}: {error}");
    }
}

/// However the process ends, there is no half-written file.
#[test]
fn a_run_that_is_killed_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (report, decisions) = (dir.path().join("report.json"), dir.path().join("decisions.csv"));
    let mut child = tollgate_simulate(&[
        ("--trace", Path::new("/dev/stdin")),
        ("--report", &report),
        ("--decisions", &decisions),
    ])
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    let mut trace = child.stdin.take().unwrap();
    trace.write_all(b"timestamp,userId,modelId\n").unwrap();
    // More than the pipe holds: when all of it is written, most of it has been decided.
    trace.write_all("1,alice,gpt-4\n".repeat(100_000).as_bytes()).unwrap();
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(files_in(dir.path()), [""; 0]);
}
