//! The OpenAPI schemas of the calls for leases.
//!
//! [`request`](super::super::request) parses the bodies by hand; these types describe the same format.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_core::{Amount, Ttl};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use super::super::schema::{
    Answers, CheckBody, admitted, amounts, deciding, denied, header, nullable, unmet,
};

/// The body of a reservation: that of a check, with `ttlMs`.
pub(crate) struct ReservationBody;

impl PartialSchema for ReservationBody {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut check)) = CheckBody::schema() else {
            return Ref::from_schema_name("Check").into();
        };
        let description = "A check, and how long its lease is to live. `requestId` names the lease once: while the lease is \
             kept, the same reservation with the same id returns it again, with what became of it as `state`.";
        check.description = Some(description.to_owned());
        check.properties.insert("ttlMs".to_owned(), ttl().into());
        check.properties.insert("inputBytes".to_owned(), input_bytes().into());
        check.examples = vec![json!({
            "userId": "alice", "modelId": "gpt-4", "ttlMs": 60_000,
            "cost": {"input_tokens": 1_200, "output_tokens": 800}, "requestId": "b2f1"
        })];
        Schema::Object(check).into()
    }
}

impl ToSchema for ReservationBody {
    fn name() -> Cow<'static, str> {
        "Reservation".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        CheckBody::schemas(schemas);
    }
}

fn input_bytes() -> Object {
    let description = "How many bytes the input has. If `cost` does not name `input_tokens`, as many are reserved as inputs of \
         this length usually have, at most one for two bytes; a settlement that names them teaches that.";
    ObjectBuilder::new()
        .schema_type(nullable(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(Amount::MAX.get()))
        .description(Some(description))
        .build()
}

fn ttl() -> Object {
    let description = "How long the lease lives, in milliseconds: 100 to 3600000. A new lease lives for 30000 by default; an \
         extended one as long as before.";
    ObjectBuilder::new()
        .schema_type(nullable(Type::Integer))
        .minimum(Some(Ttl::MIN.as_ms()))
        .maximum(Some(Ttl::MAX.as_ms()))
        .description(Some(description))
        .build()
}

fn seq() -> Object {
    let description = "The sequence number of this update: from 1, higher than that of every earlier update of the lease. \
         An update that is sent again has the same number, and counts once; one with a lower number than the last one \
         changes nothing.";
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(Amount::MAX.get()))
        .description(Some(description))
        .build()
}

fn observed() -> Object {
    let description =
        "What was used so far, by unit. What is above the reservation is charged at once.";
    amounts(nullable(Type::Object), description)
}

fn wanted() -> Object {
    let description = "What is wanted in all, by unit. What is above the reservation is admitted like a check, all of it or \
         nothing.";
    amounts(nullable(Type::Object), description)
}

fn usage() -> Object {
    let description = "What was used in all, by unit; a unit that is not named stays as reserved. A unit that was not reserved \
         is charged now.";
    amounts(Type::Object.into(), description)
}

fn quality() -> Object {
    let names = [json!("exact"), json!("lower_bound"), json!(null)];
    let description = "`exact` (the default), or `lower_bound` if the answer broke off, so that at least so much was used: it \
         gives nothing back.";
    ObjectBuilder::new()
        .schema_type(nullable(Type::String))
        .enum_values(Some(names))
        .description(Some(description))
        .build()
}

/// An extension of a lease.
#[derive(ToSchema)]
#[schema(
    as = LeaseExtension,
    rename_all = "camelCase",
    examples(json!({
        "seq": 1, "observed": {"output_tokens": 640}, "wanted": {"output_tokens": 1_600}
    }))
)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct ExtensionBody {
    #[schema(schema_with = seq)]
    seq: u64,
    #[schema(schema_with = ttl, required = false)]
    ttl_ms: Option<u64>,
    #[schema(schema_with = observed, required = false)]
    observed: Option<BTreeMap<String, u64>>,
    #[schema(schema_with = wanted, required = false)]
    wanted: Option<BTreeMap<String, u64>>,
}

/// A settlement of a lease.
#[derive(ToSchema)]
#[schema(
    as = LeaseSettlement,
    rename_all = "camelCase",
    examples(json!({"seq": 2, "usage": {"input_tokens": 1_187, "output_tokens": 655}}))
)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct SettlementBody {
    #[schema(schema_with = seq)]
    seq: u64,
    #[schema(schema_with = usage)]
    usage: BTreeMap<String, u64>,
    #[schema(schema_with = quality, required = false)]
    quality: Option<String>,
}

/// A settlement of a lease that it names.
#[derive(ToSchema)]
#[schema(as = NamedSettlement, rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct NamedSettlementBody {
    /// The id of the lease. One that is no id is answered with 404, like that of no lease.
    lease_id: String,
    #[schema(schema_with = seq)]
    seq: u64,
    #[schema(schema_with = usage)]
    usage: BTreeMap<String, u64>,
    #[schema(schema_with = quality, required = false)]
    quality: Option<String>,
}

/// Several settlements, each made by itself.
#[derive(ToSchema)]
#[schema(
    as = SettlementBatch,
    examples(json!({"settlements": [
        {"leaseId": "m0000000a4f0c…", "seq": 1, "usage": {"output_tokens": 655}},
        {"leaseId": "m0000000b91d2…", "seq": 3, "usage": {"output_tokens": 90}, "quality": "lower_bound"}
    ]}))
)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the schema")]
pub(crate) struct SettlementBatchBody {
    /// The settlements, in the order in which they are made.
    #[schema(max_items = 1000)]
    settlements: Vec<NamedSettlementBody>,
}

/// The lease in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read for the schema")]
pub(super) struct LeasePath {
    /// The id of the lease, as the reservation returned it.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9._-]*$")]
    id: String,
}

/// The answers to a reservation.
pub(super) struct ReserveAnswers;

impl IntoResponses for ReserveAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let granted = |decision: Value| {
            let mut granted = decision;
            granted["lease"] = json!({
                "id": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a", "state": "live", "repeated": false, "ttlMs": 60_000,
                "reserved": {"requests": 1, "input_tokens": 1_200, "output_tokens": 800},
                "expiresAt": "2026-11-28T12:01:00.000Z"
            });
            granted
        };
        let examples = [("Admitted", granted(admitted())), ("No limit met", granted(unmet()))];
        let mut refused = denied();
        refused["reserved"] = json!({"requests": 1, "input_tokens": 1_200, "output_tokens": 800});
        let admission = "The request may pass, and its lease lives";
        let denial = "The request may not pass; nothing is held";
        let undecided = "No decision was possible: the store is unavailable, or unfinished requests use all of the memory \
             reserved for them";
        Answers::from([
            ("201".to_owned(), deciding("GrantedLease", admission, examples)),
            ("429".to_owned(), deciding("DeniedLease", denial, [("Denied", refused)])),
            ("501".to_owned(), Response::new("The store keeps no leases").into()),
            ("503".to_owned(), Response::new(undecided).into()),
        ])
    }
}

/// The answers to an update of one lease.
pub(super) struct UpdateAnswers;

impl IntoResponses for UpdateAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Lease")))
            .examples_from_iter([("Settled", ExampleBuilder::new().value(Some(lease())).build())]);
        let updated = ResponseBuilder::new()
            .description("The lease after the update, or as it is if the update was `repeated`")
            .content("application/json", content.build());
        let unanswered = "The store is unavailable: send the same update again, it counts once; or unfinished requests use \
             all of the memory reserved for them";
        let wait = header("How long to wait before another attempt, in seconds", Type::Integer);
        let unanswered =
            ResponseBuilder::new().description(unanswered).header("Retry-After", wait).build();
        let unreadable = "The record of the lease, or the usage of one of its limits, holds something that Tollgate did not \
             write, so nothing was changed; or an internal error";
        let conflict = "The lease has ended: it was released, or an extension or a release comes after its settlement";
        Answers::from([
            ("200".to_owned(), updated.build().into()),
            ("404".to_owned(), Response::new("There is no such lease, or not any more").into()),
            ("409".to_owned(), Response::new(conflict).into()),
            ("500".to_owned(), Response::new(unreadable).into()),
            ("501".to_owned(), Response::new("The store keeps no leases").into()),
            ("503".to_owned(), unanswered.into()),
        ])
    }
}

/// The answers to a settlement: as to any update, or 202.
pub(super) struct SettleAnswers;

impl IntoResponses for SettleAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut answers = UpdateAnswers::responses();
        let content =
            ContentBuilder::new().schema(Some(Ref::from_schema_name("AcceptedSettlement"))).build();
        let accepted = ResponseBuilder::new()
            .description(
                "The store is unavailable. The settlement is on the disk of this server (`--journal`), which makes it when the \
                 store is available again",
            )
            .content("application/json", content);
        answers.insert("202".to_owned(), accepted.build().into());
        answers
    }
}

/// The answers to a batch of settlements.
pub(super) struct SettleBatchAnswers;

impl IntoResponses for SettleBatchAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let lease = lease();
        let unknown = json!({
            "type": "urn:tollgate:problem:unknown-lease", "title": "There is no such lease", "status": 404,
            "detail": "No lease has this id", "errors": []
        });
        let example = json!({"settlements": [
            {"leaseId": lease["id"], "status": 200, "lease": lease},
            {"leaseId": "unknown", "status": 404, "problem": unknown}
        ]});
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Settlements")))
            .example(Some(example));
        let answered = ResponseBuilder::new()
            .description("An answer for each settlement, in their order")
            .content("application/json", content.build());
        Answers::from([
            ("200".to_owned(), answered.build().into()),
            ("501".to_owned(), Response::new("The store keeps no leases").into()),
        ])
    }
}

/// A lease as an example: settled, with more output than it reserved.
pub(super) fn lease() -> Value {
    let tokens = json!({
        "policyId": "tokens", "unit": "output_tokens", "limit": 1_000, "count": 1_090, "remaining": 0,
        "debt": 90, "charged": 655
    });
    let slots = json!({
        "policyId": "parallel", "unit": "concurrency", "limit": 4, "count": 1, "remaining": 3, "debt": 0,
        "charged": 0
    });
    json!({
        "id": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a", "state": "settled", "seq": 2, "repeated": false,
        "proceed": true, "ttlMs": 60_000, "expiresAt": null, "limits": [tokens, slots]
    })
}
