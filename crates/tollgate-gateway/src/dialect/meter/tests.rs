use proptest::prelude::*;

use super::super::Framer;
use super::*;

/// The streams of each dialect, as its servers send them.
const CHAT: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Say \"usage\":5"},"finish_reason":null}],"usage":null}

: keep-alive

data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":3}}}

data: [DONE]

"#;

const COMPLETION: &str = r#"data: {"id":"c2","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"Hello there","logprobs":null,"finish_reason":null}]}

data: {"id":"c2","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}

data: {"id":"c2","object":"text_completion","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}

data: [DONE]

"#;

const RESPONSE: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"r1","object":"response","status":"in_progress","model":"m","output":[],"usage":null}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":1,"item_id":"i","output_index":0,"delta":"Hello there"}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":2,"item_id":"i","text":"Hello there"}

event: response.completed
data: {"type":"response.completed","sequence_number":3,"response":{"id":"r1","status":"completed","usage":{"input_tokens":7,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1}}}}

"#;

const MESSAGE: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","content":[],"model":"m","usage":{"input_tokens":10,"cache_read_input_tokens":30,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":6}}

event: message_stop
data: {"type":"message_stop"}

"#;

const STREAMS: [(Endpoint, &str); 4] = [
    (Endpoint::Chat, CHAT),
    (Endpoint::Completions, COMPLETION),
    (Endpoint::Responses, RESPONSE),
    (Endpoint::Messages, MESSAGE),
];

/// The meter after `stream` has passed in chunks cut at `cuts`, and the bytes that passed.
fn meter(endpoint: Endpoint, drops: bool, stream: &str, cuts: &[usize]) -> (StreamMeter, Vec<u8>) {
    let (mut meter, mut framer) = (StreamMeter::new(endpoint, 1, drops), Framer::default());
    let (mut passed, mut from) = (Vec::new(), 0);
    let mut each = |framed: super::super::sse::Framed| {
        let bytes = framed.into_bytes();
        if meter.frame(&bytes) == FrameFate::Passes {
            passed.extend_from_slice(&bytes);
        }
    };
    for cut in cuts.iter().chain([&stream.len()]) {
        let to = (*cut).clamp(from, stream.len());
        framer.push(Bytes::copy_from_slice(&stream.as_bytes()[from..to]), &mut each);
        from = to;
    }
    if let Some(rest) = framer.finish() {
        each(rest);
    }
    (meter, passed)
}

#[test]
fn the_usage_of_each_dialect_is_exact() {
    let expected =
        [(9, 5, Some(3), None), (2, 3, None, None), (7, 4, None, Some(1)), (40, 6, Some(30), None)];
    for ((endpoint, stream), (input, output, cached, reasoning)) in
        STREAMS.into_iter().zip(expected)
    {
        let metered = meter(endpoint, false, stream, &[]).0.outcome();
        assert!(metered.is_exact && !metered.is_contradicted, "{endpoint:?}");
        assert_eq!((metered.usage.input, metered.output), (Some(input), output), "{endpoint:?}");
        assert_eq!(metered.usage.cached_input, cached, "{endpoint:?}");
        assert_eq!(metered.usage.reasoning, reasoning, "{endpoint:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_counted_by_its_text() {
    for (endpoint, stream) in STREAMS {
        let text = stream.find("there").or_else(|| stream.find("Say")).unwrap();
        let cut = text + stream[text..].find("\n\n").unwrap() + 2;
        let (meter, passed) = meter(endpoint, true, &stream[..cut], &[]);
        assert_eq!(passed, &stream.as_bytes()[..cut]);
        let metered = meter.outcome();
        assert!(!metered.is_exact && !meter.is_complete(), "{endpoint:?}");
        assert!((3..=4).contains(&metered.output), "{endpoint:?}: {}", metered.output);
    }
}

#[test]
fn usage_that_contradicts_the_text_does_not_count() {
    let long = "word ".repeat(1_000);
    let stream = CHAT.replace("Say \\\"usage\\\":5", &long);
    let metered = meter(Endpoint::Chat, true, &stream, &[]).0.outcome();
    assert!(metered.is_contradicted);
    assert_eq!(metered.output, 1_000);
    let fitting = stream.replace("\"completion_tokens\":5", "\"completion_tokens\":1001");
    let metered = meter(Endpoint::Chat, true, &fitting, &[]).0.outcome();
    assert_eq!((metered.output, metered.is_contradicted), (1_001, false));
}

#[test]
fn usage_in_each_chunk_is_observed() {
    let stream =
        CHAT.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":80}");
    let (meter, passed) = meter(Endpoint::Chat, true, &stream, &[]);
    assert_eq!(meter.observed_output(), 80);
    let text = String::from_utf8(passed).unwrap();
    assert!(text.contains("Say") && !text.contains("\"choices\":[]"), "{text}");
}

#[test]
fn an_error_in_a_stream_is_noticed() {
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    let (failed, _) = meter(Endpoint::Chat, true, error, &[]);
    assert!(failed.has_failed() && !failed.outcome().is_exact);
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    assert!(meter(Endpoint::Messages, true, error, &[]).0.has_failed());
}

/// What a client sees that is cut after the text.
fn ended(endpoint: Endpoint, stream: &str, drops: bool) -> String {
    let text = stream.find("there").or_else(|| stream.find("Say")).unwrap();
    let cut = text + stream[text..].find("\n\n").unwrap() + 2;
    let (meter, _) = meter(endpoint, drops, &stream[..cut], &[]);
    String::from_utf8(meter.end_at_limit(9, 4)).unwrap()
}

#[test]
fn a_stream_ends_at_its_limit_in_its_dialect() {
    assert_eq!(
        ended(Endpoint::Chat, CHAT, true),
        "data: {\"object\":\"chat.completion.chunk\",\"id\":\"c1\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\
         \"logprobs\":null,\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"
    );
    let with_usage = ended(Endpoint::Completions, COMPLETION, false);
    assert!(with_usage.contains(r#""text":"","logprobs":null,"finish_reason":"length""#));
    assert!(with_usage.contains(
        r#""choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}"#
    ));
    let response = ended(Endpoint::Responses, RESPONSE, true);
    assert!(response.starts_with(
        "event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"sequence_number\":2,"
    ));
    assert!(response.contains(r#""id":"r1""#) && response.contains(r#""status":"incomplete""#));
    assert!(response.contains(r#""incomplete_details":{"reason":"max_output_tokens"}"#));
    let message = ended(Endpoint::Messages, MESSAGE, true);
    let events: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events, ["content_block_stop", "message_delta", "message_stop"]);
    assert!(
        message.contains(r#""stop_reason":"max_tokens""#)
            && message.contains(r#""output_tokens":4"#)
    );
}

/// What the gateway ends with is itself a complete stream.
#[test]
fn what_ends_a_stream_is_a_complete_answer() {
    for (endpoint, stream) in STREAMS {
        let (meter, _) = meter(endpoint, false, &ended(endpoint, stream, false), &[]);
        assert!(meter.is_complete(), "{endpoint:?}");
        assert_eq!(meter.outcome().output, 4, "{endpoint:?}");
    }
}

#[test]
fn the_usage_of_a_whole_answer_is_found_at_its_end() {
    let cases = [
        (
            Endpoint::Chat,
            r#"{"choices":[{"message":{"content":"{\"usage\":1}"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            (Some(3), 2, true),
        ),
        (
            Endpoint::Embeddings,
            r#"{"data":[[0.5]],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
            (Some(3), 0, true),
        ),
        (
            Endpoint::Messages,
            r#"{"content":[],"usage":{"input_tokens":3,"output_tokens":2}}"#,
            (Some(3), 2, true),
        ),
        (Endpoint::Chat, r#"{"choices":[{"message":{"content":"12345678"}}]}"#, (None, 2, false)),
        (Endpoint::Chat, r#"{"answer":"of a form that nobody knows"}"#, (None, 8, false)),
    ];
    for (endpoint, body, expected) in cases {
        for piece in [1, 7, 1_000] {
            let mut meter = BodyMeter::new(endpoint);
            body.as_bytes().chunks(piece).for_each(|piece| meter.push(piece));
            let metered = meter.outcome(true);
            assert_eq!((metered.usage.input, metered.output, metered.is_exact), expected, "{body}");
            assert!(!meter.outcome(false).is_exact);
        }
    }
}

#[test]
fn the_larger_count_holds_for_whole_answers_as_for_streams() {
    let text = "word ".repeat(15_600);
    let cases = [
        (
            Endpoint::Chat,
            format!(
                r#"{{"choices":[{{"message":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":3,"completion_tokens":N}}}}"#
            ),
        ),
        (
            Endpoint::Completions,
            format!(
                r#"{{"choices":[{{"text":"{text}"}}],"usage":{{"prompt_tokens":3,"completion_tokens":N}}}}"#
            ),
        ),
        (
            Endpoint::Responses,
            format!(
                r#"{{"output":[{{"content":[{{"text":"{text}"}}]}}],"usage":{{"input_tokens":3,"output_tokens":N}}}}"#
            ),
        ),
        (
            Endpoint::Messages,
            format!(
                r#"{{"content":[{{"text":"{text}"}}],"usage":{{"input_tokens":3,"output_tokens":N}}}}"#
            ),
        ),
    ];
    for (endpoint, body) in cases {
        for (reported, expected) in [("1", (15_600, true)), ("3000", (3_000, false))] {
            let body = body
                .replace("\"completion_tokens\":N", &format!("\"completion_tokens\":{reported}"));
            let body =
                body.replace("\"output_tokens\":N", &format!("\"output_tokens\":{reported}"));
            let mut meter = BodyMeter::new(endpoint);
            body.as_bytes().chunks(1_000).for_each(|piece| meter.push(piece));
            let metered = meter.outcome(true);
            assert_eq!((metered.output, metered.is_contradicted), expected, "{endpoint:?}");
            assert!(metered.is_exact);
        }
    }
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_its_metering_is_the_same(
        which in 0..STREAMS.len(), drops: bool, mut cuts in proptest::collection::vec(0..1_200_usize, 0..12), crlf: bool,
    ) {
        cuts.sort_unstable();
        let (endpoint, stream) = STREAMS[which];
        let stream = if crlf { stream.replace('\n', "\r\n") } else { stream.to_owned() };
        let (whole, all) = meter(endpoint, drops, &stream, &[]);
        let (in_parts, passed) = meter(endpoint, drops, &stream, &cuts);
        prop_assert_eq!(whole.outcome(), in_parts.outcome());
        prop_assert_eq!(&all, &passed);
        let dropped = stream.len() - passed.len();
        let extra = stream.split_inclusive(if crlf { "\r\n\r\n" } else { "\n\n" }).find(|frame| frame.contains("\"choices\":[]"));
        prop_assert_eq!(dropped, if drops { extra.map_or(0, str::len) } else { 0 });
    }

    #[test]
    fn any_bytes_are_metered(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0..Endpoint::ALL.len()) {
        let mut meter = StreamMeter::new(Endpoint::ALL[which], 2, true);
        let mut framed = 0;
        let mut framer = Framer::default();
        framer.push(Bytes::from(bytes.clone()), |frame| {
            let bytes = frame.into_bytes();
            meter.frame(&bytes);
            framed += bytes.len();
        });
        framed += framer.finish().map_or(0, |frame| frame.into_bytes().len());
        prop_assert_eq!(framed, bytes.len());
        _ = meter.end_at_limit(1, 1);
    }
}
