//! What passes through the gateway now, for people who look.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tollgate_gateway::GatewayMonitor;
use tollgate_gateway::monitor::{
    ModelTraffic, QueueView, RequestOutcome, TokenKind, UpstreamResult, UpstreamView,
};
use utoipa::ToSchema;

use super::super::answer;
use super::target::NoParameters;
use crate::app::{App, Backend};

/// What passes through the gateway of this server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Traffic, examples(json!({
    "gateway": {
        "inFlight": 3,
        "queues": [{"class": "standard", "length": 1, "waited": 410, "waitMs": 5_120}],
        "models": [{
            "model": "gpt-4", "requests": {"completed": 398, "limited": 12},
            "tokens": {"input": 120_400, "output": 64_210}, "outputSoFar": 64_530
        }],
        "upstreams": [{
            "id": "vllm-a", "dialect": "openai", "state": "available",
            "requestsInFlight": 3, "maxConcurrency": 64, "tokensInFlight": 9_300, "maxTokensInFlight": 200_000,
            "requests": {"answered": 401, "unreachable": 1}, "retries": 1
        }],
        "denials": {"limited": 12}
    }
})))]
struct TrafficBody {
    /// The gateway; null if this server has none.
    #[schema(required = true)]
    gateway: Option<GatewayTraffic>,
}

/// What passes through a gateway. Counts begin at 0 when the server starts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GatewayTraffic {
    /// The requests that are being answered or wait.
    in_flight: u64,
    /// The queue by priority class, the highest first.
    queues: Vec<QueueTraffic>,
    /// The models, in the order of the configuration. The first 50 are named, and the others share `(other)`.
    models: Vec<ModelCounts>,
    /// The upstreams, in the order of the configuration.
    upstreams: Vec<UpstreamTraffic>,
    /// The requests that got an error of the gateway in place of an answer, by reason: the outcomes `limited`, `queue_full`,
    /// `provider_limited`, `no_upstream`, `upstream_timeout`, `unauthorized`, `invalid` and `unavailable`.
    denials: BTreeMap<&'static str, u64>,
}

/// The queue of a priority class.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct QueueTraffic {
    /// The class.
    class: &'static str,
    /// The requests that wait for room at an upstream.
    length: usize,
    /// The requests that got room or were turned away, most of them at once.
    waited: u64,
    /// How long these have waited in all, in milliseconds.
    wait_ms: u64,
}

/// What was counted for a model.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ModelCounts {
    /// Its name.
    model: String,
    /// The requests that have ended, by outcome, as in the metric `tollgate_gateway_requests_total`.
    requests: BTreeMap<&'static str, u64>,
    /// The tokens of answers that have ended, by kind, as in the metric `tollgate_gateway_tokens_total`.
    tokens: BTreeMap<&'static str, u64>,
    /// The tokens of answers so far, running answers included. Its growth is the rate at which tokens are generated.
    output_so_far: u64,
}

/// The load and the state of an upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpstreamTraffic {
    /// Its name.
    id: String,
    /// `openai` or `anthropic`
    dialect: &'static str,
    /// `available`, `open` (it fails and gets no requests), `half_open` (the next request finds out whether it works again) or
    /// `limited` (its provider limits requests).
    state: &'static str,
    /// The requests in flight.
    requests_in_flight: u32,
    /// The most requests in flight.
    max_concurrency: u32,
    /// What they have reserved, in tokens.
    tokens_in_flight: u64,
    /// The most of these.
    max_tokens_in_flight: u64,
    /// The requests that it was sent, by result: `answered`, `unreachable`, `timeout`, `refused`, `limited`.
    requests: BTreeMap<&'static str, u64>,
    /// The requests that were tried at another upstream after this one had failed.
    retries: u64,
}

/// Show the traffic of the gateway
///
/// What passes through the gateway of this server now, and what was counted since its start. It names nobody. Read it twice for
/// rates.
#[utoipa::path(
    get,
    path = "/admin/traffic",
    operation_id = "show_traffic",
    tag = "operations",
    responses((status = 200, description = "The traffic", body = TrafficBody))
)]
pub(super) async fn traffic<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
) -> Response {
    let gateway = app.metrics.gateway.monitor().map(GatewayTraffic::of);
    answer::json(StatusCode::OK, &TrafficBody { gateway })
}

impl GatewayTraffic {
    fn of(monitor: &GatewayMonitor) -> Self {
        let traffic: Vec<_> = monitor.traffic().collect();
        let denials = outcomes(&traffic, RequestOutcome::is_denial);
        let by_model = traffic.chunk_by(|one, other| one.model == other.model);
        let named = by_model.filter(|same| same.iter().all(|one| one.is_of_a_model));
        Self {
            in_flight: monitor.in_flight(),
            queues: monitor.queues().map(QueueTraffic::of).collect(),
            models: named.map(ModelCounts::of).collect(),
            upstreams: monitor.upstreams().map(|one| UpstreamTraffic::of(&one)).collect(),
            denials,
        }
    }
}

/// The outcomes that are `counted` and have happened.
fn outcomes(
    traffic: &[ModelTraffic<'_>],
    counted: fn(RequestOutcome) -> bool,
) -> BTreeMap<&'static str, u64> {
    let sum = |index: usize| traffic.iter().map(|one| one.outcomes[index]).sum();
    let all = RequestOutcome::ALL.into_iter().enumerate();
    let all = all.filter(|(_, outcome)| counted(*outcome));
    happened(all.map(|(index, outcome)| (outcome.name(), sum(index))))
}

fn happened(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

impl ModelCounts {
    /// The sum of `same`, which are of one model.
    fn of(same: &[ModelTraffic<'_>]) -> Self {
        let tokens = |index: usize| same.iter().map(|one| one.tokens[index]).sum();
        let kinds = TokenKind::ALL.into_iter().enumerate();
        Self {
            model: same.first().map_or("", |one| one.model).to_owned(),
            requests: outcomes(same, |_| true),
            tokens: happened(kinds.map(|(index, kind)| (kind.name(), tokens(index)))),
            output_so_far: same.iter().map(|one| one.output_so_far).sum(),
        }
    }
}

impl QueueTraffic {
    fn of(queue: QueueView) -> Self {
        Self {
            class: queue.class.name(),
            length: queue.length,
            waited: queue.waits.count(),
            wait_ms: queue.waits.sum / 1_000_000,
        }
    }
}

impl UpstreamTraffic {
    fn of(upstream: &UpstreamView<'_>) -> Self {
        let results = UpstreamResult::ALL.into_iter().zip(upstream.results);
        Self {
            id: upstream.id.to_owned(),
            dialect: upstream.dialect.name(),
            state: upstream.state.name(),
            requests_in_flight: upstream.requests_in_flight,
            max_concurrency: upstream.max_concurrency,
            tokens_in_flight: upstream.tokens_in_flight,
            max_tokens_in_flight: upstream.max_tokens_in_flight,
            requests: happened(results.map(|(result, count)| (result.name(), count))),
            retries: upstream.retries,
        }
    }
}
