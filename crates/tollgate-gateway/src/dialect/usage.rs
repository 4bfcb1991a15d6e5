//! The usage that an upstream reports.

use serde::Deserialize;

/// Tokens by kind, as far as they were reported. Totals: the input includes what was read from a cache or written to one, and
/// the output includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens of the prompt.
    pub input: Option<u64>,
    /// All tokens of the answer.
    pub output: Option<u64>,
    /// Tokens of the prompt that were read from a cache.
    pub cached_input: Option<u64>,
    /// Tokens of the prompt that were written to a cache.
    pub cache_writing: Option<u64>,
    /// Tokens of the answer that are reasoning.
    pub reasoning: Option<u64>,
}

/// What the dialects call them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReportedUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

/// A count above this is not believed; sums of such counts do not overflow.
const MAX_COUNT: u64 = 1 << 40;

impl ReportedUsage {
    /// The same as totals.
    pub(super) fn totals(&self) -> Usage {
        let plain = |count: Option<u64>| count.filter(|count| *count <= MAX_COUNT);
        let input_details =
            self.prompt_tokens_details.as_ref().or(self.input_tokens_details.as_ref());
        let output_details =
            self.completion_tokens_details.as_ref().or(self.output_tokens_details.as_ref());
        let (read, written) =
            (plain(self.cache_read_input_tokens), plain(self.cache_creation_input_tokens));
        // Anthropic counts what the cache holds apart from `input_tokens`; OpenAI counts it within.
        let apart = read.unwrap_or(0) + written.unwrap_or(0);
        let input = plain(self.prompt_tokens).or(plain(self.input_tokens));
        Usage {
            input: input.map(|input| input + apart),
            output: plain(self.completion_tokens).or(plain(self.output_tokens)),
            cached_input: read.or(input_details.and_then(|details| plain(details.cached_tokens))),
            cache_writing: written,
            reasoning: output_details.and_then(|details| plain(details.reasoning_tokens)),
        }
    }
}

impl Usage {
    /// The usage in the JSON object `json`; nothing if it is not one.
    pub(super) fn parse(json: &[u8]) -> Self {
        let reported: Option<ReportedUsage> = serde_json::from_slice(json).ok();
        reported.map(|reported| reported.totals()).unwrap_or_default()
    }

    /// The larger of each count: usage only grows while an answer streams.
    pub(super) fn merge(&mut self, other: Self) {
        self.input = self.input.max(other.input);
        self.output = self.output.max(other.output);
        self.cached_input = self.cached_input.max(other.cached_input);
        self.cache_writing = self.cache_writing.max(other.cache_writing);
        self.reasoning = self.reasoning.max(other.reasoning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> [Option<u64>; 5] {
        let usage = Usage::parse(json.as_bytes());
        [usage.input, usage.output, usage.cached_input, usage.cache_writing, usage.reasoning]
    }

    #[test]
    fn each_dialect_reports_its_usage() {
        let cases = [
            (
                r#"{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,
                    "prompt_tokens_details":{"cached_tokens":4},
                    "completion_tokens_details":{"reasoning_tokens":7}}"#,
                [Some(9), Some(12), Some(4), None, Some(7)],
            ),
            (
                r#"{"input_tokens":9,"output_tokens":12,"input_tokens_details":{"cached_tokens":4},
                    "output_tokens_details":{"reasoning_tokens":0}}"#,
                [Some(9), Some(12), Some(4), None, Some(0)],
            ),
            (
                r#"{"input_tokens":9,"output_tokens":1,"cache_read_input_tokens":100,
                    "cache_creation_input_tokens":20}"#,
                [Some(129), Some(1), Some(100), Some(20), None],
            ),
            (r#"{"prompt_tokens":8,"total_tokens":8}"#, [Some(8), None, None, None, None]),
            (
                r#"{"prompt_tokens":8,"prompt_tokens_details":null}"#,
                [Some(8), None, None, None, None],
            ),
            (r#"{"prompt_tokens":18446744073709551615}"#, [None; 5]),
            (r#"{"prompt_tokens":-1}"#, [None; 5]),
            ("null", [None; 5]),
            ("[", [None; 5]),
        ];
        for (json, expected) in cases {
            assert_eq!(counts(json), expected, "{json}");
        }
    }

    #[test]
    fn usage_only_grows() {
        let mut usage = Usage { input: Some(5), output: Some(9), ..Usage::default() };
        usage.merge(Usage { output: Some(3), reasoning: Some(1), ..Usage::default() });
        let expected =
            Usage { input: Some(5), output: Some(9), reasoning: Some(1), ..Usage::default() };
        assert_eq!(usage, expected);
    }
}
