//! The fields of records: what they hold, and where they may be given.
//!
//! What is accepted is decided by the catalog's validators; a test sends these schemas' examples, and schemathesis what
//! it makes of them.

use std::iter;

use serde_json::{Value, json};
use tollgate_catalog::directory::{Kind, PriorityClass};
use tollgate_core::subject::ACCEPTED_IDS;
use tollgate_core::{Amount, Counting, FailureMode, Mode, Per, Policy};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema,
    SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};

use super::super::super::schema::{Id, unit};

/// A field of a record.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    pub(super) given: Given,
    /// Whether every answer has it; otherwise only where it is set.
    pub(super) always_answered: bool,
    pub(super) description: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    /// An id, or a name, which is bounded like one.
    Id,
    /// One of a few names.
    OneOf(fn() -> Vec<&'static str>),
    Moment,
    Flag,
    /// The attributes of `per`.
    Attributes,
    /// The conditions of `match`.
    Conditions,
    Unit,
    Limit,
    /// The shares of priority classes.
    Shares,
    Seconds,
}

/// Where a field may be given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// Everywhere, and must be in a new record.
    Required,
    /// Everywhere.
    Optional,
    /// Everywhere; in a patch, null gives it its default.
    Resettable,
    /// Everywhere; null is the same as not given.
    Nullable,
    /// Only the directory sets it; a change may repeat it as it was answered.
    Kept,
}

const fn field(
    name: &'static str,
    holds: Holds,
    given: Given,
    always_answered: bool,
    description: &'static str,
) -> Field {
    Field { name, holds, given, always_answered, description }
}

const ID: Field = field(
    "id",
    Holds::Id,
    Given::Optional,
    true,
    "Its id, unique among its kind. `.` and `..` mean another path, and so are no ids of new records.",
);
const NAME: Field =
    field("name", Holds::Id, Given::Nullable, true, "What people call it; the id unless said.");
const TENANT_ID: Field =
    field("tenantId", Holds::Id, Given::Required, true, "The tenant that it belongs to.");

const TENANT: &[Field] = &[ID, NAME, {
    let what = "The tier of its users and API keys that have none of their own.";
    field("tier", Holds::Id, Given::Nullable, false, what)
}];
const USER: &[Field] = &[ID, TENANT_ID, NAME, {
    field("tier", Holds::Id, Given::Nullable, false, "Its own tier, before that of its tenant.")
}];
const API_KEY: &[Field] = &[
    ID,
    NAME,
    TENANT_ID,
    field(
        "userId",
        Holds::Id,
        Given::Nullable,
        false,
        "The user of that tenant that it belongs to.",
    ),
    {
        let what = "Its own tier, before those of its user and its tenant.";
        field("tier", Holds::Id, Given::Nullable, false, what)
    },
    {
        let what = "From when on it is refused: to the millisecond, from 1970 to 2554.";
        field("expiresAt", Holds::Moment, Given::Nullable, false, what)
    },
    field("revoked", Holds::Flag, Given::Resettable, true, "Whether it was taken back."),
    {
        let what = "The first characters of the key, to tell keys apart.";
        field("prefix", Holds::Id, Given::Kept, true, what)
    },
    field("lastUsedAt", Holds::Moment, Given::Kept, false, "About when it was last used."),
];
const TIER: &[Field] = &[ID, NAME, {
    let what = "How it counts when not everyone can pass; `standard` unless said.";
    field("priority", Holds::OneOf(priorities), Given::Nullable, true, what)
}];
const MODEL_TIER: &[Field] = &[ID, NAME];
const MODEL: &[Field] = &[ID, NAME, {
    field("modelTier", Holds::Id, Given::Required, true, "The model tier that it belongs to.")
}];
const POLICY: &[Field] = &[
    ID,
    {
        let what = "What its limits are kept per, by a short name. Either this or `per` is given.";
        field("scope", Holds::OneOf(scopes), Given::Resettable, false, what)
    },
    {
        let what = "What its limits are kept per: any attributes, each once: `tenant`, `user`, `apiKey`, `model`, \
             `modelTier`, `service`, `ip`, `tier`, or a name of your own that is not like one of these.";
        field("per", Holds::Attributes, Given::Resettable, false, what)
    },
    {
        let what = "Which checks it is for: those whose attributes have one of these values. All conditions must hold.";
        field("match", Holds::Conditions, Given::Resettable, false, what)
    },
    {
        let what = "What is counted: `requests` unless said, `tokens`, `input_tokens`, `output_tokens`, or a name of \
             your own; `concurrency` is reserved.";
        field("unit", Holds::Unit, Given::Resettable, false, what)
    },
    {
        let what = "The most of the unit in a window. 0 bans; null exempts, and is not the same as left out.";
        field("limit", Holds::Limit, Given::Required, true, what)
    },
    {
        let what = "The part of `limit`, from 0 to 1 with at most 6 decimals, up to which checks of a priority class are admitted; \
             all classes share one usage. A class that is not named has the part of the next more important one, or all of it; \
             a less important class cannot have more than another.";
        field("shares", Holds::Shares, Given::Resettable, false, what)
    },
    {
        let what = "The length of the window, with at most 9 decimals and without an exponent. May be left out only \
             where `limit` is null or 0.";
        field("windowSeconds", Holds::Seconds, Given::Optional, true, what)
    },
    {
        let what = "How a window is counted; `sliding_window_log`, which is exact, unless said.";
        field("algorithm", Holds::OneOf(algorithms), Given::Resettable, false, what)
    },
    {
        let what = "`shadow` decides and counts, and never denies; `enforce` unless said.";
        field("mode", Holds::OneOf(modes), Given::Resettable, false, what)
    },
    {
        let what =
            "What it decides while the store does not answer; as the server is set unless said.";
        field("onStoreError", Holds::OneOf(failure_modes), Given::Resettable, false, what)
    },
    field(
        "enabled",
        Holds::Flag,
        Given::Resettable,
        false,
        "Whether it is in force; it is unless said.",
    ),
];

fn priorities() -> Vec<&'static str> {
    PriorityClass::ALL.map(PriorityClass::name).to_vec()
}

fn scopes() -> Vec<&'static str> {
    Per::ACCEPTED_SCOPES.split(", ").collect()
}

fn algorithms() -> Vec<&'static str> {
    Counting::NAMES.to_vec()
}

fn modes() -> Vec<&'static str> {
    [Mode::Enforce, Mode::Shadow].map(Mode::name).to_vec()
}

fn failure_modes() -> Vec<&'static str> {
    FailureMode::ALL.map(FailureMode::name).to_vec()
}

/// The fields of a record of `kind`, in the order in which a reader wants them.
pub(super) fn of(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Tier => TIER,
        Kind::ModelTier => MODEL_TIER,
        Kind::Model => MODEL,
        Kind::Tenant => TENANT,
        Kind::User => USER,
        Kind::ApiKey => API_KEY,
        Kind::Policy => POLICY,
    }
}

impl Field {
    /// The schema of its value, which may be null too.
    pub(super) fn schema(&self, nullable: bool) -> RefOr<Schema> {
        let of = |kind: Type| -> SchemaType {
            if nullable { [kind, Type::Null].into_iter().collect() } else { SchemaType::new(kind) }
        };
        let described =
            |kind| ObjectBuilder::new().schema_type(of(kind)).description(Some(self.description));
        match self.holds {
            Holds::Id => Id::text(of(Type::String), self.description).into(),
            Holds::OneOf(names) => {
                let null = nullable.then_some(Value::Null);
                let values = names().into_iter().map(Value::from).chain(null);
                described(Type::String).enum_values(Some(values)).into()
            }
            Holds::Moment => {
                let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
                described(Type::String).format(Some(format)).into()
            }
            Holds::Flag => described(Type::Boolean).into(),
            Holds::Attributes => ArrayBuilder::new()
                .schema_type(of(Type::Array))
                .items(RefOr::from(Ref::from_schema_name("Id")))
                .max_items(Some(Per::MAX_ATTRIBUTES))
                .unique_items(true)
                .description(Some(self.description))
                .into(),
            Holds::Conditions => described(Type::Object)
                .additional_properties(Some(AdditionalProperties::RefOr(condition())))
                .property_names(Some(Id::text(SchemaType::new(Type::String), ACCEPTED_IDS)))
                .max_properties(Some(Policy::MAX_CONDITIONS))
                .into(),
            Holds::Unit => unit(of(Type::String)).description(Some(self.description)).into(),
            Holds::Limit => ObjectBuilder::new()
                .schema_type(iter::once(Type::Integer).chain([Type::Null]).collect::<SchemaType>())
                .minimum(Some(0))
                .maximum(Some(Amount::MAX.get()))
                .description(Some(self.description))
                .into(),
            Holds::Shares => {
                let share = ObjectBuilder::new().schema_type(SchemaType::new(Type::Number));
                let share = share.minimum(Some(0)).maximum(Some(1)).build();
                let properties = priorities().into_iter();
                properties
                    .fold(described(Type::Object), |object, class| {
                        object.property(class, share.clone())
                    })
                    .additional_properties(Some(AdditionalProperties::FreeForm(false)))
                    .into()
            }
            Holds::Seconds => {
                described(Type::Number).minimum(Some(0.001)).maximum(Some(31_622_400)).into()
            }
        }
    }
}

/// A value, or several of which one must hold.
fn condition() -> RefOr<Schema> {
    let several = ArrayBuilder::new()
        .items(RefOr::from(Ref::from_schema_name("Id")))
        .min_items(Some(1))
        .max_items(Some(Policy::MAX_CONDITION_VALUES));
    OneOfBuilder::new().item(Ref::from_schema_name("Id")).item(several).into()
}

/// A record of `kind` as it is answered.
pub(super) fn example(kind: Kind) -> Value {
    match kind {
        Kind::Tier => json!({"id": "enterprise", "name": "Enterprise", "priority": "premium"}),
        Kind::ModelTier => json!({"id": "large", "name": "Large models"}),
        Kind::Model => json!({"id": "gpt-4", "name": "GPT-4", "modelTier": "large"}),
        Kind::Tenant => json!({"id": "acme", "name": "Acme", "tier": "enterprise"}),
        Kind::User => {
            json!({"id": "alice", "tenantId": "acme", "name": "Alice", "tier": "enterprise"})
        }
        Kind::ApiKey => json!({
            "id": "acme-production", "name": "Production", "tenantId": "acme", "userId": "alice",
            "expiresAt": "2030-12-31T23:59:59Z", "revoked": false, "prefix": "tg_live_3f9a1c07"
        }),
        Kind::Policy => json!({
            "id": "payments-free", "scope": "SERVICE",
            "match": {"service": "payments", "tier": ["free", "default"]},
            "limit": 10, "windowSeconds": 60, "algorithm": "sliding_window_counter"
        }),
    }
}

/// A change of the example of `kind`.
pub(super) fn patch_example(kind: Kind) -> Value {
    match kind {
        Kind::Tier => json!({"priority": "internal"}),
        Kind::ModelTier => json!({"name": "Largest models"}),
        Kind::Model => json!({"modelTier": "small"}),
        Kind::Tenant | Kind::User => json!({"tier": null}),
        Kind::ApiKey => json!({"revoked": true}),
        Kind::Policy => json!({"limit": 20, "algorithm": null}),
    }
}
