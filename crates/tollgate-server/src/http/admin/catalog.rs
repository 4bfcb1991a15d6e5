//! The records of the catalog, their history, and all of them at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tollgate_catalog::directory::{
    Actor, ChangeFilter, Directory, DirectoryError, Filter, Kind, Page, Record, Stored,
};
use tollgate_catalog::document::{self, MAX_DOCUMENT_BYTES, Node, Value};
use tollgate_catalog::{Format, validate as judge};

use super::super::problem::Problem;
use super::CATALOG_TAG;
use super::addressable;
use super::bodies::{self, etag, failed, list as list_value, map, optional};
use super::collection::Collection;
use super::if_match::IfMatch;
use super::schema::{
    CatalogBody, CatalogUnavailable, ChangePageBody, ChangeParameters, ChangeRefused, ImportedBody,
    JudgedBody, JudgementBody, QueryRefused,
};
use super::target::{At, NoParameters, Of, Parameters};
use crate::app::{App, Backend};

fn stored(status: StatusCode, stored: &Stored) -> Response {
    let mut response = bodies::json(status, &stored.record.to_node());
    response.headers_mut().insert(header::ETAG, etag(stored.version));
    response
}

fn page_of(items: Value, next_cursor: Option<String>) -> Node {
    Node::unplaced(map([("items", items), ("nextCursor", optional(next_cursor))]))
}

pub(super) async fn list<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Of(collection): Of,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    // What these records do not have is left over, and so unknown.
    let mut filter_by =
        |name| if collection.filters.contains(&name) { parameters.id(name) } else { None };
    let filter = Filter {
        tenant_id: filter_by("tenantId"),
        user_id: filter_by("userId"),
        tier: filter_by("tier"),
        model_tier: filter_by("modelTier"),
        search: parameters.id("search").map(|search| search.to_string()),
    };
    let page = parameters.page(|cursor| collection.id_in(cursor));
    let accepted = [&["cursor", "limit", "search"][..], collection.filters].concat().join(", ");
    let (filter, page) = parameters.finish(accepted, Some((filter, page)))?;
    let listed = app.admin.directory.list(collection.kind, &filter, &page).await;
    let Page { items, next_cursor } = listed.map_err(|e| failed(&e))?;
    let items = list_value(items.iter().map(|stored| stored.record.to_node()));
    let next_cursor = next_cursor.map(|id| collection.cursor(&id));
    Ok(bodies::json(StatusCode::OK, &page_of(items, next_cursor)))
}

pub(super) async fn get<S: Backend>(
    State(app): State<Arc<App<S>>>,
    At { kind, id }: At,
    _: NoParameters,
) -> Result<Response, Problem> {
    let found = app.admin.directory.get(kind, &id).await.map_err(|e| failed(&e))?;
    Ok(stored(StatusCode::OK, &found))
}

pub(super) async fn create<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    Of(&Collection { kind, .. }): Of,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    if request.headers().contains_key(header::IF_MATCH) {
        return Err(Problem::if_match_without_record());
    }
    let body = bodies::read(request, bodies::RECORD, app.bodies(app.limits.max_body_bytes)).await?;
    addressable::record(kind, &body)?;
    let made = app.admin.directory.create(&actor, kind, &body).await.map_err(|e| failed(&e))?;
    let mut node = made.stored.record.to_node();
    if let (Some(secret), Value::Map(entries)) = (&made.secret, &mut node.value) {
        // Shown now and never again.
        let Value::Map(key) = map([("key", Value::String(secret.reveal().to_owned()))]) else {
            return Err(Problem::internal());
        };
        entries.extend(key);
    }
    let mut response = bodies::json(StatusCode::CREATED, &node);
    response.headers_mut().insert(header::ETAG, etag(made.stored.version));
    Ok(response)
}

pub(super) async fn replace<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let condition = IfMatch::of(request.headers())?;
    let body = bodies::read(request, bodies::RECORD, app.bodies(app.limits.max_body_bytes)).await?;
    let directory = &app.admin.directory;
    let version = condition.expected(directory, kind, &id).await?;
    let changed = directory.replace(&actor, kind, &id, version, &body).await;
    Ok(stored(StatusCode::OK, &changed.map_err(|e| failed(&e))?))
}

pub(super) async fn patch<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let condition = IfMatch::of(request.headers())?;
    let body = bodies::read(request, bodies::PATCH, app.bodies(app.limits.max_body_bytes)).await?;
    let directory = &app.admin.directory;
    let version = condition.expected(directory, kind, &id).await?;
    let changed = directory.patch(&actor, kind, &id, version, &body).await;
    Ok(stored(StatusCode::OK, &changed.map_err(|e| failed(&e))?))
}

pub(super) async fn delete<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    _: NoParameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let directory = &app.admin.directory;
    let version = IfMatch::of(&headers)?.expected(directory, kind, &id).await?;
    let deleted = directory.delete(&actor, kind, &id, version).await;
    deleted.map_err(|e| failed(&e))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Judge policies
///
/// Tells what is wrong with a policy, or with a policy file in YAML, JSON or TOML, and changes nothing.
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
    let judged = if is_document {
        judge::policies("", Some(&body)).map(|policies| policies.len())
    } else {
        judge::record("", Kind::Policy, &body).map(|_: Record| 1)
    };
    let count = judged.map_err(|problems| bodies::invalid(&problems))?;
    let answer =
        map([("valid", Value::Bool(true)), ("policies", Value::Number(count.to_string()))]);
    Ok(bodies::json(StatusCode::OK, &Node::unplaced(answer)))
}

/// List changes
///
/// Who changed what, and when; the newest change first. A catalog in a file has no history.
#[utoipa::path(
    get,
    path = "/admin/audit",
    operation_id = "list_changes",
    tag = CATALOG_TAG,
    params(ChangeParameters),
    responses(
        (status = 200, description = "A page of them", body = ChangePageBody),
        QueryRefused,
        CatalogUnavailable
    )
)]
pub(super) async fn audit<S: Backend>(
    State(app): State<Arc<App<S>>>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let kinds = Kind::ALL.map(Kind::name).join(", ");
    let filter = ChangeFilter {
        kind: parameters.take("kind", kinds, Kind::parse),
        record_id: parameters.id("id"),
        actor: parameters.id("actor"),
    };
    // The number of a change. A catalog without a history refuses what is none, too.
    let page = parameters.page(|cursor| {
        let is_number = cursor.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && cursor.parse::<i64>().is_ok()).then(|| cursor.to_owned())
    });
    let (filter, page) =
        parameters.finish("cursor, limit, kind, id, actor", Some((filter, page)))?;
    let changes = app.admin.directory.changes(&filter, &page).await.map_err(|e| failed(&e))?;
    let record = |json: Option<&String>| match json {
        None => Value::Null,
        // What the catalog wrote, it can read.
        Some(text) => {
            document::read(text, Format::Json).ok().flatten().map_or(Value::Null, |node| node.value)
        }
    };
    let items = changes.items.iter().map(|change| {
        Node::unplaced(map([
            ("id", Value::Number(change.id.to_string())),
            ("at", Value::Number((change.at.as_ns() / 1_000_000).to_string())),
            ("actor", Value::String(change.actor.name().to_owned())),
            ("action", Value::String(change.action.name().to_owned())),
            ("kind", Value::String(change.kind.name().to_owned())),
            ("recordId", Value::String(change.record_id.to_string())),
            ("before", record(change.before.as_ref())),
            ("after", record(change.after.as_ref())),
        ]))
    });
    Ok(bodies::json(StatusCode::OK, &page_of(list_value(items), changes.next_cursor)))
}

/// Export the catalog
///
/// Everything but API keys, as a policy file: YAML, or JSON where `Accept` names `application/json`. API keys are not
/// in it, because nobody has their secrets any more; without them they would be good for nothing.
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
        CatalogUnavailable
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
        return Ok(bodies::json(StatusCode::OK, &document));
    }
    let yaml = HeaderValue::from_static(bodies::YAML);
    Ok(bodies::text(StatusCode::OK, yaml, document::to_yaml(&document)))
}

/// Import a policy file
///
/// Makes or replaces every record of the file, all or none. Records that it does not name stay. The file is YAML, JSON
/// or TOML, as `Content-Type` says; a problem has its line and column.
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
        (status = 200, description = "What it did", body = ImportedBody),
        ChangeRefused,
        CatalogUnavailable
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
    let imported = app.admin.directory.import(&actor, &body).await;
    let imported = imported.map_err(|error| match &error {
        // Nothing else is at this path.
        DirectoryError::ReadOnly => Problem::read_only(error.to_string(), ""),
        _ => failed(&error),
    })?;
    let number = |count: usize| Value::Number(count.to_string());
    let answer = map([
        ("created", number(imported.created)),
        ("updated", number(imported.updated)),
        ("unchanged", number(imported.unchanged)),
    ]);
    Ok(bodies::json(StatusCode::OK, &Node::unplaced(answer)))
}
