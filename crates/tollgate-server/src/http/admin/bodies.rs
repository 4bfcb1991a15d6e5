//! Bodies of the admin calls.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::value::RawValue;
use tollgate_catalog::directory::Version;
use tollgate_catalog::document::{self, Node};
use tollgate_catalog::{DirectoryError, Format, Problems};

use super::super::body::{self, JSON};
use super::super::problem::{FieldProblem, Problem};
use crate::app::BodyBounds;

/// The media type of YAML (RFC 9512).
pub(super) const YAML: &str = "application/yaml";
/// The media type of changes in JSON.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The field name for a problem of the whole body.
const BODY: &str = "body";

/// The accepted media types of a record.
pub(super) const RECORD: &[(&str, Format)] = &[(JSON, Format::Json)];
/// The accepted media types of a patch; the latter is that of RFC 7396.
pub(super) const PATCH: &[(&str, Format)] = &[(JSON, Format::Json), (MERGE_PATCH, Format::Json)];
/// The accepted media types of a policy file. Clients and web servers give YAML many names, most of them older than RFC
/// 9512.
pub(super) const FILE: &[(&str, Format)] = &[
    (YAML, Format::Yaml),
    (JSON, Format::Json),
    ("application/toml", Format::Toml),
    ("application/x-yaml", Format::Yaml),
    ("text/yaml", Format::Yaml),
    ("text/x-yaml", Format::Yaml),
    ("text/vnd.yaml", Format::Yaml),
    ("+yaml", Format::Yaml),
];

/// The document in the body of `request`, which is declared as one of `types`.
pub(super) async fn read(
    request: Request<Body>,
    types: &[(&'static str, Format)],
    bounds: BodyBounds<'_>,
) -> Result<Node, Problem> {
    let format = body::declared(request.headers(), types)?;
    let bytes = body::read(request.into_body(), bounds).await?;
    parse(&bytes, format)
}

/// Parses `bytes`, which are in `format`.
fn parse(bytes: &Bytes, format: Format) -> Result<Node, Problem> {
    let language = match format {
        Format::Yaml => "YAML",
        Format::Json => "JSON",
        Format::Toml => "TOML",
    };
    let malformed = |errors| Problem::malformed_document(language, errors);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let problem = format!("byte {} is not UTF-8", error.valid_up_to());
        malformed(vec![FieldProblem::new(BODY, problem, "text in UTF-8")])
    })?;
    let read = document::read(text, format);
    let read = read.map_err(|problems| malformed(problems.iter().map(field_problem).collect()))?;
    read.ok_or_else(|| malformed(vec![FieldProblem::new(BODY, "is empty", "a map of fields")]))
}

/// Converts the `problems` of a body.
pub(super) fn invalid(problems: &Problems) -> Problem {
    Problem::invalid_fields(problems.iter().map(field_problem).collect(), problems.omitted())
}

/// Converts a `problem` of a document.
pub(super) fn field_problem(problem: &tollgate_catalog::DocumentProblem) -> FieldProblem {
    let field = if problem.path.is_empty() { BODY } else { &problem.path };
    let found = FieldProblem::new(field, problem.message.clone(), problem.accepted.clone());
    found.placed(problem.position)
}

/// Converts a failure of the directory.
pub(super) fn failed(error: &DirectoryError) -> Problem {
    let said = error.to_string();
    match error {
        DirectoryError::NotFound { .. } => Problem::no_record(said),
        DirectoryError::Duplicate { .. }
        | DirectoryError::InUse { .. }
        | DirectoryError::Ambiguous { .. } => Problem::conflict(said),
        DirectoryError::Stale { .. } => Problem::stale(said),
        DirectoryError::Invalid(problems) => invalid(problems),
        DirectoryError::ReadOnly => Problem::read_only(said, "GET, HEAD"),
        _ => {
            tracing::warn!(error = %crate::telemetry::Chain(error), "the catalog's database failed; an admin call was answered with 503");
            Problem::catalog_unavailable(said)
        }
    }
}

pub(super) fn etag(version: Version) -> HeaderValue {
    // Digits in quotes are a value of a header.
    HeaderValue::from_str(&format!("\"{}\"", version.0)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `node` as JSON, to be put into an answer as it is.
pub(super) fn raw(node: &Node) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(document::to_json(node)).map_err(|error| {
        tracing::error!(%error, "a record could not be rendered");
        Problem::internal()
    })
}

/// `body` as an answer.
pub(super) fn text(status: StatusCode, content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
