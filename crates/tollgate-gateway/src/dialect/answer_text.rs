//! Counts the text of an answer that is one JSON object, while it passes in pieces and without keeping it.
//!
//! The same members count as in a stream. What an answer holds besides its text does not: its envelope, what it repeats of the
//! request, and what tools have found.

use super::Endpoint;
use super::meter::TEXT_MEMBERS;

/// The input of a tool call. In Anthropic's dialect it is JSON, which is generated as text is.
const TOOL_INPUT: &[u8] = b"input";
/// What the server of the model has found, which no model has generated.
const FOUND: &[u8] = b"results";

/// The longest name that is looked for.
const MAX_NAME_BYTES: usize = 17;
const _: () = {
    let mut at = 0;
    while at < TEXT_MEMBERS.len() {
        assert!(TEXT_MEMBERS[at].len() <= MAX_NAME_BYTES);
        at += 1;
    }
};

/// Counts the bytes of the text, as they are escaped.
#[derive(Debug)]
pub(super) struct AnswerText {
    /// The member of the outermost object that holds the answer.
    answer: &'static [u8],
    /// No text of the answer is deeper.
    max_depth: u32,
    depth: u32,
    string: InString,
    last: Last,
    /// The last string that was not a value, as far as it may be a name that is looked for.
    name: Vec<u8>,
    in_answer: bool,
    has_answer: bool,
    /// The value that counts as a whole, or not at all.
    part: Option<Part>,
    is_object: Option<bool>,
    bytes: u64,
}

/// Whether a string passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InString {
    No,
    Yes { is_text: bool, is_escaped: bool },
}

/// What has passed last, except for white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    String,
    /// A name with its colon.
    Name,
    Other,
}

/// A list or an object that ends at this depth.
#[derive(Clone, Copy, Debug)]
struct Part {
    depth: u32,
    counts: bool,
}

impl AnswerText {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let (answer, max_depth): (&[u8], _) = match endpoint {
            // Deeper are the results of tools.
            Endpoint::Messages => (b"content", 3),
            Endpoint::Responses => (b"output", u32::MAX),
            _ => (b"choices", u32::MAX),
        };
        Self {
            answer,
            max_depth,
            depth: 0,
            string: InString::No,
            last: Last::Other,
            name: Vec::with_capacity(MAX_NAME_BYTES + 1),
            in_answer: false,
            has_answer: false,
            part: None,
            is_object: None,
            bytes: 0,
        }
    }

    /// The bytes of the text so far. `None` if they cannot be told from the rest: the answer is no JSON object, as one that is
    /// compressed, or it `is_whole` and has no member that holds the answer.
    pub(super) fn bytes(&self, is_whole: bool) -> Option<u64> {
        let is_known = self.is_object == Some(true) && (self.has_answer || !is_whole);
        is_known.then_some(self.bytes)
    }

    /// Scans the next piece. O(its length).
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() {
            match self.string {
                InString::No => {
                    self.structure(piece[at]);
                    at += 1;
                }
                InString::Yes { is_text, is_escaped } => {
                    at = self.in_string(piece, at, is_text, is_escaped);
                }
            }
        }
    }

    /// Scans a string from `at`; returns where the scan goes on.
    fn in_string(&mut self, piece: &[u8], at: usize, is_text: bool, is_escaped: bool) -> usize {
        let rest = &piece[at..];
        let special = if is_escaped { None } else { memchr::memchr2(b'"', b'\\', rest) };
        let (content, next, string) = match special {
            _ if is_escaped => (1, 1, InString::Yes { is_text, is_escaped: false }),
            None => (rest.len(), rest.len(), self.string),
            Some(quote) if rest[quote] == b'"' => (quote, quote + 1, InString::No),
            Some(slash) => (slash + 1, slash + 1, InString::Yes { is_text, is_escaped: true }),
        };
        if is_text {
            self.bytes += content as u64;
        } else {
            let room = MAX_NAME_BYTES + 1 - self.name.len();
            self.name.extend_from_slice(&rest[..content.min(room)]);
        }
        if string == InString::No {
            self.last = Last::String;
            self.count_structure();
        }
        self.string = string;
        at + next
    }

    /// Counts a byte that is not in a string, if the part that passes counts as a whole.
    fn count_structure(&mut self) {
        self.bytes += u64::from(self.part.is_some_and(|part| part.counts));
    }

    fn structure(&mut self, byte: u8) {
        self.count_structure();
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            b'"' => {
                let counts = match self.part {
                    Some(part) => part.counts,
                    None => self.last == Last::Name && self.is_text_member(),
                };
                self.string = InString::Yes { is_text: counts, is_escaped: false };
                if !counts {
                    self.name.clear();
                }
            }
            b':' if self.last == Last::String => {
                self.last = Last::Name;
                if self.depth == 1 && self.name == self.answer {
                    (self.in_answer, self.has_answer) = (true, true);
                }
                return;
            }
            b'{' | b'[' => {
                if self.last == Last::Name && self.in_answer && self.part.is_none() {
                    self.part = self.part_of_name();
                    self.count_structure();
                }
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.part = self.part.filter(|part| self.depth > part.depth);
            }
            _ => {}
        }
        self.is_object.get_or_insert(byte == b'{');
        if self.depth <= 1 && matches!(byte, b',' | b'}' | b']') {
            self.in_answer = false;
        }
        self.last = Last::Other;
    }

    /// Whether a string with this name is a part of the answer.
    fn is_text_member(&self) -> bool {
        let is_named = TEXT_MEMBERS.contains(&&self.name[..]) || self.name == TOOL_INPUT;
        self.in_answer && self.depth <= self.max_depth && is_named
    }

    /// The list or object with this name, if it counts differently from its texts.
    fn part_of_name(&self) -> Option<Part> {
        let counts = self.name == TOOL_INPUT && self.depth <= self.max_depth;
        (counts || self.name == FOUND).then_some(Part { depth: self.depth, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(endpoint: Endpoint, text: &str, piece: usize) -> Option<u64> {
        let mut counted = AnswerText::new(endpoint);
        text.as_bytes().chunks(piece).for_each(|piece| counted.push(piece));
        counted.bytes(true)
    }

    #[test]
    fn only_what_the_model_has_generated_counts() {
        use Endpoint::{Chat, Completions, Messages, Responses};
        let cases = [
            (Chat, r#"{"choices":[{"message":{"role":"assistant","content":"12345"}}]}"#, Some(5)),
            (Chat, r#"{"choices":[{"message":{"content":null,"refusal":"\"1\\" }}]}"#, Some(5)),
            (
                Chat,
                r#"{"id":"x","choices" : [ {"message" : {"reasoning_content" : "123" , "content":"45",
                    "tool_calls":[{"function":{"name":"name","arguments":"{\"a\":1}"}}]}}], "content":"no"}"#,
                Some(14),
            ),
            (Completions, r#"{"choices":[{"text":"123"},{"text":"456","logprobs":{}}]}"#, Some(6)),
            (
                Responses,
                r#"{"instructions":[{"content":[{"text":"no"}]}],"text":{"format":{"type":"text"}},"metadata":{"text":"no"},
                    "output":[{"type":"reasoning","summary":[{"text":"12"}]},
                    {"type":"file_search_call","results":[{"text":"no"}],"queries":["text"]},
                    {"type":"message","content":[{"type":"output_text","text":"345"}]},
                    {"type":"custom_tool_call","input":"67"}],"tools":[{"text":"no"}]}"#,
                Some(7),
            ),
            (
                Messages,
                r#"{"content":[{"type":"thinking","thinking":"123"},{"type":"text","text":"45"},
                    {"type":"tool_use","name":"text","input":{"a":["}"]}},
                    {"type":"mcp_tool_result","content":[{"type":"text","text":"no"}]}]}"#,
                Some(16),
            ),
            (Messages, r#"{"content":[]}"#, Some(0)),
            (Chat, r#"{"message":{"content":"of another form"}}"#, None),
            (Chat, r#"[{"choices":[{"text":"1"}]}]"#, None),
            (Chat, "\x1f\u{8b}compressed", None),
            (Chat, "", None),
        ];
        for (endpoint, text, expected) in cases {
            for piece in [1, 2, 3, 7, 10_000] {
                assert_eq!(bytes(endpoint, text, piece), expected, "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_answer_that_breaks_off_counts_as_far_as_it_came() {
        let mut counted = AnswerText::new(Endpoint::Chat);
        counted.push(br#"{"id":"#);
        assert_eq!((counted.bytes(false), counted.bytes(true)), (Some(0), None));
        counted.push(br#""x","choices":[{"message":{"content":"12"#);
        assert_eq!(counted.bytes(false), Some(2));
    }
}
