//! The keys of a policy with the most usage or the most denials.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tollgate_core::PolicyId;
use tollgate_service::{By, TopKey};
use utoipa::{IntoParams, ToSchema};

use super::super::answer;
use super::super::problem::Problem;
use super::target::Parameters;
use crate::app::{App, Backend};

const DEFAULT_ITEMS: usize = 20;
const MAX_ITEMS: usize = 100;

/// The policy whose top keys to list, and how many of them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct UsageParameters {
    /// The id of the policy.
    #[param(min_length = 1, max_length = 256, example = "default")]
    policy: String,
    #[param(inline)]
    by: Option<Ranking>,
    /// The most keys to list.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u64>,
}

/// How keys are ranked: by their usage now (the default), or by how often they were denied.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Ranking {
    Count,
    Denials,
}

/// The keys of a policy with the most usage or the most denials.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Usage, examples(json!({
    "policyId": "default", "by": "count", "sinceMs": 1_800_000_000_000_u64,
    "items": [{
        "key": {"user": "alice", "model": "gpt-4"}, "count": 100, "limit": 100, "remaining": 0,
        "retryAfterMs": 1200, "resetAfterMs": 3_480_000, "admitted": 100, "denied": 14
    }]
})))]
pub(super) struct UsageBody {
    /// The policy.
    policy_id: String,
    #[schema(inline)]
    by: Ranking,
    /// Since when this node has counted `admitted` and `denied`, in milliseconds since 1970.
    since_ms: u64,
    /// The keys, highest first.
    items: Vec<TopKeyBody>,
}

/// A key of a policy's limit. The values from the store are null while it is unavailable.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TopKey)]
struct TopKeyBody {
    /// Its attributes and their values.
    key: BTreeMap<String, String>,
    /// The usage now, exactly.
    #[schema(required = true)]
    count: Option<u64>,
    /// The most of the unit in a window.
    #[schema(required = true)]
    limit: Option<u64>,
    /// What is left now.
    #[schema(required = true)]
    remaining: Option<u64>,
    /// The wait in milliseconds until one more is admitted: 0 if it would be now, null if it never will be.
    #[schema(required = true)]
    retry_after_ms: Option<u64>,
    /// When the usage would be 0 again, in milliseconds.
    #[schema(required = true)]
    reset_after_ms: Option<u64>,
    /// How many checks this node admitted for this key; an estimate if there are more than 1,000 a second.
    admitted: u64,
    /// How many checks this limit denied for this key on this node; estimated in the same way.
    denied: u64,
}

/// Top keys of a policy
///
/// The keys with the most usage now, or with the most denials in the last five to ten minutes, among the checks that
/// this node decided. The usage is that of all nodes together, from the store.
#[utoipa::path(
    get,
    path = "/admin/usage",
    operation_id = "list_top_keys",
    tag = "usage",
    params(UsageParameters),
    responses(
        (status = 200, description = "The keys", body = UsageBody),
        (status = 404, description = "There is no policy with this id that is in force and has a limit")
    )
)]
pub(super) async fn usage<S: Backend>(
    State(app): State<Arc<App<S>>>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let policy = parameters.require("policy", "the id of a policy", |id| PolicyId::new(id).ok());
    let by = parameters.take("by", "count or denials", |name| match name {
        "count" => Some((Ranking::Count, By::Use)),
        "denials" => Some((Ranking::Denials, By::Denials)),
        _ => None,
    });
    let (ranking, by) = by.unwrap_or((Ranking::Count, By::Use));
    let most = parameters.items(DEFAULT_ITEMS, MAX_ITEMS);
    let policy = parameters.finish("policy, by, limit", policy)?;
    let top = app.service.top_keys(&policy, by, most).await;
    let (since, keys) = top.ok_or_else(|| {
        let said = format!("no policy in force has the id {:?} and a limit", policy.as_str());
        Problem::no_record(said)
    })?;
    let body = UsageBody {
        policy_id: policy.as_str().to_owned(),
        by: ranking,
        since_ms: since.as_ns() / 1_000_000,
        items: keys.into_iter().map(TopKeyBody::from).collect(),
    };
    Ok(answer::json(StatusCode::OK, &body))
}

impl From<TopKey> for TopKeyBody {
    fn from(TopKey { counts, status }: TopKey) -> Self {
        let key = counts.key.into_iter();
        let status = status.as_ref();
        Self {
            key: key
                .map(|(attribute, value)| (attribute.name().to_owned(), value.into()))
                .collect(),
            count: status.map(|status| status.count),
            limit: status.map(|status| status.limit.amount().get()),
            remaining: status.map(|status| status.remaining),
            retry_after_ms: status.and_then(|status| status.retry_after_ms),
            reset_after_ms: status.map(|status| status.reset_after_ms),
            admitted: counts.admitted,
            denied: counts.denied,
        }
    }
}
