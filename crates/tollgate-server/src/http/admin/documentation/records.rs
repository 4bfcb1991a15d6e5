//! The schemas of records, made from their [fields].

use serde_json::{Value, json};
use tollgate_catalog::directory::Kind;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, schema};

use super::fields::{self, Field, Given};

/// What a record is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// As it is answered.
    Answer,
    /// The answer that makes an API key, with the key itself.
    Created,
    /// The body that makes one.
    New,
    /// One of a policy file, with its id.
    Listed,
    /// The body that replaces one, where it may hold more than a new one.
    Replacement,
    /// The body that changes some fields.
    Patch,
    /// A page of a list.
    Page,
}

impl Schema {
    /// Its name for records of `kind`: `ApiKeyPatch`.
    pub(super) fn name(self, kind: Kind) -> String {
        let name = kind.name();
        let (first, rest) = name.split_at(1);
        let record = format!("{}{rest}", first.to_uppercase());
        match self {
            Self::Answer => record,
            Self::Created => format!("Created{record}"),
            Self::New => format!("New{record}"),
            Self::Listed => format!("Listed{record}"),
            Self::Replacement => format!("{record}Replacement"),
            Self::Patch => format!("{record}Patch"),
            Self::Page => format!("{record}Page"),
        }
    }
}

/// The body that replaces a record of `kind`.
pub(super) fn replacement(kind: Kind) -> Schema {
    let keeps = fields::of(kind).iter().any(|field| field.given == Given::Kept);
    if keeps { Schema::Replacement } else { Schema::New }
}

/// Every schema of `kind`, with its name.
pub(super) fn schemas(kind: Kind) -> Vec<(String, RefOr<schema::Schema>)> {
    let mut schemas = vec![
        (Schema::Answer, answer(kind)),
        (Schema::New, body(kind, Schema::New)),
        (Schema::Patch, body(kind, Schema::Patch)),
        (Schema::Page, page(kind)),
    ];
    if replacement(kind) == Schema::Replacement {
        schemas.push((Schema::Replacement, body(kind, Schema::Replacement)));
    }
    if kind == Kind::ApiKey {
        schemas.push((Schema::Created, created()));
    } else {
        schemas.push((Schema::Listed, body(kind, Schema::Listed)));
    }
    schemas.into_iter().map(|(schema, written)| (schema.name(kind), written)).collect()
}

fn answer(kind: Kind) -> RefOr<schema::Schema> {
    let mut object =
        ObjectBuilder::new().description(Some(described(kind))).examples([fields::example(kind)]);
    for field in fields::of(kind) {
        object = object.property(field.name, field.schema(false));
        if field.always_answered {
            object = object.required(field.name);
        }
    }
    object.into()
}

fn described(kind: Kind) -> &'static str {
    match kind {
        Kind::Tier => {
            "A subscription class of API keys, users and tenants. `default` always exists."
        }
        Kind::ModelTier => "A class of models by price or size.",
        Kind::Model => "A model, which checks name as `modelId`.",
        Kind::Tenant => "A customer or an organisation, which checks name as `tenantId`.",
        Kind::User => "A user of a tenant, which checks name as `userId`.",
        Kind::ApiKey => "An API key of a tenant, without the key itself: only its hash is kept.",
        Kind::Policy => {
            "A rule: which checks it is for, what it counts per, and how much of it passes."
        }
    }
}

/// A body that makes or changes a record of `kind`.
fn body(kind: Kind, schema: Schema) -> RefOr<schema::Schema> {
    let is_patch = schema == Schema::Patch;
    let takes_kept = matches!(schema, Schema::Replacement | Schema::Patch);
    let is_given = |field: &&Field| field.given != Given::Kept || takes_kept;
    let mut object = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .examples([if is_patch { fields::patch_example(kind) } else { body_example(kind) }]);
    for field in fields::of(kind).iter().filter(is_given) {
        let nullable =
            field.given == Given::Nullable || is_patch && field.given == Given::Resettable;
        object = object.property(field.name, field.schema(nullable));
        let is_id = schema == Schema::Listed && field.name == "id";
        if is_id || field.given == Given::Required && !is_patch {
            object = object.required(field.name);
        }
    }
    if kind == Kind::Policy {
        object = object.extensions(Some(policy_rules(is_patch)));
    }
    object.into()
}

/// What holds between the fields of a policy, in keywords of JSON Schema that the builder has no methods for.
fn policy_rules(is_patch: bool) -> Extensions {
    if is_patch {
        // What is left out stays, so only both together are wrong.
        let both = json!({"properties": {"scope": {"type": "string"}, "per": {"type": "array"}},
            "required": ["scope", "per"]});
        return Extensions::from_iter([("not", both)]);
    }
    let one = json!([{"required": ["scope"]}, {"required": ["per"]}]);
    let window =
        json!([{"required": ["windowSeconds"]}, {"properties": {"limit": {"enum": [null, 0]}}}]);
    Extensions::from_iter([("oneOf", one), ("anyOf", window)])
}

/// The example of `kind` without what only the directory sets.
fn body_example(kind: Kind) -> Value {
    let mut example = fields::example(kind);
    for field in fields::of(kind).iter().filter(|field| field.given == Given::Kept) {
        if let Value::Object(fields) = &mut example {
            fields.remove(field.name);
        }
    }
    example
}

fn created() -> RefOr<schema::Schema> {
    let mut example = fields::example(Kind::ApiKey);
    example["key"] = "tg_live_4fQ2Zx9aJ7mWv1KcR8sYbTgH3nLpXeUd5oAqViC6".into();
    let key = ObjectBuilder::new().schema_type(Type::String).description(Some(
        "The key itself, which checks give as `apiKey`. It is never shown again.",
    ));
    AllOfBuilder::new()
        .description(Some("An API key that was just made"))
        .item(Ref::from_schema_name(Schema::Answer.name(Kind::ApiKey)))
        .item(ObjectBuilder::new().property("key", key).required("key"))
        .examples([example])
        .into()
}

/// A page of a list of records of `kind`.
fn page(kind: Kind) -> RefOr<schema::Schema> {
    let cursor: SchemaType = [Type::String, Type::Null].into_iter().collect();
    let cursor = ObjectBuilder::new()
        .schema_type(cursor)
        .description(Some("`cursor` for the next page; null on the last one"));
    let items =
        ArrayBuilder::new().items(RefOr::from(Ref::from_schema_name(Schema::Answer.name(kind))));
    ObjectBuilder::new()
        .property("items", items)
        .property("nextCursor", cursor)
        .required("items")
        .required("nextCursor")
        .examples([json!({"items": [fields::example(kind)], "nextCursor": null})])
        .into()
}

/// The policy file: what is exported and imported.
pub(in super::super) fn catalog() -> RefOr<schema::Schema> {
    let description = "The policy file: every record but API keys, whose secrets are in no document. A list that is \
         left out has no records.";
    let listed = Kind::ALL.into_iter().filter(|kind| *kind != Kind::ApiKey);
    let mut object = ObjectBuilder::new()
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let mut example = json!({});
    for kind in listed {
        let item = RefOr::from(Ref::from_schema_name(Schema::Listed.name(kind)));
        object = object.property(kind.list_name(), ArrayBuilder::new().items(item));
        example[kind.list_name()] = json!([fields::example(kind)]);
    }
    object.examples([example]).into()
}

/// What policies are judged in: one by itself, or a policy file with what they refer to.
pub(in super::super) fn judged() -> RefOr<schema::Schema> {
    let list = Kind::Policy.list_name();
    let required = ObjectBuilder::new().schema_type(SchemaType::AnyValue).required(list);
    let file = AllOfBuilder::new()
        .item(Ref::from_schema_name("Catalog"))
        .item(required)
        .description(Some("A policy file. What its records refer to must be in it too."));
    let policy = Ref::from_schema_name(Schema::Listed.name(Kind::Policy));
    OneOfBuilder::new().item(policy).item(file).examples([fields::example(Kind::Policy)]).into()
}
