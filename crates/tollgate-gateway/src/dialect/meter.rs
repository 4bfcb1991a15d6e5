//! Meters an answer while it passes.
//!
//! Until the upstream reports its usage, the tokens of an answer are counted from its text: one for every
//! [`BYTES_PER_TOKEN`] bytes, and at least one for each frame with text. Most servers send a frame for each token. The JSON of a frame is parsed only if it may
//! hold usage, a finish reason or a final event.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Endpoint;
use super::answer_text::AnswerText;
use super::estimate::string_end;
use super::sse::Event;
use super::top_level::MemberFinder;
use super::usage::{ReportedUsage, Usage};

/// The bytes of text that are counted as one token.
pub(super) const BYTES_PER_TOKEN: u64 = 5;

/// If a token had more bytes than this on average, the upstream reported too few of them.
const MAX_BYTES_PER_TOKEN: u64 = 32;

/// The longest frame that is kept to end a stream in its style.
const MAX_KEPT_FRAME_BYTES: usize = 64 << 10;

/// The most blocks or choices of an answer that are followed.
const MAX_PARTS: u64 = 1_024;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFate {
    /// It passes unchanged.
    Passes,
    /// The client did not ask for it.
    Dropped,
}

/// Meters a stream.
#[derive(Debug)]
pub struct StreamMeter {
    pub(super) endpoint: Endpoint,
    drops_usage: bool,
    /// The frames with text.
    text_frames: u64,
    text_bytes: u64,
    /// The bytes of frames that were too long to be parsed.
    oversized_bytes: u64,
    pub(super) usage: Usage,
    is_complete: bool,
    /// Whether the upstream said that the answer failed.
    has_failed: bool,
    /// The first frame with data, which names the answer.
    pub(super) first: Bytes,
    /// Of a response the last one, which has the last sequence number.
    pub(super) last: Bytes,
    /// The parts of the answer that have not ended: choices, or the open content block.
    pub(super) open: Vec<u64>,
}

impl StreamMeter {
    /// The meter of a stream with `copies` answers. It drops the chunk with the usage if it `drops_usage`.
    pub fn new(endpoint: Endpoint, copies: u64, drops_usage: bool) -> Self {
        let has_choices = matches!(endpoint, Endpoint::Chat | Endpoint::Completions);
        Self {
            endpoint,
            drops_usage,
            text_frames: 0,
            text_bytes: 0,
            oversized_bytes: 0,
            usage: Usage::default(),
            is_complete: false,
            has_failed: false,
            first: Bytes::new(),
            last: Bytes::new(),
            open: if has_choices { (0..copies.min(MAX_PARTS)).collect() } else { Vec::new() },
        }
    }

    /// Whether the client gets a chunk with the usage.
    pub(super) fn shows_usage(&self) -> bool {
        matches!(self.endpoint, Endpoint::Chat | Endpoint::Completions) && !self.drops_usage
    }

    /// Meters the next frame, with its empty line.
    pub fn frame(&mut self, frame: &Bytes) -> FrameFate {
        let event = Event::of(frame);
        let Some(data) = event.data else { return FrameFate::Passes };
        self.keep(frame);
        match self.endpoint {
            Endpoint::Messages | Endpoint::CountTokens => self.message_event(event.name, &data),
            Endpoint::Responses => self.response_event(event.name, &data),
            _ => return self.chunk(&data),
        }
        FrameFate::Passes
    }

    /// Keeps what ends the stream in its style. Shares the memory of the frame.
    fn keep(&mut self, frame: &Bytes) {
        let is_kept = frame.len() <= MAX_KEPT_FRAME_BYTES && self.endpoint != Endpoint::Messages;
        if is_kept && self.first.is_empty() {
            self.first = frame.clone();
        }
        if is_kept && self.endpoint == Endpoint::Responses {
            self.last = frame.clone();
        }
    }

    /// Meters a piece of a frame that is too long to be parsed: all of it counts as text.
    pub fn oversized(&mut self, piece: &[u8]) {
        self.oversized_bytes += piece.len() as u64;
    }

    fn count(&mut self, text_bytes: u64) {
        self.text_bytes += text_bytes;
        self.text_frames += u64::from(text_bytes > 0);
    }

    fn chunk(&mut self, data: &[u8]) -> FrameFate {
        if data == b"[DONE]" {
            self.is_complete = true;
            return FrameFate::Passes;
        }
        self.count(text_bytes(data));
        let has_usage = has_value(data, &USAGE);
        if !has_usage && !has_value(data, &FINISH_REASON) && !has_value(data, &ERROR) {
            return FrameFate::Passes;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            return FrameFate::Passes;
        };
        self.has_failed |= chunk.error.is_some();
        for choice in chunk.choices.iter().flatten() {
            if choice.finish_reason.is_some() {
                self.open.retain(|index| *index != choice.index);
            }
        }
        let Some(usage) = chunk.usage else { return FrameFate::Passes };
        self.usage.merge(usage.totals());
        let is_extra = chunk.choices.as_ref().is_none_or(Vec::is_empty);
        if is_extra && self.drops_usage { FrameFate::Dropped } else { FrameFate::Passes }
    }

    fn response_event(&mut self, name: &[u8], data: &[u8]) {
        if name.ends_with(b".delta") {
            self.count(text_bytes(data));
            return;
        }
        let is_final = matches!(name, b"response.completed" | b"response.incomplete");
        self.has_failed |= matches!(name, b"response.failed" | b"error");
        if !is_final && name != b"response.failed" {
            return;
        }
        self.is_complete |= is_final;
        if let Ok(ResponseEvent { response: Some(WithUsage { usage: Some(usage) }) }) =
            serde_json::from_slice(data)
        {
            self.usage.merge(usage.totals());
        }
    }

    fn message_event(&mut self, name: &[u8], data: &[u8]) {
        match name {
            b"content_block_delta" => self.count(text_bytes(data)),
            b"content_block_start" => {
                if let Ok(block) = serde_json::from_slice::<Block>(data)
                    && (self.open.len() as u64) < MAX_PARTS
                {
                    self.open.push(block.index);
                }
            }
            b"content_block_stop" => {
                if let Ok(block) = serde_json::from_slice::<Block>(data) {
                    self.open.retain(|index| *index != block.index);
                }
            }
            b"message_start" | b"message_delta" => {
                let Ok(event) = serde_json::from_slice::<MessageEvent>(data) else { return };
                let reported = event.message.and_then(|message| message.usage).or(event.usage);
                if let Some(usage) = reported {
                    self.usage.merge(usage.totals());
                }
            }
            b"message_stop" => self.is_complete = true,
            b"error" => self.has_failed = true,
            _ => {}
        }
    }

    /// The tokens of the answer so far: as reported, or as counted if that is more than what was reported last.
    pub fn observed_output(&self) -> u64 {
        self.counted().max(self.usage.output.unwrap_or(0))
    }

    fn counted(&self) -> u64 {
        let bytes = self.text_bytes + self.oversized_bytes;
        self.text_frames.max(bytes.div_ceil(BYTES_PER_TOKEN))
    }

    /// Whether the final event has passed.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether the upstream said that the answer failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// What is known at the end.
    pub fn outcome(&self) -> Metered {
        Metered::of(self.usage, self.text_bytes, self.counted(), self.is_complete)
    }
}

/// Meters an answer that is not a stream.
#[derive(Debug)]
pub struct BodyMeter {
    finder: MemberFinder,
    text: Option<AnswerText>,
    bytes: u64,
}

impl BodyMeter {
    /// The meter of an answer of `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        let text = endpoint.generates().then(|| AnswerText::new(endpoint));
        Self { finder: MemberFinder::new("usage"), text, bytes: 0 }
    }

    /// Meters the next piece. O(its length).
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.finder.push(piece);
        if let Some(text) = &mut self.text {
            text.push(piece);
        }
    }

    /// What is known at the end; `is_whole` says whether the answer has ended as it should.
    pub fn outcome(&self, is_whole: bool) -> Metered {
        let usage = self.finder.found().map(Usage::parse).unwrap_or_default();
        let text_bytes = self.text.as_ref().map(|text| text.bytes(is_whole));
        let (text_bytes, counted_bytes) = match text_bytes {
            None => (0, 0),
            Some(Some(text_bytes)) => (text_bytes, text_bytes),
            // Most of it may not be text, so its length contradicts no usage.
            Some(None) => (0, self.bytes),
        };
        Metered::of(usage, text_bytes, counted_bytes.div_ceil(BYTES_PER_TOKEN), is_whole)
    }
}

/// What is known of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metered {
    /// What the upstream reported, and the tokens of the answer in any case.
    pub usage: Usage,
    /// The tokens of the answer: reported, or counted from its text.
    pub output: u64,
    /// Whether this is all that was used. If not, at least this was.
    pub is_exact: bool,
    /// Whether the upstream reported fewer tokens than the answer can have.
    pub is_contradicted: bool,
}

impl Metered {
    /// An answer that uses no tokens.
    pub fn nothing() -> Self {
        let usage = Usage { input: Some(0), output: Some(0), ..Usage::default() };
        Self { usage, output: 0, is_exact: true, is_contradicted: false }
    }

    fn of(usage: Usage, text_bytes: u64, counted: u64, is_complete: bool) -> Self {
        let reported = usage.output.or(usage.input.and(Some(0)).filter(|_| counted == 0));
        let fewest = text_bytes / MAX_BYTES_PER_TOKEN;
        let is_contradicted = reported.is_some_and(|reported| reported < fewest);
        let output = match reported {
            Some(reported) if is_contradicted || !is_complete => reported.max(counted),
            Some(reported) => reported,
            None => counted,
        };
        let is_exact = is_complete && reported.is_some();
        Self { usage, output, is_exact, is_contradicted }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    choices: Option<Vec<Choice>>,
    usage: Option<ReportedUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WithUsage {
    usage: Option<ReportedUsage>,
}

#[derive(Deserialize)]
struct ResponseEvent {
    response: Option<WithUsage>,
}

#[derive(Deserialize)]
struct MessageEvent {
    message: Option<WithUsage>,
    usage: Option<ReportedUsage>,
}

#[derive(Deserialize)]
struct Block {
    index: u64,
}

// Searches are prepared once, because that takes as long as a search through a frame.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static FINISH_REASON: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new("\"finish_reason\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static END_OF_NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\":"));

/// Whether `data` has the quoted `name` followed by a value that is not null.
fn has_value(data: &[u8], name: &Finder<'_>) -> bool {
    name.find_iter(data).any(|found| {
        let after = data[found + name.needle().len()..].trim_ascii_start();
        let value = after.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| !value.starts_with(b"null"))
    })
}

/// The members of a frame whose texts are a part of the answer.
pub(super) const TEXT_MEMBERS: [&[u8]; 9] = [
    b"content",
    b"text",
    b"delta",
    b"arguments",
    b"partial_json",
    b"thinking",
    b"reasoning_content",
    b"reasoning",
    b"refusal",
];

/// The bytes of the answer's text in a frame, as they are escaped.
fn text_bytes(data: &[u8]) -> u64 {
    let (mut bytes, mut at) = (0, 0);
    let end_of_name = &*END_OF_NAME;
    while let Some(found) = end_of_name.find(&data[at..]) {
        let colon = at + found + 1;
        at = colon + 1;
        let name = &data[..colon - 1];
        let start = name.iter().rposition(|byte| *byte == b'"').map_or(0, |quote| quote + 1);
        let value = data[at..].trim_ascii_start();
        if !TEXT_MEMBERS.contains(&&name[start..]) || value.first() != Some(&b'"') {
            continue;
        }
        let begin = data.len() - value.len() + 1;
        at = string_end(data, begin);
        bytes += at - begin;
    }
    bytes as u64
}

#[cfg(test)]
mod tests;
