//! Who is signed in: the name and the role of the token in the request.

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tollgate_catalog::directory::Actor;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::super::answer;
use super::super::schema::one_of;
use super::target::NoParameters;
use crate::config::Role;

/// Who is signed in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session, examples(json!({"actor": "alice", "role": "write"})))]
struct SessionBody {
    /// The name of the token; the audit log shows it as the actor of changes.
    actor: String,
    #[schema(schema_with = roles)]
    role: &'static str,
}

fn roles() -> Object {
    one_of("What the token allows: reading, or reading and changing.", ["read", "write"]).build()
}

/// Show who is signed in
///
/// The name and the role of the token that was sent.
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
    answer::json(StatusCode::OK, &SessionBody { actor: actor.name().to_owned(), role })
}
