//! Policy files: judged, imported, and exported.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use tollgate_catalog::directory::{Actor, Directory, DirectoryError, Imported, Kind};
use tollgate_catalog::document::{self, MAX_DOCUMENT_BYTES, Node, Value};
use tollgate_catalog::validate as judge;
use tollgate_catalog::{CatalogWarning, Snapshot};
use utoipa::ToSchema;

use super::super::answer;
use super::super::problem::Problem;
use super::bodies::{self, failed};
use super::target::NoParameters;
use super::{CATALOG_TAG, CATALOG_UNAVAILABLE, addressable, needs_leases};
use crate::app::{App, Backend};

/// The policy file; [`super::documentation`] has its schema.
#[derive(ToSchema)]
#[schema(as = Catalog)]
struct CatalogBody {}

/// The body to validate: one policy, or a policy file; [`super::documentation`] has its schema.
#[derive(ToSchema)]
#[schema(as = Judged)]
struct JudgedBody {}

/// The result of a validation that found no problem.
#[derive(Serialize, ToSchema)]
#[schema(as = Judgement, examples(json!({"valid": true, "policies": 1})))]
struct JudgementBody {
    /// Always true: an invalid policy is answered with the status 422.
    valid: bool,
    /// How many policies there are.
    #[schema(value_type = u64)]
    policies: usize,
    /// What is valid and worth a second look; absent if nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<WarningBody>,
}

/// What about a policy or another record is worth a second look.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CatalogWarning, rename_all = "camelCase")]
struct WarningBody {
    /// What it is about: `policy`, `tier`, `modelTier`, `model`, `tenant` or `user`.
    kind: &'static str,
    /// Its id.
    id: String,
    /// The field of the policy or record, such as `match.tier`; empty for the policy itself.
    field: String,
    /// What is worth a second look.
    problem: String,
    /// What is usual there.
    accepted: String,
    /// The line in the body; null for a policy after an import.
    #[schema(value_type = Option<u64>)]
    line: Option<usize>,
    /// The column in the line.
    #[schema(value_type = Option<u64>)]
    column: Option<usize>,
}

impl WarningBody {
    fn of(CatalogWarning { kind, id, problem }: CatalogWarning) -> Self {
        Self {
            kind: kind.name(),
            id,
            field: problem.path,
            problem: problem.message,
            accepted: problem.accepted,
            line: problem.position.map(|at| at.line),
            column: problem.position.map(|at| at.column),
        }
    }
}

/// The result of an import.
#[derive(Serialize, ToSchema)]
#[schema(as = Imported, examples(json!({"created": 2, "updated": 1, "unchanged": 5})))]
struct ImportedBody {
    /// How many records were created.
    #[schema(value_type = u64)]
    created: usize,
    /// How many records differed and were replaced.
    #[schema(value_type = u64)]
    updated: usize,
    /// How many records were already the same.
    #[schema(value_type = u64)]
    unchanged: usize,
    /// What about the file is worth a second look; absent if nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<WarningBody>,
}

/// What about the policies and records in `file` is worth a second look, now that they are in force.
fn warnings_about(file: &Node, snapshot: &Snapshot) -> Vec<WarningBody> {
    let text_in = |node: &Node, field: &str| match &node.value {
        Value::Map(entries) => match &entries.iter().find(|entry| entry.key == field)?.node.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    let list = match &file.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == "policies"),
        _ => None,
    };
    let ids: HashSet<_> = match list.map(|list| &list.node.value) {
        Some(Value::List(items)) => items.iter().filter_map(|item| text_in(item, "id")).collect(),
        _ => HashSet::new(),
    };
    let warnings = snapshot.warnings().iter();
    let is_of_file = |warning: &&CatalogWarning| {
        warning.kind == Kind::Policy && ids.contains(warning.id.as_str())
    };
    let of_policies = warnings.filter(is_of_file).cloned();
    of_policies.chain(judge::ids_like_patterns(file)).map(WarningBody::of).collect()
}

/// Validate policies
///
/// Lists every problem in a policy, or in a policy file in YAML, JSON or TOML. Changes nothing.
#[utoipa::path(
    post,
    path = "/admin/policies/validate",
    operation_id = "validate_policies",
    tag = CATALOG_TAG,
    request_body(content(
        (JudgedBody = "application/yaml"),
        (JudgedBody = "application/json"),
        (JudgedBody = "application/toml")
    )),
    responses((status = 200, description = "Nothing is wrong", body = JudgementBody))
)]
pub(super) async fn validate<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body =
        bodies::read(request, bodies::FILE, app.bodies(app.limits.max_batch_body_bytes)).await?;
    let is_document = matches!(&body.value, Value::Map(entries) if entries.iter().any(|entry| entry.key == "policies"))
        || matches!(body.value, Value::List(_));
    let has_leases = app.service.store().capabilities().leases;
    if is_document {
        needs_leases::document(has_leases, &body)?;
    } else {
        needs_leases::record(has_leases, Kind::Policy, &body)?;
    }
    let judged = if is_document {
        judge::records("", Some(&body), judge::Scope::Document).map(|records| {
            (records.policies.len(), tollgate_catalog::policy_file::warnings(&records, Some(&body)))
        })
    } else {
        judge::policy("", &body).map(|policy| {
            let mut declared = app.service.policies().snapshot().listed().declared();
            declared.knows_api_keys = app.admin.directory.is_writable();
            (1, judge::warnings(&[policy], &declared, &judge::Places::of_policy(&body)))
        })
    };
    let (policies, warnings) = judged.map_err(|problems| bodies::invalid(&problems))?;
    let warnings = warnings.into_iter().map(WarningBody::of).collect();
    Ok(answer::json(StatusCode::OK, &JudgementBody { valid: true, policies, warnings }))
}

/// Export the catalog
///
/// The whole catalog as a policy file: YAML, or JSON if `Accept` names `application/json`. API keys are not included:
/// the server keeps only their hashes, so an export of them could not be used. To serve the export from a file, write
/// each `$` in it as `$$`, because a file can name environment variables.
#[utoipa::path(
    get,
    path = "/admin/export",
    operation_id = "export_catalog",
    tag = CATALOG_TAG,
    responses(
        (status = 200, description = "The policy file", content(
            (CatalogBody = "application/yaml"),
            (CatalogBody = "application/json")
        )),
        (status = 503, description = CATALOG_UNAVAILABLE)
    )
)]
pub(super) async fn export<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let document = app.admin.directory.export().await.map_err(|e| failed(&e))?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("application/json")) {
        return Ok(answer::json(StatusCode::OK, &bodies::raw(&document)?));
    }
    let yaml = HeaderValue::from_static(bodies::YAML);
    Ok(bodies::text(StatusCode::OK, yaml, document::to_yaml(&document)))
}

/// Import a policy file
///
/// Creates or replaces all records in the file, or changes nothing if one of them is refused. Records that are not in
/// the file stay. `Content-Type` says whether it is YAML, JSON or TOML; YAML may also be called `application/x-yaml`,
/// `text/yaml`, `text/x-yaml`, `text/vnd.yaml` or anything with `+yaml`. Problems have a line and a column. Environment
/// variables are not replaced: `${NAME}` is text.
#[utoipa::path(
    post,
    path = "/admin/import",
    operation_id = "import_catalog",
    tag = CATALOG_TAG,
    request_body(content(
        (CatalogBody = "application/yaml"),
        (CatalogBody = "application/json"),
        (CatalogBody = "application/toml")
    )),
    responses(
        (status = 200, description = "The result of the import", body = ImportedBody),
        (
            status = 405,
            description = "The catalog is a file; edit the file instead",
            headers(("Allow" = String, description = "The methods that this path accepts"))
        ),
        (status = 409, description = "A user has API keys of its tenant, so it cannot move to another tenant"),
        (status = 503, description = CATALOG_UNAVAILABLE)
    )
)]
pub(super) async fn import<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = bodies::read(request, bodies::FILE, app.bodies(MAX_DOCUMENT_BYTES)).await?;
    addressable::document(&body)?;
    needs_leases::document(app.service.store().capabilities().leases, &body)?;
    let imported = app.admin.directory.import(&actor, &body).await;
    let imported = imported.map_err(|error| match &error {
        // Nothing else is at this path.
        DirectoryError::ReadOnly => Problem::read_only(error.to_string(), ""),
        _ => failed(&error),
    })?;
    let Imported { created, updated, unchanged } = imported;
    let warnings = warnings_about(&body, &app.service.policies().snapshot());
    Ok(answer::json(StatusCode::OK, &ImportedBody { created, updated, unchanged, warnings }))
}
