//! The layer in axum: `cargo run --example axum`, then
//! `curl -i -H 'x-user: alice' http://127.0.0.1:3000/v1/models/gpt-4`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tollgate::tower::{Caller, Parts, RateLimitLayer};
use tollgate::{Clock, RateLimiter};

/// The user and the model of a request. A real service takes the user from what its authentication has put into
/// `request.extensions`; here, requests without a user share the limit of `anonymous`.
fn caller(request: &Parts) -> Option<Caller<'_>> {
    let model = request.uri.path().strip_prefix("/v1/models/")?;
    let user = request.headers.get("x-user").and_then(|user| user.to_str().ok());
    Some(Caller::new(user.unwrap_or("anonymous"), model))
}

/// The service: models are limited, health is not.
pub(crate) fn app<C: Clock + 'static>(limiter: Arc<RateLimiter<C>>) -> Router {
    Router::new()
        .route("/v1/models/{model}", get(|| async { "an answer\n" }))
        .route("/health", get(|| async { "fine\n" }))
        .layer(RateLimitLayer::new(limiter, caller))
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let limiter = Arc::new(RateLimiter::new(5, Duration::from_mins(1)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(limiter)).await
}
