//! `/admin`: the catalog, its history, and the usage that it limits, for those who bear a token.
//!
//! A body is read into the same document as a policy file and judged by the same code, so a call and a file get the
//! same messages.

mod bodies;
mod catalog;
mod explain;
mod guard;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub(crate) use self::guard::Guard;
use super::problem::Problem;
use crate::app::{App, Backend};

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Every path below `/admin`.
pub(super) fn routes<S: Backend>(app: Arc<App<S>>) -> Router<Arc<App<S>>> {
    let guarded = middleware::from_fn_with_state(app, admit::<S>);
    Router::new()
        .route("/admin/audit", get(catalog::audit::<S>))
        .route("/admin/export", get(catalog::export::<S>))
        .route("/admin/import", post(catalog::import::<S>))
        .route("/admin/policies/validate", post(catalog::validate))
        .route("/admin/explain", post(explain::explain::<S>))
        .route("/admin/usage/reset", post(explain::reset::<S>))
        .route("/admin/{records}", get(catalog::list::<S>).post(catalog::create::<S>))
        .route(
            "/admin/{records}/{id}",
            get(catalog::get::<S>)
                .put(catalog::replace::<S>)
                .patch(catalog::patch::<S>)
                .delete(catalog::delete::<S>),
        )
        .layer(guarded)
}

/// Lets a request pass whose token is good for its method.
async fn admit<S: Backend>(
    State(app): State<Arc<App<S>>>,
    peer: Option<Extension<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(Peer(address))| address);
    match app.admin.guard.admit(request.headers(), peer, request.method()) {
        Ok(_) => next.run(request).await,
        Err(problem) => Problem::into_response(problem),
    }
}
