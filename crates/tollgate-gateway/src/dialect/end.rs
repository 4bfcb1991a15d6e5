//! Ends a stream at its limit, the way its dialect ends one that has reached its cap.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Endpoint;
use super::members::{Members, string};
use super::meter::StreamMeter;
use super::sse::Event;

impl StreamMeter {
    /// The frames that end the stream here, after `output` tokens in all.
    pub fn end_at_limit(&self, input: u64, output: u64) -> Vec<u8> {
        match self.endpoint {
            Endpoint::Chat => self.end_chunks("chat.completion.chunk", input, output),
            Endpoint::Completions => self.end_chunks("text_completion", input, output),
            Endpoint::Responses => self.end_response(input, output),
            Endpoint::Messages => self.end_message(output),
            Endpoint::Embeddings | Endpoint::CountTokens => Vec::new(),
        }
    }

    /// A chunk with the finish reason `length` for each choice that is open, the usage if the client asked for it, and the end.
    fn end_chunks(&self, object: &str, input: u64, output: u64) -> Vec<u8> {
        let head = self.chunk_head(object);
        let mut out = Vec::new();
        for index in &self.open {
            let part =
                if self.endpoint == Endpoint::Chat { r#""delta":{}"# } else { r#""text":"""# };
            let choice =
                format!(r#"[{{"index":{index},{part},"logprobs":null,"finish_reason":"length"}}]"#);
            push_data(&mut out, &chunk(&head, &choice, ""));
        }
        if self.shows_usage() {
            let total = input.saturating_add(output);
            let usage = format!(
                r#","usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}"#
            );
            push_data(&mut out, &chunk(&head, "[]", &usage));
        }
        push_data(&mut out, b"[DONE]");
        out
    }

    /// The members that every chunk of this stream has.
    fn chunk_head(&self, object: &str) -> Vec<u8> {
        let first = Members::parse(data(&self.first).into_owned().into()).ok();
        let mut head = format!(r#""object":"{object}""#).into_bytes();
        for name in ["id", "created", "model", "system_fingerprint"] {
            if let Some(value) = first.as_ref().and_then(|first| first.get(name)) {
                head.extend_from_slice(format!(r#","{name}":"#).as_bytes());
                head.extend_from_slice(value);
            }
        }
        head
    }

    /// `response.incomplete` with the response that the stream began with. Its text is in the deltas before.
    fn end_response(&self, input: u64, output: u64) -> Vec<u8> {
        #[derive(Deserialize)]
        struct Began<'a> {
            #[serde(borrow)]
            response: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Numbered {
            sequence_number: Option<u64>,
        }

        let first = data(&self.first);
        let began: Option<Began<'_>> = serde_json::from_slice(&first).ok();
        let response = began.and_then(|began| began.response).map_or("{}", RawValue::get);
        let response = Members::parse(response.as_bytes().to_vec().into());
        let total = input.saturating_add(output);
        let usage = format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{total}}}"#
        );
        let response = response.map(|response| {
            response.with(&[
                ("status", string("incomplete")),
                ("incomplete_details", br#"{"reason":"max_output_tokens"}"#.to_vec()),
                ("usage", usage.into_bytes()),
            ])
        });
        let last: Option<Numbered> = serde_json::from_slice(&data(&self.last)).ok();
        let number = last.and_then(|last| last.sequence_number).map_or(0, |number| number + 1);
        let mut out = b"event: response.incomplete\n".to_vec();
        let mut data_line =
            format!(r#"{{"type":"response.incomplete","sequence_number":{number},"response":"#)
                .into_bytes();
        data_line.extend_from_slice(&response.unwrap_or_default());
        data_line.push(b'}');
        push_data(&mut out, &data_line);
        out
    }

    /// The end of each open block, `message_delta` with the stop reason `max_tokens`, and `message_stop`.
    fn end_message(&self, output: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for index in &self.open {
            out.extend_from_slice(b"event: content_block_stop\n");
            let data = format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
            push_data(&mut out, data.as_bytes());
        }
        out.extend_from_slice(b"event: message_delta\n");
        let data = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"max_tokens","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
        );
        push_data(&mut out, data.as_bytes());
        out.extend_from_slice(b"event: message_stop\n");
        push_data(&mut out, br#"{"type":"message_stop"}"#);
        out
    }
}

/// The data of a frame; empty if it has none.
fn data(frame: &[u8]) -> Cow<'_, [u8]> {
    Event::of(frame).data.unwrap_or_default()
}

fn chunk(head: &[u8], choices: &str, usage: &str) -> Vec<u8> {
    let mut chunk = b"{".to_vec();
    chunk.extend_from_slice(head);
    chunk.extend_from_slice(format!(r#","choices":{choices}{usage}}}"#).as_bytes());
    chunk
}

fn push_data(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}
