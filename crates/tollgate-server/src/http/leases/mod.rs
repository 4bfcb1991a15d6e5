//! The calls for leases: reserve, extend, settle, release, and batches of settlements (R13–R16).
//!
//! Each parses, asks one use case and renders. A lease is named by its id only, so any server over the same store answers.

mod answer;
mod schema;

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use http_body_util::{Either, Full};
use tollgate_core::lease::ledger::Ending;
use tollgate_core::{Clock as _, LeaseUpdate, SystemWallClock, WallClock as _};
use tollgate_service::{Keeping, Settlement, Unsettled};
use tollgate_store::{Effect, LeaseId, LeaseState, Store, StoreError};

pub(super) use self::answer::{
    AcceptedBody, DeniedBody, GrantedBody, HoldBody, LeaseBody, NewLeaseBody, SettledBody,
    SettlementsBody,
};
pub(super) use self::schema::{
    ExtensionBody, ReservationBody, SettlementBatchBody, SettlementBody,
};
use super::body::read_json;
use super::check::{cannot_render, json_response, store_failed};
use super::client::Client;
use super::problem::Problem;
use super::request::{CheckRequest, ExtensionRequest, SettlementRequest};
use crate::app::App;
use crate::metrics::Call;

/// The path of all leases.
pub(super) const LEASES: &str = "/rate-limit/leases";

/// What a call does to the lease that its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Extend,
    Settle,
}

/// The lease and the action that `path` names; `None` if it is another path, or is not written plainly.
pub(super) fn addressed(path: &str) -> Option<(LeaseId, Action)> {
    let (id, action) = path.strip_prefix(LEASES)?.strip_prefix('/')?.split_once('/')?;
    let action = match action {
        "extend" => Action::Extend,
        "settle" => Action::Settle,
        _ => return None,
    };
    LeaseId::parse(id).map(|id| (id, action))
}

/// The lease that a path names. It is an error if the path is not UTF-8.
pub(super) type PathId = Result<Path<String>, PathRejection>;

fn id_of(path: PathId) -> Option<LeaseId> {
    path.ok().and_then(|Path(id)| LeaseId::parse(&id))
}

/// Reserve a lease
///
/// Decides a check, and keeps what it is charged as a lease until the lease is settled or released, or expires. The lease
/// also holds one slot of each `concurrency` limit that the check meets. A denied check holds nothing. Send the same
/// `requestId` again if no answer came: it returns the same lease.
///
/// If a policy has `reserve` for a unit that `cost` does not name, the lease reserves what answers of the same model and tenant
/// usually use; `reserved` in the answer says how much, also if the check was denied.
#[utoipa::path(
    post,
    path = "/rate-limit/leases",
    tag = "leases",
    request_body = ReservationBody,
    responses(schema::ReserveAnswers)
)]
pub(crate) async fn reserve_lease<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    answer_reservation(&app, request).await.map(Body::new)
}

/// Extend a lease
///
/// Keeps the lease alive for its time to live from now, reports what was used so far, and may ask for more. What was
/// used above the reservation is charged at once. What is wanted above it is admitted like a check, all of it or nothing:
/// `proceed` says whether the caller may go on. A lease that has expired takes its slots again if they are free.
#[utoipa::path(
    post,
    path = "/rate-limit/leases/{id}/extend",
    tag = "leases",
    params(schema::LeasePath),
    request_body = ExtensionBody,
    responses(schema::UpdateAnswers)
)]
pub(crate) async fn extend_lease<S: Store>(
    State(app): State<Arc<App<S>>>,
    id: PathId,
    request: Request<Body>,
) -> Response<Body> {
    answer_update(&app, request, id_of(id), Action::Extend).await.map(Body::new)
}

/// Settle a lease
///
/// Replaces what the lease reserved by what was used, and frees its slots. If less was used, the room comes back at once; if
/// more was used, the difference is charged now, even above the limit, and is shown as `debt`. A settlement with a higher
/// `seq` corrects an earlier one, also after the lease has expired.
#[utoipa::path(
    post,
    path = "/rate-limit/leases/{id}/settle",
    tag = "leases",
    params(schema::LeasePath),
    request_body = SettlementBody,
    responses(schema::SettleAnswers)
)]
pub(crate) async fn settle_lease<S: Store>(
    State(app): State<Arc<App<S>>>,
    id: PathId,
    request: Request<Body>,
) -> Response<Body> {
    answer_update(&app, request, id_of(id), Action::Settle).await.map(Body::new)
}

/// Release a lease
///
/// Gives everything back, as if the check had not been made. A settled lease cannot be released.
#[utoipa::path(
    delete,
    path = "/rate-limit/leases/{id}",
    tag = "leases",
    params(schema::LeasePath),
    responses(schema::UpdateAnswers)
)]
pub(crate) async fn release_lease<S: Store>(
    State(app): State<Arc<App<S>>>,
    id: PathId,
) -> Response<Body> {
    let started = app.clock.now();
    let released = update(&app, id_of(id), &LeaseUpdate::Release).await;
    let answered = released.and_then(|(id, state)| lease_response(&id, &state));
    app.metrics.took(Call::UpdateLease, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    answered.map_or_else(Problem::into_response, |response| response.map(Body::new))
}

/// Settle several leases, each by itself
///
/// Answers each settlement in order, with the status that it would have alone. If one is malformed, none is made.
#[utoipa::path(
    post,
    path = "/rate-limit/settle/batch",
    tag = "leases",
    request_body = SettlementBatchBody,
    responses(schema::SettleBatchAnswers)
)]
pub(crate) async fn settle_batch<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    settle_all(&app, request).await.unwrap_or_else(Problem::into_response)
}

/// The answer to a reservation.
pub(super) async fn answer_reservation<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
) -> Response<Either<Full<Bytes>, Body>> {
    either(reserve(app, request).await)
}

/// The answer to an extension or a settlement of the lease `id`. `id` is `None` if the path has no valid id.
pub(super) async fn answer_update<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
    id: Option<LeaseId>,
    action: Action,
) -> Response<Either<Full<Bytes>, Body>> {
    either(read_and_update(app, request, id, action).await)
}

fn either(answered: Result<Response<Full<Bytes>>, Problem>) -> Response<Either<Full<Bytes>, Body>> {
    match answered {
        Ok(response) => response.map(Either::Left),
        Err(problem) => problem.into_response().map(Either::Right),
    }
}

async fn reserve<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Problem> {
    let client = request.extensions().get::<Client>().copied();
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let started = app.clock.now();
    let request = CheckRequest::parse_reservation(&body, client)?;
    needs_leases(app)?;
    let check = request.check();
    let reserved = app.service.reserve_for(&check, request.ttl(), request.input_bytes()).await;
    let reserved = reserved.map_err(|error| store_failed(app, &error))?;
    let decision = &reserved.decision;
    app.metrics.decided(decision);
    app.metrics.leases.reserved(&reserved);
    let (status, json) = if let Some(lease) = &reserved.lease {
        let now = SystemWallClock.wall_time();
        let body = GrantedBody::new(decision, lease, &reserved.asked, now);
        (StatusCode::CREATED, body.to_json())
    } else {
        let body = DeniedBody::new(decision, &reserved.asked);
        (StatusCode::TOO_MANY_REQUESTS, body.to_json())
    };
    let mut response = json_response(json.map_err(|error| cannot_render(&error))?);
    *response.status_mut() = status;
    tollgate_http::apply(decision, response.headers_mut());
    app.metrics.took(Call::Reserve, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(response)
}

async fn read_and_update<S: Store, B: HttpBody<Data = Bytes>>(
    app: &App<S>,
    request: Request<B>,
    id: Option<LeaseId>,
    action: Action,
) -> Result<Response<Full<Bytes>>, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let started = app.clock.now();
    let response = match action {
        Action::Extend => {
            let extension = ExtensionRequest::parse(&body)?.into_update();
            let (id, state) = update(app, id, &extension).await?;
            lease_response(&id, &state)?
        }
        Action::Settle => settle(app, id, SettlementRequest::parse(&body)?).await?,
    };
    app.metrics.took(Call::UpdateLease, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(response)
}

async fn update<S: Store>(
    app: &App<S>,
    id: Option<LeaseId>,
    update: &LeaseUpdate,
) -> Result<(LeaseId, LeaseState), Problem> {
    needs_leases(app)?;
    let Some(id) = id else {
        app.metrics.leases.updated(update, None);
        return Err(Problem::unknown_lease());
    };
    let updated = app.service.update_lease(&id, update).await;
    judged(app, update, updated).map(|state| (id, state))
}

/// Releases the lease that a path names, as [`release_lease`] does.
pub(super) async fn release_by_hand<S: Store>(
    app: &App<S>,
    id: PathId,
) -> Result<(LeaseId, LeaseState), Problem> {
    update(app, id_of(id), &LeaseUpdate::Release).await
}

async fn settle<S: Store>(
    app: &App<S>,
    id: Option<LeaseId>,
    request: SettlementRequest<'_>,
) -> Result<Response<Full<Bytes>>, Problem> {
    needs_leases(app)?;
    let Some(lease) = id else {
        app.metrics.leases.updated(&request.to_update(), None);
        return Err(Problem::unknown_lease());
    };
    let SettlementRequest { seq, usage, quality, .. } = request;
    let settlement = Settlement { lease, seq, usage, quality };
    let settled = app.service.settle(&settlement).await;
    match judged_settlement(app, &settlement.to_update(), settled)? {
        Settled::Now(state) => lease_response(&settlement.lease, &state),
        Settled::Later => {
            let body = AcceptedBody::new(settlement.lease.as_str(), seq.get());
            let json = serde_json::to_vec(&body).map_err(|error| cannot_render(&error))?;
            let mut response = json_response(json);
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
    }
}

/// The answer to a settlement that is made, or will be.
pub(super) enum Settled {
    Now(LeaseState),
    /// It is on the disk of this server.
    Later,
}

fn judged_settlement<S>(
    app: &App<S>,
    update: &LeaseUpdate,
    settled: Result<Option<LeaseState>, Unsettled>,
) -> Result<Settled, Problem> {
    let Unsettled { error, kept } = match settled {
        Ok(state) => return judged(app, update, Ok(state)).map(Settled::Now),
        Err(unsettled) => unsettled,
    };
    let problem = update_failed(app, &error);
    match kept {
        Keeping::Not => {
            app.metrics.leases.dropped.inc();
            return Err(problem);
        }
        Keeping::OnDisk | Keeping::InMemory => app.metrics.leases.kept.inc(),
    };
    match kept {
        Keeping::OnDisk => Ok(Settled::Later),
        _ if app.journals_to_disk => {
            tracing::error!(
                "a settlement could not be written to the journal; it is kept in memory only: is the disk full?"
            );
            Err(Problem::settlement_in_memory())
        }
        _ => Err(Problem::settlement_in_memory()),
    }
}

/// The state of a lease after an update that was made or repeated.
fn judged<S>(
    app: &App<S>,
    update: &LeaseUpdate,
    updated: Result<Option<LeaseState>, StoreError>,
) -> Result<LeaseState, Problem> {
    let updated = updated.map_err(|error| update_failed(app, &error))?;
    app.metrics.leases.updated(update, updated.as_ref());
    let state = updated.ok_or_else(Problem::unknown_lease)?;
    match (state.effect, state.ending) {
        (Effect::Changed | Effect::Repeated, _) => Ok(state),
        (Effect::Refused, Ending::Released) => Err(Problem::lease_released()),
        (Effect::Refused, _) => Err(Problem::lease_settled()),
    }
}

async fn settle_all<S: Store>(
    app: &App<S>,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_batch_body_bytes)).await?;
    let started = app.clock.now();
    let requests = SettlementRequest::parse_batch(&body)?;
    needs_leases(app)?;
    let settlements: Vec<Settlement> = requests.iter().filter_map(settlement).collect();
    let updated = app.service.settle_batch(&settlements).await.map_err(|error| {
        // The parser refuses such a batch; the use case checks it as well.
        tracing::error!(%error, "the parser accepted a batch that is too large");
        Problem::internal()
    })?;
    let mut updated = updated.into_iter();
    let answers = requests.iter().map(|request| {
        // What is no id was not sent.
        let is_sent = LeaseId::parse(&request.lease_id).is_some();
        let updated = if is_sent { updated.next() } else { None };
        judged_settlement(app, &request.to_update(), updated.unwrap_or(Ok(None)))
    });
    let answers: Vec<_> = answers.collect();
    let now = SystemWallClock.wall_time();
    let answers = requests.iter().zip(&answers);
    let answers = answers.map(|(request, answer)| SettledBody::new(&request.lease_id, answer, now));
    let body = SettlementsBody::new(answers.collect());
    let json = body.to_json().map_err(|error| cannot_render(&error))?;
    app.metrics.took(Call::SettleBatch, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(json_response(json).map(Body::new))
}

/// The settlement, as the service takes it; `None` if the id in the request cannot be the id of a lease.
fn settlement(request: &SettlementRequest<'_>) -> Option<Settlement> {
    let lease = LeaseId::parse(&request.lease_id)?;
    let SettlementRequest { seq, quality, .. } = *request;
    Some(Settlement { lease, seq, usage: request.usage.clone(), quality })
}

/// The answer about a lease after an update.
pub(super) fn lease_response(
    id: &LeaseId,
    state: &LeaseState,
) -> Result<Response<Full<Bytes>>, Problem> {
    let body = LeaseBody::new(id.as_str(), state, SystemWallClock.wall_time());
    body.to_json().map(json_response).map_err(|error| cannot_render(&error))
}

/// Fails if the store keeps no leases.
pub(super) fn needs_leases<S: Store>(app: &App<S>) -> Result<(), Problem> {
    let has_leases = app.service.store().capabilities().leases;
    if has_leases { Ok(()) } else { Err(Problem::no_leases()) }
}

#[cold]
fn update_failed<S>(app: &App<S>, error: &StoreError) -> Problem {
    app.metrics.store_errors.inc();
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "a lease could not be updated: the store failed"
    );
    if error.kind().concerns_one_check() {
        return Problem::unreadable_lease();
    }
    Problem::update_unanswered()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_of_a_lease_is_addressed_directly() {
        let id = LeaseId::parse("m-1.a_").unwrap();
        let cases = [
            ("/rate-limit/leases/m-1.a_/extend", Some((id.clone(), Action::Extend))),
            ("/rate-limit/leases/m-1.a_/settle", Some((id, Action::Settle))),
            ("/rate-limit/leases/m-1.a_/other", None),
            ("/rate-limit/leases/m-1.a_/settle/", None),
            ("/rate-limit/leases/m%2D1/settle", None),
            ("/rate-limit/leases//settle", None),
            ("/rate-limit/leases", None),
            ("/rate-limit/leasesx/y/settle", None),
        ];
        for (path, expected) in cases {
            assert_eq!(addressed(path), expected, "{path}");
        }
    }
}
