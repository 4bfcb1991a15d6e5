//! Decisions and changes of leases as they happen, as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tollgate_core::{Reason, SystemWallClock, WallClock as _};
use tollgate_service::{DecisionFeed, Observed, ObservedDecision, ObservedHold, ObservedLease};
use tollgate_store::LeaseId;
use utoipa::IntoParams;

use super::super::problem::Problem;
use super::target::Parameters;
use crate::app::{App, Backend};
use crate::config::Role;
use crate::metrics::Totals;

const STATS_EVERY: Duration = Duration::from_secs(1);
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_MICROSECOND: u64 = 1_000;

/// Which decisions and leases to send: those that match every given parameter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct EventParameters {
    /// Only allowed checks (true), or only denied ones (false). Without changes of leases, which are neither.
    allowed: Option<bool>,
    /// Only decisions whose binding limit is of this policy, and leases that hold something of it.
    #[param(min_length = 1, max_length = 256)]
    policy: Option<String>,
    /// Only checks and leases of this user.
    #[param(min_length = 1, max_length = 256)]
    user: Option<String>,
    /// Only checks and leases for this model.
    #[param(min_length = 1, max_length = 256)]
    model: Option<String>,
    /// Only checks and leases of this tenant.
    #[param(min_length = 1, max_length = 256)]
    tenant: Option<String>,
}

/// The decisions that a subscriber asked for.
struct Wanted {
    allowed: Option<bool>,
    policy: Option<String>,
    /// Attributes by name, and the values that they must have.
    attributes: [(&'static str, Option<String>); 3],
}

impl Wanted {
    fn take(parameters: &mut Parameters) -> Self {
        let allowed = parameters.take("allowed", "true or false", |text| text.parse().ok());
        let mut id = |name| parameters.id(name).map(|id| id.as_str().to_owned());
        let policy = id("policy");
        let attributes = ["user", "model", "tenant"].map(|name| (name, id(name)));
        Self { allowed, policy, attributes }
    }

    fn has(&self, observed: &ObservedDecision) -> bool {
        let decision = &observed.decision;
        let policy = decision.headline().map(|status| status.limit.policy_id().as_str());
        self.allowed.is_none_or(|allowed| allowed == decision.allowed())
            && self.policy.as_deref().is_none_or(|wanted| Some(wanted) == policy)
            && self.attributes.iter().all(|(name, wanted)| {
                wanted.as_deref().is_none_or(|wanted| Some(wanted) == observed.attribute(name))
            })
    }
}

impl Wanted {
    fn has_lease(&self, observed: &ObservedLease) -> bool {
        let note = &observed.note;
        let attribute = |name: &str| match name {
            "user" => note.user.as_deref(),
            "model" => note.model.as_deref(),
            _ => note.tenant.as_deref(),
        };
        let holds_of =
            |wanted: &str| observed.holds.iter().any(|hold| hold.policy_id.as_str() == wanted);
        self.allowed.is_none()
            && self.policy.as_deref().is_none_or(holds_of)
            && self.attributes.iter().all(|(name, wanted)| {
                wanted.as_deref().is_none_or(|wanted| Some(wanted) == attribute(name))
            })
    }
}

/// The id of a lease for `role`: whoever knows it can settle the lease.
fn shown(id: &LeaseId, role: Role) -> Option<&str> {
    (role == Role::Write).then(|| id.as_str())
}

/// A decision, as an event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionEvent<'a> {
    at: u64,
    allowed: bool,
    reason: Option<&'static str>,
    policy_id: Option<&'a str>,
    scope: Option<&'a str>,
    unit: Option<&'a str>,
    degraded: bool,
    limit: Option<u64>,
    count: Option<u64>,
    remaining: Option<u64>,
    /// What the check needed of the limit's unit.
    needed: Option<u64>,
    retry_after_ms: Option<u64>,
    weight: u64,
    subject: BTreeMap<&'a str, &'a str>,
    /// The whole cost of the check, by unit.
    cost: BTreeMap<&'a str, u64>,
    /// Whether it was asked for by a reservation.
    reservation: bool,
    /// The lease that was reserved, for those who may know it.
    lease_id: Option<&'a str>,
}

impl<'a> DecisionEvent<'a> {
    fn new(observed: &'a ObservedDecision, role: Role) -> Self {
        let decision = &observed.decision;
        let headline = decision.headline();
        let subject = observed.subject.iter().map(|(name, value)| (&**name, &**value));
        let cost = observed.cost.amounts().map(|(unit, amount)| (unit.name(), amount.get()));
        Self {
            at: observed.at.as_ns() / NS_PER_MS,
            allowed: decision.allowed(),
            reason: decision.reason().map(Reason::name),
            policy_id: headline.map(|status| status.limit.policy_id().as_str()),
            scope: headline.map(|status| status.limit.scope()),
            unit: headline.map(|status| status.limit.unit().name()),
            degraded: decision.degraded(),
            limit: headline.map(|status| status.limit.amount().get()),
            count: headline.map(|status| status.count),
            remaining: headline.map(|status| status.remaining),
            needed: headline.map(|status| status.limit.cost_of(&observed.cost).get()),
            retry_after_ms: decision.retry_after_ms(),
            weight: observed.weight,
            subject: subject.collect(),
            cost: cost.collect(),
            reservation: observed.is_reservation,
            lease_id: observed.lease.as_ref().and_then(|id| shown(id, role)),
        }
    }
}

/// A lease that was changed or has expired, as an event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseChangeEvent<'a> {
    at: u64,
    /// What happened, as metrics name it.
    event: &'static str,
    lease_id: Option<&'a str>,
    was: &'static str,
    state: &'static str,
    weight: u64,
    subject: BTreeMap<&'static str, &'a str>,
    limits: Vec<HoldChange<'a>>,
}

/// What a lease holds in one limit, before and after a change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldChange<'a> {
    policy_id: &'a str,
    unit: &'a str,
    charged_before: u64,
    charged: u64,
    /// By how much the usage of the limit is above it; null if nobody looked.
    debt: Option<u64>,
}

impl<'a> LeaseChangeEvent<'a> {
    fn new(observed: &'a ObservedLease, role: Role) -> Self {
        let note = &observed.note;
        let subject = [("tenant", &note.tenant), ("user", &note.user), ("model", &note.model)];
        let subject = subject.into_iter().filter_map(|(name, id)| Some((name, id.as_deref()?)));
        Self {
            at: observed.at.as_ns() / NS_PER_MS,
            event: observed.event.name(),
            lease_id: shown(&observed.id, role),
            was: observed.was.name(),
            state: observed.status.name(),
            weight: observed.weight,
            subject: subject.collect(),
            limits: observed.holds.iter().map(HoldChange::from).collect(),
        }
    }
}

impl<'a> From<&'a ObservedHold> for HoldChange<'a> {
    fn from(hold: &'a ObservedHold) -> Self {
        Self {
            policy_id: hold.policy_id.as_str(),
            unit: hold.unit.name(),
            charged_before: hold.charged_before,
            charged: hold.charged,
            debt: hold.debt,
        }
    }
}

/// The state of the server, sent once a second.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    at: u64,
    allowed: u64,
    denied: u64,
    degraded: u64,
    policies: BTreeMap<Box<str>, Outcomes>,
    latency_micros: Option<Quantiles>,
    keys: Option<u64>,
    store: &'static str,
    catalog: &'static str,
    policies_version: u64,
    /// How many policies the catalog has, or 1 for the built-in one.
    policy_count: usize,
}

#[derive(Serialize)]
struct Outcomes {
    allowed: u64,
    denied: u64,
}

#[derive(Serialize)]
struct Quantiles {
    p50: u64,
    p95: u64,
    p99: u64,
}

/// The subscriber was too slow and lost decisions.
#[derive(Serialize)]
struct Lagged {
    skipped: u64,
}

/// Subscribe to decisions and changes of leases
///
/// A stream of server-sent events, which lasts until the client or the server closes it. `decision` is a decision of
/// this node: the `cost` of the check by unit, how much of the binding limit it `needed` and how much is
/// `remaining`, and whether it was a `reservation`. `lease` is a lease that this node has extended, settled or released, or that has
/// expired: the `event` as `tollgate_lease_events_total` names it, what the lease `was` and its `state` now, and for each limit
/// what it was `chargedBefore`, what it is `charged`, and the `debt` of the limit. Only the store in memory announces that a lease
/// expired. `leaseId` is null for a token that may only read, because whoever knows the id can settle the lease. If there are more
/// than 1,000 decisions or 1,000 changes of leases a second, only a sample is sent, and `weight` is the number of them that one
/// represents. `stats` comes once a second: the totals since the start, how long decisions took in the last
/// second, and the state of the server's parts. `lagged` says how many of them a slow subscriber has lost. At most 16
/// subscribers at a time.
#[utoipa::path(
    get,
    path = "/admin/events",
    operation_id = "listen_to_decisions",
    tag = "usage",
    params(EventParameters),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = String),
        (status = 503, description = "There are already 16 subscribers, the most at a time")
    )
)]
pub(super) async fn events<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(role): Extension<Role>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let wanted = Wanted::take(&mut parameters);
    let wanted = parameters.finish("allowed, policy, user, model, tenant", Some(wanted))?;
    let feed = app.service.decision_feed().and_then(|feed| feed.subscribe());
    let feed = feed.ok_or_else(|| Problem::too_many_subscribers(DecisionFeed::MAX_SUBSCRIBERS))?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Sse::new(Subscriber::new(app, (wanted, role), feed).stream())).into_response())
}

/// A subscriber.
struct Subscriber<S> {
    app: Arc<App<S>>,
    wanted: Wanted,
    role: Role,
    feed: Receiver<Observed>,
    draining: watch::Receiver<bool>,
    ticks: Interval,
    /// What was counted at the last tick.
    before: Totals,
}

impl<S: Backend> Subscriber<S> {
    fn new(app: Arc<App<S>>, (wanted, role): (Wanted, Role), feed: Receiver<Observed>) -> Self {
        let mut ticks = interval(STATS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (draining, before) = (app.health.subscribe_draining(), app.metrics.totals());
        Self { app, wanted, role, feed, draining, ticks, before }
    }

    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        unfold(self, |mut subscriber| async move {
            let event = subscriber.next().await?;
            Some((Ok(event), subscriber))
        })
    }

    /// The next event; `None` when the server shuts down.
    async fn next(&mut self) -> Option<Event> {
        loop {
            // In this order, so that many decisions delay neither the shutdown nor the statistics.
            let observed = tokio::select! {
                biased;
                _ = self.draining.wait_for(|draining| *draining) => return None,
                _ = self.ticks.tick() => None,
                observed = self.feed.recv() => Some(observed),
            };
            match observed {
                None => return event("stats", &self.stats()),
                Some(Ok(Observed::Decision(observed))) if self.wanted.has(&observed) => {
                    return event("decision", &DecisionEvent::new(&observed, self.role));
                }
                Some(Ok(Observed::Lease(observed))) if self.wanted.has_lease(&observed) => {
                    return event("lease", &LeaseChangeEvent::new(&observed, self.role));
                }
                Some(Ok(_)) => {}
                Some(Err(RecvError::Lagged(skipped))) => {
                    return event("lagged", &Lagged { skipped });
                }
                Some(Err(RecvError::Closed)) => return None,
            }
        }
    }

    fn stats(&mut self) -> Stats {
        let totals = self.app.metrics.totals();
        let latencies = totals.latencies.since(&self.before.latencies);
        let micros =
            |thousandths| Some(latencies.quantile_ns(thousandths)?.div_ceil(NS_PER_MICROSECOND));
        let quantiles =
            || Some(Quantiles { p50: micros(500)?, p95: micros(950)?, p99: micros(990)? });
        let part = |degraded| if degraded { "degraded" } else { "ok" };
        let health = &self.app.health;
        let current = self.app.service.policies().snapshot();
        let stats = Stats {
            at: SystemWallClock.wall_time().as_ns() / NS_PER_MS,
            allowed: totals.outcomes.iter().map(|one| one.allowed).sum(),
            denied: totals.outcomes.iter().map(|one| one.denied).sum(),
            degraded: totals.degraded,
            policies: totals
                .outcomes
                .iter()
                .map(|one| {
                    let outcomes = Outcomes { allowed: one.allowed, denied: one.denied };
                    (one.policy.clone(), outcomes)
                })
                .collect(),
            latency_micros: quantiles(),
            keys: self.app.service.store().keys(),
            store: part(health.store_degraded()),
            catalog: part(health.catalog_refused() || health.catalog_unavailable()),
            policies_version: current.version(),
            policy_count: current.policies().policies().len(),
        };
        self.before = totals;
        stats
    }
}

/// `data` as an event called `name`; `None` if it cannot be written, which its type rules out.
fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}
