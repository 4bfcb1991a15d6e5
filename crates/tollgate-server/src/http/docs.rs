//! The API's documentation: the OpenAPI document, Swagger UI and ReDoc, all from the binary.
//!
//! The pages load nothing from other servers; their content security policy enforces this.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::{OpenApi as OpenApiDocument, PathItem};
use utoipa::{Modify, OpenApi};

use super::admin::AdminDocumentation;
use super::problem::Problem;
use super::schema::problem;

/// The document, generated from the handlers and types that it describes.
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
        super::admin::catalog::validate,
        super::admin::catalog::export,
        super::admin::catalog::import,
        super::admin::catalog::audit,
        super::admin::explain::explain,
        super::admin::usage::usage,
        super::admin::explain::reset,
        super::admin::events::events,
        super::admin::session::session,
        super::operations::healthz,
        super::operations::readyz,
        super::operations::metrics
    ),
    components(schemas(
        super::answer::DecisionBody,
        super::answer::LimitBody,
        super::answer::DecisionsBody,
        super::problem::Problem,
        super::problem::FieldProblem
    )),
    modifiers(&AdminDocumentation, &AnswersOfAll),
    tags(
        (name = "rate limit", description = "Ask whether a request may pass"),
        (
            name = "policies and directory",
            description = "Policies, and whom they are for: tenants, users, API keys, tiers and models"
        ),
        (name = "usage", description = "What limits have counted"),
        (name = "operations", description = "Run the server")
    )
)]
pub(crate) struct Document;

/// Adds the answers that any call may give before its handler runs.
struct AnswersOfAll;

impl Modify for AnswersOfAll {
    fn modify(&self, document: &mut OpenApiDocument) {
        for item in document.paths.paths.values_mut() {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, put, post, delete, patch].into_iter().flatten() {
                let answers = &mut operation.responses.responses;
                let other_host = "The request is for a host that this server does not answer for";
                answers.entry("421".to_owned()).or_insert_with(|| problem(other_host));
                if operation.request_body.is_some() {
                    let full =
                        "Requests that have not come whole take all the memory for them; ask again";
                    answers.entry("503".to_owned()).or_insert_with(|| problem(full));
                    let malformed = "The host of the request cannot be read";
                    answers.entry("400".to_owned()).or_insert_with(|| problem(malformed));
                }
            }
        }
    }
}

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
        .route("/openapi.json", get(async || document()))
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
    Document::openapi().to_json()
}

/// The same for a file: with fields sorted alphabetically, so that an unchanged document is the same text.
pub(crate) fn sorted_openapi_json() -> serde_json::Result<String> {
    let mut document = serde_json::to_value(Document::openapi())?;
    document.sort_all_objects();
    serde_json::to_string(&document)
}

/// Built for each request, which is rare and takes less than a millisecond.
fn document() -> Response {
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
