//! The calls for operators: liveness, readiness, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tollgate_gateway::GatewayMonitor;
use utoipa::ToSchema;

use super::answer::json;
use super::problem::Problem;
use crate::app::{App, Backend};
use crate::metrics::Exposition;

/// Alive
///
/// Answers 200 as long as the process can answer requests.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses((status = 200, description = "It is alive", body = Alive))
)]
pub(crate) async fn healthz() -> Response {
    json(StatusCode::OK, &Alive { status: "ok" })
}

/// Ready
///
/// Whether to send requests to this server, and which part of it is degraded.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It is ready; a part may be degraded", body = Readiness),
        (status = 503, description = "The server is shutting down", body = Readiness)
    )
)]
pub(crate) async fn readyz<S: Backend>(State(app): State<Arc<App<S>>>) -> Response {
    let draining = app.health.draining();
    let catalog_refused = app.health.catalog_refused();
    let store_failure = app.health.store_failure();
    let catalog_unavailable = app.health.catalog_unavailable();
    let (store_evicts, snapshots_fail) = (app.health.store_evicts(), app.health.snapshots_fail());
    let gateway = app.metrics.gateway.monitor().map(GatewayPart::of);
    let degraded = catalog_refused
        || catalog_unavailable
        || store_failure.is_some()
        || store_evicts
        || snapshots_fail
        || gateway.as_ref().is_some_and(|gateway| gateway.part.status != Part::OK.status);
    let (code, status) = match (draining, degraded) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, true) => (StatusCode::OK, "degraded"),
        (false, false) => (StatusCode::OK, "ready"),
    };
    let catalog = if catalog_refused {
        let detail =
            "the latest change of the policies was refused; the previous version stays in force";
        Part { status: "degraded", cause: Some("changeRefused"), detail: Some(detail) }
    } else if catalog_unavailable {
        let detail = "the catalog's database is unavailable; checks use the last known records";
        Part { status: "degraded", cause: Some("unavailable"), detail: Some(detail) }
    } else {
        Part::OK
    };
    let policies_version = app.service.policies().current().version();
    let store = if let Some(kind) = store_failure {
        let detail =
            "the store, or a part of it, is unavailable; checks are decided by the failure mode";
        Part { status: "degraded", cause: Some(kind.name()), detail: Some(detail) }
    } else if store_evicts {
        let detail = "the store evicts keys because its memory is full: limits lose usage and admit too much";
        Part { status: "degraded", cause: Some("evictsKeys"), detail: Some(detail) }
    } else if snapshots_fail {
        let detail = "snapshots of usage cannot be written; a restart would lose what came after the last one";
        Part { status: "degraded", cause: Some("snapshotsFail"), detail: Some(detail) }
    } else {
        Part::OK
    };
    json(code, &Readiness { status, policies_version, parts: Parts { store, catalog, gateway } })
}

/// Metrics
///
/// All metrics of this server, for Prometheus. No label holds a user, a key or an address.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "The metrics, in the format that `Accept` prefers", content(
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (String = "text/plain; version=0.0.4; charset=utf-8"),
    )))
)]
pub(crate) async fn metrics<S: Backend>(
    State(app): State<Arc<App<S>>>,
    headers: HeaderMap,
) -> Response {
    let format = Exposition::asked(&headers);
    match app.metrics_text() {
        Ok(text) => {
            let fields = [
                (header::CONTENT_TYPE, format.content_type()),
                (header::VARY, HeaderValue::from_static("accept")),
            ];
            (fields, format.of(text)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            Problem::internal().into_response()
        }
    }
}

/// The server is alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `ok`
    #[schema(value_type = String, examples("ok"))]
    status: &'static str,
}

/// Whether to send requests to this server.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readiness {
    /// `ready`, `degraded` (works, and a part is degraded) or `draining` (shutting down).
    #[schema(value_type = String, examples("ready"))]
    status: &'static str,
    /// The version of the policies in force, from 1.
    policies_version: u64,
    /// Each part.
    parts: Parts,
}

/// The parts of the server.
#[derive(Serialize, ToSchema)]
pub(crate) struct Parts {
    /// The store, which keeps usage.
    store: Part,
    /// The catalog, which contains the policies.
    catalog: Part,
    /// The gateway; absent if the server has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<GatewayPart>,
}

/// The gateway.
#[derive(Serialize, ToSchema)]
pub(crate) struct GatewayPart {
    #[serde(flatten)]
    part: Part,
    /// The models without a usable upstream, at most 100; absent if the status is `ok`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
}

impl GatewayPart {
    /// The most models that are named.
    const MAX_MODELS: usize = 100;

    fn of(monitor: &GatewayMonitor) -> Self {
        let mut models = monitor.models_without_upstream();
        models.truncate(Self::MAX_MODELS);
        let models: Vec<_> = models.into_iter().map(str::to_owned).collect();
        let detail = "models have no usable upstream: each of theirs fails, or its provider limits requests; their clients get 429 or 503";
        let degraded =
            Part { status: "degraded", cause: Some("modelsWithoutUpstream"), detail: Some(detail) };
        Self { part: if models.is_empty() { Part::OK } else { degraded }, models }
    }
}

/// A part of the server.
#[derive(Serialize, ToSchema)]
pub(crate) struct Part {
    /// `ok` or `degraded`
    #[schema(value_type = String, examples("ok"))]
    status: &'static str,
    /// Why it is degraded; absent if the status is `ok`. The catalog: `unavailable` or `changeRefused`. The store:
    /// `evictsKeys`, `snapshotsFail`, or how it fails, in the words of the label `kind` of the metric `tollgate_store_failures_total`. The
    /// gateway: `modelsWithoutUpstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("unavailable"))]
    cause: Option<&'static str>,
    /// What this means for checks; absent if the status is `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    detail: Option<&'static str>,
}

impl Part {
    const OK: Self = Self { status: "ok", cause: None, detail: None };
}
