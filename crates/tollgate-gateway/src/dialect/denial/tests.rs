use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Amount, Charge, Limit, Per, Policy, PolicyId, Subject, Window};

use super::*;

fn denied(unit: Unit, visibility: Visibility, wait: Wait) -> Denial {
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let per = Per::from_scope("USER").unwrap();
    let id = PolicyId::new("p").unwrap();
    let policy = Policy::new(id, per, Amount::new(100), window);
    let limit = Arc::new(Limit::of(&Policy { unit, visibility, ..policy }).unwrap());
    let subject = Subject::new("alice", "m");
    let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    let verdict = Verdict::new(false, 99, wait, 5_000_000_000);
    Denial::Limited(Box::new(Decision::assemble(&charges, &[verdict])))
}

fn parts(denial: &Denial, dialect: Dialect) -> (u16, Value, HeaderMap) {
    let (head, body) = denial.response(dialect).into_parts();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap(), head.headers)
}

#[test]
fn a_denial_has_the_body_and_the_fields_of_its_dialect() {
    let denial = denied(Unit::Tokens, Visibility::Public, Wait::Ns(2_500_000_001));
    let (status, body, headers) = parts(&denial, Dialect::OpenAi);
    assert_eq!((status, &body["error"]["type"]), (429, &Value::from("tokens")));
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(
        body["error"]["message"],
        "Rate limit reached: 99 of 100 tokens in 60 s are used or reserved. Try again in 2.501 s."
    );
    let expected = [
        ("retry-after", "3"),
        ("retry-after-ms", "2501"),
        ("x-should-retry", "true"),
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "1"),
        ("x-ratelimit-reset-tokens", "5s"),
        ("ratelimit", "\"p\";r=1;t=3"),
        ("content-type", "application/json"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    let (status, body, headers) = parts(&denial, Dialect::Anthropic);
    assert_eq!((status, &body["type"]), (429, &Value::from("error")));
    assert_eq!(body["error"]["type"], "rate_limit_error");
    assert_eq!(headers["anthropic-ratelimit-tokens-limit"], "100");
    assert_eq!(headers["anthropic-ratelimit-tokens-remaining"], "1");
    assert!(headers.contains_key("anthropic-ratelimit-tokens-reset"));
    assert!(!headers.contains_key("x-ratelimit-limit-tokens"));
}

#[test]
fn clients_are_stopped_if_they_would_not_obey_the_wait() {
    let retry = |wait| {
        let denial = denied(Unit::Requests, Visibility::Public, wait);
        let (_, _, headers) = parts(&denial, Dialect::OpenAi);
        let field = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (field("x-should-retry").unwrap(), field("retry-after"))
    };
    assert_eq!(retry(Wait::Ns(60_000_000_000)), ("true".to_owned(), Some("60".to_owned())));
    assert_eq!(retry(Wait::Ns(60_000_000_001)), ("false".to_owned(), Some("61".to_owned())));
    assert_eq!(retry(Wait::Never), ("false".to_owned(), None));
}

#[test]
fn a_private_limit_is_not_shown() {
    let denial = denied(Unit::Tokens, Visibility::Private, Wait::Ns(1));
    let (_, body, headers) = parts(&denial, Dialect::OpenAi);
    assert_eq!(body["error"]["message"], "Rate limit reached. Try again in 0.001 s.");
    assert!(
        !headers.contains_key("x-ratelimit-limit-tokens") && !headers.contains_key("ratelimit")
    );
}

#[test]
fn every_error_has_its_status_in_both_dialects() {
    let invalid = Denial::Invalid { param: Some("n"), message: "n must be less".to_owned() };
    let cases = [
        (Denial::NoApiKey, 401, "invalid_request_error", "authentication_error"),
        (
            Denial::ApiKey(Reason::ApiKeyExpired),
            401,
            "invalid_request_error",
            "authentication_error",
        ),
        (Denial::CatalogUnavailable, 503, "server_error", "overloaded_error"),
        (Denial::UnknownModel("x\n".to_owned()), 404, "invalid_request_error", "not_found_error"),
        (Denial::UnknownPath, 404, "invalid_request_error", "not_found_error"),
        (Denial::Method, 405, "invalid_request_error", "invalid_request_error"),
        (invalid, 400, "invalid_request_error", "invalid_request_error"),
        (Denial::TooLarge(5), 413, "invalid_request_error", "request_too_large"),
        (Denial::TooSlow, 408, "timeout", "timeout_error"),
        (Denial::NoMemory, 503, "server_error", "overloaded_error"),
        (Denial::StoreUnavailable, 503, "server_error", "overloaded_error"),
        (Denial::Busy { retry_after_ms: 5, ticket: None }, 429, "requests", "rate_limit_error"),
        (Denial::UpstreamLimited { retry_after_ms: 5 }, 429, "requests", "rate_limit_error"),
        (Denial::NoUpstream, 503, "server_error", "overloaded_error"),
        (Denial::Ending, 503, "server_error", "overloaded_error"),
        (Denial::UpstreamTimeout, 504, "timeout", "timeout_error"),
    ];
    for (denial, status, openai, anthropic) in cases {
        let (found, body, headers) = parts(&denial, Dialect::OpenAi);
        assert_eq!((found, &body["error"]["type"]), (status, &Value::from(openai)), "{denial:?}");
        assert!(body["error"].as_object().unwrap().contains_key("param"));
        if status == 429 || status == 503 {
            assert!(headers.contains_key("retry-after-ms"), "{denial:?}: never a bare {status}");
        }
        let (found, body, _) = parts(&denial, Dialect::Anthropic);
        assert_eq!(
            (found, &body["error"]["type"]),
            (status, &Value::from(anthropic)),
            "{denial:?}"
        );
    }
}
