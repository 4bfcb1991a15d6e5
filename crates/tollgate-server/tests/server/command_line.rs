//! The command `tollgate`: its output, its errors and its exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::common::tollgate;

fn text(output: &Output) -> (Option<i32>, String, String) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), utf8(&output.stdout), utf8(&output.stderr))
}

/// A server in a separate process; killed when the test ends.
pub(crate) struct Process {
    child: Child,
    address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let serve = command.args(["serve", "--http", "127.0.0.1:0", "--log-format", "json"]);
        let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let started: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert_eq!(started["message"], "serving", "{line}");
        let url = started["http"].as_str().unwrap();
        assert_eq!(started["docs"], format!("{url}/docs"));
        Self { address: url.strip_prefix("http://").unwrap().to_owned(), child, log }
    }

    /// The address at which it serves.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// The line on its standard output, which is a pipe.
    pub(crate) fn told(&mut self) -> String {
        let mut told = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut told).unwrap();
        told
    }

    /// Posts `body` with `token`; returns the whole answer.
    pub(crate) fn post(&self, path: &str, token: &str, body: &str) -> String {
        self.ask("POST", path, token, body)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        let mut stream = self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Sends a signal; returns the exit code and the rest of the log.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// P13 for the process: a silent HTTP/2 client and a half-open request, which would never end, do not keep it from
/// ending with 0.
#[test]
fn sigterm_ends_the_process_with_0_whoever_is_silent() {
    let directory = TempDir::new().unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut command = tollgate(&directory);
        command.env("TOLLGATE_DRAIN_TIMEOUT_MS", "1000").env("TOLLGATE_BODY_TIMEOUT_MS", "3600000");
        let process = Process::start(&mut command);
        let silent = process.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0");
        let half = process.send(
            "POST /rate-limit/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        );
        let (code, log) = process.end(signal);
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(log.contains(r#""message":"drained""#), "{log}");
        drop((silent, half));
    }
}

/// Without any configuration the catalog is in the working directory, and a token is generated. It is printed with the
/// console's address, and not logged (P15).
#[test]
fn a_server_without_configuration_has_a_catalog_and_tells_its_token() {
    let directory = TempDir::new().unwrap();
    let mut process = Process::start(tollgate(&directory).stdout(Stdio::piped()));
    let told = process.told();
    let (_, token) = told.trim_end().rsplit_once("/#/sign-in?token=").expect(&told);
    assert!(told.contains(&format!("http://{}/#/", process.address)), "{told}");
    let answer = process.post("/admin/tenants", token, r#"{"id":"acme"}"#);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(directory.path().join("tollgate.db").is_file());
    let (_, log) = process.end("-TERM");
    assert!(!log.contains(token), "{log}");
}

/// P15: no part of a check and no secret is in the log, at any level.
#[test]
fn the_log_holds_no_id_and_no_secret_even_at_trace() {
    let directory = TempDir::new().unwrap();
    let mut command = tollgate(&directory);
    command
        .env("TOLLGATE_LOG_LEVEL", "trace")
        .env("TOLLGATE_ADMIN_TOKEN", "canary-token-of-the-admin");
    let process = Process::start(&mut command);
    let bodies = [
        r#"{"userId":"canary-user","modelId":"canary-model","apiKey":"canary-key","requestId":"canary-id"}"#,
        r#"{"userId":"canary-user","canary":"#,
        r#"{"userId":5,"canary-field":"canary-value"}"#,
    ];
    for body in bodies {
        let mut stream = process.send(&format!(
            "POST /rate-limit/check?canary-query HTTP/1.1\r\nHost: canary-host.localhost\r\nAuthorization: Bearer canary\r\n\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    let (code, log) = process.end("-TERM");
    assert_eq!(code, Some(0));
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn the_version_is_printed() {
    let directory = TempDir::new().unwrap();
    let (code, out, _) = text(&tollgate(&directory).arg("--version").output().unwrap());
    assert_eq!((code, &*out), (Some(0), concat!("tollgate ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn a_policy_file_is_validated_with_places() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, yaml: &str| std::fs::write(directory.path().join(name), yaml).unwrap();
    write("good.yaml", "policies: [{id: p, scope: USER, limit: 1, windowSeconds: 60}]");
    write("bad.yaml", "policies:\n  - {id: p, scope: USER, limit: -3, windowSeconds: 60}\n");
    let validate = |file: &str| {
        text(&tollgate(&directory).args(["policies", "validate", file]).output().unwrap())
    };
    let (code, out, _) = validate("good.yaml");
    assert_eq!((code, &*out), (Some(0), "good.yaml: valid, policies: 1\n"));
    let odd = "tiers: [{id: pro}]\npolicies:\n  - {id: p, scope: USER, match: {tier: pr0}, limit: 1, windowSeconds: 60}\n";
    write("odd.yaml", odd);
    let (code, out, _) = validate("odd.yaml");
    let expected = "odd.yaml:3:40: warning: policy \"p\": match.tier: \"pr0\" is no tier of the catalog (did you mean `pro`?), \
         so only checks that give it themselves match; accepted: the id of one of `tiers`\n\
         odd.yaml: valid, policies: 1\n";
    assert_eq!((code, &*out), (Some(0), expected));
    let both = odd.to_owned() + "  - {id: q, scope: USER, limit: '${UNSET}', window: 1w}\n";
    write("both.yaml", &both);
    let (code, out, error) = validate("both.yaml");
    assert_eq!((code, &*out), (Some(2), ""));
    let starts =
        ["error: both.yaml:4:33: ", "both.yaml:4:53: ", "both.yaml:3:40: warning: policy \"p\": "];
    assert_eq!(error.lines().count(), starts.len(), "{error}");
    assert!(error.lines().zip(starts).all(|(line, start)| line.starts_with(start)), "{error}");
    let (code, out, error) = validate("bad.yaml");
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(error.starts_with("error: bad.yaml:2:"), "{error}");
    assert!(error.contains("limit: -3 is negative; accepted: "), "{error}");
    let (code, _, error) = validate("missing.yaml");
    assert_eq!(code, Some(2));
    assert!(error.contains("missing.yaml"), "{error}");
}

/// The policies go to standard output, what was left out to standard error, and the exit code tells them apart.
#[test]
fn limits_of_other_programs_are_imported_as_policies() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let limit = "rate_limit: {unit: day, requests_per_unit: 5}";
    write("envoy.yaml", &format!("domain: d\ndescriptors:\n- key: a\n  {limit}\n"));
    write(
        "partly.yaml",
        &format!("domain: d\ndescriptors:\n- key: a\n  {limit}\n  detailed_metric: true\n"),
    );
    write("keys.json", r#"{"keys": [{"key_alias": "a", "rpm_limit": 5}]}"#);
    write("limits.yaml", "- {namespace: n, max_value: 5, seconds: 60}");
    write("bad.yaml", "domain: d\ndescriptors: 5\n");
    let import = |from: &str, file: &str| {
        let arguments = ["policies", "import", "--from", from, file];
        text(&tollgate(&directory).args(arguments).output().unwrap())
    };
    for (from, file) in
        [("envoy-ratelimit", "envoy.yaml"), ("litellm", "keys.json"), ("limitador", "limits.yaml")]
    {
        let (code, out, error) = import(from, file);
        assert_eq!((code, &*error), (Some(0), ""), "{from}");
        write("imported.yaml", &out);
        let validated = text(
            &tollgate(&directory).args(["policies", "validate", "imported.yaml"]).output().unwrap(),
        );
        assert_eq!(
            (validated.0, &*validated.1),
            (Some(0), "imported.yaml: valid, policies: 1\n"),
            "{out}"
        );
    }
    let (code, out, error) = import("envoy-ratelimit", "partly.yaml");
    assert_eq!(code, Some(3));
    assert!(out.contains("policies:"), "{out}");
    assert!(error.starts_with("partly.yaml:5:3: detailed_metric — Tollgate has no"), "{error}");
    let (code, out, error) = import("envoy-ratelimit", "bad.yaml");
    assert_eq!((code, &*out), (Some(2), ""));
    assert_eq!(error, "error: bad.yaml:2:14: descriptors: is a number; accepted: a list\n");
    let (code, _, error) = import("limitador", "missing.yaml");
    assert_eq!(code, Some(2));
    assert!(error.starts_with("error: missing.yaml: "), "{error}");
    let (code, _, error) = import("kong", "envoy.yaml");
    assert_eq!(code, Some(2));
    assert!(error.contains("accepted: envoy-ratelimit, limitador, litellm"), "{error}");
    // From standard input.
    let mut process = tollgate(&directory)
        .args(["policies", "import", "--from", "limitador", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"- {namespace: n, max_value: 5, seconds: 60}").unwrap();
    drop(input);
    let (code, out, _) = text(&process.wait_with_output().unwrap());
    assert_eq!(code, Some(0));
    assert!(out.starts_with("# Imported from limitador.\n"), "{out}");
}

/// Each error names the place, the problem and what is accepted; the exit code is 2 or 1.
#[test]
fn what_cannot_be_served_is_refused_with_its_place() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    std::fs::write(directory.path().join("bad.yaml"), "policies: [{id: p}]").unwrap();
    let gateway = "listen: 127.0.0.1:0\nupstreams: [{id: a, baseUrl: \"http://127.0.0.1:1/v1\", dialect: openai}]\nmodels: [{id: m, upstreams: [a]}]";
    std::fs::write(directory.path().join("gateway.yaml"), gateway).unwrap();
    std::fs::write(directory.path().join("same.yaml"), gateway.replace(":0", ":4317")).unwrap();
    let cases: [(&[&str], i32, &[&str]); 29] = [
        (
            &["--http", "here"],
            2,
            &["--http: \"here\" is not an address", "accepted: an IP address"],
        ),
        (&["--http", "0.0.0.0:0"], 2, &["--http: 0.0.0.0:0", "TOLLGATE_ADMIN_TOKEN is not set"]),
        (&["--http", &taken], 1, &["--http: ", &taken, "is in use"]),
        (
            &["--http", "127.0.0.1:9100", "--grpc", "0.0.0.0:9100"],
            2,
            &["--grpc: 0.0.0.0:9100 is also where HTTP", "127.0.0.1:9100 by --http", "accepted"],
        ),
        (
            &["--http", "127.0.0.1:4317", "--gateway", "same.yaml"],
            2,
            &["--gateway: 127.0.0.1:4317 is also the address of --http", "accepted"],
        ),
        (
            &["--auth-headers", "user=x-user,requestid=x-id"],
            2,
            &["--auth-headers: \"requestid\" resembles \"requestId\"", "requestId"],
        ),
        (&["--max-keys", "0"], 2, &["--max-keys: \"0\" is not accepted", "accepted: an integer"]),
        (
            &["--store", "memcached://:canary@h"],
            2,
            &["--store: has a user or a password", "accepted: memcached://HOST"],
        ),
        (
            &["--on-store-error", "open"],
            2,
            &["--on-store-error: \"open\" is not", "accepted: `allow`, `deny` or `local`"],
        ),
        (&["--store-timeout-ms", "0"], 2, &["--store-timeout-ms: \"0\"", "from 10 to 10000"]),
        (&["--nodes", "0"], 2, &["--nodes: \"0\" is not accepted", "from 1 to 10000"]),
        (&["--store", "floppy:"], 2, &["--store: the scheme of the store is unknown", "`memory:`"]),
        (
            &["--store", "memory:?max_keys=5", "--max-keys", "6"],
            2,
            &["--max-keys: the URL of the store"],
        ),
        (
            &["--store", "redis://127.0.0.1:1", "--max-keys", "6"],
            2,
            &["--max-keys: is given with a networked store", "--store memory:"],
        ),
        (
            &["--store", "memory:dir?keys=5"],
            2,
            &["--store: `memory:` has no option but `max_keys`"],
        ),
        (&["--store", "memory:?max_keys=0"], 2, &["--store: `max_keys`: \"0\" is not accepted"]),
        (&["--store", "memory:~/dir"], 2, &["--store: `memory:` takes a path, and `~`"]),
        (
            &["--store", "memcached://127.0.0.1:1", "--gateway", "gateway.yaml"],
            2,
            &["--gateway: the store keeps no leases", "in Redis or in memory (--store)"],
        ),
        (&["--store", "memory://dir"], 2, &["takes a path, such as memory:/var/lib/tollgate"]),
        (&["--snapshot-every-ms", "1000"], 2, &["without a store", "--store memory:DIR"]),
        (
            &["--snapshot-every-ms", "9"],
            2,
            &["--snapshot-every-ms: \"9\"", "from 1000 to 86400000"],
        ),
        (
            &["--store", "memory:/dev/null"],
            1,
            &["--store: /dev/null cannot hold snapshots: it is a file; accepted: a directory"],
        ),
        (&["--catalog", "postgres://127.0.0.1:1/x"], 1, &["TOLLGATE_API_KEY_SECRET is not set"]),
        (&["--catalog", "file:bad.yaml"], 1, &["bad.yaml:1:"]),
        (&["--catalog", "file:none.yaml"], 1, &["none.yaml"]),
        (&["--catalog", "sqlite:"], 2, &["--catalog: names no file"]),
        (&["--catalog", "file://host/a.yaml"], 2, &["--catalog: names a file on another machine"]),
        (&["--log-level", "loud"], 2, &["--log-level: \"loud\" is not a log level", "`debug`"]),
        (&["--nonsense"], 2, &["--nonsense"]),
    ];
    for (flags, expected, parts) in cases {
        let mut command = tollgate(&directory);
        // These errors appear only if nothing else is wrong; the parser of the flags comes first.
        command.env("TOLLGATE_HTTP", "127.0.0.1:0");
        let output = command.arg("serve").args(flags).output().unwrap();
        let (code, _, error) = text(&output);
        assert_eq!(code, Some(expected), "{flags:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{flags:?}: no {part:?} in {error}");
        }
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn the_reason_why_a_database_cannot_be_reached_is_shown_once() {
    let directory = TempDir::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = tollgate(&directory);
    command.args(["serve", "--http", "127.0.0.1:0", "--catalog"]);
    command.arg(format!("postgres://user@127.0.0.1:{port}/x"));
    command.env("TOLLGATE_API_KEY_SECRET", "a secret of at least 32 characters");
    let (code, _, error) = text(&command.output().unwrap());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&format!("PostgreSQL at 127.0.0.1:{port} cannot be used")), "{error}");
    assert_eq!(error.matches("Connection refused").count(), 1, "{error}");
}

/// A variable that cannot be decoded must not count as unset.
#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let directory = TempDir::new().unwrap();
    let value = std::ffi::OsStr::from_bytes(b"redis\xff");
    let output = tollgate(&directory).arg("serve").env("TOLLGATE_STORE", value).output().unwrap();
    let (code, _, error) = text(&output);
    assert_eq!(code, Some(2));
    assert!(error.contains("TOLLGATE_STORE: is not UTF-8"), "{error}");
}

/// SIGHUP, which by convention reloads files, does not end the process.
#[test]
fn sighup_does_not_end_the_process() {
    let directory = TempDir::new().unwrap();
    let mut process = Process::start(&mut tollgate(&directory));
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let mut line = String::new();
    process.log.read_line(&mut line).unwrap();
    assert!(line.contains("SIGHUP"), "{line}");
    let (code, log) = process.end("-TERM");
    assert_eq!(code, Some(0), "{log}");
}

/// A misspelled name becomes an attribute of one's own, so the log names them.
#[test]
fn the_log_names_attributes_of_ones_own() {
    let directory = TempDir::new().unwrap();
    let headers = "user=x-user,modle=x-model";
    let mut process = Process::start(tollgate(&directory).env("TOLLGATE_AUTH_HEADERS", headers));
    let mut line = String::new();
    process.log.read_line(&mut line).unwrap();
    let logged: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(logged["attributes"], "modle", "{line}");
}

#[test]
fn a_warning_in_the_log_names_the_file_and_the_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("p.yaml");
    std::fs::write(&path, "policies: [{id: a, scope: USER, limit: 1, window: 1m}]\n").unwrap();
    let mut process = Process::start(tollgate(&directory).env("TOLLGATE_CATALOG", "file:p.yaml"));
    let odd = "policies:\n  - {id: a, scope: USER, unit: token, limit: 1, window: 1m}\n";
    std::fs::write(&path, odd).unwrap();
    let warned = loop {
        let mut line = String::new();
        assert!(process.log.read_line(&mut line).unwrap() > 0, "the process has ended");
        if line.contains("may not do what it seems to") {
            break serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    };
    assert_eq!((&warned["file"], &warned["policy"]), (&"p.yaml".into(), &"a".into()), "{warned}");
    assert!(warned["warning"].as_str().unwrap().starts_with("2:32: unit: "), "{warned}");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("p.yaml"), "policies: []").unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = tollgate(&directory);
    let output = command.args(["policies", "validate", "p.yaml"]).stdout(full).output().unwrap();
    let (code, _, error) = text(&output);
    assert_eq!(code, Some(1));
    assert!(error.contains("the output could not be written"), "{error}");
}

#[test]
fn a_flag_overrides_the_environment_and_that_the_file() {
    let directory = TempDir::new().unwrap();
    let file = "http = \"of-the-file\"\nlog_level = \"of-the-file\"\nmax_keys = 0\n";
    std::fs::write(directory.path().join("tollgate.toml"), file).unwrap();
    let output = tollgate(&directory)
        .args(["serve", "--http", "of-the-flag"])
        .env("TOLLGATE_HTTP", "of-the-environment")
        .env("TOLLGATE_LOG_LEVEL", "of-the-environment")
        .env("TOLLGATE_SERVICE_PORT", "tcp://10.0.0.1:8000")
        .output()
        .unwrap();
    let (code, _, error) = text(&output);
    assert_eq!(code, Some(2));
    assert!(error.contains("--http: \"of-the-flag\""), "{error}");
    assert!(error.contains("TOLLGATE_LOG_LEVEL: \"of-the-environment\""), "{error}");
    assert!(error.contains("tollgate.toml:3: max_keys: \"0\""), "{error}");
}

#[test]
fn health_is_asked_of_a_running_server() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(tollgate(&dir).stdout(Stdio::null()));
    let ask = |args: &[&str]| {
        let mut command = tollgate(&dir);
        command.env("TOLLGATE_HTTP", server.address()).arg("health").args(args);
        text(&command.output().unwrap())
    };
    // A busy machine may take longer than the default.
    let patient = ["--timeout-ms", "60000"];
    assert_eq!(ask(&patient), (Some(0), "ok\n".to_owned(), String::new()));
    let ready = [&patient[..], &["--ready"]].concat();
    assert_eq!(ask(&ready), (Some(0), "ready\n".to_owned(), String::new()));
    // A flag overrides the variable, as for `serve`.
    let (code, _, error) = ask(&["--http", "localhost:x"]);
    assert_eq!(code, Some(2));
    assert!(error.starts_with("error: --http: "), "{error}");
    assert_eq!(ask(&["--timeout-ms", "1"]).0, Some(2));
}

#[test]
fn health_says_what_a_server_answered_or_that_it_did_not() {
    let dir = TempDir::new().unwrap();
    let ask = |http: &str, timeout_ms: &str| {
        let args = ["health", "--ready", "--http", http, "--timeout-ms", timeout_ms];
        text(&tollgate(&dir).args(args).output().unwrap())
    };

    // The system accepts the connection, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let message =
        format!("error: http://{address}/readyz did not answer: no answer within 50 ms\n");
    assert_eq!(ask(&address, "50"), (Some(1), String::new(), message));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1_024];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 21\r\n\r\n{\"status\":\"draining\"}";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let message = format!("error: http://{address}/readyz answered 503: draining\n");
    assert_eq!(ask(&address, "60000"), (Some(1), String::new(), message));
    server.join().unwrap();
}
