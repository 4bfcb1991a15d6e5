//! The answer to a denied request: 429 with a problem document (RFC 9457).

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use tollgate_core::{Decision, Mode, Reason};

/// The problem type that draft-ietf-httpapi-ratelimit-headers-10 registers, section 5.1.
const TYPE: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The response to a denied check. It names policies, never a user, model or key.
pub(super) fn response<B: From<String>>(decision: &Decision) -> Response<B> {
    let reason = decision.reason();
    let violated: Vec<_> = decision
        .limits()
        .iter()
        .filter(|status| !status.allowed && status.limit.mode() == Mode::Enforce)
        .map(|status| status.limit.policy_id().as_str())
        .collect();
    let body = json!({
        "type": TYPE,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": StatusCode::TOO_MANY_REQUESTS.as_u16(),
        "detail": detail(decision),
        "reason": reason.map(Reason::name),
        "retryAfterMs": decision.retry_after_ms(),
        "violated-policies": violated,
    });
    let mut response = Response::new(B::from(body.to_string()));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    tollgate_http::apply(decision, response.headers_mut());
    response
}

fn detail(decision: &Decision) -> String {
    match (decision.reason(), decision.retry_after_ms()) {
        (_, Some(wait_ms)) => format!("The limit is used up. Retry after {wait_ms} ms."),
        (Some(Reason::Banned), None) => "No request of this kind is admitted.".to_owned(),
        (_, None) => {
            "The request costs more than the limit itself: waiting does not help.".to_owned()
        }
    }
}
