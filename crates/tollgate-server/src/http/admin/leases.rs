//! Leases that are alive, and releasing one by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_catalog::directory::Actor;
use tollgate_core::PolicyId;
use tollgate_service::{
    LeaseGroup, LeaseNote, ListedHold, ListedLease, ListedLeases, LiveLeaseFilter,
};
use tollgate_store::{Effect, LeaseId, LeaseState};
use utoipa::{IntoParams, ToSchema};

use super::super::answer;
use super::super::leases::{LeaseBody, PathId, lease_response, needs_leases, release_by_hand};
use super::super::problem::Problem;
use super::super::schema::Id;
use super::target::{NoParameters, Parameters};
use crate::app::{App, Backend};
use crate::config::Role;

const DEFAULT_ITEMS: usize = 100;
const MAX_ITEMS: usize = 1_000;
const NO_LEASES: &str = "The store keeps no leases";
const STORE_UNAVAILABLE: &str = "The store is unavailable; try again";

/// Which live leases to list: those that match every given parameter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct LiveLeaseParameters {
    /// Only leases that hold something of the limit of this policy.
    #[param(min_length = 1, max_length = 256, example = "default")]
    policy: Option<String>,
    /// Only leases of this tenant.
    tenant: Option<Id>,
    /// The most leases to list, and the most groups.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
}

/// Leases that are alive.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveLeases, examples(json!(live_leases())))]
pub(super) struct LiveLeasesBody {
    /// Sums by policy and tenant, those with the most leases first.
    #[schema(max_items = 1000)]
    groups: Vec<LeaseGroupBody>,
    /// The leases, the oldest first.
    #[schema(max_items = 1000)]
    items: Vec<LiveLeaseBody>,
    /// Whether these are all live leases that match, and all groups. Otherwise there are more than `limit`, or the store has
    /// not named all of them.
    complete: bool,
}

/// The live leases of a tenant that hold something of a policy's limit.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LeaseGroup)]
struct LeaseGroupBody {
    policy_id: String,
    unit: String,
    /// The tenant; null if the leases have none.
    #[schema(required = true)]
    tenant: Option<String>,
    /// How many leases there are.
    leases: u64,
    /// What they hold in all.
    reserved: u64,
    /// What their holders have reported as used so far; null if nobody has reported the unit, and for `concurrency`.
    #[schema(required = true)]
    used: Option<u64>,
    /// The age of the oldest, in milliseconds.
    oldest_ms: u64,
}

/// A lease that is alive.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveLease)]
struct LiveLeaseBody {
    /// Its id; null for a token that may only read, because whoever knows the id can settle the lease.
    #[schema(required = true, min_length = 1, max_length = 512)]
    id: Option<String>,
    #[schema(required = true)]
    tenant: Option<String>,
    #[schema(required = true)]
    user: Option<String>,
    #[schema(required = true)]
    model: Option<String>,
    /// How long ago it was reserved, in milliseconds.
    age_ms: u64,
    /// How long it still lives unless it is extended, in milliseconds.
    lives_for_ms: u64,
    /// What it holds in each limit.
    limits: Vec<LiveHoldBody>,
}

/// What a live lease holds in one limit.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveHold)]
struct LiveHoldBody {
    policy_id: String,
    unit: String,
    /// What it holds: what was reserved, and what extensions added. Of `concurrency`, 1.
    reserved: u64,
    /// What its last extension reported as used so far; null if it did not name the unit, and for `concurrency`.
    #[schema(required = true)]
    used: Option<u64>,
}

fn live_leases() -> Value {
    let tokens =
        json!({"policyId": "tokens", "unit": "output_tokens", "reserved": 800, "used": 310});
    let slot = json!({"policyId": "parallel", "unit": "concurrency", "reserved": 1, "used": null});
    let group = |policy: &str, unit: &str, reserved: u64, used: Option<u64>| {
        json!({
            "policyId": policy, "unit": unit, "tenant": "acme", "leases": 1, "reserved": reserved, "used": used,
            "oldestMs": 12_400
        })
    };
    json!({
        "groups": [
            group("parallel", "concurrency", 1, None),
            group("tokens", "output_tokens", 800, Some(310))
        ],
        "items": [{
            "id": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a", "tenant": "acme", "user": "alice", "model": "gpt-4",
            "ageMs": 12_400, "livesForMs": 47_600, "limits": [slot, tokens]
        }],
        "complete": true
    })
}

/// List live leases
///
/// The leases that are alive, the oldest first: what each holds, and what its holder has reported as used so far. Also their
/// sums by policy and tenant. The server reads the 10,000 oldest; with Redis, reading takes up to 2 seconds.
#[utoipa::path(
    get,
    path = "/admin/leases",
    operation_id = "list_live_leases",
    tag = "usage",
    params(LiveLeaseParameters),
    responses(
        (status = 200, description = "The leases", body = LiveLeasesBody),
        (status = 501, description = NO_LEASES),
        (status = 503, description = STORE_UNAVAILABLE)
    )
)]
pub(super) async fn live<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(role): Extension<Role>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let filter = LiveLeaseFilter {
        policy: parameters.take("policy", "the id of a policy", |id| PolicyId::new(id).ok()),
        tenant: parameters.id("tenant").map(|id| id.as_str().to_owned()),
    };
    let most = parameters.items(DEFAULT_ITEMS, MAX_ITEMS);
    let filter = parameters.finish("policy, tenant, limit", Some(filter))?;
    needs_leases(&app)?;
    let listed = app.service.live_leases(&filter, most).await.map_err(|error| {
        tracing::debug!(error = %crate::telemetry::Chain(&error), "the store listed no leases");
        Problem::leases_unlisted()
    })?;
    Ok(answer::json(StatusCode::OK, &LiveLeasesBody::new(listed, role)))
}

/// Release a lease by hand
///
/// Gives back everything that the lease holds, and frees its slots at once, for example if its holder hangs. The holder can
/// then neither extend nor settle it, so what it still uses is not charged. A settled lease cannot be released. The server's
/// log records who did it and whose lease it was.
#[utoipa::path(
    delete,
    path = "/admin/leases/{id}",
    operation_id = "release_lease_by_hand",
    tag = "usage",
    params(("id" = String, Path, min_length = 1, max_length = 512, description = "The id of the lease")),
    responses(
        (status = 200, description = "The lease after it, or as it is if it was released before", body = LeaseBody),
        (status = 404, description = "There is no such lease, or not any more"),
        (status = 409, description = "The lease was settled"),
        (status = 500, description = "The record of the lease holds something that Tollgate did not write; nothing was changed"),
        (status = 501, description = NO_LEASES),
        (status = 503, description = STORE_UNAVAILABLE)
    )
)]
pub(super) async fn release<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    _: NoParameters,
    id: PathId,
) -> Result<Response, Problem> {
    let (id, state) = release_by_hand(&app, id).await?;
    if state.effect == Effect::Changed {
        log_release(&actor, &id, &state);
    }
    lease_response(&id, &state).map(|response| response.map(Body::new))
}

/// Logs the release, because a lease is not in the catalog and so the audit log does not show it. The id is cut short.
fn log_release(actor: &Actor, id: &LeaseId, state: &LeaseState) {
    let policies: Vec<_> = state.holds.iter().map(|hold| hold.policy_id.as_str()).collect();
    let note = LeaseNote::parse(&state.note).unwrap_or_default();
    tracing::info!(
        actor = actor.name(),
        lease = ?id,
        was = state.was.name(),
        policies = policies.join(", "),
        user = note.user,
        model = note.model,
        tenant = note.tenant,
        "a lease was released by hand; its holder can settle it no longer"
    );
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LiveLeasesBody {
    fn new(listed: ListedLeases, role: Role) -> Self {
        let lease = |lease: ListedLease| LiveLeaseBody {
            id: (role == Role::Write).then(|| lease.id.to_string()),
            tenant: lease.note.tenant,
            user: lease.note.user,
            model: lease.note.model,
            age_ms: ms(lease.age),
            lives_for_ms: ms(lease.lives_for),
            limits: lease.holds.into_iter().map(LiveHoldBody::from).collect(),
        };
        Self {
            groups: listed.groups.into_iter().map(LeaseGroupBody::from).collect(),
            items: listed.leases.into_iter().map(lease).collect(),
            complete: listed.is_complete,
        }
    }
}

impl From<LeaseGroup> for LeaseGroupBody {
    fn from(group: LeaseGroup) -> Self {
        Self {
            policy_id: group.policy_id.as_str().to_owned(),
            unit: group.unit.name().to_owned(),
            tenant: group.tenant,
            leases: group.leases,
            reserved: group.reserved,
            used: group.used,
            oldest_ms: ms(group.oldest),
        }
    }
}

impl From<ListedHold> for LiveHoldBody {
    fn from(hold: ListedHold) -> Self {
        Self {
            policy_id: hold.policy_id.as_str().to_owned(),
            unit: hold.unit.name().to_owned(),
            reserved: hold.reserved,
            used: hold.used,
        }
    }
}
