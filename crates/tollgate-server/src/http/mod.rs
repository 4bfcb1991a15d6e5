//! The HTTP interface: maps paths to use cases, and nothing more.
//!
//! Handlers parse, call one use case and render. No other layer knows JSON.

mod admin;
mod answer;
mod auth;
mod body;
mod check;
mod client;
mod console;
mod docs;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hosts;
mod json;
mod json_writer;
mod leases;
mod operations;
mod problem;
mod request;
mod schema;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response};
use axum::response::IntoResponse as _;
use axum::routing::{any, delete, get, post};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower_service::Service;

use self::admin::Peer;
use self::client::Client;
pub use self::docs::openapi_json;
pub(crate) use self::docs::sorted_openapi_json;
pub(crate) use self::hosts::Hosts;
use self::leases::LEASES;
use self::problem::Problem;
use crate::app::{App, Backend};
use crate::config::TrustedProxies;
use crate::metrics::Call;
use crate::net::RequestHandler;

/// Answers every request over an [`App`].
///
/// The calls that decide one check, and those that reserve, extend or settle one lease, are matched by their path and
/// answered directly. The router has them too, but it allocates several times to find a handler and to hold its future,
/// which is a sixth of the total cost of a check.
pub(crate) struct Http<S> {
    app: Arc<App<S>>,
    router: Router,
    hosts: Hosts,
    proxies: Option<TrustedProxies>,
}

impl<S: Backend> Http<S> {
    pub(crate) fn new(app: Arc<App<S>>, hosts: Hosts, proxies: Option<TrustedProxies>) -> Self {
        Self { router: router(Arc::clone(&app)), app, hosts, proxies }
    }
}

impl<S: Backend> RequestHandler for Http<S> {
    type Body = Either<Full<Bytes>, Body>;

    async fn handle(&self, mut request: Request<Incoming>, peer: IpAddr) -> Response<Self::Body> {
        if let Err(problem) = self.hosts.check(&request) {
            return problem.into_response().map(Either::Right);
        }
        if let Some(proxies) = &self.proxies {
            let client = Client::of(proxies, peer, request.headers());
            request.extensions_mut().insert(client);
        }
        if request.method() == Method::POST {
            let call = match request.uri().path() {
                CHECK => Some(Call::Check),
                ENFORCE => Some(Call::Enforce),
                PEEK => Some(Call::Peek),
                _ => None,
            };
            if let Some(call) = call {
                return check::answer(&self.app, request, call).await;
            }
            // Boxed, so that it does not enlarge the future of a check.
            if request.uri().path() == LEASES {
                return Box::pin(leases::answer_reservation(&self.app, request)).await;
            }
            if let Some((id, action)) = leases::addressed(request.uri().path()) {
                let answer = leases::answer_update(&self.app, request, Some(id), action);
                return Box::pin(answer).await;
            }
        }
        request.extensions_mut().insert(Peer(peer));
        // Boxed for the same reason.
        let Ok(response) = Box::pin(self.router.clone().call(request.map(Body::new))).await;
        response.map(Either::Right)
    }
}

/// The answer if there is no memory for the head of a request.
pub(crate) fn no_memory_for_head() -> Bytes {
    Problem::too_many_unfinished().to_http1().into()
}

const CHECK: &str = "/rate-limit/check";
const ENFORCE: &str = "/rate-limit/enforce";
const PEEK: &str = "/rate-limit/peek";

/// Every path of the server over `app`.
fn router<S: Backend>(app: Arc<App<S>>) -> Router {
    Router::new()
        .route(CHECK, post(check::check))
        .route(ENFORCE, post(check::enforce))
        .route(PEEK, post(check::peek))
        .route("/rate-limit/check/batch", post(check::check_batch))
        .route(auth::AUTH, any(auth::authorize))
        .route(auth::AUTH_ROOT, any(auth::authorize))
        .route(auth::AUTH_BELOW, any(auth::authorize))
        .route(LEASES, post(leases::reserve_lease))
        .route("/rate-limit/leases/{id}", delete(leases::release_lease))
        .route("/rate-limit/leases/{id}/extend", post(leases::extend_lease))
        .route("/rate-limit/leases/{id}/settle", post(leases::settle_lease))
        .route("/rate-limit/settle/batch", post(leases::settle_batch))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .merge(admin::routes(Arc::clone(&app)))
        .merge(docs::routes())
        .merge(console::routes())
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
}
