//! An answer that is no stream, told within a stream that has begun.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Endpoint;

/// The event that tells `body`, the answer of `endpoint` with `status`: its error event unless the answer is a success.
pub fn late_answer(endpoint: Endpoint, status: StatusCode, body: &[u8]) -> Vec<u8> {
    let told: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let is_error = !status.is_success();
    let told = match told {
        Some(told) if !is_error || told.contains_key("error") => told,
        _ => unknown(status),
    };
    let is_error = is_error || told.contains_key("error");
    match (endpoint, is_error) {
        (Endpoint::Messages, true) => event("error", &Value::Object(told)),
        (Endpoint::Responses, true) => {
            let of = |name: &str| told["error"].get(name).cloned().unwrap_or(Value::Null);
            let error = json!({
                "type": "error", "code": of("code"), "message": of("message"), "param": of("param"),
                "sequence_number": 0,
            });
            event("error", &error)
        }
        _ => format!("data: {}\n\n", Value::Object(told)).into_bytes(),
    }
}

/// An error whose body says nothing that clients understand. Both dialects have these members.
fn unknown(status: StatusCode) -> Map<String, Value> {
    let message = format!("The model server answered with the status {}.", status.as_u16());
    let error = json!({"type": "api_error", "message": message, "param": null, "code": null});
    Map::from_iter([("type".to_owned(), json!("error")), ("error".to_owned(), error)])
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_error_event_of_its_dialect_on_one_line() {
        let openai = b"{\"error\": {\n \"message\": \"full\", \"type\": \"requests\", \"param\": null, \"code\": \"queue_full\"}}";
        let anthropic = br#"{"type":"error","error":{"type":"rate_limit_error","message":"full"}}"#;
        let cases: [(Endpoint, &[u8], &str); 5] = [
            (
                Endpoint::Chat,
                openai,
                r#"data: {"error":{"code":"queue_full","message":"full","param":null,"type":"requests"}}"#,
            ),
            (
                Endpoint::Responses,
                openai,
                "event: error\ndata: {\"code\":\"queue_full\",\"message\":\"full\",\"param\":null,\"sequence_number\":0,\"type\":\"error\"}",
            ),
            (
                Endpoint::Messages,
                anthropic,
                "event: error\ndata: {\"error\":{\"message\":\"full\",\"type\":\"rate_limit_error\"},\"type\":\"error\"}",
            ),
            (
                Endpoint::Completions,
                b"<html>",
                r#"data: {"error":{"code":null,"message":"The model server answered with the status 429.","param":null,"type":"api_error"},"type":"error"}"#,
            ),
            (
                Endpoint::Messages,
                b"",
                "event: error\ndata: {\"error\":{\"code\":null,\"message\":\"The model server answered with the status 429.\",\"param\":null,\"type\":\"api_error\"},\"type\":\"error\"}",
            ),
        ];
        for (endpoint, body, expected) in cases {
            let told = late_answer(endpoint, StatusCode::TOO_MANY_REQUESTS, body);
            assert_eq!(String::from_utf8(told).unwrap(), format!("{expected}\n\n"));
        }
        let whole = late_answer(Endpoint::Chat, StatusCode::OK, br#"{"id": 1}"#);
        assert_eq!(whole, b"data: {\"id\":1}\n\n");
    }
}
