//! The HTTP interface: paths to use cases, and nothing more.
//!
//! Handlers parse, call one use case and render. JSON is known here and nowhere else.

mod answer;
mod body;
mod check;
mod docs;
mod json;
mod operations;
mod problem;
mod request;
mod schema;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub use self::docs::openapi_json;
use self::problem::Problem;
use crate::app::{App, Backend};

/// Every path of the server over `app`.
pub(crate) fn router<S: Backend>(app: Arc<App<S>>) -> Router {
    Router::new()
        .route("/rate-limit/check", post(check::check))
        .route("/rate-limit/enforce", post(check::enforce))
        .route("/rate-limit/peek", post(check::peek))
        .route("/rate-limit/check/batch", post(check::check_batch))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .merge(docs::routes())
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
}
