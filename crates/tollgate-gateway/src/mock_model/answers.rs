//! What the answers of a mock model look like in each dialect.

use serde_json::{Value, json};

use super::{Behaviour, Failure};
use crate::dialect::Endpoint;

/// The word that every answer consists of.
pub(super) const WORD: &str = "word ";

/// An answer that is planned.
#[derive(Debug)]
pub(super) struct Answer {
    endpoint: Endpoint,
    model: Value,
    input: u64,
    /// The tokens of each choice.
    tokens: u64,
    choices: u64,
    /// Of the prompt.
    cached: u64,
    /// Of the answer.
    reasoning: u64,
    is_capped: bool,
    shows_usage: bool,
    pub(super) is_stream: bool,
}

impl Answer {
    /// The answer to `request` at `path`; `None` if nothing is there.
    pub(super) fn of(
        path: &str,
        request: &Value,
        input: u64,
        behaviour: Behaviour,
    ) -> Option<Self> {
        let endpoint = Endpoint::of_path(path)?;
        let cap = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
            .into_iter()
            .filter_map(|name| request[name].as_u64())
            .min()
            .filter(|_| behaviour.failure != Some(Failure::IgnoresCap))
            .unwrap_or(u64::MAX);
        let asks = request["stream_options"]["include_usage"] == Value::Bool(true);
        let reports = !matches!(endpoint, Endpoint::Chat | Endpoint::Completions) || asks;
        let is_stream = request["stream"] == Value::Bool(true) && endpoint.generates();
        Some(Self {
            endpoint,
            model: request["model"].clone(),
            input,
            tokens: if endpoint.generates() { behaviour.tokens.min(cap) } else { 0 },
            choices: request["n"].as_u64().unwrap_or(1),
            cached: behaviour.cached.min(input),
            reasoning: if endpoint.generates() { behaviour.reasoning } else { 0 },
            is_capped: behaviour.tokens > cap,
            shows_usage: (reports || !is_stream) && behaviour.failure != Some(Failure::NoUsage),
            is_stream,
        })
    }

    /// All tokens of the answer.
    pub(super) fn output(&self) -> u64 {
        self.tokens * self.choices
    }

    fn finish(&self) -> &'static str {
        match (self.endpoint, self.is_capped) {
            (Endpoint::Messages, true) => "max_tokens",
            (Endpoint::Messages, false) => "end_turn",
            (_, true) => "length",
            (_, false) => "stop",
        }
    }

    fn usage(&self) -> Value {
        let (input, output) = (self.input, self.output());
        if !self.shows_usage {
            return Value::Null;
        }
        match self.endpoint {
            Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => json!({
                "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                "prompt_tokens_details": {"cached_tokens": self.cached},
                "completion_tokens_details": {"reasoning_tokens": self.reasoning},
            }),
            Endpoint::Messages => self.message_usage(output),
            _ => json!({
                "input_tokens": input, "output_tokens": output,
                "input_tokens_details": {"cached_tokens": self.cached},
                "output_tokens_details": {"reasoning_tokens": self.reasoning},
            }),
        }
    }

    /// Anthropic counts what was cached apart from the other input.
    fn message_usage(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.input - self.cached, "cache_read_input_tokens": self.cached,
            "output_tokens": output,
        })
    }

    /// The answer as one JSON object.
    pub(super) fn whole(&self) -> String {
        let (text, model) = (self.text(), &self.model);
        let choice = |index: u64| match self.endpoint {
            Endpoint::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": self.finish(),
            }),
            _ => json!({"index": index, "text": text, "finish_reason": self.finish()}),
        };
        let choices: Vec<_> = (0..self.choices).map(choice).collect();
        let usage = self.usage();
        let whole = match self.endpoint {
            Endpoint::Chat => json!({
                "id": "mock-1", "object": "chat.completion", "created": 1, "model": model,
                "choices": choices, "usage": usage,
            }),
            Endpoint::Completions => json!({
                "id": "mock-1", "object": "text_completion", "created": 1, "model": model,
                "choices": choices, "usage": usage,
            }),
            Endpoint::Embeddings => json!({
                "object": "list", "model": model,
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
                "usage": usage,
            }),
            Endpoint::Responses => self.response(&text, &usage),
            Endpoint::Messages => json!({
                "id": "mock-1", "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "text", "text": text}],
                "stop_reason": self.finish(), "stop_sequence": null, "usage": usage,
            }),
            Endpoint::CountTokens => json!({"input_tokens": self.input}),
        };
        whole.to_string()
    }

    fn response(&self, text: &str, usage: &Value) -> Value {
        let status = if self.is_capped { "incomplete" } else { "completed" };
        let details =
            if self.is_capped { json!({"reason": "max_output_tokens"}) } else { Value::Null };
        json!({
            "id": "mock-1", "object": "response", "created_at": 1, "model": self.model,
            "status": status, "incomplete_details": details, "usage": usage,
            "output": [{
                "type": "message", "id": "item-1", "role": "assistant", "status": status,
                "content": [text_part(text)],
            }],
        })
    }

    /// The frames before the first token.
    pub(super) fn beginning(&self) -> String {
        match self.endpoint {
            Endpoint::Responses => {
                let response = json!({
                    "id": "mock-1", "object": "response", "created_at": 1, "model": self.model,
                    "status": "in_progress", "output": [], "usage": null,
                });
                let created = json!({
                    "type": "response.created", "sequence_number": 0, "response": response,
                });
                let item = json!({
                    "type": "message", "id": "item-1", "role": "assistant", "status": "in_progress",
                    "content": [],
                });
                let added = json!({
                    "type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
                    "item": item,
                });
                let part = part_event("response.content_part.added", 2, "part", &text_part(""));
                event(&created) + &event(&added) + &event(&part)
            }
            Endpoint::Messages => {
                let usage = if self.shows_usage { self.message_usage(1) } else { Value::Null };
                let message = json!({
                    "id": "mock-1", "type": "message", "role": "assistant", "content": [],
                    "model": self.model, "stop_reason": null, "stop_sequence": null, "usage": usage,
                });
                event(&json!({"type": "message_start", "message": message}))
                    + &event(&json!({
                        "type": "content_block_start", "index": 0,
                        "content_block": {"type": "text", "text": ""},
                    }))
            }
            _ => String::new(),
        }
    }

    /// The frame of the token `number`, which counts over all choices.
    pub(super) fn token(&self, number: u64) -> String {
        let index = number % self.choices.max(1);
        match self.endpoint {
            Endpoint::Chat => self.chunk(&json!([{
                "index": index, "delta": {"content": WORD}, "finish_reason": null,
            }])),
            Endpoint::Completions => {
                self.chunk(&json!([{"index": index, "text": WORD, "finish_reason": null}]))
            }
            Endpoint::Responses => event(&json!({
                "type": "response.output_text.delta", "sequence_number": number + 3,
                "item_id": "item-1", "output_index": 0, "content_index": 0, "delta": WORD,
            })),
            _ => event(&json!({
                "type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": WORD},
            })),
        }
    }

    fn chunk(&self, choices: &Value) -> String {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            _ => "text_completion",
        };
        let chunk = json!({
            "id": "mock-1", "object": object, "created": 1, "model": self.model, "choices": choices,
        });
        format!("data: {chunk}\n\n")
    }

    /// The frames after the last token, without the final event.
    pub(super) fn ending(&self) -> String {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Completions => {
                let choice = |index: u64| match self.endpoint {
                    Endpoint::Chat => {
                        json!([{"index": index, "delta": {}, "finish_reason": self.finish()}])
                    }
                    _ => json!([{"index": index, "text": "", "finish_reason": self.finish()}]),
                };
                let mut ending: String =
                    (0..self.choices).map(|index| self.chunk(&choice(index))).collect();
                if self.shows_usage {
                    let usage = json!({
                        "id": "mock-1", "object": "chat.completion.chunk", "created": 1,
                        "model": self.model, "choices": [], "usage": self.usage(),
                    });
                    ending.push_str("data: ");
                    ending.push_str(&usage.to_string());
                    ending.push_str("\n\n");
                }
                ending
            }
            Endpoint::Messages => {
                let usage = if self.shows_usage {
                    json!({"output_tokens": self.output()})
                } else {
                    Value::Null
                };
                event(&json!({"type": "content_block_stop", "index": 0}))
                    + &event(&json!({
                        "type": "message_delta",
                        "delta": {"stop_reason": self.finish(), "stop_sequence": null},
                        "usage": usage,
                    }))
            }
            Endpoint::Responses => {
                let (text, number) = (self.text(), self.tokens + 3);
                let part = text_part(&text);
                let text = Value::from(text);
                let item = &self.response(&self.text(), &Value::Null)["output"][0];
                let done = json!({
                    "type": "response.output_item.done", "sequence_number": number + 2,
                    "output_index": 0, "item": item,
                });
                event(&part_event("response.output_text.done", number, "text", &text))
                    + &event(&part_event("response.content_part.done", number + 1, "part", &part))
                    + &event(&done)
            }
            _ => String::new(),
        }
    }

    /// The text of one choice.
    fn text(&self) -> String {
        WORD.repeat(usize::try_from(self.tokens).unwrap_or(usize::MAX).min(1 << 20))
    }

    /// The final event.
    pub(super) fn last(&self) -> String {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Completions => "data: [DONE]\n\n".to_owned(),
            Endpoint::Responses => {
                let kind =
                    if self.is_capped { "response.incomplete" } else { "response.completed" };
                event(&json!({
                    "type": kind, "sequence_number": self.tokens + 6,
                    "response": self.response(&self.text(), &self.usage()),
                }))
            }
            _ => event(&json!({"type": "message_stop"})),
        }
    }
}

/// A part of an item of OpenAI's Responses.
fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

/// An event about that part.
fn part_event(kind: &str, number: u64, name: &str, value: &Value) -> Value {
    json!({
        "type": kind, "sequence_number": number, "item_id": "item-1", "output_index": 0,
        "content_index": 0, name: value,
    })
}

/// A frame with the name of its event.
fn event(data: &Value) -> String {
    let name = data["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}
