//! JSON, strictly RFC 8259: the lexer is `hifijson`, which keeps numbers as written; this module builds the tree.

use hifijson::num::LexWrite as _;
use hifijson::str::LexAlloc as _;
use hifijson::token::Lex as _;
use hifijson::{Expect, SliceLexer};

use super::line_index::LineIndex;
use super::{Budget, Entry, Node, Value, check_depth};
use crate::problem::{DocumentProblem, Position};

/// Reads one value; `None` if there is only white space.
pub(super) fn read(text: &str) -> Result<Option<Node>, DocumentProblem> {
    let mut lexer = SliceLexer::new(text.as_bytes());
    let Some(next) = lexer.ws_peek() else { return Ok(None) };
    let mut reader = Reader { text, lines: LineIndex::new(text), budget: Budget::new() };
    let node = reader.node(next, &mut lexer, 0).and_then(|node| match lexer.ws_peek() {
        None => Ok(node),
        Some(_) => Err(Failure::from(Expect::Eof)),
    });
    node.map(Some).map_err(|failure| match failure {
        Failure::DocumentProblem(problem) => problem,
        // The lexer is at the position of the error.
        Failure::Lex(error) => malformed(reader.position(&lexer), &error),
    })
}

enum Failure {
    Lex(hifijson::Error),
    DocumentProblem(DocumentProblem),
}

impl From<Expect> for Failure {
    fn from(expected: Expect) -> Self {
        Self::Lex(expected.into())
    }
}

impl From<DocumentProblem> for Failure {
    fn from(problem: DocumentProblem) -> Self {
        Self::DocumentProblem(problem)
    }
}

struct Reader<'t> {
    text: &'t str,
    lines: LineIndex<'t>,
    budget: Budget,
}

impl<'t> Reader<'t> {
    fn position(&self, lexer: &SliceLexer<'t>) -> Position {
        self.lines.position(self.text.len() - lexer.as_slice().len())
    }

    /// Parses the value that starts with `next`, inside `depth` lists and maps.
    fn node(
        &mut self,
        next: u8,
        lexer: &mut SliceLexer<'t>,
        depth: usize,
    ) -> Result<Node, Failure> {
        let position = Some(self.position(lexer));
        let value = match next {
            b'a'..=b'z' => match lexer.null_or_bool().ok_or(Expect::Value)? {
                None => Value::Null,
                Some(value) => Value::Bool(value),
            },
            b'-' | b'0'..=b'9' => {
                let (number, _) = lexer
                    .num_string()
                    .validated()
                    .map_err(|error| Failure::Lex(hifijson::Error::Num(error)))?;
                Value::Number(number.to_owned())
            }
            b'"' => Value::String(self.string(lexer)?),
            b'[' => {
                check_depth(depth, position)?;
                let mut items = Vec::new();
                lexer.discarded().seq(b']', SliceLexer::ws_peek, |next, lexer| {
                    items.push(self.node(next, lexer, depth + 1)?);
                    Ok::<_, Failure>(())
                })?;
                Value::List(items)
            }
            b'{' => {
                check_depth(depth, position)?;
                let mut entries = Vec::new();
                lexer.discarded().seq(b'}', SliceLexer::ws_peek, |next, lexer| {
                    entries.push(self.entry(next, lexer, depth + 1)?);
                    Ok::<_, Failure>(())
                })?;
                Value::Map(entries)
            }
            _ => return Err(Expect::Value.into()),
        };
        let text_bytes = match &value {
            Value::Number(text) | Value::String(text) => text.len(),
            _ => 0,
        };
        self.budget.take(text_bytes, position)?;
        Ok(Node { position, value })
    }

    /// Parses the string whose opening quote comes next. Errors are reported at its start, because the end of an
    /// unclosed string is arbitrary.
    fn string(&self, lexer: &mut SliceLexer<'t>) -> Result<String, DocumentProblem> {
        let position = self.position(lexer);
        let text = lexer.discarded().str_string();
        text.map(Into::into).map_err(|error| malformed(position, &hifijson::Error::Str(error)))
    }

    fn entry(
        &mut self,
        next: u8,
        lexer: &mut SliceLexer<'t>,
        depth: usize,
    ) -> Result<Entry, Failure> {
        let key_position = Some(self.position(lexer));
        if next != b'"' {
            return Err(Expect::String.into());
        }
        let key = self.string(lexer)?;
        self.budget.take(key.len(), key_position)?;
        lexer.expect(SliceLexer::ws_peek, b':').ok_or(Expect::Colon)?;
        let next = lexer.ws_peek().ok_or(Expect::Value)?;
        Ok(Entry { key, key_position, node: self.node(next, lexer, depth)? })
    }
}

fn malformed(position: Position, error: &hifijson::Error) -> DocumentProblem {
    let accepted = "JSON (RFC 8259), without comments and trailing commas";
    DocumentProblem::of_text(Some(position), format!("is not JSON: {error}"), accepted)
}
