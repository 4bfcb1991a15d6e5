//! Bodies and conditions of the admin calls.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use tollgate_catalog::directory::Version;
use tollgate_catalog::document::{self, Entry, Node, Value};
use tollgate_catalog::{DirectoryError, Format, Problems};

use super::super::body::read_json;
use super::super::problem::{FieldProblem, Problem};
use crate::config::HttpLimits;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The document in the body of `request`, which is JSON of at most `max_bytes`.
pub(super) async fn read(
    request: Request<Body>,
    limits: &HttpLimits,
    max_bytes: usize,
) -> Result<Node, Problem> {
    let bytes = read_json(request, max_bytes, limits.body_timeout).await?;
    parse(&bytes, Format::Json)
}

/// The document that `bytes` are, written in `format`.
pub(super) fn parse(bytes: &Bytes, format: Format) -> Result<Node, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Problem::malformed_json(&format!("byte {} is not UTF-8", error.valid_up_to()))
    })?;
    let read = document::read(text, format).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        Problem::malformed_json(&first)
    })?;
    read.ok_or_else(|| Problem::malformed_json("the body is empty"))
}

/// The problem that `problems` of a body are.
pub(super) fn invalid(problems: &Problems) -> Problem {
    let fields = problems.iter().map(|problem| FieldProblem {
        field: if problem.path.is_empty() { "body".to_owned() } else { problem.path.clone() },
        problem: problem.message.clone().into(),
        accepted: problem.accepted.clone().into(),
    });
    Problem::invalid_fields(fields.collect(), problems.omitted())
}

/// The problem that a failure of the directory is.
pub(super) fn failed(error: &DirectoryError) -> Problem {
    let said = error.to_string();
    match error {
        DirectoryError::NotFound { .. } => Problem::no_record(said),
        DirectoryError::Duplicate { .. } | DirectoryError::InUse { .. } => Problem::conflict(said),
        DirectoryError::Stale { .. } => Problem::stale(said),
        DirectoryError::Invalid(problems) => invalid(problems),
        DirectoryError::ReadOnly => Problem::read_only(said, "GET, HEAD"),
        _ => {
            tracing::warn!(error = %crate::telemetry::Chain(error), "the catalog did not answer");
            Problem::catalog_unavailable(said)
        }
    }
}

/// The version that a change is meant for, by `If-Match`; `None` for any.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let version = number.and_then(|number| number.parse().ok()).map(Version);
    version.map(Some).ok_or_else(Problem::malformed_if_match)
}

pub(super) fn etag(version: Version) -> HeaderValue {
    // Digits in quotes are a value of a header.
    HeaderValue::from_str(&format!("\"{}\"", version.0)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `node` as the body of an answer.
pub(super) fn json(status: StatusCode, node: &Node) -> Response {
    text(status, JSON, document::to_json(node))
}

/// `body` as an answer.
pub(super) fn text(status: StatusCode, content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A map of `entries`.
pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entry = |(key, value): (&str, Value)| Entry {
        key: key.to_owned(),
        key_position: None,
        node: Node::unplaced(value),
    };
    Value::Map(entries.into_iter().map(entry).collect())
}

/// A list of `items`.
pub(super) fn list(items: impl IntoIterator<Item = Node>) -> Value {
    Value::List(items.into_iter().collect())
}

/// A text, or null.
pub(super) fn optional(text: Option<impl Into<String>>) -> Value {
    text.map_or(Value::Null, |text| Value::String(text.into()))
}
