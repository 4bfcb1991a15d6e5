//! The command line.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ContextValue;
use clap::{Args, Parser, Subcommand};
use tollgate_catalog::policy_file::Examined;
use tollgate_catalog::{CatalogWarning, DocumentProblem};
use tollgate_gateway::GatewayError;
use tollgate_import::Source;
use tollgate_simulate::{DiffArgs, SimulateArgs, SimulateError, TestArgs, TestReport};
use tollgate_verify::VerifyArgs;

use crate::config::ServeConfig;
use crate::import::Imported;
use crate::probe::{self, HealthArgs, ProbeError};
use crate::simulation::{self, SimulationError};
use crate::start_error::StartError;
use crate::{serve, signals, telemetry, verification};

/// The exit code if a command ran but failed.
const FAILED: u8 = 1;
/// The exit code if the arguments or the configuration are invalid.
const MISUSED: u8 = 2;

/// A distributed rate limiter for AI inference
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A new command is a variant here and an arm in `Cli::run`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP interface
    Serve(Box<ServeArgs>),
    /// Ask a running server whether it is alive, or with --ready whether to send requests to it
    #[command(after_help = probe::AFTER_HELP)]
    Health(HealthArgs),
    /// Work with policies
    #[command(subcommand)]
    Policies(PoliciesCommand),
    Simulate(Box<SimulateArgs>),
    Verify(VerifyArgs),
    /// Print the OpenAPI document of the HTTP interface
    Openapi,
}

#[derive(Debug, Subcommand)]
enum PoliciesCommand {
    /// Validate a policy file and list all problems in it
    #[command(after_help = "Exit code: 0 if the file is valid, 2 if it is bad.")]
    Validate {
        /// The file, ending in .yaml, .yml, .json or .toml
        file: PathBuf,
    },
    #[command(after_help = TestArgs::AFTER_HELP)]
    Test(TestArgs),
    #[command(after_help = DiffArgs::AFTER_HELP)]
    Diff(DiffArgs),
    /// Convert the limits of another program into policies, which are printed as YAML
    #[command(after_help = crate::import::AFTER_HELP)]
    Import {
        /// The program that the file configures: envoy-ratelimit, limitador or litellm
        #[arg(long, value_name = "PROGRAM", value_parser = crate::import::parse_source)]
        from: Source,
        /// The file, in YAML, or in JSON or TOML if it ends in .json or .toml; `-` for standard input
        file: PathBuf,
    },
}

/// Every flag of `serve` is a setting and is taken as text, so that all layers of the configuration are parsed alike.
///
/// Flags override the environment (`TOLLGATE_…`), which overrides the file.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
struct ServeArgs {
    /// Read settings from this TOML file [default: tollgate.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen at this IP address and port [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Answer only requests for these hosts, `localhost` or an IP address [default: only the latter two at a loopback
    /// address, any host elsewhere]
    #[arg(long, value_name = "NAMES")]
    allowed_hosts: Option<String>,
    /// Take a client's address from Forwarded or X-Forwarded-For if these proxies report it [default: none]
    #[arg(long, value_name = "NETWORKS")]
    trusted_proxies: Option<String>,
    /// Read the subject and the cost of /rate-limit/auth from these headers [default: user=x-user-id, model=x-model-id,
    /// tenant=x-tenant-id, apiKey=x-api-key, cost=x-tollgate-cost]
    #[arg(long, value_name = "NAME=HEADER,…")]
    auth_headers: Option<String>,
    /// Also serve gRPC at this IP address and port: Envoy's rate limit service and tollgate.v1 [default: none]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<String>,
    /// Over gRPC, allow or deny descriptors that no policy covers: allow or deny [default: allow]
    #[arg(long, value_name = "WHAT")]
    grpc_unmatched: Option<String>,
    /// Keep usage in this store: memory:, memory:DIR (which survives a restart), or a URL of Redis, Valkey or memcached
    /// [default: memory:]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Hold at most this many keys in memory [default: 10000000]
    #[arg(long, value_name = "N")]
    max_keys: Option<String>,
    /// With --store memory:DIR, begin the next snapshot this long after the last one [default: 30000]
    #[arg(long, value_name = "MS")]
    snapshot_every_ms: Option<String>,
    /// If the store is unavailable: allow, deny, or local (each node enforces its share); overridden by a policy's
    /// onStoreError [default: allow]
    #[arg(long, value_name = "MODE")]
    on_store_error: Option<String>,
    /// Decide within this time, whatever the store does [default: 100]
    #[arg(long, value_name = "MS")]
    store_timeout_ms: Option<String>,
    /// Start even if the store is configured wrongly (such as a wrong password or missing rights): true or false
    /// [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    start_degraded: Option<String>,
    /// The number of nodes that share the store; with the mode local each enforces 1/N of a limit [default: 1]
    #[arg(long, value_name = "N")]
    nodes: Option<String>,
    /// Read policies, users and keys from here: `file:PATH`, `sqlite:FILE` or `postgres://…` [default:
    /// sqlite:tollgate.db]
    #[arg(long, value_name = "URL")]
    catalog: Option<String>,
    /// Count checks with unknown API keys under the key's hash, or deny them: count or deny [default: count]
    #[arg(long, value_name = "WHAT")]
    unknown_api_keys: Option<String>,
    /// Log as json or text [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Refuse checks with longer bodies, in bytes [default: 65536]
    #[arg(long, value_name = "BYTES")]
    max_body_bytes: Option<String>,
    /// Refuse batches with longer bodies, in bytes [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    max_batch_body_bytes: Option<String>,
    /// Refuse requests while unfinished ones hold more memory than this [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    max_body_memory_bytes: Option<String>,
    /// Refuse requests with longer headers [default: 32768]
    #[arg(long, value_name = "BYTES")]
    max_header_bytes: Option<String>,
    /// Close connections whose headers take longer to arrive [default: 10000]
    #[arg(long, value_name = "MS")]
    header_timeout_ms: Option<String>,
    /// Refuse requests whose bodies take longer to arrive [default: 10000]
    #[arg(long, value_name = "MS")]
    body_timeout_ms: Option<String>,
    /// Close connections that are idle for longer [default: 75000]
    #[arg(long, value_name = "MS")]
    idle_timeout_ms: Option<String>,
    /// Serve at most this many connections at a time [default: 10000]
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// Serve at most this many requests at a time on one HTTP/2 connection [default: 256]
    #[arg(long, value_name = "N")]
    max_http2_streams: Option<String>,
    /// Ping HTTP/2 clients this often [default: 20000]
    #[arg(long, value_name = "MS")]
    http2_ping_every_ms: Option<String>,
    /// On SIGTERM end within this time, even if requests are in flight [default: 8000]
    #[arg(long, value_name = "MS")]
    drain_timeout_ms: Option<String>,
    /// Keep settlements that the store did not answer in this directory, so that they survive a restart [default: in
    /// memory]
    #[arg(long, value_name = "DIR")]
    journal: Option<String>,
    /// Also serve the gateway in front of model servers that this file configures [default: none]
    #[arg(long, value_name = "FILE")]
    gateway: Option<String>,
    /// Write the checks to this file, which `simulate` reads; API keys are written as ids
    #[arg(long, value_name = "FILE")]
    record: Option<String>,
    /// Record the checks of this part of the users, from 0 to 1 [default: 1]
    #[arg(long, value_name = "PART")]
    record_sample: Option<String>,
    /// Stop recording when the file has this many bytes [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    record_max_bytes: Option<String>,
    /// Record hashes of users, tenants, keys, addresses and request ids: true or false [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    record_hash_ids: Option<String>,
    /// Send traces and metrics to this OpenTelemetry collector, over OTLP in HTTP [default: none]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Trace this part of the requests whose callers send no trace, from 0 to 1 [default: 0.1]
    #[arg(long, value_name = "PART")]
    otlp_sample: Option<String>,
}

const AFTER_HELP: &str = "Each setting is also an environment variable (--max-keys: TOLLGATE_MAX_KEYS) \
     and a key of the file (max_keys). Secrets are variables only: \
     TOLLGATE_ADMIN_TOKEN (to change the catalog; required to listen at an address that other machines can reach, unless TOLLGATE_ADMIN_TOKENS has a write token), \
     TOLLGATE_ADMIN_READ_TOKEN (to read it), TOLLGATE_ADMIN_TOKENS (several tokens, whose names the audit log shows: \
     NAME:ROLE:TOKEN,… with the role read or write) and TOLLGATE_API_KEY_SECRET (the secret for hashing API keys; the same on \
     every node).";

impl ServeArgs {
    fn into_flags(self) -> [(&'static str, Option<String>); crate::config::KEYS.len()] {
        [
            ("http", self.http),
            ("allowed_hosts", self.allowed_hosts),
            ("trusted_proxies", self.trusted_proxies),
            ("auth_headers", self.auth_headers),
            ("grpc", self.grpc),
            ("grpc_unmatched", self.grpc_unmatched),
            ("store", self.store),
            ("max_keys", self.max_keys),
            ("snapshot_every_ms", self.snapshot_every_ms),
            ("on_store_error", self.on_store_error),
            ("store_timeout_ms", self.store_timeout_ms),
            ("start_degraded", self.start_degraded),
            ("nodes", self.nodes),
            ("catalog", self.catalog),
            ("unknown_api_keys", self.unknown_api_keys),
            ("log_format", self.log_format),
            ("log_level", self.log_level),
            ("max_body_bytes", self.max_body_bytes),
            ("max_batch_body_bytes", self.max_batch_body_bytes),
            ("max_body_memory_bytes", self.max_body_memory_bytes),
            ("max_header_bytes", self.max_header_bytes),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("max_connections", self.max_connections),
            ("max_http2_streams", self.max_http2_streams),
            ("http2_ping_every_ms", self.http2_ping_every_ms),
            ("drain_timeout_ms", self.drain_timeout_ms),
            ("journal", self.journal),
            ("gateway", self.gateway),
            ("record", self.record),
            ("record_sample", self.record_sample),
            ("record_max_bytes", self.record_max_bytes),
            ("record_hash_ids", self.record_hash_ids),
            ("otlp_endpoint", self.otlp_endpoint),
            ("otlp_sample", self.otlp_sample),
        ]
    }
}

/// The result of a command: its output and exit code.
#[derive(Debug)]
pub struct Outcome {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub error: String,
    /// The exit code of the process.
    pub code: ExitCode,
}

impl Outcome {
    fn done(output: String) -> Self {
        Self { output, error: String::new(), code: ExitCode::SUCCESS }
    }

    fn failed(code: u8, error: &dyn std::error::Error) -> Self {
        Self { output: String::new(), error: error_text(error), code: code.into() }
    }
}

/// `error` with its causes, for standard error.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text + "\n"
}

impl Cli {
    /// Parses the command line of this process, or ends the process with an error. A URL in the wrong place is not
    /// shown, because it may contain a password.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|mut error| {
            let is_url = |value: &ContextValue| value.to_string().contains("://");
            let urls: Vec<_> =
                error.context().filter(|(_, value)| is_url(value)).map(|(kind, _)| kind).collect();
            for kind in urls {
                error.insert(kind, ContextValue::String("a URL".to_owned()));
            }
            error.exit()
        })
    }

    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self.command {
            Command::Serve(args) => serve_until_signal(*args),
            Command::Health(args) => health(args),
            Command::Policies(PoliciesCommand::Validate { file }) => validate(&file),
            Command::Policies(PoliciesCommand::Test(args)) => {
                test(&tollgate_simulate::test(&args), args.json)
            }
            Command::Policies(PoliciesCommand::Diff(args)) => diff(&args),
            Command::Policies(PoliciesCommand::Import { from, file }) => {
                let Imported { output, error, code } = crate::import::run(from, &file);
                Outcome { output, error, code: code.into() }
            }
            Command::Simulate(args) => simulate(*args),
            Command::Verify(args) => verify(&args),
            Command::Openapi => openapi(),
        }
    }
}

fn simulate(args: SimulateArgs) -> Outcome {
    match simulation::run(args) {
        Ok(report) => Outcome::done(report.to_string()),
        Err(SimulationError::Simulate(error)) => Outcome::failed(error.exit_code(), &error),
        Err(SimulationError::Catalog(error)) => Outcome::failed(MISUSED, &*error),
    }
}

/// The results of the files that can be used go to standard output, and what is wrong with the others to standard error.
fn test(report: &TestReport, json: bool) -> Outcome {
    let error = report.errors.iter().map(|error: &SimulateError| error_text(error)).collect();
    let output = if json { report.to_json() + "\n" } else { report.to_string() };
    Outcome { output, error, code: report.exit_code().into() }
}

fn diff(args: &DiffArgs) -> Outcome {
    match tollgate_simulate::diff(args) {
        Ok(report) => {
            let output = if args.json { report.to_json() + "\n" } else { report.to_string() };
            Outcome { output, error: String::new(), code: report.exit_code().into() }
        }
        // 1 says that a decision differs.
        Err(errors) => Outcome {
            output: String::new(),
            error: errors.iter().map(|error: &SimulateError| error_text(error)).collect(),
            code: MISUSED.into(),
        },
    }
}

/// A report goes to standard output, also if something failed after it.
fn verify(args: &VerifyArgs) -> Outcome {
    let verified = verification::run(args);
    let code = verified.exit_code().into();
    let (output, error) = match &verified.result {
        Ok(report) if args.json => (report.to_json() + "\n", String::new()),
        Ok(report) => (report.to_string(), String::new()),
        Err(error) => (String::new(), error_text(error)),
    };
    let failures = verified.failures.iter().map(|failure| error_text(failure));
    Outcome { output, error: [error].into_iter().chain(failures).collect(), code }
}

fn health(args: HealthArgs) -> Outcome {
    match probe::run(args) {
        Ok(answer) => Outcome::done(answer + "\n"),
        Err(error @ ProbeError::Config(_)) => Outcome::failed(MISUSED, &error),
        Err(error) => Outcome::failed(FAILED, &error),
    }
}

fn openapi() -> Outcome {
    match crate::http::sorted_openapi_json() {
        Ok(json) => Outcome::done(json + "\n"),
        Err(error) => Outcome::failed(FAILED, &error),
    }
}

/// Errors come before warnings; without an error, the warnings are output.
fn validate(file: &Path) -> Outcome {
    let Examined { policies, warnings } = tollgate_catalog::policy_file::examine(file);
    let told = warnings.into_iter().map(|CatalogWarning { kind, id, problem }| {
        let place = problem.position.map(|at| format!(":{at}")).unwrap_or_default();
        let problem = DocumentProblem { position: None, ..problem };
        format!("{}{place}: warning: {kind} {id:?}: {problem}\n", file.display())
    });
    match policies {
        Ok(set) => {
            let count = set.policies().len();
            let default = if set.is_default() { " (the built-in default)" } else { "" };
            let valid = format!("{}: valid, policies: {count}{default}\n", file.display());
            Outcome::done(told.chain([valid]).collect())
        }
        Err(error) => {
            let mut failed = Outcome::failed(MISUSED, &error);
            failed.error.extend(told);
            failed
        }
    }
}

fn serve_until_signal(mut args: ServeArgs) -> Outcome {
    let file = args.config.take();
    let environment = |name: &str| std::env::var_os(name);
    let config = match ServeConfig::load(args.into_flags(), environment, file.as_deref()) {
        Ok(config) => config,
        Err(error) => return Outcome::failed(MISUSED, &error),
    };
    telemetry::start(config.log_format, config.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(FAILED, &error),
    };
    let outcome = runtime.block_on(run(&config));
    // Do not wait for a running sweep.
    runtime.shutdown_background();
    outcome
}

/// Prints the address of the console, with the token if one was generated. This does not go to the log, which others
/// may be able to read.
fn show_console(url: &str, server: &serve::Server) {
    // If the output cannot be written, the user can set a token.
    _ = match server.made_admin_token() {
        Some(token) => writeln!(
            io::stdout(),
            "console, with the admin token of this run: {url}/#/sign-in?token={}",
            token.reveal()
        ),
        None => writeln!(io::stdout(), "console: {url}/"),
    };
}

/// A wrong configuration gives the same exit code as invalid arguments.
fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Store(_)
        | StartError::Misconfigured { .. }
        | StartError::NeedsLeases { .. }
        | StartError::GatewayConfig(_)
        | StartError::SameAddress { .. }
        | StartError::Gateway(GatewayError::NoLeases)
        | StartError::GatewayCatalog => MISUSED,
        _ => FAILED,
    }
}

async fn run(config: &ServeConfig) -> Outcome {
    let mut signals = match signals::Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Outcome::failed(FAILED, &error),
    };
    let server = match serve::Server::start(config).await {
        Ok(server) => server,
        Err(error) => return Outcome::failed(exit_code(&error), &error),
    };
    let url = format!("http://{}", server.address());
    show_console(&url, &server);
    tracing::info!(http = url, docs = format!("{url}/docs"), "serving");
    let own = config.auth_headers.own_attributes();
    if !own.is_empty() {
        tracing::info!(
            attributes = own.join(", "),
            "auth_headers has attributes of your own, which no policy for the built-in ones sees; correct it if a name is misspelled"
        );
    }
    if let Some(gateway) = server.gateway_address() {
        tracing::info!(gateway = format!("http://{gateway}/v1"), "serving the gateway");
    }
    if let Some(grpc) = server.grpc_address() {
        tracing::info!(grpc = %grpc, "serving gRPC");
    }
    let signal = signals.next().await;
    tracing::info!(signal, "draining");
    let (end, ended) = tokio::sync::oneshot::channel();
    let mut draining = std::pin::pin!(server.drain_until(async {
        // An error means that this function has ended.
        _ = ended.await;
    }));
    tokio::select! {
        end = &mut draining => return ended_as(end),
        signal = signals.next() => tracing::warn!(
            signal,
            "second signal: ending without answering the requests in flight; a third ends without saving usage either"
        ),
    }
    // An error means that it has drained.
    _ = end.send(());
    tokio::select! {
        end = draining => ended_as(end),
        signal = signals.next() => {
            tracing::warn!(signal, "third signal: ending at once; what was not saved yet is lost");
            Outcome { code: ExitCode::FAILURE, ..Outcome::done(String::new()) }
        }
    }
}

/// What a server that has ended leaves. It has logged why usage is not saved.
fn ended_as(end: serve::End) -> Outcome {
    tracing::info!(all_answered = end.all_answered, "drained");
    let code = if end.usage_saved { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Outcome { code, ..Outcome::done(String::new()) }
}
