//! Errors over HTTP: `application/problem+json` (RFC 9457) that names each field and what is accepted.
//!
//! A problem contains only what the client sent or what the documentation says, never internal details.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tollgate_catalog::Position;
use tollgate_core::counting::Wait;
use tollgate_store::StoreError;
use utoipa::ToSchema;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error: what is wrong, where, and what is accepted instead (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "type": "urn:tollgate:problem:invalid-fields",
    "title": "A field has a value that is not accepted",
    "status": 422,
    "detail": "1 field has a value that is not accepted",
    "errors": [{
        "field": "cost.tokens",
        "problem": "is negative",
        "accepted": "an integer from 0 to 9007199254740991, written without a fraction or an exponent"
    }]
})))]
pub(crate) struct Problem {
    /// The kind of problem: an identifier that does not change between versions.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// The kind in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "status_as_number")]
    #[schema(value_type = u16, minimum = 400, maximum = 599)]
    status: StatusCode,
    /// What happened in this case, in words.
    #[schema(value_type = String)]
    detail: Cow<'static, str>,
    /// The problems, one for each field; empty if the problem is not about a field.
    errors: Vec<FieldProblem>,
    /// For the header `Retry-After`.
    #[serde(skip)]
    retry_after_s: Option<u64>,
    /// For the header `Allow`; where it is left out, the router adds it.
    #[serde(skip)]
    allow: Option<&'static str>,
    /// Whether it closes the connection: the rest of the body may still come, and must not be read as the next request.
    #[serde(skip)]
    closes: bool,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// The field: `cost.tokens`, `checks[3].userId`, a header, or `body` for the whole body.
    pub(crate) field: String,
    /// What is wrong with it.
    #[schema(value_type = String)]
    pub(crate) problem: Cow<'static, str>,
    /// What is accepted.
    #[schema(value_type = String)]
    pub(crate) accepted: Cow<'static, str>,
    /// Its line in the body, from 1; only if the body is a document such as a policy file.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Its column in that line, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl FieldProblem {
    /// A problem of `field`.
    pub(crate) fn new(
        field: impl Into<String>,
        problem: impl Into<Cow<'static, str>>,
        accepted: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (field, problem, accepted) = (field.into(), problem.into(), accepted.into());
        Self { field, problem, accepted, line: None, column: None }
    }

    /// The same with the `position` in the body.
    pub(crate) fn placed(self, position: Option<Position>) -> Self {
        let (line, column) = (position.map(|at| at.line), position.map(|at| at.column));
        Self { line, column, ..self }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn status_as_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (detail, errors) = (detail.into(), Vec::new());
        Self {
            kind,
            title,
            status,
            detail,
            errors,
            retry_after_s: None,
            allow: None,
            closes: false,
        }
    }

    fn at(
        mut self,
        field: &str,
        problem: impl Into<Cow<'static, str>>,
        accepted: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.errors.push(FieldProblem::new(field, problem, accepted));
        self
    }

    /// 400: the body is not JSON; `syntax` says where.
    pub(crate) fn malformed_json(syntax: &str) -> Self {
        let problem = format!("is not JSON: {syntax}");
        let error = FieldProblem::new("body", problem, "one JSON object in UTF-8");
        Self::malformed_document("JSON", vec![error])
    }

    /// 400: the body is not in the `language` that it declares; `errors` say where.
    pub(crate) fn malformed_document(language: &'static str, errors: Vec<FieldProblem>) -> Self {
        let kind = "urn:tollgate:problem:malformed-document";
        let title = "The body does not match its declared type";
        let detail = match errors.first() {
            Some(FieldProblem { problem, line: Some(line), column: Some(column), .. }) => {
                format!("The body {problem}, on line {line}, column {column}")
            }
            Some(FieldProblem { problem, .. }) => format!("The body {problem}"),
            None => format!("The body is not {language}"),
        };
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, kind, title, detail) }
    }

    /// 400: the body ended early.
    pub(crate) fn broken_body() -> Self {
        let kind = "urn:tollgate:problem:broken-body";
        let title = "The body could not be read";
        let detail = "The body ended early, or its framing contradicts its header fields";
        Self::new(StatusCode::BAD_REQUEST, kind, title, detail)
    }

    /// 404: nothing is at this path.
    pub(crate) fn not_found() -> Self {
        let kind = "urn:tollgate:problem:not-found";
        let detail = "There is nothing at this path; /openapi.json lists all paths";
        Self::new(StatusCode::NOT_FOUND, kind, "Nothing is at this path", detail)
    }

    /// 405: the path does not accept this method; the `Allow` header lists those that it accepts.
    pub(crate) fn method_not_allowed() -> Self {
        let kind = "urn:tollgate:problem:method-not-allowed";
        let title = "The path does not accept this method";
        let detail =
            "The path does not accept this method; the header Allow lists the accepted methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, kind, title, detail)
    }

    /// 401: there is no token, or a wrong one.
    pub(crate) fn unauthorized() -> Self {
        let kind = "urn:tollgate:problem:unauthorized";
        let detail = "The header Authorization must be `Bearer TOKEN` with an admin token";
        Self::new(StatusCode::UNAUTHORIZED, kind, "This needs an admin token", detail).at(
            "Authorization",
            "has no known token",
            "`Bearer TOKEN`, with an admin token of this server",
        )
    }

    /// 403: the token may only read.
    pub(crate) fn forbidden() -> Self {
        let kind = "urn:tollgate:problem:forbidden";
        let title = "This token may only read";
        Self::new(
            StatusCode::FORBIDDEN,
            kind,
            title,
            "A change needs a token with the role `write`",
        )
    }

    /// 404: there is no such record; `said` names it.
    pub(crate) fn no_record(said: String) -> Self {
        let kind = "urn:tollgate:problem:no-record";
        Self::new(StatusCode::NOT_FOUND, kind, "There is no such record", said)
    }

    /// 405: the catalog cannot be changed over HTTP; the path still accepts `allow`.
    pub(crate) fn read_only(said: String, allow: &'static str) -> Self {
        let kind = "urn:tollgate:problem:read-only";
        let title = "The catalog can only be read";
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, kind, title, said);
        Self { allow: Some(allow), ..problem }
    }

    /// 409: the record already exists, or is in use.
    pub(crate) fn conflict(said: String) -> Self {
        let kind = "urn:tollgate:problem:conflict";
        Self::new(StatusCode::CONFLICT, kind, "The change conflicts with another record", said)
    }

    /// 412: the record has another version.
    pub(crate) fn stale(said: String) -> Self {
        let kind = "urn:tollgate:problem:stale";
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            kind,
            "The record has changed since you read it",
            said,
        )
    }

    /// 400: there is an `If-Match`, but no record is changed.
    pub(crate) fn if_match_without_record() -> Self {
        let kind = "urn:tollgate:problem:unexpected-header";
        let title = "A header does not apply to this call";
        let detail =
            "If-Match applies only to changes of a record; a new record has no version yet";
        Self::new(StatusCode::BAD_REQUEST, kind, title, detail).at(
            "If-Match",
            "is given for a new record",
            "no such header",
        )
    }

    /// 400: `If-Match` is not a list of tags.
    pub(crate) fn malformed_if_match() -> Self {
        let kind = "urn:tollgate:problem:malformed-header";
        let title = "A header cannot be read";
        let detail = "The header If-Match is neither a list of tags nor an asterisk";
        Self::new(StatusCode::BAD_REQUEST, kind, title, detail).at(
            "If-Match",
            "is neither a list of tags nor an asterisk",
            "ETags separated by commas, such as \"7\", or *",
        )
    }

    /// 429: too many wrong tokens came from the address; `wait` says how long to wait.
    pub(crate) fn too_many_guesses(wait: Wait) -> Self {
        let kind = "urn:tollgate:problem:too-many-guesses";
        let title = "Too many wrong tokens came from this address";
        let seconds = match wait {
            Wait::Ns(ns) => ns.div_ceil(1_000_000_000),
            _ => 1,
        };
        let detail =
            format!("Too many wrong tokens came from this address; try again in {seconds} s");
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, title, detail);
        Self { retry_after_s: Some(seconds), ..problem }
    }

    /// 503: the catalog's database failed; `said` describes it.
    pub(crate) fn catalog_unavailable(said: String) -> Self {
        let kind = "urn:tollgate:problem:catalog-unavailable";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The catalog did not answer", said)
    }

    /// 503: there are already `max` subscribers.
    pub(crate) fn too_many_subscribers(max: usize) -> Self {
        let kind = "urn:tollgate:problem:too-many-listeners";
        let detail = format!(
            "There are already {max} subscribers; try again when one of them has disconnected"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "There are too many subscribers", detail)
    }

    /// 503: another comparison of policies is running.
    pub(crate) fn busy_comparing() -> Self {
        let kind = "urn:tollgate:problem:busy-comparing";
        let detail = "Another comparison of policies is running; try again when it has ended";
        let title = "Another comparison is running";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail.to_owned())
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn body_timeout(timeout_ms: u128) -> Self {
        let kind = "urn:tollgate:problem:body-timeout";
        let detail = format!("The body did not arrive within {timeout_ms} ms");
        Self::new(StatusCode::REQUEST_TIMEOUT, kind, "The body did not arrive in time", detail)
            .closing()
    }

    /// 413: the body has more than `max_bytes`.
    pub(crate) fn body_too_large(max_bytes: usize) -> Self {
        let kind = "urn:tollgate:problem:body-too-large";
        let detail = format!("The body has more than {max_bytes} bytes");
        let problem = format!("has more than {max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, kind, "The body is too large", detail)
            .at("body", problem, format!("at most {max_bytes} bytes"))
            .closing()
    }

    /// 503: unfinished requests use all of the memory reserved for them.
    pub(crate) fn too_many_unfinished() -> Self {
        let kind = "urn:tollgate:problem:too-many-unfinished-requests";
        let title = "Too many requests are unfinished";
        let detail = "Other unfinished requests use all of the memory reserved for them; try again, and send a small \
             request in one piece";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail);
        Self { retry_after_s: Some(1), ..problem }.closing()
    }

    /// 400: the host name is invalid; `problem` says why.
    pub(crate) fn malformed_host(problem: &'static str) -> Self {
        let kind = "urn:tollgate:problem:malformed-host";
        let detail = format!("The header Host {problem}");
        Self::new(StatusCode::BAD_REQUEST, kind, "The host is malformed", detail)
            .at("Host", problem, "one host, and optionally a port")
            .closing()
    }

    /// 421: the request is for a host that this server does not accept.
    pub(crate) fn other_host() -> Self {
        let kind = "urn:tollgate:problem:other-host";
        let title = "This server does not accept this host";
        let detail =
            "The request names a host that this server does not accept; --allowed-hosts adds hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, kind, title, detail)
            .at(
                "Host",
                "is not an accepted host",
                "localhost, an IP address, or a name in --allowed-hosts",
            )
            .closing()
    }

    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The answer over HTTP/1.1 as bytes, if there is no request to answer yet.
    pub(crate) fn to_http1(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let wait = self.retry_after_s.unwrap_or(1);
        let mut answer = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\nretry-after: {wait}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.status,
            body.len()
        )
        .into_bytes();
        answer.extend(body);
        answer
    }

    /// 415: the body is not declared as an accepted type; `header` is wrong or missing.
    pub(crate) fn unsupported_media_type(
        header: &'static str,
        problem: &'static str,
        accepted: impl Into<Cow<'static, str>>,
    ) -> Self {
        let kind = "urn:tollgate:problem:unsupported-media-type";
        let title = "The media type of the body is not accepted here";
        let accepted = accepted.into();
        let detail = format!("The header {header} {problem}; accepted: {accepted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, kind, title, detail)
            .at(header, problem, accepted)
    }

    /// 422: the body is JSON, but has `errors`; `omitted` further ones are not listed.
    pub(crate) fn invalid_fields(errors: Vec<FieldProblem>, omitted: usize) -> Self {
        let kind = "urn:tollgate:problem:invalid-fields";
        let title = "A field has a value that is not accepted";
        let detail = match (errors.len() + omitted, omitted) {
            (1, _) => "1 field has a value that is not accepted".to_owned(),
            (count, 0) => format!("{count} fields have values that are not accepted"),
            (count, _) => format!(
                "{count} fields have values that are not accepted; the first {} are listed",
                errors.len()
            ),
        };
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, detail);
        Self { errors, ..problem }
    }

    /// 400: the request of a proxy has none of `headers`, which name the subject.
    pub(crate) fn missing_auth_headers(headers: &str) -> Self {
        let kind = "urn:tollgate:problem:missing-headers";
        let title = "No header names a subject";
        let detail = format!("The request has none of the headers {headers}");
        let accepted = format!("at least one of {headers}");
        Self::new(StatusCode::BAD_REQUEST, kind, title, detail).at(
            "headers",
            "name no subject",
            accepted,
        )
    }

    /// 400: headers of the request of a proxy are not accepted.
    pub(crate) fn malformed_auth_headers(errors: Vec<FieldProblem>) -> Self {
        let kind = "urn:tollgate:problem:malformed-header";
        let names: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("Headers with a value that is not accepted: {}", names.join(", "));
        let problem = Self::new(StatusCode::BAD_REQUEST, kind, "A header cannot be read", detail);
        Self { errors, ..problem }
    }

    /// 500: an internal error.
    pub(crate) fn internal() -> Self {
        let kind = "urn:tollgate:problem:internal";
        let title = "Internal server error";
        let detail = "Internal server error; the log of the server has details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, kind, title, detail)
    }

    /// 503: the store failed with `error` during a reset of several limits.
    pub(crate) fn incomplete_reset(error: &StoreError) -> Self {
        let kind = "urn:tollgate:problem:incomplete-reset";
        let title = "The reset may be incomplete";
        let kind_of_error = error.kind().name();
        let remedy = if error.kind().spares_some_calls() {
            error.remedy().unwrap_or("the log of the server has details")
        } else {
            "try again"
        };
        let detail = format!(
            "The store failed during the reset ({kind_of_error}); some of the limits may have been reset; {remedy}"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail)
    }

    /// 404: no lease has this id.
    pub(crate) fn unknown_lease() -> Self {
        let kind = "urn:tollgate:problem:unknown-lease";
        let detail = "No lease has this id: it was never given, it is of another deployment, or the lease ended so long ago \
             that it is no longer known";
        Self::new(StatusCode::NOT_FOUND, kind, "There is no such lease", detail)
    }

    /// 409: the lease was settled, so it can neither be extended nor released.
    pub(crate) fn lease_settled() -> Self {
        let kind = "urn:tollgate:problem:lease-settled";
        let detail = "The lease was settled, so it can be neither extended nor released; a settlement with a higher `seq` \
             corrects it";
        Self::new(StatusCode::CONFLICT, kind, "The lease was settled", detail)
    }

    /// 409: the lease was released, so it can neither be extended nor settled.
    pub(crate) fn lease_released() -> Self {
        let kind = "urn:tollgate:problem:lease-released";
        let detail = "The lease was released, so it can be neither extended nor settled; what was used after all is charged \
             by a check";
        Self::new(StatusCode::CONFLICT, kind, "The lease was released", detail)
    }

    /// 501: the store keeps no leases.
    pub(crate) fn no_leases() -> Self {
        let kind = "urn:tollgate:problem:no-leases";
        let detail = "The store of this server keeps no leases; checks work as usual";
        Self::new(StatusCode::NOT_IMPLEMENTED, kind, "This server keeps no leases", detail)
    }

    /// 503: nobody knows whether the update of a lease was made.
    pub(crate) fn update_unanswered() -> Self {
        let kind = "urn:tollgate:problem:update-unanswered";
        let title = "The lease could not be updated";
        let detail = "The store is unavailable; send the same update again, with the same `seq`: it counts once";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// 500: a key that an update of a lease needs holds something that Tollgate did not write.
    pub(crate) fn unreadable_lease() -> Self {
        let kind = "urn:tollgate:problem:unreadable-lease";
        let detail = "The record of the lease, or the usage of one of its limits, holds something that Tollgate did not write. \
             Nothing was changed, and sending the update again changes nothing; the log of the server names the key";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, kind, "The lease cannot be read", detail)
    }

    /// 503: the store did not list its leases.
    pub(crate) fn leases_unlisted() -> Self {
        let kind = "urn:tollgate:problem:leases-unlisted";
        let detail = "The store is unavailable, so its leases are not known; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The leases could not be listed", detail)
    }

    /// 503: the store did not answer a settlement, which this server keeps in memory.
    pub(crate) fn settlement_in_memory() -> Self {
        let detail = "The store is unavailable. This server keeps the settlement in memory and makes it when the store is \
             available again; send it again to be sure, with the same `seq`: it counts once";
        Self { detail: detail.into(), ..Self::update_unanswered() }
    }

    /// 503: no decision was possible.
    pub(crate) fn store_unavailable() -> Self {
        let kind = "urn:tollgate:problem:store-unavailable";
        let title = "No decision was possible";
        let detail = "The store is unavailable; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if self.closes {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use tollgate_store::StoreErrorKind;

    use super::*;

    /// To try again does not help if a right is missing.
    #[test]
    fn a_failed_reset_says_what_to_do() {
        for (kind, expected) in [
            (
                StoreErrorKind::Unavailable,
                "(unavailable); some of the limits may have been reset; try again",
            ),
            (
                StoreErrorKind::Forbidden,
                "(forbidden); some of the limits may have been reset; grant it",
            ),
        ] {
            let error = StoreError::new(kind, "as it was told").with_remedy("grant it");
            let detail = Problem::incomplete_reset(&error).detail;
            assert!(detail.ends_with(expected), "{detail}");
        }
    }
}
