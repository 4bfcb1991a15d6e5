//! The audit log of the catalog.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tollgate_catalog::directory::{Action, ChangeFilter, Directory, Kind};
use utoipa::openapi::schema::Object;
use utoipa::{IntoParams, ToSchema};

use super::super::answer;
use super::super::problem::Problem;
use super::super::schema::{Id, one_of};
use super::bodies::failed;
use super::target::Parameters;
use super::{CATALOG_TAG, CATALOG_UNAVAILABLE};
use crate::app::{App, Backend};

/// Which changes to list: those that match every given parameter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ChangeParameters {
    /// Only changes of records of this kind.
    #[param(schema_with = kinds)]
    kind: Option<String>,
    /// Only changes of the record with this id.
    id: Option<Id>,
    /// Only changes by this actor.
    actor: Option<Id>,
    /// `nextCursor` of the previous page.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// The most items in the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
}

/// A page of the audit log, the newest change first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ChangePage, examples(json!({"items": [change()], "nextCursor": "41"})))]
struct ChangePageBody {
    items: Vec<ChangeBody>,
    /// `cursor` for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A change of one record.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Change, examples(json!(change())))]
struct ChangeBody {
    /// Its number, in the order in which changes took effect.
    id: u64,
    /// When it was made, in milliseconds since 1970, by the clock of the node.
    at: u64,
    /// The administrator who made it: the name of the token.
    actor: String,
    #[schema(schema_with = actions)]
    action: &'static str,
    #[schema(schema_with = kinds)]
    kind: &'static str,
    /// The id of the record.
    record_id: String,
    /// The record before the change; null if the record was created.
    #[schema(required = true, value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// The record after the change; null if the record was deleted.
    #[schema(required = true, value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
}

fn change() -> Value {
    json!({
        "id": 42, "at": 1_800_000_000_000_u64, "actor": "admin", "action": "update", "kind": "user",
        "recordId": "alice", "before": {"id": "alice", "name": "Alice", "tenantId": "acme", "tier": "free"},
        "after": {"id": "alice", "name": "Alice", "tenantId": "acme", "tier": "enterprise"}
    })
}

fn kinds() -> Object {
    one_of("A kind of record.", Kind::ALL.map(Kind::name)).build()
}

fn actions() -> Object {
    one_of("What the change did to the record.", Action::ALL.map(Action::name)).build()
}

/// List changes
///
/// The audit log: who changed what, and when, the newest change first. If the catalog is a file, the list is empty.
#[utoipa::path(
    get,
    path = "/admin/audit",
    operation_id = "list_changes",
    tag = CATALOG_TAG,
    params(ChangeParameters),
    responses(
        (status = 200, description = "One page of the list", body = ChangePageBody),
        (status = 503, description = CATALOG_UNAVAILABLE)
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
    // A cursor is the number of a change. This also refuses other text if the catalog has no audit log.
    let page = parameters.page(|cursor| {
        let is_number = cursor.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && cursor.parse::<i64>().is_ok()).then(|| cursor.to_owned())
    });
    let (filter, page) =
        parameters.finish("cursor, limit, kind, id, actor", Some((filter, page)))?;
    let changes = app.admin.directory.changes(&filter, &page).await.map_err(|e| failed(&e))?;
    let record = |json: &Option<String>| RawValue::from_string(json.clone()?).ok();
    let items = changes.items.iter().map(|change| ChangeBody {
        id: change.id,
        at: change.at.as_ns() / 1_000_000,
        actor: change.actor.name().to_owned(),
        action: change.action.name(),
        kind: change.kind.name(),
        record_id: change.record_id.to_string(),
        before: record(&change.before),
        after: record(&change.after),
    });
    let page = ChangePageBody { items: items.collect(), next_cursor: changes.next_cursor };
    Ok(answer::json(StatusCode::OK, &page))
}
