//! The leases that are alive, for people who look, and their release by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use tollgate_catalog::directory::Actor;
use tollgate_core::{LeaseUpdate, PolicyId, Unit};
use tollgate_service::LeaseNote;
use tollgate_store::{Effect, LeaseId, LiveHold, LiveLease};
use utoipa::{IntoParams, ToSchema};

use super::super::answer;
use super::super::problem::Problem;
use super::target::{NoParameters, Parameters};
use crate::app::{App, Backend};
use crate::config::Role;

const DEFAULT_ITEMS: usize = 100;
const MAX_ITEMS: usize = 1_000;
/// The most leases that are read to find those of a policy or a tenant.
const MAX_READ: usize = 100_000;

/// Which leases to list, and how many of them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct LeasesParameters {
    /// Only leases that hold something of this policy's limit.
    #[param(min_length = 1, max_length = 256)]
    policy: Option<String>,
    /// Only leases of this tenant.
    #[param(min_length = 1, max_length = 256)]
    tenant: Option<String>,
    /// The most leases to list.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
}

/// Leases that are alive, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveLeases, examples(json!({
    "items": [{
        "id": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a", "tenant": "acme", "model": "gpt-4", "user": "alice",
        "ageMs": 4_200, "livesForMs": 25_800, "observed": {"output_tokens": 310},
        "limits": [
            {"policyId": "output", "unit": "output_tokens", "charged": 800},
            {"policyId": "slots", "unit": "concurrency", "charged": 1}
        ]
    }],
    "complete": true
})))]
pub(super) struct LeasesBody {
    /// The leases, the oldest first.
    items: Vec<LiveLeaseBody>,
    /// Whether these are all.
    complete: bool,
}

/// A lease that is alive.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveLease)]
struct LiveLeaseBody {
    /// Its id; null for a token that may only read, because whoever knows it can settle the lease.
    #[schema(required = true)]
    id: Option<String>,
    /// The tenant that it is for.
    #[schema(required = true)]
    tenant: Option<String>,
    /// The model.
    #[schema(required = true)]
    model: Option<String>,
    /// The user.
    #[schema(required = true)]
    user: Option<String>,
    /// How long ago it was reserved, in milliseconds.
    age_ms: u64,
    /// How long it still lives, in milliseconds, unless it is extended.
    lives_for_ms: u64,
    /// What its last extension said was used so far, by unit.
    observed: BTreeMap<String, u64>,
    /// What it holds in each limit.
    limits: Vec<LiveHoldBody>,
}

/// What a lease holds in one limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveHold)]
struct LiveHoldBody {
    /// The policy that sets the limit.
    policy_id: String,
    /// Its unit.
    unit: String,
    /// What the lease is charged; of concurrency, 1.
    charged: u64,
}

/// The lease that was released.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReleasedLease, examples(json!({"released": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a"})))]
pub(super) struct ReleasedBody {
    /// Its id.
    released: String,
}

/// The lease that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct LeasePath {
    /// The id of the lease.
    #[param(min_length = 1, max_length = 512, example = "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a")]
    id: String,
}

/// Live leases
///
/// The leases that are alive in the store, of all servers, the oldest first. Those that begin or end while the store is read
/// may be missing or too many.
#[utoipa::path(
    get,
    path = "/admin/leases",
    operation_id = "list_leases",
    tag = "usage",
    params(LeasesParameters),
    responses(
        (status = 200, description = "The leases", body = LeasesBody),
        (status = 501, description = "The store keeps no leases"),
        (status = 503, description = "The store did not answer")
    )
)]
pub(super) async fn list<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(role): Extension<Role>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let policy = parameters.take("policy", "the id of a policy", |id| PolicyId::new(id).ok());
    let tenant = parameters.id("tenant");
    let most = parameters.items(DEFAULT_ITEMS, MAX_ITEMS);
    parameters.finish("policy, tenant, limit", Some(()))?;
    super::super::leases::needs_leases(&app)?;
    let is_wanted = |lease: &LiveLease, note: &LeaseNote| {
        let holds = policy
            .as_ref()
            .is_none_or(|policy| lease.holds.iter().any(|hold| hold.policy_id == *policy));
        let of_tenant =
            tenant.as_ref().is_none_or(|tenant| note.tenant.as_deref() == Some(tenant.as_str()));
        holds && of_tenant
    };
    let is_narrowed = policy.is_some() || tenant.is_some();
    let read = if is_narrowed { MAX_READ } else { most };
    let live = app.service.live_leases(read).await.map_err(|error| {
        tracing::debug!(error = %crate::telemetry::Chain(&error), "the store listed no leases");
        Problem::store_unavailable()
    })?;
    let noted = live.leases.into_iter().map(|lease| {
        let note = LeaseNote::parse(&lease.note).unwrap_or_default();
        (lease, note)
    });
    let mut found = noted.filter(|(lease, note)| is_wanted(lease, note));
    let items = found.by_ref().take(most).map(|(lease, note)| body(&lease, note, role)).collect();
    let complete = found.next().is_none() && live.is_complete;
    Ok(answer::json(StatusCode::OK, &LeasesBody { items, complete }))
}

/// Release a lease by hand
///
/// Gives everything back, as if the lease had not been reserved: for a holder that is known to be gone. Whoever holds it is not
/// told before the next update, which is answered with 409. The server's log records who did it.
#[utoipa::path(
    delete,
    path = "/admin/leases/{id}",
    operation_id = "release_lease_by_hand",
    tag = "usage",
    params(LeasePath),
    responses(
        (status = 200, description = "It is released", body = ReleasedBody),
        (status = 404, description = "There is no such lease, or not any more"),
        (status = 409, description = "It was settled"),
        (status = 501, description = "The store keeps no leases"),
        (status = 503, description = "The store did not answer; try again")
    )
)]
pub(super) async fn release<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let id = LeaseId::parse(&id).ok_or_else(Problem::unknown_lease)?;
    let state = super::super::leases::update_by_hand(&app, &id, &LeaseUpdate::Release).await?;
    let policies: Vec<_> = state.holds.iter().map(|hold| hold.policy_id.as_str()).collect();
    let note = LeaseNote::parse(&state.note).unwrap_or_default();
    if state.effect == Effect::Changed {
        // The beginning of the id: whoever knows all of it can settle the lease.
        tracing::info!(
            actor = actor.name(),
            lease = ?id,
            policies = policies.join(", "),
            user = note.user,
            model = note.model,
            tenant = note.tenant,
            "a lease was released by hand"
        );
    }
    Ok(answer::json(StatusCode::OK, &ReleasedBody { released: id.to_string() }))
}

fn body(lease: &LiveLease, note: LeaseNote, role: Role) -> LiveLeaseBody {
    let amounts = lease.observed.amounts();
    LiveLeaseBody {
        id: (role == Role::Write).then(|| lease.id.to_string()),
        tenant: note.tenant,
        model: note.model,
        user: note.user,
        age_ms: whole_ms(lease.age),
        lives_for_ms: whole_ms(lease.lives_for),
        observed: amounts.map(|(unit, amount)| (unit.name().to_owned(), amount.get())).collect(),
        limits: lease.holds.iter().map(hold_body).collect(),
    }
}

fn hold_body(hold: &LiveHold) -> LiveHoldBody {
    LiveHoldBody {
        policy_id: hold.policy_id.as_str().to_owned(),
        unit: Unit::name(&hold.unit).to_owned(),
        charged: hold.charged,
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
