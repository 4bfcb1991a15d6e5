//! The calls that decide: check, enforce, peek and batches of checks.
//!
//! Each parses, asks one use case and renders.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use http_body_util::{Either, Full};
use tollgate_core::{Check, Clock};
use tollgate_store::{Store, StoreError};

use super::answer::{decision_json, decisions_json};
use super::body::read_json;
use super::client::Client;
use super::problem::Problem;
use super::request::CheckRequest;
use super::schema::{BatchBody, CheckBody};
use crate::app::App;
use crate::metrics::Call;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Decide a check and charge it
///
/// Answers 200 for an allowed and for a denied check: read `allowed`. Either all limits that the check meets are
/// charged, or none.
#[utoipa::path(
    post,
    path = "/rate-limit/check",
    tag = "rate limit",
    request_body = CheckBody,
    responses(super::schema::CheckAnswers)
)]
pub(crate) async fn check<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    answer(&app, request, Call::Check).await.map(Body::new)
}

/// Decide a check, charge it, and deny with the status
///
/// The same as a check, but a denial has the status 429, for callers that act on the status.
#[utoipa::path(
    post,
    path = "/rate-limit/enforce",
    tag = "rate limit",
    request_body = CheckBody,
    responses(super::schema::EnforceAnswers)
)]
pub(crate) async fn enforce<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    answer(&app, request, Call::Enforce).await.map(Body::new)
}

/// Peek at the decision that a check would get now
///
/// Charges nothing, whatever the decision is.
#[utoipa::path(
    post,
    path = "/rate-limit/peek",
    tag = "rate limit",
    request_body = CheckBody,
    responses(super::schema::CheckAnswers)
)]
pub(crate) async fn peek<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    answer(&app, request, Call::Peek).await.map(Body::new)
}

/// Decide several checks, each separately
///
/// Decides the checks in order. A denied check does not prevent others from being charged. If one check is malformed,
/// none is decided.
#[utoipa::path(
    post,
    path = "/rate-limit/check/batch",
    tag = "rate limit",
    request_body = BatchBody,
    responses(super::schema::BatchAnswers)
)]
pub(crate) async fn check_batch<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    respond(decide_batch(&app, request).await)
}

#[inline]
fn respond(answered: Result<Response<Body>, Problem>) -> Response<Body> {
    answered.unwrap_or_else(Problem::into_response)
}

/// The answer of `call`, which decides one check, to `request`.
#[inline]
pub(super) async fn answer<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
    call: Call,
) -> Response<Either<Full<Bytes>, Body>> {
    match decide(app, request, call).await {
        Ok(response) => response.map(Either::Left),
        Err(problem) => problem.into_response().map(Either::Right),
    }
}

#[inline]
async fn decide<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
    call: Call,
) -> Result<Response<Full<Bytes>>, Problem> {
    let client = request.extensions().get::<Client>().copied();
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let started = app.clock.now();
    let request = CheckRequest::parse(&body, client)?;
    let check: Check<'_> = request.check();
    let decision = match call {
        Call::Peek => app.service.peek(&check).await,
        _ => app.service.check(&check).await,
    };
    let decision = decision.map_err(|error| store_failed(app, &error))?;
    if !matches!(call, Call::Peek) {
        app.metrics.decided(&decision);
    }
    let json = decision_json(&decision).map_err(|error| cannot_render(&error))?;
    let mut response = json_response(json);
    if !decision.allowed() && matches!(call, Call::Enforce) {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    tollgate_http::apply(&decision, response.headers_mut());
    app.metrics.took(call, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(response)
}

async fn decide_batch<S: Store>(
    app: &App<S>,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let client = request.extensions().get::<Client>().copied();
    let body = read_json(request, app.bodies(app.limits.max_batch_body_bytes)).await?;
    let started = app.clock.now();
    let requests = CheckRequest::parse_batch(&body, client)?;
    let checks: Vec<Check<'_>> = requests.iter().map(CheckRequest::check).collect();
    let decided = app.service.check_batch(&checks).await.map_err(|error| {
        // The parser refuses such a batch; the use case checks it as well.
        tracing::error!(%error, "the parser accepted a batch that is too large");
        Problem::internal()
    })?;
    let mut decisions = Vec::with_capacity(decided.len());
    for decision in decided {
        let decision = decision.map_err(|error| store_failed(app, &error))?;
        app.metrics.decided(&decision);
        decisions.push(decision);
    }
    let json = decisions_json(&decisions).map_err(|error| cannot_render(&error))?;
    let response = json_response(json).map(Body::new);
    app.metrics.took(Call::Batch, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(response)
}

pub(super) fn json_response(json: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

#[cold]
pub(super) fn store_failed<S>(app: &App<S>, error: &StoreError) -> Problem {
    app.metrics.store_errors.inc();
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "no decision was possible: the store failed"
    );
    Problem::store_unavailable()
}

#[cold]
pub(super) fn cannot_render(error: &serde_json::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "a decision could not be rendered");
    Problem::internal()
}
