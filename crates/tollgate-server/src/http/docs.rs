//! The API's documentation: the OpenAPI document, Swagger UI and ReDoc, all from the binary.
//!
//! The pages load nothing from other servers; their content security policy enforces this.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::admin;
use super::problem::Problem;
use super::schema;

/// What the handlers and types say of themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "A rate limiter for AI inference: may this request reach the GPUs now, and if not, when?",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        super::check::check,
        super::check::enforce,
        super::check::peek,
        super::check::check_batch,
        super::auth::authorize,
        super::leases::reserve_lease,
        super::leases::extend_lease,
        super::leases::settle_lease,
        super::leases::release_lease,
        super::leases::settle_batch,
        super::admin::files::validate,
        super::admin::files::export,
        super::admin::files::import,
        super::admin::audit::audit,
        super::admin::explain::explain,
        super::admin::usage::usage,
        super::admin::leases::live,
        super::admin::leases::release,
        super::admin::explain::reset,
        super::admin::events::events,
        super::admin::session::session,
        super::admin::traffic::traffic,
        super::admin::what_if::what_if,
        super::operations::healthz,
        super::operations::readyz,
        super::operations::metrics
    ),
    components(schemas(
        super::answer::DecisionBody,
        super::answer::LimitBody,
        super::answer::DecisionsBody,
        super::leases::DeniedBody,
        super::leases::GrantedBody,
        super::leases::NewLeaseBody,
        super::leases::LeaseBody,
        super::leases::HoldBody,
        super::leases::SettlementsBody,
        super::leases::SettledBody,
        super::leases::AcceptedBody,
        super::problem::Problem,
        super::problem::FieldProblem
    )),
    tags(
        (name = "rate limit", description = "Ask whether a request may pass"),
        (name = "leases", description = "Reserve before a request, and settle what it used after it"),
        (
            name = "policies and directory",
            description = "Policies, and the records that they apply to: tenants, users, API keys, tiers and models"
        ),
        (name = "usage", description = "The usage of limits"),
        (name = "operations", description = "Run the server")
    )
)]
struct Document;

/// The document of the types and attributes, completed: with the calls for records, and with what calls of a kind all
/// answer.
pub(super) fn document() -> serde_json::Result<Value> {
    let mut document = serde_json::to_value(Document::openapi())?;
    admin::add_records(&mut document);
    schema::require_subject(&mut document);
    let Value::Object(paths) = &mut document["paths"] else { return Ok(document) };
    for (path, item) in paths {
        let Value::Object(operations) = item else { continue };
        for (method, operation) in operations {
            // `parameters` are those of all methods of the path.
            if let Value::Object(operation) = operation {
                complete(operation, method, path);
            }
        }
    }
    Ok(document)
}

/// Adds to the operation `method` of `path` what the reader of bodies, the guard and the check of the host answer, where
/// it says nothing of its own about such a status. A refusal without a body of its own has a problem, except the denial of
/// `/rate-limit/auth`, which has none.
fn complete(operation: &mut Map<String, Value>, method: &str, path: &str) {
    let is_admin = path.starts_with("/admin/");
    if is_admin {
        admin::add_guard(operation, method, path);
    }
    let reads_body = operation.contains_key("requestBody");
    let Some(Value::Object(answers)) = operation.get_mut("responses") else { return };
    let mut common = vec![("421", "The request names a host that this server does not accept")];
    if reads_body {
        common.extend(BODY_REFUSALS);
    } else if is_admin {
        common.push(("422", "A parameter of the query is unknown or out of range"));
    }
    if reads_body || is_admin {
        common.push(("500", "Internal server error"));
    }
    for (status, description) in common {
        answers.entry(status).or_insert_with(|| json!({"description": description}));
    }
    for (status, answer) in answers {
        let is_denial = path == super::auth::AUTH && status == "429";
        if status.as_str() >= "400" && answer.get("content").is_none() && !is_denial {
            let schema = json!({"$ref": "#/components/schemas/Problem"});
            answer["content"] = json!({"application/problem+json": {"schema": schema}});
        }
    }
}

/// What every call that reads a body may answer without having looked at it.
const BODY_REFUSALS: [(&str, &str); 6] = [
    ("400", "The body does not match its declared type or is incomplete; the problem says where"),
    ("408", "The body did not arrive in time"),
    (
        "413",
        "The body has more bytes than are accepted: by default 64 KiB, for a batch or for policies to judge 4 MiB, and \
         always 16 MiB for an import or a comparison of policies",
    ),
    ("415", "The `Content-Type` is not accepted here, or the body has a `Content-Encoding`"),
    ("422", "Fields or parameters of the query are not accepted; the problem names them all"),
    ("503", "Unfinished requests use all of the memory reserved for them; try again"),
];

/// The pages may load what this server serves, and nothing else.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NO_SNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

// The paths in the pages are relative, so that they work behind a proxy that adds a prefix.
const SWAGGER_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tollgate API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

const SWAGGER_START: &str = r##"SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"##;

const REDOC_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tollgate API</title>
<style>body { margin: 0 }</style>
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<script src="redoc/redoc.standalone.js"></script>
</body>
</html>
"#;

/// See `assets/redoc/README.md` for its version and how to update it.
const REDOC_SCRIPT: &[u8] = include_bytes!("../../assets/redoc/redoc.standalone.js");

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The paths of the documentation.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let swagger_style = async || swagger_asset("swagger-ui.css", CSS);
    let swagger_script = async || swagger_asset("swagger-ui-bundle.js", JAVASCRIPT);
    Router::new()
        .route("/openapi.json", get(async || answer()))
        .route("/docs", get(async || page(SWAGGER_PAGE)))
        .route("/docs/", get(async || Redirect::permanent("../docs")))
        .route("/redoc/", get(async || Redirect::permanent("../redoc")))
        .route("/docs/start.js", get(async || asset(JAVASCRIPT, SWAGGER_START.as_bytes())))
        .route("/docs/swagger-ui.css", get(swagger_style))
        .route("/docs/swagger-ui-bundle.js", get(swagger_script))
        .route("/redoc", get(async || page(REDOC_PAGE)))
        .route("/redoc/redoc.standalone.js", get(async || asset(JAVASCRIPT, REDOC_SCRIPT)))
}

/// The OpenAPI 3.1 document of the HTTP interface.
pub fn openapi_json() -> serde_json::Result<String> {
    document().and_then(|document| serde_json::to_string(&document))
}

/// The same for a file: with fields sorted alphabetically, so that an unchanged document is the same text.
pub(crate) fn sorted_openapi_json() -> serde_json::Result<String> {
    let mut document = document()?;
    document.sort_all_objects();
    serde_json::to_string(&document)
}

/// Built for each request, which is rare and takes less than a millisecond.
fn answer() -> Response {
    match openapi_json() {
        Ok(json) => ([(header::CONTENT_TYPE, JSON)], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document could not be written");
            Problem::internal().into_response()
        }
    }
}

fn page(html: &'static str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, HTML), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY), NO_SNIFF];
    (headers, html).into_response()
}

fn asset(content_type: HeaderValue, bytes: impl Into<Bytes>) -> Response {
    let cached = HeaderValue::from_static("public, max-age=3600");
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, cached), NO_SNIFF];
    (headers, bytes.into()).into_response()
}

fn swagger_asset(name: &str, content_type: HeaderValue) -> Response {
    match utoipa_swagger_ui::serve(name, Arc::new(utoipa_swagger_ui::Config::default())) {
        Ok(Some(file)) => asset(content_type, file.bytes.into_owned()),
        _ => Problem::not_found().into_response(),
    }
}
