//! What other policies would have decided on recorded or uploaded traffic.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use tollgate_catalog::document::{self, Entry, MAX_DOCUMENT_BYTES, Node, Value};
use tollgate_catalog::reading::{At, Fields, Names, Report};
use tollgate_catalog::validate::{self, Scope};
use tollgate_catalog::{Format, Snapshot};
use tollgate_core::{Clock, MonotonicClock, PolicySet};
use tollgate_service::DirectoryLookup;
use tollgate_simulate::trace::{MAX_USERS, Population, TraceFormat, TraceReader};
use tollgate_simulate::{CompareOptions, ComparisonReport, SimulateError, Source, compare};

use super::super::answer;
use super::super::problem::{FieldProblem, Problem};
use super::target::NoParameters;
use super::{CATALOG_TAG, bodies, needs_leases};
use crate::app::{App, Backend};
use crate::config::WhatIfBounds;

/// The time is read once for so many checks.
const CHECKS_PER_LOOK: u64 = 1_024;
/// How long the recording may take to be written to its file.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

const FIELDS: [&str; 6] = ["policies", "format", "trace", "traceFormat", "users", "seed"];
const ACCEPTED: &str = "an object with `policies`, the text of a policy file, and optionally `format`, `trace`, \
     `traceFormat`, `users` and `seed`";
const ACCEPTED_POLICIES: &str = "the text of a policy file that lists policies";
const ACCEPTED_USERS: &str = "an integer from 1 to 1000000";
const ACCEPTED_TRACE: &str =
    "the text of a trace; without it, the traffic that this server records with --record";

const FORMATS: Names<Format> = Names {
    parse: |name| match name {
        "yaml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        "toml" => Some(Format::Toml),
        _ => None,
    },
    known: &["yaml", "json", "toml"],
    accepted: "`yaml`, `json` or `toml`",
};

const TRACE_FORMATS: Names<Option<TraceFormat>> = Names {
    parse: |name| match name {
        "csv" => Some(Some(TraceFormat::Csv)),
        "azure-llm-2023" => Some(Some(TraceFormat::AzureLlm2023)),
        _ => None,
    },
    known: &["csv", "azure-llm-2023"],
    accepted: "`csv` or `azure-llm-2023`",
};

/// What is asked.
struct WhatIf {
    policies: String,
    format: Format,
    /// `None`: the recording.
    trace: Option<String>,
    trace_format: Option<TraceFormat>,
    population: Population,
}

/// Compare policies with those in force on traffic
///
/// Replays traffic in virtual time through the policies in force and through others, and says who would lose or gain, and how
/// much. Changes nothing, and no usage of this server counts: each replay begins with empty limits. The traffic is what this
/// server records with `--record`, or a trace in the body, of which at most 1,000,000 checks are compared. The records of
/// the catalog complete the checks for both. One comparison runs at a time, for at most 30 seconds; `tollgate policies diff`
/// has no such bounds.
#[utoipa::path(
    post,
    path = "/admin/what-if",
    operation_id = "compare_policies",
    tag = CATALOG_TAG,
    request_body(content((super::what_if_schema::WhatIfBody = "application/json"))),
    responses(
        (status = 200, description = "What differs", body = super::what_if_schema::ComparisonBody),
        (status = 503, description = "Another comparison is running, or the catalog did not answer; try again")
    )
)]
pub(super) async fn what_if<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = bodies::read(request, bodies::RECORD, app.bodies(MAX_DOCUMENT_BYTES)).await?;
    let asked = parse(body)?;
    let permit = Arc::clone(&app.what_if.running).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::busy_comparing())?;
    let has_leases = app.service.store().capabilities().leases;
    let snapshot = app.service.policies().snapshot();
    let lookup = app.service.directory().cloned();
    let recorder = app.recorder.clone();
    let bounds = app.what_if.bounds;
    let runtime = tokio::runtime::Handle::current();
    let compared = tokio::task::spawn_blocking(move || {
        let _permit: OwnedSemaphorePermit = permit;
        let policies = candidate(&asked, has_leases, lookup.as_ref())?;
        let candidate = Arc::new(snapshot.with_policies(policies));
        let (name, mut trace) = match (&asked.trace, &recorder) {
            (Some(_), _) => ("the uploaded trace", None),
            (None, Some(recorder)) => {
                recorder.flush(FLUSH_TIMEOUT);
                ("the recording of this server", Some(recorder.file().to_owned()))
            }
            (None, None) => return Err(no_trace()),
        };
        let mut trace = open(asked, trace.take(), &bounds)?;
        let source = |name: &str, snapshot: &Arc<Snapshot>| {
            let runtime = runtime.clone();
            let wait = move |lookup: tollgate_simulate::Lookup<'_>| Some(runtime.block_on(lookup));
            Source::serving(name.to_owned(), Arc::clone(snapshot), lookup.clone(), Box::new(wait))
        };
        let sources = (source("in force", &snapshot), source("candidate", &candidate));
        replay((&sources.0, &sources.1), name, &mut trace, &bounds)
    });
    let report = compared.await.map_err(|error| {
        tracing::error!(%error, "a comparison of policies failed");
        Problem::internal()
    })??;
    Ok(answer::json(StatusCode::OK, &report))
}

/// A trace that is open, and the population that was drawn for it.
struct OpenTrace {
    reader: TraceReader,
    population: Population,
}

fn open(
    asked: WhatIf,
    recording: Option<std::path::PathBuf>,
    bounds: &WhatIfBounds,
) -> Result<OpenTrace, Problem> {
    let WhatIf { trace, trace_format: format, population, .. } = asked;
    let opened = match (recording, trace) {
        (Some(path), _) => TraceReader::open(&path, format, population),
        (None, text) => {
            let input = Box::new(Cursor::new(text.unwrap_or_default().into_bytes()));
            TraceReader::new(Path::new("trace"), input, format, population)
        }
    };
    opened.map(|reader| OpenTrace { reader, population }).map_err(|error| failed(&error, bounds))
}

fn replay(
    sources: (&Source, &Source),
    name: &str,
    trace: &mut OpenTrace,
    bounds: &WhatIfBounds,
) -> Result<ComparisonReport, Problem> {
    let WhatIfBounds { top, max_subjects, max_checks, deadline, .. } = *bounds;
    let options = CompareOptions { top, max_subjects, max_checks };
    let clock = MonotonicClock::new();
    let start = clock.now();
    let mut checks = 0_u64;
    let compared = compare(sources, (name, &mut trace.reader, trace.population), options, |_| {
        checks += 1;
        let is_late = checks.is_multiple_of(CHECKS_PER_LOOK) && clock.now().since(start) > deadline;
        if is_late { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    compared.map_err(|error| failed(&error, bounds))
}

fn failed(error: &SimulateError, bounds: &WhatIfBounds) -> Problem {
    let of_trace = |problem: String, accepted: String| {
        Problem::invalid_fields(vec![FieldProblem::new("trace", problem, accepted)], 0)
    };
    match error {
        SimulateError::Trace(error) => {
            let problem =
                format!("line {}: {}: {}", error.line, error.problem.column, error.problem.problem);
            of_trace(problem, error.problem.accepted.clone())
        }
        SimulateError::NoChecks { trace } => of_trace(
            format!("{trace} has no check, so nothing can be compared"),
            "a trace with a line below its header".to_owned(),
        ),
        SimulateError::Stopped => of_trace(
            format!("takes longer than {} s to compare", bounds.deadline.as_secs()),
            "a shorter trace; `tollgate policies diff` has no bound".to_owned(),
        ),
        SimulateError::CatalogUnavailable => Problem::catalog_unavailable(error.to_string()),
        _ => {
            tracing::error!(error = %crate::telemetry::Chain(error), "a trace could not be compared");
            Problem::internal()
        }
    }
}

fn no_trace() -> Problem {
    let problem = "is missing, and this server records no traffic";
    let accepted = "the text of a trace, or a server with --record";
    Problem::invalid_fields(vec![FieldProblem::new("trace", problem, accepted)], 0)
}

/// The policies of `asked`, as the limits of this catalog need them.
fn candidate(
    asked: &WhatIf,
    has_leases: bool,
    lookup: Option<&DirectoryLookup>,
) -> Result<PolicySet, Problem> {
    let read = document::read(&asked.policies, asked.format);
    let read = read.map_err(|problems| {
        Problem::invalid_fields(problems.iter().map(bodies::field_problem).collect(), 0)
    })?;
    let Some(root) = read else { return Err(not_policies(None, "is empty")) };
    needs_leases::document(has_leases, &root)?;
    let records = validate::records("", Some(&root), Scope::Anywhere)
        .map_err(|problems| bodies::invalid(&problems))?;
    if let Value::Map(entries) = &root.value
        && let Some(other) = entries.iter().find(|entry| is_compared_otherwise(entry))
    {
        return Err(not_policies(
            Some(other),
            "is not compared: the records of the catalog complete the checks",
        ));
    }
    let mut policies = records.policies;
    if let Some(lookup) = lookup {
        lookup.resolver().prepare(&mut policies);
    }
    PolicySet::new(policies).map_err(|error| {
        Problem::invalid_fields(
            vec![FieldProblem::new("policies", error.to_string(), ACCEPTED_POLICIES)],
            0,
        )
    })
}

fn is_compared_otherwise(entry: &Entry) -> bool {
    entry.key != "policies" && !entry.key.starts_with("x-")
}

fn not_policies(entry: Option<&Entry>, problem: &'static str) -> Problem {
    let field = entry.map_or("policies", |entry| &entry.key);
    let position = entry.and_then(|entry| entry.key_position);
    let problem = FieldProblem::new(field, problem, ACCEPTED_POLICIES).placed(position);
    Problem::invalid_fields(vec![problem], 0)
}

fn parse(body: Node) -> Result<WhatIf, Problem> {
    let mut report = Report::default();
    let asked = fields(&mut report, body);
    match asked {
        Some(asked) => report.into_result("", asked),
        None => Err(report.into_problems("")),
    }
    .map_err(|problems| bodies::invalid(&problems))
}

/// `None` only if a problem was reported.
fn fields(report: &mut Report, body: Node) -> Option<WhatIf> {
    let root = At::root(None);
    let Value::Map(entries) = body.value else {
        report.mismatch(&root, &body.value, ACCEPTED);
        return None;
    };
    let fields = report.fields(&root, &entries, &FIELDS);
    let policies = text(report, &root, fields, "policies", ACCEPTED_POLICIES);
    if fields.get("policies").is_none() {
        report.problem(&root.missing("policies"), "is missing", ACCEPTED_POLICIES);
    }
    let trace = text(report, &root, fields, "trace", ACCEPTED_TRACE);
    let format = report.named(&root, fields, "format", &FORMATS, Format::Yaml);
    let trace_format = report.named(&root, fields, "traceFormat", &TRACE_FORMATS, None);
    let mut population = Population::default();
    if let Some(entry) = fields.given("users") {
        let at = root.field(entry);
        let range = 1..=u64::from(MAX_USERS);
        let users = report.amount_within(&at, &entry.node.value, &range, ACCEPTED_USERS)?;
        population.users = u32::try_from(users).ok()?;
    }
    if let Some(entry) = fields.given("seed") {
        population.seed = report.amount(&root.field(entry), &entry.node.value)?.get();
    }
    Some(WhatIf {
        policies: policies?,
        format: format?,
        trace,
        trace_format: trace_format?,
        population,
    })
}

/// The text of a field that may be left out.
fn text(
    report: &mut Report,
    root: &At<'_>,
    fields: Fields<'_>,
    name: &str,
    accepted: &str,
) -> Option<String> {
    let entry = fields.given(name)?;
    report.text(&root.field(entry), &entry.node.value, accepted).map(str::to_owned)
}
