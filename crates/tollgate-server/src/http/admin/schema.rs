//! What OpenAPI says of the calls below `/admin` that are not about one record.
//!
//! Answers are written by hand in [`super::catalog`] and [`super::explain`]; these types say the same. Tests hold the
//! answers against them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Response, Schema};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use super::super::schema::Id;
use super::documentation::{answers, records};

/// A refusal that calls share, as `responses` of `utoipa::path` takes it.
macro_rules! refusal {
    ($(#[$docs:meta])* $name:ident, $(($status:literal, $description:literal)),+) => {
        $(#[$docs])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(answers::refused(($status, $description))),+].into()
            }
        }
    };
}

refusal!(
    /// The query of a list is wrong.
    QueryRefused,
    (422, "A parameter of the query is unknown or out of range")
);
refusal!(
    /// The catalog's database did not do it.
    CatalogUnavailable,
    (503, "The catalog's database did not do it, and nothing has changed; ask again")
);
refusal!(
    /// The policy has no top keys.
    NoSuchPolicy,
    (404, "No policy in force has this id and a limit")
);
refusal!(
    /// Nobody else can listen.
    TooManyListeners,
    (503, "As many listen as may")
);
refusal!(
    /// The store did not do it.
    StoreUnavailable,
    (503, "The store that holds the usage did not answer; ask again")
);

/// The catalog cannot be changed so.
pub(super) struct ChangeRefused;

impl IntoResponses for ChangeRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let in_use = (409, "A user cannot leave the tenant that its API keys are of");
        [answers::refused(in_use), answers::read_only()].into()
    }
}

/// The policy file.
pub(super) struct CatalogBody;

impl PartialSchema for CatalogBody {
    fn schema() -> RefOr<Schema> {
        records::catalog()
    }
}

impl ToSchema for CatalogBody {
    fn name() -> Cow<'static, str> {
        "Catalog".into()
    }
}

/// What is judged: one policy, or a policy file.
pub(super) struct JudgedBody;

impl PartialSchema for JudgedBody {
    fn schema() -> RefOr<Schema> {
        records::judged()
    }
}

impl ToSchema for JudgedBody {
    fn name() -> Cow<'static, str> {
        "Judged".into()
    }
}

/// That nothing is wrong.
#[derive(ToSchema)]
#[schema(as = Judgement, examples(json!({"valid": true, "policies": 1})))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct JudgementBody {
    /// Always true: what is wrong is a problem with the status 422.
    valid: bool,
    /// How many policies there are.
    policies: u64,
}

/// What an import did.
#[derive(ToSchema)]
#[schema(as = Imported, examples(json!({"created": 2, "updated": 1, "unchanged": 5})))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ImportedBody {
    /// Records that were made.
    created: u64,
    /// Records that were replaced, because they differed.
    updated: u64,
    /// Records that were so already.
    unchanged: u64,
}

/// Which changes to list: those that have all that is given.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ChangeParameters {
    /// Of records of this kind.
    #[param(inline)]
    kind: Option<KindName>,
    /// Of the records with this id.
    id: Option<Id>,
    /// Made by this actor.
    actor: Option<Id>,
    /// `nextCursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// The most items of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
}

/// A kind of record.
#[derive(ToSchema)]
#[schema(as = Kind, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
enum KindName {
    Tier,
    ModelTier,
    Model,
    Tenant,
    User,
    ApiKey,
    Policy,
}

/// What was done to a record.
#[derive(ToSchema)]
#[schema(as = Action, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
enum ActionName {
    Create,
    Update,
    Delete,
}

/// A page of the history, the newest change first.
#[derive(ToSchema)]
#[schema(as = ChangePage, rename_all = "camelCase", examples(json!({"items": [change()], "nextCursor": "41"})))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ChangePageBody {
    items: Vec<ChangeBody>,
    /// `cursor` for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A change of one record.
#[derive(ToSchema)]
#[schema(as = Change, rename_all = "camelCase", examples(json!(change())))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ChangeBody {
    /// Its number, in the order in which changes took effect.
    id: u64,
    /// When, in milliseconds since 1970, by the clock of the node that made it.
    at: u64,
    /// Who made it.
    actor: String,
    #[schema(inline)]
    action: ActionName,
    #[schema(inline)]
    kind: KindName,
    /// The id of the record.
    record_id: String,
    /// The record before; null if it was made.
    #[schema(required = true, value_type = Option<Object>)]
    before: Option<Value>,
    /// The record after; null if it was deleted.
    #[schema(required = true, value_type = Option<Object>)]
    after: Option<Value>,
}

fn change() -> Value {
    json!({
        "id": 42, "at": 1_800_000_000_000_u64, "actor": "admin", "action": "update", "kind": "user",
        "recordId": "alice", "before": {"id": "alice", "name": "Alice", "tenantId": "acme", "tier": "free"},
        "after": {"id": "alice", "name": "Alice", "tenantId": "acme", "tier": "enterprise"}
    })
}

/// What would become of a check, policy by policy.
#[derive(ToSchema)]
#[schema(as = Explanation, rename_all = "camelCase", examples(json!(explanation())))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ExplanationBody {
    /// Whether the check would pass now.
    allowed: bool,
    /// Why not, as in a decision; null if it would.
    #[schema(required = true)]
    reason: Option<String>,
    /// The policy whose limit decides; null where no limit is met.
    #[schema(required = true)]
    binding_policy_id: Option<String>,
    /// Whether the store did not answer.
    degraded: bool,
    /// The version of the policies.
    policies_version: u64,
    subject: SubjectBody,
    /// Whether the catalog has the user; null if nobody needed to look, or the catalog's database did not answer.
    #[schema(required = true)]
    user_known: Option<bool>,
    /// The same of the tenant; null too if the check has none.
    #[schema(required = true)]
    tenant_known: Option<bool>,
    #[schema(inline)]
    tier_source: TierSourceName,
    /// The priority class of its tier: `internal`, `premium`, `standard` or `batch`.
    priority: String,
    /// Every policy, and why it applies or not.
    policies: Vec<ConsideredBody>,
}

/// Where the tier is from: the catalog, the check itself, or neither, so that it is `default`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
enum TierSourceName {
    Catalog,
    Check,
    Default,
}

/// Who is signed in.
#[derive(ToSchema)]
#[schema(as = Session, rename_all = "camelCase", examples(json!({"actor": "alice", "role": "write"})))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct SessionBody {
    /// The name of the token, under which the history lists its changes.
    actor: String,
    #[schema(inline)]
    role: RoleName,
}

/// What the token allows: to look, or to look and to change.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
enum RoleName {
    Read,
    Write,
}

/// Who and what the check is about, with what the catalog adds; null for what it lacks.
#[derive(ToSchema)]
#[schema(as = Subject, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
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

/// One policy that was considered. Its numbers are null unless it takes part in the decision.
#[derive(ToSchema)]
#[schema(as = ConsideredPolicy, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for the schema")]
struct ConsideredBody {
    policy_id: String,
    #[schema(inline)]
    outcome: Outcome,
    /// The outcome in words.
    why: String,
    /// What its limit counts under, such as `user=alice`.
    #[schema(required = true)]
    key: Option<String>,
    /// The most of the unit in a window.
    #[schema(required = true)]
    limit: Option<u64>,
    /// The part of the policy's limit that `limit` is, kept for this priority class; null where it is all of it.
    #[schema(required = true, minimum = 0, maximum = 1)]
    share: Option<f64>,
    /// The usage now.
    #[schema(required = true)]
    count: Option<u64>,
    /// What is left now.
    #[schema(required = true)]
    remaining: Option<u64>,
    /// The least wait in milliseconds after which the check would be admitted; null if it never will be.
    #[schema(required = true)]
    retry_after_ms: Option<u64>,
    /// When the usage would be 0 again, in milliseconds.
    #[schema(required = true)]
    reset_after_ms: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "read for the schema")]
enum Outcome {
    Applies,
    Overridden,
    Exempts,
    DoesNotApply,
    Disabled,
}

fn explanation() -> Value {
    let considered = |id: &str, outcome: &str, why: &str, applies: bool| {
        let number = |number: u64| if applies { json!(number) } else { Value::Null };
        json!({
            "policyId": id, "outcome": outcome, "why": why,
            "key": if applies { json!("service=payments user=alice") } else { Value::Null },
            "limit": number(10), "share": null, "count": number(10), "remaining": number(0),
            "retryAfterMs": number(4_100), "resetAfterMs": number(58_200)
        })
    };
    let overridden =
        considered("default", "overridden", "\"payments-free\" has more conditions", false);
    let applies = considered("payments-free", "applies", "all its conditions hold", true);
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

/// Whose usage was given back.
#[derive(ToSchema)]
#[schema(as = Reset, examples(json!({"reset": ["default", "payments-free"]})))]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct ResetBody {
    /// The policies whose limits the check meets.
    reset: Vec<String>,
}
