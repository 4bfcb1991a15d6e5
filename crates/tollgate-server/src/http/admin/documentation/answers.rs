//! The answers of the calls below `/admin`.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};

use super::super::super::schema::problem;

type Answer = (String, RefOr<Response>);

/// What every call may answer, those that read a body, and those that change something.
pub(super) fn common(reads_body: bool, changes: bool) -> Vec<Answer> {
    let mut refusals = vec![(500, "A fault of the server's")];
    if reads_body {
        refusals.extend([
            (
                400,
                "The body is not what it is declared as, or broke off; the problem names the place",
            ),
            (408, "The body did not arrive in time"),
            (413, "The body has more bytes than are accepted"),
            (415, "The body is declared as none of the types here, or has an encoding"),
            (422, "Fields have values that are not accepted, or the query has a parameter; all are named"),
        ]);
    } else {
        refusals.push((422, "A parameter of the query is unknown or out of range"));
    }
    if changes {
        refusals.push((403, "The token may only read"));
    }
    let mut answers: Vec<_> = refusals.into_iter().map(refused).collect();
    let challenge = header("How to authorize: `Bearer`", Type::String);
    let unauthorized =
        with_header(problem("There is no token, or a wrong one"), "WWW-Authenticate", challenge);
    let wait = header("When to ask again, in seconds", Type::Integer);
    let too_many = problem("Too many wrong tokens came from this address");
    let too_many = with_header(too_many, "Retry-After", wait);
    answers.extend([("401".to_owned(), unauthorized), ("429".to_owned(), too_many)]);
    answers
}

/// A refusal with this status.
pub(in super::super) fn refused((status, description): (u16, &str)) -> Answer {
    (status.to_string(), problem(description))
}

/// A change that a catalog in a file refuses.
pub(in super::super) fn read_only() -> Answer {
    let description = "The catalog is a file: it is changed by who edits the file";
    let allowed = header("The methods that this path takes", Type::String);
    ("405".to_owned(), with_header(problem(description), "Allow", allowed))
}

/// The body called `schema`, as JSON.
pub(super) fn json(status: u16, description: &str, schema: &str) -> (u16, ResponseBuilder) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let response = ResponseBuilder::new().description(description);
    (status, response.content("application/json", content))
}

/// The version of a record, which comes with it.
pub(super) fn etag() -> Header {
    let version = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^\"[0-9]+\"$"));
    let description = "The version of the record, for `If-Match`";
    HeaderBuilder::new().schema(Some(version)).description(Some(description)).build()
}

fn header(description: &str, kind: Type) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn with_header(response: RefOr<Response>, name: &str, header: Header) -> RefOr<Response> {
    match response {
        RefOr::T(mut response) => {
            response.headers.insert(name.to_owned(), header.into());
            RefOr::T(response)
        }
        reference @ RefOr::Ref(_) => reference,
    }
}
