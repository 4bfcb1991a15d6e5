//! The OpenAPI schemas of requests and answers.
//!
//! [`super::request`] parses requests by hand, so that it finds all problems; these types describe the same format. A
//! test compares them with what the parser accepts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tollgate_core::subject::{ACCEPTED_IDS, MAX_ID_BYTES};
use tollgate_core::{Amount, Unit};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{
    AnyOfBuilder, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::request::{MAX_ATTRIBUTES, MAX_COST_UNITS};

/// One question: may this request pass, at this cost? It names at least one attribute of its subject.
#[derive(ToSchema)]
#[schema(
    as = Check,
    rename_all = "camelCase",
    examples(json!({
        "userId": "alice",
        "modelId": "gpt-4",
        "tenantId": "acme",
        "service": "payments",
        "ip": "203.0.113.7",
        "attributes": {"region": "eu"},
        "cost": {"tokens": 1200}
    }))
)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct CheckBody {
    /// The user.
    user_id: Option<Id>,
    /// The model asked for.
    model_id: Option<Id>,
    /// The tenant.
    tenant_id: Option<Id>,
    /// The API key.
    api_key: Option<Id>,
    /// The service that asks.
    service: Option<Id>,
    #[schema(schema_with = address, required = false)]
    ip: Option<String>,
    #[schema(schema_with = attributes, required = false)]
    attributes: Option<BTreeMap<String, String>>,
    #[schema(schema_with = cost, required = false)]
    cost: Option<BTreeMap<String, u64>>,
    /// An id of this request, so that the check can be repeated safely. After it was admitted, the same check with
    /// the same id gets the first answer and is not charged again within the longest window of its limits. A peek
    /// ignores it.
    request_id: Option<Id>,
}

/// Adds to the schemas of a check and a reservation that it names at least one attribute, which the derived schema cannot say.
pub(super) fn require_subject(document: &mut Value) {
    let ids = ["userId", "modelId", "tenantId", "apiKey", "service", "ip"];
    let unnamed = ids.map(|id| (id.to_owned(), json!({"type": "null"})));
    let mut unnamed = Map::from_iter(unnamed);
    unnamed.insert("attributes".to_owned(), json!({"maxProperties": 0}));
    for schema in ["Check", "Reservation"] {
        document["components"]["schemas"][schema]["not"] = json!({"properties": unnamed});
    }
}

/// What an id is made of, as a regular expression.
pub(super) const ID_PATTERN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
/// A value in `match`: an asterisk only at the end, or after a backslash. Without a control character.
pub(super) const MATCH_PATTERN: &str =
    r"^(\\[^\u0000-\u001f\u007f-\u009f]|[^*\\\u0000-\u001f\u007f-\u009f])*[*\\]?$";
/// What the name of a unit is made of. A cost has none of `concurrency`, which the descriptions say.
pub(super) const UNIT_PATTERN: &str = "^[a-z][a-z0-9_]{0,63}$";

/// The schema of an id. Its bound is in bytes; a character outside ASCII takes several.
pub(super) struct Id;

impl Id {
    /// The schema of a text with the bounds of an id.
    fn text() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_ID_BYTES))
            .pattern(Some(ID_PATTERN))
            .description(Some(ACCEPTED_IDS))
    }
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        Self::text().into()
    }
}

impl ToSchema for Id {
    fn name() -> Cow<'static, str> {
        "Id".into()
    }
}

/// One of a few names.
pub(super) fn one_of(
    description: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> ObjectBuilder {
    let names = ObjectBuilder::new().enum_values(Some(names));
    names.schema_type(Type::String).description(Some(description))
}

pub(super) fn nullable(kind: Type) -> SchemaType {
    [kind, Type::Null].into_iter().collect()
}

fn address() -> Schema {
    let of = |format| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(format)))
    };
    let description = "The client's address, IPv4 or IPv6. An IPv4-mapped IPv6 address is the same as the IPv4 address.";
    AnyOfBuilder::new()
        .item(of(KnownFormat::Ipv4))
        .item(of(KnownFormat::Ipv6))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .description(Some(description))
        .into()
}

fn attributes() -> Object {
    let description = "Further attributes that policies match or count per: `tier`, `modelTier` and any name of your own. \
         The attributes user, model, tenant, apiKey, service and ip have fields of their own and are refused here.";
    ObjectBuilder::new()
        .schema_type(nullable(Type::Object))
        .additional_properties(Some(Ref::from_schema_name("Id")))
        .property_names(Some(Id::text()))
        .max_properties(Some(MAX_ATTRIBUTES))
        .description(Some(description))
        .build()
}

fn cost() -> Object {
    let description = "How much of each unit the request costs; `requests` is 1 by default. Integers, written without a \
         fraction or an exponent. `concurrency` has no cost: a lease holds one slot by itself, and a check holds none.";
    amounts(nullable(Type::Object), description)
}

/// An object of amounts by unit.
pub(super) fn amounts(kind: SchemaType, description: &str) -> Object {
    let amount = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(Amount::MAX.get()));
    let unit = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(UNIT_PATTERN))
        .description(Some(Unit::ACCEPTED_IN_COSTS));
    ObjectBuilder::new()
        .schema_type(kind)
        .additional_properties(Some(amount))
        .property_names(Some(unit))
        .max_properties(Some(MAX_COST_UNITS))
        .description(Some(description))
        .build()
}

/// Several checks, each decided separately.
#[derive(ToSchema)]
#[schema(as = CheckBatch)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct BatchBody {
    /// The checks, in the order in which they are decided.
    #[schema(max_items = 1000)]
    checks: Vec<CheckBody>,
}

pub(super) type Answers = BTreeMap<String, RefOr<Response>>;

/// The answers to a check and a peek.
pub(crate) struct CheckAnswers;

impl IntoResponses for CheckAnswers {
    fn responses() -> Answers {
        let decided = "The decision, whether the request may pass or not";
        let examples = [("Admitted", admitted()), ("Denied", denied()), ("No limit met", unmet())];
        Answers::from([("200".to_owned(), decision(decided, examples)), undecided()])
    }
}

/// The answers to an enforced check.
pub(crate) struct EnforceAnswers;

impl IntoResponses for EnforceAnswers {
    fn responses() -> Answers {
        let examples = [("Admitted", admitted()), ("No limit met", unmet())];
        let denial = decision("The request may not pass", [("Denied", denied())]);
        let admission = decision("The request may pass", examples);
        Answers::from([("200".to_owned(), admission), ("429".to_owned(), denial), undecided()])
    }
}

/// The answers to a check that a proxy makes.
pub(crate) struct AuthAnswers;

impl IntoResponses for AuthAnswers {
    fn responses() -> Answers {
        let decided = |description: &str| ResponseBuilder::new().description(description);
        let admission = decided("The request may pass")
            .header("RateLimit-Policy", header(RATELIMIT_POLICY, Type::String))
            .header("RateLimit", header(RATELIMIT, Type::String));
        let denial = decided("The request may not pass")
            .header("RateLimit-Policy", header(RATELIMIT_POLICY, Type::String))
            .header("RateLimit", header(RATELIMIT, Type::String))
            .header("Retry-After", header(RETRY_AFTER, Type::Integer));
        let refusal =
            "No header names a subject, or a header is not accepted; the problem names the headers";
        Answers::from([
            ("200".to_owned(), admission.build().into()),
            ("400".to_owned(), Response::new(refusal).into()),
            ("429".to_owned(), denial.build().into()),
            undecided(),
        ])
    }
}

/// The answers to a batch of checks.
pub(crate) struct BatchAnswers;

impl IntoResponses for BatchAnswers {
    fn responses() -> Answers {
        let example = json!({"decisions": [admitted(), denied()]});
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Decisions")))
            .example(Some(example));
        let decided = ResponseBuilder::new()
            .description("A decision for each check, in their order")
            .content("application/json", content.build());
        Answers::from([("200".to_owned(), decided.build().into()), undecided()])
    }
}

fn undecided() -> (String, RefOr<Response>) {
    let description = "No decision was possible: the store is unavailable, or unfinished requests use all of the \
         memory reserved for them";
    ("503".to_owned(), Response::new(description).into())
}

fn decision<const N: usize>(
    description: &str,
    examples: [(&str, serde_json::Value); N],
) -> RefOr<Response> {
    deciding("Decision", description, examples)
}

/// A header field of an answer.
pub(super) fn header(description: &str, kind: Type) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// An answer with a decision in the form of `schema`, and with its header fields.
pub(super) fn deciding<const N: usize>(
    schema: &str,
    description: &str,
    examples: [(&str, serde_json::Value); N],
) -> RefOr<Response> {
    let examples =
        examples.map(|(name, value)| (name, ExampleBuilder::new().value(Some(value)).build()));
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .examples_from_iter(examples);
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content.build())
        .header("RateLimit-Policy", header(RATELIMIT_POLICY, Type::String))
        .header("RateLimit", header(RATELIMIT, Type::String))
        .header("Retry-After", header(RETRY_AFTER, Type::Integer))
        .build()
        .into()
}

const RATELIMIT_POLICY: &str = "The enforced limits that took part and their windows in seconds, such as \
     `\"default\";q=100;w=3600`; absent if there is none (IETF draft ratelimit-headers)";
const RATELIMIT: &str = "For each of these limits, what is left (`r`) and the seconds (`t`) until its usage is 0, or on a denial until the \
     check would be admitted, such as `\"default\";r=99;t=3600`; absent if there is none";
const RETRY_AFTER: &str = "On a denial that ends by waiting: the wait in whole seconds, rounded up";

pub(super) fn admitted() -> serde_json::Value {
    let limit = json!({
        "policyId": "default", "scope": "USER_MODEL", "unit": "requests",
        "algorithm": "sliding_window_log", "mode": "enforce", "allowed": true, "limit": 100,
        "count": 1, "remaining": 99, "windowSeconds": 3600, "retryAfterMs": 0,
        "resetAfterMs": 3_600_000
    });
    json!({
        "allowed": true, "limit": 100, "count": 1, "remaining": 99, "windowSeconds": 3600,
        "retryAfterMs": 0, "resetAfterMs": 3_600_000, "policyId": "default",
        "scope": "USER_MODEL", "unit": "requests", "reason": null, "degraded": false,
        "limits": [limit]
    })
}

pub(super) fn denied() -> serde_json::Value {
    let limit = json!({
        "policyId": "default", "scope": "USER_MODEL", "unit": "requests",
        "algorithm": "sliding_window_log", "mode": "enforce", "allowed": false, "limit": 100,
        "count": 100, "remaining": 0, "windowSeconds": 3600, "retryAfterMs": 41_250,
        "resetAfterMs": 3_598_100
    });
    json!({
        "allowed": false, "limit": 100, "count": 100, "remaining": 0, "windowSeconds": 3600,
        "retryAfterMs": 41_250, "resetAfterMs": 3_598_100, "policyId": "default",
        "scope": "USER_MODEL", "unit": "requests", "reason": "limit_exceeded", "degraded": false,
        "limits": [limit]
    })
}

pub(super) fn unmet() -> serde_json::Value {
    json!({
        "allowed": true, "limit": null, "count": 0, "remaining": null, "windowSeconds": null,
        "retryAfterMs": 0, "resetAfterMs": 0, "policyId": null, "scope": null,
        "unit": "requests", "reason": null, "degraded": false, "limits": []
    })
}
