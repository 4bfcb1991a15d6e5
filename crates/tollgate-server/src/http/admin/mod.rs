//! `/admin`: the catalog, its audit log and the usage of its limits, for callers with an admin token.
//!
//! A body is parsed into the same document model as a policy file and validated by the same code, so both get the same
//! messages.

mod addressable;
pub(super) mod audit;
mod bodies;
pub(super) mod catalog;
mod collection;
mod documentation;
pub(super) mod events;
pub(super) mod explain;
pub(super) mod files;
mod if_match;
pub(super) mod leases;
mod needs_leases;
pub(super) mod session;
mod target;
pub(super) mod traffic;
pub(super) mod usage;
pub(super) mod what_if;
mod what_if_schema;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use self::documentation::CATALOG_TAG;
pub(super) use self::documentation::{add_guard, add_records};
use super::problem::Problem;
use crate::app::{App, Backend};
use crate::config::Role;
use crate::guard::Refusal;

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

const CATALOG_UNAVAILABLE: &str = "The catalog's database is unavailable or busy; try again";

/// Every path below `/admin`.
pub(super) fn routes<S: Backend>(app: Arc<App<S>>) -> Router<Arc<App<S>>> {
    let guarded = middleware::from_fn_with_state(app, admit::<S>);
    let one_record = get(catalog::get::<S>)
        .put(catalog::replace::<S>)
        .patch(catalog::patch::<S>)
        .delete(catalog::delete::<S>);
    // Also the path of a policy that is called `validate`.
    let validate = one_record.clone().post(files::validate::<S>);
    Router::new()
        .route("/admin/audit", get(audit::audit::<S>))
        .route("/admin/export", get(files::export::<S>))
        .route("/admin/import", post(files::import::<S>))
        .route("/admin/policies/validate", validate)
        .route("/admin/explain", post(explain::explain::<S>))
        .route("/admin/events", get(events::events::<S>))
        .route("/admin/session", get(session::session))
        .route("/admin/leases", get(leases::live::<S>))
        .route("/admin/leases/{id}", delete(leases::release::<S>))
        .route("/admin/traffic", get(traffic::traffic::<S>))
        .route("/admin/usage", get(usage::usage::<S>))
        .route("/admin/usage/reset", post(explain::reset::<S>))
        .route("/admin/what-if", post(what_if::what_if::<S>))
        .route("/admin/{records}", get(catalog::list::<S>).post(catalog::create::<S>))
        .route("/admin/{records}/{id}", one_record)
        .layer(guarded)
}

/// Admits a request whose token has the needed role, and passes the actor and the role on to the handler.
async fn admit<S: Backend>(
    State(app): State<Arc<App<S>>>,
    peer: Option<Extension<Peer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(Peer(address))| address);
    let needed = Role::needed(request.method(), request.uri().path());
    match app.admin.guard.admit(request.headers(), peer, needed) {
        Ok((actor, role)) => {
            request.extensions_mut().insert(actor);
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(Refusal::Unauthorized) => Problem::unauthorized().into_response(),
        Err(Refusal::Forbidden) => Problem::forbidden().into_response(),
        Err(Refusal::TooManyGuesses(wait)) => Problem::too_many_guesses(wait).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::docs;
    use super::collection::Collection;

    /// The paths of [`routes`](super::routes) are those of the document.
    #[test]
    fn every_path_is_documented_and_every_documented_path_is_routed() {
        let this_file = include_str!("mod.rs");
        let (code, _) = this_file.split_once("#[cfg(test)]").unwrap();
        let literals =
            code.split('"').skip(1).step_by(2).filter(|text| text.starts_with("/admin/"));
        let routed: BTreeSet<String> = literals
            .flat_map(|path| {
                let concrete = Collection::ALL.map(|one| path.replace("{records}", one.segment));
                BTreeSet::from(concrete)
            })
            .collect();
        let document = docs::document().unwrap();
        let paths = document["paths"].as_object().unwrap();
        let documented = paths.keys().filter(|path| path.starts_with("/admin/"));
        assert_eq!(routed, documented.cloned().collect());
    }
}
