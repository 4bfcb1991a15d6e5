//! A request to a model: what the gateway needs to know of it, and the request that it forwards.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{MAX_MEMBERS, Members, MembersProblem, string};
use super::{Endpoint, TextSize};
use crate::config::CapField;

/// The most answers to one request.
pub const MAX_COPIES: u64 = 128;

/// The cap of a completion that names none, as the API defines it.
const DEFAULT_COMPLETION_CAP: u64 = 16;

/// A valid request: the members that the gateway reads. It forwards all others unchanged.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    endpoint: Endpoint,
    body: Bytes,
    members: Members,
    /// The model.
    pub model: String,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// The most tokens of each answer, if the client says: the largest cap that it gives, because an upstream may obey any of
    /// them.
    pub cap: Option<u64>,
    /// How many answers are generated.
    pub copies: u64,
    /// Whether the client asked for the chunk with the usage.
    pub asks_usage: bool,
    /// How much there is to read.
    pub size: TextSize,
}

/// What an upstream gets in place of what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite<'a> {
    /// The name of the model there.
    pub model: &'a str,
    /// The most tokens of each answer; ignored where no answer has tokens.
    pub cap: u64,
    /// The field for the cap of a chat if the client gave none.
    pub cap_field: CapField,
    /// Whether to ask for the usage in each chunk.
    pub continuous_usage: bool,
}

/// Why a request is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestProblem {
    /// The field, if it is one.
    pub param: Option<&'static str>,
    /// What is wrong and what is accepted. Shows no values.
    pub message: String,
}

impl fmt::Display for RequestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RequestProblem {}

impl ModelRequest {
    /// Parses the `body` of a request to `endpoint`. O(its length).
    pub fn parse(endpoint: Endpoint, body: Bytes) -> Result<Self, RequestProblem> {
        let members = Members::parse(body.clone()).map_err(|problem| of_members(&problem))?;
        let model = text(&members, "model")?;
        let stream = endpoint.generates() && flag(&members, "stream")?.unwrap_or(false);
        let cap = cap(endpoint, &members)?;
        let copies = copies(endpoint, &members)?;
        let asks_usage = asks_usage(endpoint, &members)?;
        if endpoint == Endpoint::Responses && flag(&members, "background")? == Some(true) {
            let message = "background responses are not supported: their usage cannot be metered";
            return Err(problem("background", message));
        }
        let size = TextSize::of(&body);
        Ok(Self { endpoint, body, members, model, stream, cap, copies, asks_usage, size })
    }

    /// The endpoint that it was sent to.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The body for an upstream. Unchanged if nothing has to be rewritten.
    pub fn rewritten(&self, rewrite: &Rewrite<'_>) -> Bytes {
        let mut changes: Vec<(&str, Vec<u8>)> = Vec::new();
        if self.model != rewrite.model {
            changes.push(("model", string(rewrite.model)));
        }
        if self.endpoint.generates() {
            let cap = || rewrite.cap.to_string().into_bytes();
            changes.extend(self.cap_fields(rewrite).map(|field| (field, cap())));
        }
        if self.reports_usage_on_request() {
            let options = self.stream_options(rewrite.continuous_usage);
            changes.extend(options.map(|options| ("stream_options", options)));
        }
        if changes.is_empty() { self.body.clone() } else { self.members.with(&changes).into() }
    }

    /// Whether its stream reports usage only if it is asked to.
    fn reports_usage_on_request(&self) -> bool {
        self.stream && matches!(self.endpoint, Endpoint::Chat | Endpoint::Completions)
    }

    /// Whether the chunk with the usage must be dropped, because only the gateway asked for it.
    pub fn drops_usage(&self) -> bool {
        self.reports_usage_on_request() && !self.asks_usage
    }

    /// The fields that the cap is written into: those in which the client gives a larger one, and the usual field if it gives none.
    /// Servers differ in what they take then.
    fn cap_fields(&self, rewrite: &Rewrite<'_>) -> impl Iterator<Item = &'static str> {
        let given = |name: &&str| self.members.get(name).is_some();
        let names = cap_names(self.endpoint);
        let usual = match (self.endpoint, rewrite.cap_field) {
            (Endpoint::Responses, _) => "max_output_tokens",
            (Endpoint::Chat, CapField::MaxCompletionTokens) => "max_completion_tokens",
            _ => "max_tokens",
        };
        let is_missing = !names.iter().any(given);
        // Each was parsed as an integer before.
        let is_larger = move |name: &&'static str| matches!(integer(&self.members, name), Ok(Some(cap)) if cap > rewrite.cap);
        let larger = names.iter().copied().filter(is_larger);
        larger.chain(is_missing.then_some(usual))
    }

    /// The options with which a stream reports its usage; `None` if the client gave the same.
    fn stream_options(&self, continuous: bool) -> Option<Vec<u8>> {
        if self.asks_usage && !continuous {
            return None;
        }
        let mut changes = vec![("include_usage", b"true".to_vec())];
        if continuous {
            changes.push(("continuous_usage_stats", b"true".to_vec()));
        }
        Some(match self.members.object("stream_options") {
            Some(Ok(options)) => options.with(&changes),
            _ if continuous => br#"{"include_usage":true,"continuous_usage_stats":true}"#.to_vec(),
            _ => br#"{"include_usage":true}"#.to_vec(),
        })
    }
}

const fn cap_names(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::Chat => &["max_tokens", "max_completion_tokens"],
        Endpoint::Completions | Endpoint::Messages => &["max_tokens"],
        Endpoint::Responses => &["max_output_tokens"],
        Endpoint::Embeddings | Endpoint::CountTokens => &[],
    }
}

/// The cap of each answer: the largest that is given.
fn cap(endpoint: Endpoint, members: &Members) -> Result<Option<u64>, RequestProblem> {
    let mut cap: Option<u64> = None;
    for name in cap_names(endpoint) {
        if let Some(given) = integer(members, name)? {
            cap = cap.max(Some(given));
        }
    }
    match (endpoint, cap) {
        (Endpoint::Completions, None) => Ok(Some(DEFAULT_COMPLETION_CAP)),
        (Endpoint::Messages, None) => Err(problem("max_tokens", "max_tokens: Field required")),
        _ => Ok(cap),
    }
}

/// How many answers are generated: for each prompt `n`, or `best_of` if that is more.
fn copies(endpoint: Endpoint, members: &Members) -> Result<u64, RequestProblem> {
    let n = match endpoint {
        Endpoint::Chat | Endpoint::Completions => integer(members, "n")?.unwrap_or(1),
        _ => return Ok(1),
    };
    let (best_of, prompts) = match endpoint {
        Endpoint::Completions => {
            (integer(members, "best_of")?.unwrap_or(1), prompts(members.get("prompt")))
        }
        _ => (1, 1),
    };
    let copies = n.max(best_of).saturating_mul(prompts);
    if n > 0 && best_of > 0 && copies <= MAX_COPIES {
        return Ok(copies);
    }
    let message =
        format!("n, best_of and the number of prompts must give 1 to {MAX_COPIES} answers");
    Err(problem("n", &message))
}

/// How many prompts `prompt` has: a list of texts or of lists of tokens has several.
fn prompts(prompt: Option<&[u8]>) -> u64 {
    let list: Option<Vec<&RawValue>> = prompt.and_then(|json| serde_json::from_slice(json).ok());
    let is_prompt = |item: &&RawValue| item.get().starts_with(['"', '[']);
    match list {
        Some(items) if items.iter().all(is_prompt) => (items.len() as u64).max(1),
        _ => 1,
    }
}

fn asks_usage(endpoint: Endpoint, members: &Members) -> Result<bool, RequestProblem> {
    if !matches!(endpoint, Endpoint::Chat | Endpoint::Completions) {
        return Ok(true);
    }
    match members.object("stream_options") {
        None => Ok(false),
        Some(Ok(options)) => Ok(flag(&options, "include_usage")?.unwrap_or(false)),
        Some(Err(_)) => Err(problem("stream_options", "stream_options must be an object")),
    }
}

fn text(members: &Members, name: &'static str) -> Result<String, RequestProblem> {
    let json = members.get(name);
    let text: Option<String> = json.and_then(|json| serde_json::from_slice(json).ok());
    let text = text.filter(|text| !text.is_empty());
    text.ok_or_else(|| problem(name, &format!("{name} must be given, as a string")))
}

fn flag(members: &Members, name: &'static str) -> Result<Option<bool>, RequestProblem> {
    match members.get(name) {
        None => Ok(None),
        Some(b"true") => Ok(Some(true)),
        Some(b"false") => Ok(Some(false)),
        Some(_) => Err(problem(name, &format!("{name} must be true or false"))),
    }
}

fn integer(members: &Members, name: &'static str) -> Result<Option<u64>, RequestProblem> {
    /// The largest integer that JSON numbers carry exactly.
    const MAX: u64 = (1 << 53) - 1;
    let Some(json) = members.get(name) else { return Ok(None) };
    let number: Option<u64> = serde_json::from_slice(json).ok();
    match number.filter(|number| *number <= MAX) {
        None => Err(problem(name, &format!("{name} must be an integer that is not negative"))),
        number => Ok(number),
    }
}

fn problem(param: &'static str, message: &str) -> RequestProblem {
    RequestProblem { param: Some(param), message: message.to_owned() }
}

fn of_members(problem: &MembersProblem) -> RequestProblem {
    let message = match problem {
        MembersProblem::Syntax(message) => message.clone(),
        MembersProblem::Twice(name) => {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            format!("the field {shown:?} is given twice")
        }
        MembersProblem::TooMany => format!("the body has more than {MAX_MEMBERS} fields"),
    };
    RequestProblem { param: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(endpoint: Endpoint, body: &str) -> Result<ModelRequest, RequestProblem> {
        ModelRequest::parse(endpoint, Bytes::copy_from_slice(body.as_bytes()))
    }

    const REWRITE: Rewrite<'static> =
        Rewrite { model: "up", cap: 50, cap_field: CapField::MaxTokens, continuous_usage: false };

    fn rewritten(endpoint: Endpoint, body: &str, rewrite: &Rewrite<'_>) -> String {
        let bytes = parse(endpoint, body).unwrap().rewritten(rewrite);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_matters_is_parsed() {
        use Endpoint::{Chat, Completions, Embeddings, Messages, Responses};
        let cases = [
            (Chat, r#"{"model":"m"}"#, (None, 1, false, false)),
            (
                Chat,
                r#"{"model":"m","max_tokens":9,"max_completion_tokens":5,"n":3}"#,
                (Some(9), 3, false, false),
            ),
            (
                Chat,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
                (None, 1, true, true),
            ),
            (
                Chat,
                r#"{"model":"m","stream":null,"n":null,"max_tokens":null}"#,
                (None, 1, false, false),
            ),
            (Completions, r#"{"model":"m","prompt":"hi"}"#, (Some(16), 1, false, false)),
            (
                Completions,
                r#"{"model":"m","prompt":["a","b"],"n":2,"best_of":3,"max_tokens":7}"#,
                (Some(7), 6, false, false),
            ),
            (Completions, r#"{"model":"m","prompt":[1,2,3]}"#, (Some(16), 1, false, false)),
            (Completions, r#"{"model":"m","prompt":[[1,2],[3]]}"#, (Some(16), 2, false, false)),
            (
                Responses,
                r#"{"model":"m","max_output_tokens":8,"stream":true}"#,
                (Some(8), 1, true, true),
            ),
            (Messages, r#"{"model":"m","max_tokens":8}"#, (Some(8), 1, false, true)),
            (Embeddings, r#"{"model":"m","input":"x","stream":true}"#, (None, 1, false, true)),
        ];
        for (endpoint, body, expected) in cases {
            let request = parse(endpoint, body).unwrap();
            let found = (request.cap, request.copies, request.stream, request.asks_usage);
            assert_eq!(found, expected, "{body}");
            assert_eq!(request.model, "m");
        }
    }

    #[test]
    fn an_invalid_request_names_the_field() {
        use Endpoint::{Chat, Completions, Messages, Responses};
        let cases = [
            (Chat, "{}", Some("model")),
            (Chat, r#"{"model":7}"#, Some("model")),
            (Chat, r#"{"model":""}"#, Some("model")),
            (Chat, r#"{"model":"m","stream":"yes"}"#, Some("stream")),
            (Chat, r#"{"model":"m","max_tokens":-1}"#, Some("max_tokens")),
            (Chat, r#"{"model":"m","max_tokens":1.5}"#, Some("max_tokens")),
            (Chat, r#"{"model":"m","max_tokens":9007199254740992}"#, Some("max_tokens")),
            (Chat, r#"{"model":"m","n":0}"#, Some("n")),
            (Chat, r#"{"model":"m","n":129}"#, Some("n")),
            (Completions, r#"{"model":"m","n":100,"prompt":["a","b"]}"#, Some("n")),
            (Chat, r#"{"model":"m","stream_options":5}"#, Some("stream_options")),
            (Messages, r#"{"model":"m"}"#, Some("max_tokens")),
            (Responses, r#"{"model":"m","background":true}"#, Some("background")),
            (Chat, r#"{"model":"m","model":"n"}"#, None),
            (Chat, "not JSON", None),
        ];
        for (endpoint, body, param) in cases {
            assert_eq!(parse(endpoint, body).unwrap_err().param, param, "{body}");
        }
    }

    #[test]
    fn a_request_is_forwarded_with_what_must_change_and_no_more() {
        use Endpoint::{Chat, Completions, CountTokens, Embeddings, Messages, Responses};
        let cases = [
            (
                Chat,
                r#"{"model":"m","messages":[ 1 ]}"#,
                r#"{"model":"up","messages":[ 1 ],"max_tokens":50}"#,
            ),
            (
                Chat,
                r#"{"max_completion_tokens":99,"model":"m","stream":true}"#,
                r#"{"max_completion_tokens":50,"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                Completions,
                r#"{"model":"m","stream":true,"stream_options":{"x": 1,"include_usage":false},"max_tokens":50}"#,
                r#"{"model":"up","stream":true,"stream_options":{"x":1,"include_usage":true},"max_tokens":50}"#,
            ),
            (
                Completions,
                r#"{"model":"up","prompt":"x"}"#,
                r#"{"model":"up","prompt":"x","max_tokens":50}"#,
            ),
            (
                Responses,
                r#"{"model":"m","stream":true}"#,
                r#"{"model":"up","stream":true,"max_output_tokens":50}"#,
            ),
            (Messages, r#"{"model":"m","max_tokens":70}"#, r#"{"model":"up","max_tokens":50}"#),
            (
                Chat,
                r#"{"model":"up","max_tokens":500,"max_completion_tokens":20}"#,
                r#"{"model":"up","max_tokens":50,"max_completion_tokens":20}"#,
            ),
            (
                Chat,
                r#"{"model":"up","max_tokens":20,"max_completion_tokens":500}"#,
                r#"{"model":"up","max_tokens":20,"max_completion_tokens":50}"#,
            ),
            (
                Chat,
                r#"{"model":"up","max_tokens":null,"max_completion_tokens":51}"#,
                r#"{"model":"up","max_tokens":null,"max_completion_tokens":50}"#,
            ),
            (Embeddings, r#"{"model":"m","input":"x"}"#, r#"{"model":"up","input":"x"}"#),
            (CountTokens, r#"{"model":"up", "messages":[]}"#, r#"{"model":"up", "messages":[]}"#),
        ];
        for (endpoint, body, expected) in cases {
            assert_eq!(rewritten(endpoint, body, &REWRITE), expected);
        }
        let default = Rewrite { cap: DEFAULT_COMPLETION_CAP, ..REWRITE };
        assert_eq!(
            rewritten(Completions, r#"{"model":"up","prompt":"x"}"#, &default),
            r#"{"model":"up","prompt":"x","max_tokens":16}"#,
        );
        let newer =
            Rewrite { cap_field: CapField::MaxCompletionTokens, continuous_usage: true, ..REWRITE };
        assert_eq!(
            rewritten(Chat, r#"{"model":"up","stream":true}"#, &newer),
            r#"{"model":"up","stream":true,"max_completion_tokens":50,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#,
        );
    }

    #[test]
    fn the_usage_chunk_is_dropped_if_only_the_gateway_asked_for_it() {
        let drops = |endpoint, body| parse(endpoint, body).unwrap().drops_usage();
        assert!(drops(Endpoint::Chat, r#"{"model":"m","stream":true}"#));
        assert!(!drops(Endpoint::Chat, r#"{"model":"m"}"#));
        let asked = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert!(!drops(Endpoint::Chat, asked));
        assert!(!drops(Endpoint::Responses, r#"{"model":"m","stream":true}"#));
    }
}
