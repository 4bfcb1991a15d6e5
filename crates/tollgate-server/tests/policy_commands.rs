//! `tollgate policies test` and `tollgate policies diff`, run as processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

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
