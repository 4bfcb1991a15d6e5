//! Explains a check, policy by policy, and resets usage.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_catalog::directory::Actor;
use tollgate_core::{Attribute, Consideration, LimitStatus, Policy, PolicyId, Precedence, Subject};
use tollgate_service::{Explanation, TierSource};
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::super::answer;
use super::super::body::read_json;
use super::super::problem::Problem;
use super::super::request::CheckRequest;
use super::super::schema::{CheckBody, one_of};
use super::target::NoParameters;
use crate::app::{App, Backend};

const STORE_UNAVAILABLE: &str = "The store is unavailable; try again";
const INCOMPLETE_RESET: &str =
    "The store failed during the reset; some of the limits may have been reset; try again";

/// How a check would be decided, policy by policy.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Explanation, examples(json!(explanation())))]
struct ExplanationBody {
    /// Whether the check would pass now.
    allowed: bool,
    /// Why the check would be denied, as in a decision; null if it would be allowed.
    #[schema(required = true, value_type = Option<String>)]
    reason: Option<&'static str>,
    /// The policy of the binding limit; null if the check meets no limit.
    #[schema(required = true)]
    binding_policy_id: Option<String>,
    /// Whether the store was unavailable.
    degraded: bool,
    /// The version of the policies.
    policies_version: u64,
    subject: SubjectBody,
    /// Whether the catalog has the user; null if it was not looked up, or the catalog's database did not answer.
    #[schema(required = true)]
    user_known: Option<bool>,
    /// The same for the tenant; also null if the check has no tenant.
    #[schema(required = true)]
    tenant_known: Option<bool>,
    #[schema(schema_with = tier_sources)]
    tier_source: &'static str,
    /// The priority class of its tier: `internal`, `premium`, `standard` or `batch`.
    #[schema(value_type = String)]
    priority: &'static str,
    /// Every policy, and why it applies or not.
    policies: Vec<ConsideredBody>,
}

/// The subject of the check, completed from the catalog; attributes that it lacks are null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subject)]
struct SubjectBody {
    #[schema(required = true)]
    user: Option<String>,
    #[schema(required = true)]
    model: Option<String>,
    #[schema(required = true)]
    tenant: Option<String>,
    /// The id of the API key, or its hash; never the key itself.
    #[schema(required = true)]
    api_key: Option<String>,
    #[schema(required = true)]
    tier: Option<String>,
    #[schema(required = true)]
    model_tier: Option<String>,
    #[schema(required = true)]
    service: Option<String>,
    #[schema(required = true)]
    ip: Option<String>,
}

/// One policy, and why it applies or not. The numbers are null unless it takes part in the decision.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsideredPolicy)]
struct ConsideredBody {
    policy_id: String,
    #[schema(schema_with = outcomes)]
    outcome: &'static str,
    /// The outcome in words.
    why: String,
    /// The policy that overrides it; null where none does.
    #[schema(required = true)]
    overridden_by: Option<String>,
    /// The attributes that it counts per and the check lacks, or whose conditions do not hold; empty where it matches.
    unmet: Vec<String>,
    /// The key of its limit, such as `user=alice`.
    #[schema(required = true)]
    key: Option<String>,
    /// The most of the unit in a window.
    #[schema(required = true)]
    limit: Option<u64>,
    /// The share of the policy's limit that this priority class may use; null if it may use all of it.
    #[schema(required = true, minimum = 0, maximum = 1)]
    share: Option<f64>,
    /// The usage now.
    #[schema(required = true)]
    count: Option<u64>,
    /// What is left now.
    #[schema(required = true)]
    remaining: Option<u64>,
    /// By how much the usage is above the limit now.
    #[schema(required = true)]
    debt: Option<u64>,
    /// The shortest wait in milliseconds after which the check would be admitted; null if it never will be.
    #[schema(required = true)]
    retry_after_ms: Option<u64>,
    /// When the usage would be 0 again, in milliseconds.
    #[schema(required = true)]
    reset_after_ms: Option<u64>,
}

fn tier_sources() -> Object {
    let description = "Where the tier comes from: the catalog, the check itself, or `default` if neither has one.";
    one_of(description, ["catalog", "check", "default"]).build()
}

fn outcomes() -> Object {
    let names = ["applies", "overridden", "exempts", "does_not_apply", "disabled"];
    one_of("Whether the policy applies.", names).build()
}

fn explanation() -> Value {
    let considered = |id: &str, outcome: &str, why: &str, overridden_by: Option<&str>| {
        let applies = overridden_by.is_none();
        let number = |number: u64| if applies { json!(number) } else { Value::Null };
        json!({
            "policyId": id, "outcome": outcome, "why": why, "overriddenBy": overridden_by, "unmet": [],
            "key": if applies { json!("service=payments user=alice") } else { Value::Null },
            "limit": number(10), "share": null, "count": number(10), "remaining": number(0), "debt": number(0),
            "retryAfterMs": number(4_100), "resetAfterMs": number(58_200)
        })
    };
    let why = "\"payments-free\" has more conditions";
    let overridden = considered("default", "overridden", why, Some("payments-free"));
    let applies = considered("payments-free", "applies", "all its conditions hold", None);
    json!({
        "allowed": false, "reason": "limit_exceeded", "bindingPolicyId": "payments-free",
        "degraded": false, "policiesVersion": 7,
        "subject": {"user": "alice", "model": "gpt-4", "tenant": "acme", "apiKey": null, "tier": "free",
            "modelTier": "large", "service": "payments", "ip": null},
        "userKnown": true, "tenantKnown": true, "tierSource": "catalog",
        "priority": "standard",
        "policies": [overridden, applies]
    })
}

/// The result of a reset.
#[derive(Serialize, ToSchema)]
#[schema(as = Reset, examples(json!({"reset": ["default", "payments-free"]})))]
struct ResetBody {
    /// The policies whose limits the check meets.
    reset: Vec<String>,
}

/// Explain a check
///
/// Lists every policy: why it applies or not, its key, its usage now, and how long to wait. Charges nothing.
#[utoipa::path(
    post,
    path = "/admin/explain",
    operation_id = "explain_check",
    tag = "usage",
    request_body = CheckBody,
    responses(
        (status = 200, description = "How the check would be decided", body = ExplanationBody),
        (status = 503, description = STORE_UNAVAILABLE)
    )
)]
pub(super) async fn explain<S: Backend>(
    State(app): State<Arc<App<S>>>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let request = CheckRequest::parse(&body, None)?;
    let explained = app.service.explain(&request.check(), |explained| render(&explained)).await;
    let explanation = explained.map_err(|error| {
        tracing::debug!(error = %crate::telemetry::Chain(&error), "the store gave no decision");
        Problem::store_unavailable()
    })?;
    Ok(answer::json(StatusCode::OK, &explanation))
}

/// Reset usage
///
/// Clears the usage of every limit that a check meets. The server's log records who did it and whose usage it was.
#[utoipa::path(
    post,
    path = "/admin/usage/reset",
    operation_id = "reset_usage",
    tag = "usage",
    request_body = CheckBody,
    responses(
        (status = 200, description = "The usage is 0", body = ResetBody),
        (status = 503, description = INCOMPLETE_RESET)
    )
)]
pub(super) async fn reset<S: Backend>(
    State(app): State<Arc<App<S>>>,
    Extension(actor): Extension<Actor>,
    _: NoParameters,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = read_json(request, app.bodies(app.limits.max_body_bytes)).await?;
    let request = CheckRequest::parse(&body, None)?;
    let check = request.check();
    let reset = app.service.reset(&check).await.map_err(|error| {
        tracing::warn!(
            error = %crate::telemetry::Chain(&error),
            kind = error.kind().name(),
            what_to_do = error.remedy(),
            actor = actor.name(),
            "the store failed during a reset of usage; some of the limits may have been reset, the others keep their usage"
        );
        Problem::incomplete_reset(&error)
    })?;
    log_reset(&actor, &check.subject, &reset);
    let reset = reset.iter().map(|id| id.as_str().to_owned()).collect();
    Ok(answer::json(StatusCode::OK, &ResetBody { reset }))
}

/// Logs the reset, because usage is not in the catalog and so the audit log does not show it. The line names the
/// subject without its API key and without custom attributes, which may contain anything.
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

fn render(explanation: &Explanation<'_>) -> ExplanationBody {
    let Explanation { subject, origins, priority, version, refused, policies, decision } =
        explanation;
    let statuses = decision.limits();
    let policies = policies.iter().map(|(policy, consideration)| {
        let of_policy = |status: &&LimitStatus| *status.limit.policy_id() == policy.id;
        let status = statuses.iter().find(of_policy);
        considered(policy, consideration, subject, status)
    });
    let binding = decision.headline().map(|status| status.limit.policy_id().as_str().to_owned());
    ExplanationBody {
        allowed: decision.allowed(),
        reason: decision.reason().or(*refused).map(tollgate_core::Reason::name),
        binding_policy_id: binding,
        degraded: decision.degraded(),
        policies_version: *version,
        subject: SubjectBody::of(subject),
        user_known: origins.is_user_known,
        tenant_known: origins.is_tenant_known,
        tier_source: match origins.tier {
            TierSource::Catalog => "catalog",
            TierSource::Check => "check",
            TierSource::Default => "default",
        },
        priority: priority.name(),
        policies: policies.collect(),
    }
}

fn considered(
    policy: &Policy,
    consideration: &Consideration,
    subject: &Subject<'_>,
    status: Option<&LimitStatus>,
) -> ConsideredBody {
    let unmet = match consideration {
        Consideration::Lacks(_) | Consideration::Differs(_) => policy.unmet(subject),
        _ => Vec::new(),
    };
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
        Consideration::OverriddenBy(other, why) => ("overridden", precedence(other, why)),
        Consideration::Exempts if policy.exempts_all() => {
            ("exempts", "it applies, and exempts from every limit".to_owned())
        }
        Consideration::Exempts => ("exempts", "it applies, and limits nothing".to_owned()),
        Consideration::AppliesBeside(other) => (
            "applies",
            format!(
                "all its conditions hold; {:?} is more specific, but counts over another window",
                other.as_str()
            ),
        ),
        Consideration::Applies => ("applies", "all its conditions hold".to_owned()),
    };
    let key = |status: &LimitStatus| {
        let parts = status.limit.key_parts(subject);
        parts.map(|(one, value)| format!("{one}={value}")).collect::<Vec<_>>().join(" ")
    };
    let class_share = status.and_then(|status| status.limit.class_share());
    ConsideredBody {
        policy_id: policy.id.as_str().to_owned(),
        outcome,
        why,
        overridden_by: match consideration {
            Consideration::OverriddenBy(other, _) => Some(other.as_str().to_owned()),
            _ => None,
        },
        unmet: unmet.into_iter().map(|attribute| attribute.name().to_owned()).collect(),
        key: status.map(key),
        limit: status.map(|status| status.limit.amount().get()),
        share: class_share.map(|class_share| f64::from(class_share.share.millionths()) / 1e6),
        count: status.map(|status| status.count),
        remaining: status.map(|status| status.remaining),
        debt: status.map(LimitStatus::debt),
        retry_after_ms: status.and_then(|status| status.retry_after_ms),
        reset_after_ms: status.map(|status| status.reset_after_ms),
    }
}

/// Why `other` overrides a policy, in words.
fn precedence(other: &PolicyId, why: &Precedence) -> String {
    let other = other.as_str();
    match why {
        Precedence::Named => format!("{other:?} names it in `overrides`"),
        Precedence::ExemptsAll => format!("{other:?} exempts from every limit"),
        Precedence::MoreConditions => format!("{other:?} has more conditions"),
        Precedence::MorePrecise(attribute) => {
            format!("{other:?} describes the {attribute} more precisely")
        }
    }
}

impl SubjectBody {
    fn of(subject: &Subject<'_>) -> Self {
        let of = |attribute| subject.get(&attribute).map(str::to_owned);
        Self {
            user: of(Attribute::User),
            model: of(Attribute::Model),
            tenant: of(Attribute::Tenant),
            api_key: of(Attribute::ApiKey),
            tier: of(Attribute::Tier),
            model_tier: of(Attribute::ModelTier),
            service: of(Attribute::Service),
            ip: of(Attribute::Ip),
        }
    }
}
