use tollgate_catalog::Format;

use super::*;

const WHOLE: &str = "
listen: 127.0.0.1:8080
upstreams:
  - {id: vllm-a, baseUrl: http://127.0.0.1:9001/v1/, dialect: openai, apiKeyEnv: VLLM_KEY, maxConcurrency: 8, maxTokensInFlight: 200000}
  - {id: hosted, baseUrl: https://api.example.com/v1, dialect: anthropic, headTimeoutMs: 1000, continuousUsage: true}
models:
  - {id: gpt-4, upstreams: [vllm-a], upstreamModel: qwen3-32b, maxOutputTokens: 2048, onAbort: observed, onLimit: finish}
  - {id: claude, upstreams: [hosted, vllm-a], reserveOutputTokens: 512}
passThrough:
  - {path: /v1/rerank, upstreams: [vllm-a]}
queue: {maxLength: 10, maxWaitMs: 500, commentAfterMs: 100}
maxBodyBytes: 100000
accessLog: true
";

fn parse(text: &str) -> Result<GatewayConfig, String> {
    let environment = |name: &str| match name {
        "VLLM_KEY" => Some("sk-secret".into()),
        "TWO_LINES" => Some("sk-secret\n".into()),
        _ => None,
    };
    GatewayConfig::parse("gateway.yaml", text, Format::Yaml, environment)
        .map_err(|problems| problems.to_string())
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    let [vllm, hosted] = &config.upstreams[..] else { panic!("two upstreams") };
    assert_eq!(vllm.base_url.to_string(), "http://127.0.0.1:9001/v1");
    assert_eq!(vllm.key, Some(UpstreamKey::new("sk-secret")));
    assert_eq!((vllm.max_concurrency, vllm.max_tokens_in_flight), (8, 200_000));
    assert_eq!((hosted.dialect, hosted.key.as_ref()), (Dialect::Anthropic, None));
    assert_eq!(hosted.head_timeout, Duration::from_secs(1));
    assert!(hosted.continuous_usage);
    let [gpt, claude] = &config.models[..] else { panic!("two models") };
    assert_eq!((gpt.upstreams.as_slice(), gpt.upstream_model.as_str()), (&[0][..], "qwen3-32b"));
    assert_eq!((gpt.max_output_tokens, gpt.reserve_output_tokens), (2_048, None));
    assert_eq!((gpt.on_abort, gpt.on_limit), (OnAbort::Observed, OnLimit::Finish));
    assert_eq!(
        (claude.upstreams.as_slice(), claude.upstream_model.as_str()),
        (&[1, 0][..], "claude")
    );
    assert_eq!((claude.max_output_tokens, claude.reserve_output_tokens), (4_096, Some(512)));
    assert_eq!((claude.on_abort, claude.on_limit), (OnAbort::Reserved, OnLimit::Cut));
    assert_eq!(config.pass_through[0].path, "/v1/rerank");
    assert_eq!(config.queue.max_wait, Duration::from_millis(500));
    assert_eq!(config.queue.comment_after, Some(Duration::from_millis(100)));
    assert_eq!((config.max_body_bytes, config.access_log), (100_000, true));
}

#[test]
fn a_key_is_not_shown() {
    let shown = format!("{:?}", parse(WHOLE).unwrap());
    assert!(!shown.contains("sk-secret"), "{shown}");
    let refused = parse(&WHOLE.replace("VLLM_KEY", "TWO_LINES")).unwrap_err();
    assert!(refused.contains("TWO_LINES") && !refused.contains("sk-secret"), "{refused}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "
listen: localhost
upstreams:
  - {id: a, baseUrl: \"http://u:secret@h/v1\", dialect: open-ai, apiKeyEnv: MISSING, maxConcurrency: 0}
  - {id: a, baseUrl: ftp://h, dialect: openai, colour: red}
models:
  - {id: m, upstreams: [b], maxOutputTokens: many}
  - {upstreams: []}
queue: 5
passThrough: [{path: /v1/chat/completions, upstreams: [a]}]
";
    let shown = parse(text).unwrap_err();
    let expected = [
        "gateway.yaml:2:9: listen: \"localhost\" is not accepted; accepted: an IP address",
        "gateway.yaml:4:22: upstreams[0].baseUrl: is not such a URL",
        "upstreams[0].dialect: \"open-ai\" is not accepted; accepted: `openai` or `anthropic`",
        "upstreams[0].apiKeyEnv: the variable \"MISSING\" is not set",
        "upstreams[0].maxConcurrency: 0 is not accepted; accepted: an integer from 1 to 100000",
        "gateway.yaml:5:5: upstreams[1]: the id \"a\" is given twice",
        "upstreams[1].colour: is not a field",
        "models[0].upstreams[0]: \"b\" is not an upstream; accepted: `a`",
        "models[0].maxOutputTokens: \"many\" is not accepted",
        "models[1].id: is missing",
        "models[1].upstreams: is empty",
        "queue: 5 is a number; accepted: a map",
        "passThrough[0].path: \"/v1/chat/completions\" is not accepted",
    ];
    for part in expected {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn what_is_missing_is_named() {
    let shown = parse("").unwrap_err();
    for name in ["listen", "upstreams", "models"] {
        assert!(shown.contains(&format!("{name}: is missing")), "{shown}");
    }
}
