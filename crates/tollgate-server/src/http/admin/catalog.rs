//! The records of the catalog: list, create, get, replace, change, delete.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use tollgate_catalog::api_key::ApiKeySecret;
use tollgate_catalog::directory::{Actor, Directory, Filter, Kind, Record, Stored, source};
use tollgate_catalog::document::{Entry, Node, Value};
use tollgate_catalog::{CatalogWarning, DocumentProblem, Snapshot};

use super::super::answer;
use super::super::problem::Problem;
use super::bodies::{self, etag, failed, raw};
use super::collection::Collection;
use super::if_match::IfMatch;
use super::target::{At, NoParameters, Of, Parameters};
use super::{addressable, needs_leases};
use crate::app::{App, Backend};

/// A page of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordPage {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// `record` with what the admin calls add to it: where a policy comes from, and what about it is worth a second look.
fn shown(record: &Record, snapshot: &Snapshot) -> Node {
    let mut node = record.to_node();
    if let Record::Policy(policy) = record {
        let is_of_it = |warning: &&CatalogWarning| {
            warning.kind == Kind::Policy && warning.id == policy.id.as_str()
        };
        let of_it = snapshot.warnings().iter().filter(is_of_it);
        let warnings: Vec<_> = of_it.map(|warning| warning_node(&warning.problem)).collect();
        if !warnings.is_empty() {
            add_node(&mut node, "warnings", Value::List(warnings));
        }
    }
    if let Record::Policy(policy) = record
        && let Some(source) = source(policy)
    {
        add(&mut node, "source", source);
    }
    node
}

fn warning_node(problem: &DocumentProblem) -> Node {
    let mut node = Node::unplaced(Value::Map(Vec::new()));
    add(&mut node, "field", &problem.path);
    add(&mut node, "problem", &problem.message);
    add(&mut node, "accepted", &problem.accepted);
    node
}

fn add(node: &mut Node, field: &str, text: &str) {
    add_node(node, field, Value::String(text.to_owned()));
}

fn add_node(node: &mut Node, field: &str, value: Value) {
    if let Value::Map(fields) = &mut node.value {
        let node = Node::unplaced(value);
        fields.push(Entry { key: field.to_owned(), key_position: None, node });
    }
}

/// The record `stored`, and the key that was made with it.
fn stored<S: Backend>(
    app: &App<S>,
    status: StatusCode,
    stored: &Stored,
    key: Option<&str>,
) -> Result<Response, Problem> {
    let mut node = shown(&stored.record, &app.service.policies().snapshot());
    if let Some(key) = key {
        add(&mut node, "key", key);
    }
    let mut response = answer::json(status, &raw(&node)?);
    response.headers_mut().insert(header::ETAG, etag(stored.version));
    Ok(response)
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
    let listed = listed.map_err(|e| failed(&e))?;
    let snapshot = app.service.policies().snapshot();
    let items = listed.items.iter().map(|stored| raw(&shown(&stored.record, &snapshot)));
    let next_cursor = listed.next_cursor.map(|id| collection.cursor(&id));
    let page = RecordPage { items: items.collect::<Result<_, _>>()?, next_cursor };
    Ok(answer::json(StatusCode::OK, &page))
}

pub(super) async fn get<S: Backend>(
    State(app): State<Arc<App<S>>>,
    At { kind, id }: At,
) -> Result<Response, Problem> {
    let found = app.admin.directory.get(kind, &id).await.map_err(|e| failed(&e))?;
    stored(&app, StatusCode::OK, &found, None)
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
    needs_leases::record(has_leases(&app), kind, &body)?;
    let made = app.admin.directory.create(&actor, kind, &body).await.map_err(|e| failed(&e))?;
    // The key is shown now and never again.
    let key = made.secret.as_ref().map(ApiKeySecret::reveal);
    stored(&app, StatusCode::CREATED, &made.stored, key)
}

pub(super) async fn replace<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let condition = IfMatch::of(request.headers())?;
    let body = bodies::read(request, bodies::RECORD, app.bodies(app.limits.max_body_bytes)).await?;
    needs_leases::record(has_leases(&app), kind, &body)?;
    let directory = &app.admin.directory;
    let version = condition.expected(directory, kind, &id).await?;
    let changed = directory.replace(&actor, kind, &id, version, &body).await;
    stored(&app, StatusCode::OK, &changed.map_err(|e| failed(&e))?, None)
}

pub(super) async fn patch<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let condition = IfMatch::of(request.headers())?;
    let body = bodies::read(request, bodies::PATCH, app.bodies(app.limits.max_body_bytes)).await?;
    needs_leases::record(has_leases(&app), kind, &body)?;
    let directory = &app.admin.directory;
    let version = condition.expected(directory, kind, &id).await?;
    let changed = directory.patch(&actor, kind, &id, version, &body).await;
    stored(&app, StatusCode::OK, &changed.map_err(|e| failed(&e))?, None)
}

fn has_leases<S: Backend>(app: &App<S>) -> bool {
    app.service.store().capabilities().leases
}

pub(super) async fn delete<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    At { kind, id }: At,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let directory = &app.admin.directory;
    let version = IfMatch::of(&headers)?.expected(directory, kind, &id).await?;
    let deleted = directory.delete(&actor, kind, &id, version).await;
    deleted.map_err(|e| failed(&e))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
