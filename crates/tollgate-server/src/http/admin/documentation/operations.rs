//! The calls for the records of one kind: list, create, get, replace, patch, delete.

use tollgate_catalog::directory::{Kind, PageRequest};
use tollgate_core::subject::MAX_ID_BYTES;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItemBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{HttpMethod, PathItem, Ref, RefOr, Required, Response, ResponsesBuilder};

use super::super::super::body::JSON;
use super::super::bodies::MERGE_PATCH;
use super::super::collection::Collection;
use super::CATALOG_TAG;
use super::answers::{self, refused};
use super::fields;
use super::records::{self, Schema};

/// The paths of `collection`, and what they take.
pub(super) fn of(collection: &Collection) -> [(String, PathItem); 2] {
    let words = Words::of(collection);
    let all = PathItemBuilder::new()
        .operation(HttpMethod::Get, list(collection, &words))
        .operation(HttpMethod::Post, create(collection.kind, &words));
    let one = PathItemBuilder::new()
        .parameters(Some([id(collection.kind, &words)]))
        .operation(HttpMethod::Get, get(collection.kind, &words))
        .operation(HttpMethod::Put, replace(collection.kind, &words))
        .operation(HttpMethod::Patch, patch(collection.kind, &words))
        .operation(HttpMethod::Delete, delete(&words));
    let path = format!("/admin/{}", collection.segment);
    [(path.clone(), all.build()), (format!("{path}/{{id}}"), one.build())]
}

/// What records are called, in sentences and in the names of operations.
struct Words {
    /// `an API key`
    one: String,
    /// `API keys`
    all: String,
    /// `api_key`
    name: String,
    /// `api_keys`
    names: String,
}

impl Words {
    fn of(collection: &Collection) -> Self {
        let word = collection.kind.words();
        let article = if collection.kind == Kind::ApiKey { "an" } else { "a" };
        Self {
            one: format!("{article} {word}"),
            all: match collection.kind {
                Kind::Policy => "policies".to_owned(),
                _ => format!("{word}s"),
            },
            name: word.to_lowercase().replace(' ', "_"),
            names: collection.segment.replace('-', "_"),
        }
    }
}

fn operation(id: String, summary: String, description: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(CATALOG_TAG)
        .operation_id(Some(id))
        .summary(Some(summary))
        .description(Some(description))
}

type Answers = Vec<(String, RefOr<Response>)>;

fn answered(operation: OperationBuilder, answers: Answers) -> Operation {
    operation.responses(ResponsesBuilder::new().responses_from_iter(answers)).build()
}

/// The refusals of a call that goes to the catalog.
fn refusals<const N: usize>(others: [(u16, &str); N]) -> Answers {
    let unavailable =
        (503, "The catalog's database did not do it, and nothing has changed; ask again");
    others.into_iter().chain([unavailable]).map(refused).collect()
}

fn list(collection: &Collection, words: &Words) -> Operation {
    let description = "In the order of their ids, in pages: a page that is not the last has `nextCursor` for the next one.";
    let mut call =
        operation(format!("list_{}", words.names), format!("List {}", words.all), description);
    for filter in collection.filters {
        let name = format!("Only those with this `{filter}` of their own");
        call = call.parameter(query(filter, &name).schema(Some(Ref::from_schema_name("Id"))));
    }
    let search = "Only those whose id or name, or the prefix of an API key, contains this, capital letters or small ones";
    call = call.parameter(query("search", search).schema(Some(Ref::from_schema_name("Id"))));
    for parameter in page_parameters(collection) {
        call = call.parameter(parameter);
    }
    let mut answers = refusals([(422, "A parameter of the query is unknown or out of range")]);
    let name = Schema::Page.name(collection.kind);
    let (status, page) = answers::json(200, "A page of them", &name);
    answers.push((status.to_string(), page.into()));
    answered(call, answers)
}

fn get(kind: Kind, words: &Words) -> Operation {
    let summary = format!("Get {}", words.one);
    let call = operation(format!("get_{}", words.name), summary, "With its version, as `ETag`.");
    let mut answers = refusals([(404, "There is no such record")]);
    answers.push(record(200, "The record", &Schema::Answer.name(kind)));
    answered(call, answers)
}

fn create(kind: Kind, words: &Words) -> Operation {
    let (schema, description) = match kind {
        Kind::ApiKey => (
            Schema::Created,
            "An `id` that is left out is made. The answer has the key itself, now and never again.",
        ),
        _ => (Schema::Answer, "An `id` that is left out is made."),
    };
    let summary = format!("Create {}", words.one);
    let call = operation(format!("create_{}", words.name), summary, description)
        .request_body(Some(body(&Schema::New.name(kind)).build()));
    let mut answers = refusals([
        (400, "The body is not what it is declared as, or broke off, or there is `If-Match`"),
        (409, "There is a record with this id already"),
    ]);
    answers.push(answers::read_only());
    answers.push(record(201, "The record, as it was made", &schema.name(kind)));
    answered(call, answers)
}

fn replace(kind: Kind, words: &Words) -> Operation {
    let description = "What the body leaves out gets its default. The id stays.";
    let summary = format!("Replace {}", words.one);
    let call = operation(format!("replace_{}", words.name), summary, description);
    change(call, kind, body(&records::replacement(kind).name(kind)))
}

fn patch(kind: Kind, words: &Words) -> Operation {
    let description = match kind {
        Kind::Policy => {
            "Fields that the body has are replaced, each whole: a JSON Merge Patch (RFC 7396) that does not reach into \
             `match` and `shares`. `null` gives a field its default again, but `limit: null` exempts."
        }
        _ => {
            "Fields that the body has are replaced: a JSON Merge Patch (RFC 7396). `null` gives a field its default again."
        }
    };
    let summary = format!("Change fields of {}", words.one);
    let call = operation(format!("patch_{}", words.name), summary, description);
    let schema = Schema::Patch.name(kind);
    let body = body(&schema).content(MERGE_PATCH, content(&schema));
    change(call, kind, body)
}

/// A change of a record by `body`.
fn change(call: OperationBuilder, kind: Kind, body: RequestBodyBuilder) -> Operation {
    let call = call.parameter(if_match()).request_body(Some(body.build()));
    let mut answers = refusals([
        (
            400,
            "The body is not what it is declared as, or broke off, or `If-Match` is no list of tags",
        ),
        (404, "There is no such record"),
        (412, "The record has changed since the version in `If-Match`"),
    ]);
    if kind == Kind::User {
        answers.push(refused((409, "The user cannot leave the tenant that its API keys are of")));
    }
    answers.push(answers::read_only());
    answers.push(record(200, "The record, as it is now", &Schema::Answer.name(kind)));
    answered(call, answers)
}

fn delete(words: &Words) -> Operation {
    let description = "Only one that no other record refers to.";
    let summary = format!("Delete {}", words.one);
    let call =
        operation(format!("delete_{}", words.name), summary, description).parameter(if_match());
    let mut answers = refusals([
        (400, "`If-Match` is no list of tags"),
        (404, "There is no such record"),
        (409, "Other records refer to it"),
        (412, "The record has changed since the version in `If-Match`"),
    ]);
    answers.push(answers::read_only());
    answers.push(("204".to_owned(), Response::new("It is deleted").into()));
    answered(call, answers)
}

fn record(status: u16, description: &str, schema: &str) -> (String, RefOr<Response>) {
    let (status, response) = answers::json(status, description, schema);
    (status.to_string(), response.header("ETag", answers::etag()).into())
}

fn body(schema: &str) -> RequestBodyBuilder {
    RequestBodyBuilder::new().content(JSON, content(schema)).required(Some(Required::True))
}

fn content(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

fn id(kind: Kind, words: &Words) -> Parameter {
    ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(format!("The id of {}, percent-encoded", words.one)))
        .schema(Some(Ref::from_schema_name("Id")))
        .example(fields::example(kind).get("id").cloned())
        .build()
}

fn if_match() -> Parameter {
    let etag = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r#"^(\*|"[0-9]{1,19}"(, ?"[0-9]{1,19}")*)$"#));
    let description = "Changes the record only if its version is one of these: the `ETag` that came with it. Any \
         version without it, or with `*`. Weak tags match none (RFC 9110).";
    ParameterBuilder::new()
        .name("If-Match")
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(etag))
        .example(Some("*".into()))
        .build()
}

fn query(name: &str, description: &str) -> ParameterBuilder {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.description(Some(description))
}

fn page_parameters(collection: &Collection) -> [ParameterBuilder; 2] {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(PageRequest::MAX_ITEMS))
        .default(Some(PageRequest::DEFAULT_ITEMS.into()));
    // As `Collection::cursor` makes it.
    let after = format!("^{}\\.[^\\u0000-\\u001f\\u007f-\\u009f]+$", collection.segment);
    let longest = collection.segment.len() + 1 + MAX_ID_BYTES;
    let cursor = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(after))
        .max_length(Some(longest));
    [
        query("cursor", "`nextCursor` of the page before").schema(Some(cursor)),
        query("limit", "The most items of the page").schema(Some(limit)),
    ]
}
