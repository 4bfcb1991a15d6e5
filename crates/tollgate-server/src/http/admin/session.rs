//! Who is signed in: the name and the role of the token that a call bears.

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::Response;
use tollgate_catalog::directory::Actor;
use tollgate_catalog::document::{Node, Value};

use super::bodies::{self, map};
use super::schema::SessionBody;
use super::target::NoParameters;
use crate::config::Role;

/// Show who is signed in
///
/// The name of the token that the call bears, and what it allows.
#[utoipa::path(
    get,
    path = "/admin/session",
    operation_id = "show_session",
    tag = "operations",
    responses((status = 200, description = "Who is signed in", body = SessionBody))
)]
pub(super) async fn session(
    Extension(actor): Extension<Actor>,
    Extension(role): Extension<Role>,
    _: NoParameters,
) -> Response {
    let role = match role {
        Role::Read => "read",
        Role::Write => "write",
    };
    let fields = [("actor", actor.name()), ("role", role)];
    let fields = fields.map(|(name, value)| (name, Value::String(value.to_owned())));
    bodies::json(StatusCode::OK, &Node::unplaced(map(fields)))
}
