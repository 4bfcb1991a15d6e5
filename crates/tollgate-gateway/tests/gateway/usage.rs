//! What is charged is what the upstream counted, in each dialect, and what passes is what it sent.

use serde_json::{Value, json};

use crate::support::{CHAT, POLICIES, STREAM, Setup};

/// Every endpoint with tokens, streaming and not.
const REQUESTS: [(&str, &str); 9] = [
    (CHAT, r#"{"model":"gpt","messages":[{"role":"user","content":"hi"}]}"#),
    (CHAT, r#"{"model":"gpt","messages":[],"stream":true}"#),
    (
        CHAT,
        r#"{"model":"gpt","messages":[],"stream":true,"n":3,"stream_options":{"include_usage":true}}"#,
    ),
    ("/v1/completions", r#"{"model":"gpt","prompt":"hi","max_tokens":9,"stream":true}"#),
    ("/v1/responses", r#"{"model":"gpt","input":"hi"}"#),
    ("/v1/responses", r#"{"model":"gpt","input":"hi","stream":true}"#),
    ("/v1/embeddings", r#"{"model":"gpt","input":"hi"}"#),
    ("/v1/messages", r#"{"model":"gpt","max_tokens":50,"messages":[]}"#),
    ("/v1/messages", r#"{"model":"gpt","max_tokens":7,"messages":[],"stream":true}"#),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_the_count_of_the_upstream() {
    let fixture = Setup::default().start().await;
    for (index, (path, body)) in REQUESTS.into_iter().enumerate() {
        let answer = fixture.post(path, body).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{path}: {}", answer.body);
        let record = fixture.model().record();
        let (input, output) = (record.input_tokens(), record.output_tokens());
        // Without waiting: the answer ends when its lease is settled.
        assert_eq!(fixture.used_now("input").await, input, "{path} {body}");
        assert_eq!(fixture.used_now("output").await, output, "{path} {body}");
        assert_eq!(fixture.used_now("tokens").await, input + output, "{path} {body}");
        assert_eq!(fixture.used_now("requests").await, index as u64 + 1);
        assert_eq!(fixture.used_now("slots").await, 0);
        assert_eq!(fixture.gateway.unsettled(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_gets_the_same_answers() {
    let fixture = Setup::default().start().await;
    let answers = fixture.post_over_http2(&REQUESTS).await;
    for ((path, body), (version, answer)) in REQUESTS.into_iter().zip(answers) {
        assert_eq!(version, http::Version::HTTP_2);
        assert_eq!((answer.status, answer.is_whole), (200, true), "{path}: {}", answer.body);
        assert_eq!(answer.body, fixture.post(path, body).await.body, "{path} {body}");
    }
    let record = fixture.model().record();
    assert_eq!(fixture.used("output").await, record.output_tokens());
    assert_eq!(fixture.used("requests").await, 2 * REQUESTS.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_count_their_weights() {
    let weighted = "weights: {cached_input_tokens: 0.1, output_tokens: 4, reasoning_tokens: 0.333}";
    let policies = format!(
        "{POLICIES}  - {{id: priced, per: [tenant], unit: tokens, limit: 1000000, windowSeconds: 30, {weighted}}}\n\
         \x20 - {{id: cached, per: [tenant], unit: cached_input_tokens, limit: 1000, windowSeconds: 60}}\n"
    );
    let fixture = Setup { policies: &policies, ..Setup::default() }.start().await;
    let behaviour = [("x-mock", "tokens=7, cached=3, reasoning=2")];
    let (mut priced, mut cached, mut seen) = (0, 0, [0, 0]);
    for (path, body) in REQUESTS.into_iter().filter(|(_, body)| !body.contains("\"n\"")) {
        let answer = fixture.post_with(path, body, &behaviour).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{path}: {}", answer.body);
        let record = fixture.model().record();
        let now = [record.input_tokens(), record.output_tokens()];
        let [input, output] = [now[0] - seen[0], now[1] - seen[1]];
        seen = now;
        let from_cache = input.min(3);
        // Anthropic's servers do not say what of the output is reasoning, and embeddings have none.
        let reasoning = if path == "/v1/messages" || output == 0 { 0 } else { 2 };
        let thousandths = (input - from_cache) * 1_000
            + from_cache * 100
            + (output - reasoning) * 4_000
            + reasoning * 333;
        priced += thousandths.div_ceil(1_000);
        cached += from_cache;
        assert_eq!(fixture.used_now("priced").await, priced, "{path} {body}");
        assert_eq!(fixture.used_now("cached").await, cached, "{path} {body}");
    }
    assert!(cached > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_passes_unchanged_but_for_the_usage_nobody_asked_for() {
    let fixture = Setup::default().start().await;
    let asked =
        r#"{"model":"gpt","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    let with_usage = fixture.post(CHAT, asked).await.body;
    let without = fixture.post(CHAT, STREAM).await.body;
    let expected: String = with_usage
        .split_inclusive("\n\n")
        .filter(|frame| !frame.contains(r#""choices":[]"#))
        .collect();
    assert_eq!(without, expected);
    assert!(with_usage.contains("prompt_tokens") && without.ends_with("data: [DONE]\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_its_model_its_key_and_the_granted_cap() {
    let setup = Setup { model: ", maxOutputTokens: 15", ..Setup::default() };
    let fixture = setup.start().await;
    let body = r#"{"model":"gpt","max_tokens":500,"messages":[],"metadata":{"a":[1.0]}}"#;
    let answer = fixture.post_with(CHAT, body, &[("cookie", "a=b"), ("x-custom", "c")]).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 15);
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
    assert_eq!(answer.field("x-tollgate-max-output-tokens"), "15");
    let (fields, sent) = fixture.model().record().last().unwrap();
    let expected =
        json!({"model": "mock", "max_tokens": 15, "messages": [], "metadata": {"a": [1.0]}});
    assert_eq!(sent, expected);
    assert_eq!(fields["authorization"], "Bearer upstream-key");
    assert!(!fields.contains_key("cookie") && fields["x-custom"] == "c");
    let messages = r#"{"model":"gpt","max_tokens":10,"messages":[]}"#;
    let by_key = [("x-api-key", fixture.key.as_str())];
    let answer = fixture.post_with("/v1/messages", messages, &by_key).await;
    assert_eq!(answer.status, 200);
    assert_eq!(fixture.model().record().last().unwrap().0["x-api-key"], "upstream-key");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_of_two_caps_passes_the_ceiling() {
    let setup = Setup { model: ", maxOutputTokens: 15", ..Setup::default() };
    let fixture = setup.start().await;
    for (caps, sent) in [([500, 5], [15, 5]), ([5, 500], [5, 15]), ([500, 600], [15, 15])] {
        let [older, newer] = caps;
        let body = format!(
            r#"{{"model":"gpt","max_tokens":{older},"max_completion_tokens":{newer},"messages":[]}}"#
        );
        let answer = fixture.post(CHAT, &body).await;
        assert_eq!(answer.field("x-tollgate-max-output-tokens"), "15", "{body}");
        let (_, got) = fixture.model().record().last().unwrap();
        assert_eq!([&got["max_tokens"], &got["max_completion_tokens"]], sent, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_without_a_cap_gets_that_of_the_api() {
    for (ceiling, sent) in [(", maxOutputTokens: 100", 16), (", maxOutputTokens: 10", 10)] {
        let fixture = Setup { model: ceiling, ..Setup::default() }.start().await;
        let body = r#"{"model":"gpt","prompt":"x"}"#;
        fixture.post_with("/v1/completions", body, &[("x-mock", "tokens=500")]).await;
        let (_, got) = fixture.model().record().last().unwrap();
        assert_eq!(got["max_tokens"], sent);
        assert_eq!(fixture.used("output").await, sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_shows_the_limits_and_nothing_about_the_operator() {
    let fixture = Setup::default().start().await;
    let answer = fixture.post(CHAT, r#"{"model":"gpt","max_tokens":50,"messages":[]}"#).await;
    assert_eq!(answer.field("x-ratelimit-limit-tokens"), "100000");
    assert!(answer.fields.contains_key("x-ratelimit-remaining-requests"));
    assert!(answer.fields.contains_key("ratelimit"));
    assert!(answer.field("x-tollgate-overhead-ms").parse::<f64>().unwrap() >= 0.0);
    assert!(!answer.fields.contains_key("openai-organization"));
    let messages = r#"{"model":"gpt","max_tokens":10,"messages":[]}"#;
    let answer = fixture.post("/v1/messages", messages).await;
    assert_eq!(answer.field("anthropic-ratelimit-input-tokens-limit"), "100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_tokens_is_one_request_and_no_tokens() {
    let fixture = Setup::default().start().await;
    let body = r#"{"model":"gpt","messages":[{"role":"user","content":"hello"}]}"#;
    let answer = fixture.post("/v1/messages/count_tokens", body).await;
    assert!(answer.json()["input_tokens"].is_u64());
    assert_eq!((fixture.used("requests").await, fixture.used("tokens").await), (1, 0));
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_usage_is_metered_by_its_text() {
    let fixture = Setup::default().start().await;
    let answer = fixture.post_with(CHAT, STREAM, &[("x-mock", "fail=no-usage")]).await;
    assert!(answer.is_whole);
    // A lower bound gives nothing back of the 4,096 that are reserved.
    assert_eq!(fixture.used("output").await, 4_096);
    let small = r#"{"model":"gpt","stream":true,"messages":[],"max_tokens":5}"#;
    let both = [("x-mock", "fail=ignores-cap, tokens=30")];
    let answer = fixture.post_with(CHAT, small, &both).await;
    assert!(answer.is_whole && answer.body.matches("word").count() == 30);
    assert_eq!(
        fixture.used("output").await,
        4_096 + 30,
        "what is above the reservation is charged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_both_dialects() {
    let fixture = Setup::default().start().await;
    let list = fixture.get("/v1/models", &[]).await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "gpt");
    let list = fixture.get("/v1/models", &[("anthropic-version", "2023-06-01")]).await.json();
    assert_eq!((&list["first_id"], &list["has_more"]), (&Value::from("gpt"), &Value::from(false)));
    assert_eq!(fixture.get("/v1/models/gpt", &[]).await.json()["object"], "model");
    assert_eq!(fixture.get("/v1/models/none", &[]).await.status, 404);
}
