//! What would become of a check, policy by policy; and usage that is given back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tollgate_catalog::directory::Actor;
use tollgate_catalog::document::{Node, Value};
use tollgate_core::{Attribute, Consideration, LimitStatus, Policy, PolicyId, Subject};
use tollgate_service::{Explanation, TierSource};

use super::super::body::read_json;
use super::super::problem::Problem;
use super::super::request::CheckRequest;
use super::super::schema::CheckBody;
use super::bodies::{self, list, map, optional};
use super::schema::{ExplanationBody, ResetBody, StoreUnavailable};
use super::target::NoParameters;
use crate::app::{App, Backend};

/// Explain a check
///
/// Every policy, why it applies or not, its key, its usage now, and when the next slot frees. Charges nothing.
#[utoipa::path(
    post,
    path = "/admin/explain",
    operation_id = "explain_check",
    tag = "usage",
    request_body = CheckBody,
    responses(
        (status = 200, description = "What would become of the check", body = ExplanationBody),
        StoreUnavailable
    )
)]
pub(super) async fn explain<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let request = CheckRequest::parse(&body)?;
    let explained = app.service.explain(&request.check(), |explanation| render(&explanation)).await;
    let node = explained.map_err(|error| {
        tracing::debug!(error = %crate::telemetry::Chain(&error), "the store gave no decision");
        Problem::store_unavailable()
    })?;
    Ok(bodies::json(StatusCode::OK, &node))
}

/// Reset usage
///
/// Forgets the usage of every limit that a check meets. The log says who did, and whose usage it was.
#[utoipa::path(
    post,
    path = "/admin/usage/reset",
    operation_id = "reset_usage",
    tag = "usage",
    request_body = CheckBody,
    responses(
        (status = 200, description = "The usage is 0", body = ResetBody),
        StoreUnavailable
    )
)]
pub(super) async fn reset<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let request = CheckRequest::parse(&body)?;
    let check = request.check();
    let reset = app.service.reset(&check).await.map_err(|error| {
        tracing::warn!(error = %crate::telemetry::Chain(&error), "usage could not be reset");
        Problem::store_unavailable()
    })?;
    log_reset(&actor, &check.subject, &reset);
    let ids = reset.iter().map(|id| Node::unplaced(Value::String(id.as_str().to_owned())));
    Ok(bodies::json(StatusCode::OK, &Node::unplaced(map([("reset", list(ids))]))))
}

/// Logs what nothing else keeps a trace of: usage is in no catalog, so no history tells that it was reset. Whose it was
/// is told without the API key and without attributes of the caller's own, which may hold anything.
fn log_reset(actor: &Actor, subject: &Subject<'_>, policies: &[PolicyId]) {
    let policies: Vec<_> = policies.iter().map(PolicyId::as_str).collect();
    tracing::info!(
        actor = actor.name(),
        policies = policies.join(", "),
        user = subject.get(&Attribute::User),
        model = subject.get(&Attribute::Model),
        tenant = subject.get(&Attribute::Tenant),
        service = subject.get(&Attribute::Service),
        ip = subject.get(&Attribute::Ip),
        with_api_key = subject.get(&Attribute::ApiKey).is_some(),
        "usage was reset"
    );
}

fn render(explanation: &Explanation<'_>) -> Node {
    let Explanation { subject, origins, priority, version, refused, policies, decision } =
        explanation;
    let statuses = decision.limits();
    let items = policies.iter().map(|(policy, consideration)| {
        let of_policy = |status: &&LimitStatus| *status.limit.policy_id() == policy.id;
        let status = statuses.iter().find(of_policy);
        Node::unplaced(considered(policy, consideration, subject, status))
    });
    let tier_source = match origins.tier {
        TierSource::Catalog => "catalog",
        TierSource::Check => "check",
        TierSource::Default => "default",
    };
    let binding = decision.headline().map(|status| status.limit.policy_id().as_str());
    Node::unplaced(map([
        ("allowed", Value::Bool(decision.allowed())),
        ("reason", optional(decision.reason().or(*refused).map(tollgate_core::Reason::name))),
        ("bindingPolicyId", optional(binding)),
        ("degraded", Value::Bool(decision.degraded())),
        ("policiesVersion", Value::Number(version.to_string())),
        ("subject", attributes_of(subject)),
        ("userKnown", origins.is_user_known.map_or(Value::Null, Value::Bool)),
        ("tenantKnown", origins.is_tenant_known.map_or(Value::Null, Value::Bool)),
        ("tierSource", Value::String(tier_source.to_owned())),
        ("priority", Value::String(priority.name().to_owned())),
        ("policies", list(items)),
    ]))
}

fn considered(
    policy: &Policy,
    consideration: &Consideration,
    subject: &Subject<'_>,
    status: Option<&LimitStatus>,
) -> Value {
    let (outcome, why) = match consideration {
        Consideration::Disabled => ("disabled", "it is switched off".to_owned()),
        Consideration::Lacks(one) => ("does_not_apply", format!("the subject has no {one}")),
        Consideration::Differs(one) => (
            "does_not_apply",
            match subject.get(one) {
                Some(value) => format!("the subject's {one} is {value:?}"),
                None => format!("the subject has no {one}"),
            },
        ),
        Consideration::OverriddenBy(other) => {
            ("overridden", format!("{:?} has more conditions", other.as_str()))
        }
        Consideration::Exempts => ("exempts", "it applies, and limits nothing".to_owned()),
        Consideration::Applies => ("applies", "all its conditions hold".to_owned()),
    };
    let number = |number: u64| Value::Number(number.to_string());
    let numbers = |of: fn(&LimitStatus) -> u64| status.map_or(Value::Null, |s| number(of(s)));
    let key = policy.per.attributes().iter().filter_map(|one| Some((one, subject.get(one)?)));
    let key = key.map(|(one, value)| format!("{one}={value}")).collect::<Vec<_>>().join(" ");
    let class_share = status.and_then(|status| status.limit.class_share());
    let share =
        class_share.map_or(Value::Null, |class_share| Value::Number(class_share.share.to_string()));
    map([
        ("policyId", Value::String(policy.id.as_str().to_owned())),
        ("outcome", Value::String(outcome.to_owned())),
        ("why", Value::String(why)),
        ("key", optional(status.map(|_| key))),
        ("limit", numbers(|status| status.limit.amount().get())),
        ("share", share),
        ("count", numbers(|status| status.count)),
        ("remaining", numbers(|status| status.remaining)),
        ("retryAfterMs", status.and_then(|s| s.retry_after_ms).map_or(Value::Null, number)),
        ("resetAfterMs", numbers(|status| status.reset_after_ms)),
    ])
}

fn attributes_of(subject: &Subject<'_>) -> Value {
    let known = [
        Attribute::User,
        Attribute::Model,
        Attribute::Tenant,
        Attribute::ApiKey,
        Attribute::Tier,
        Attribute::ModelTier,
        Attribute::Service,
        Attribute::Ip,
    ];
    let [user, model, tenant, api_key, tier, model_tier, service, ip] =
        known.each_ref().map(|one| optional(subject.get(one)));
    map([
        ("user", user),
        ("model", model),
        ("tenant", tenant),
        ("apiKey", api_key),
        ("tier", tier),
        ("modelTier", model_tier),
        ("service", service),
        ("ip", ip),
    ])
}
