//! TOML: the parser is the `toml` crate, whose spanned values keep numbers as written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::line_index::LineIndex;
use super::{Budget, Entry, Node, Value, check_depth};
use crate::problem::{DocumentProblem, Position, Problems};

/// Reads a document; `None` if it has no key.
pub(super) fn read(text: &str) -> Result<Option<Node>, Vec<DocumentProblem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { lines: LineIndex::new(text), budget: Budget::new() };
    if !errors.is_empty() {
        // One more than is kept, so that the list says that it was truncated.
        let shown = errors.iter().take(Problems::MAX_KEPT + 1);
        return Err(shown.map(|error| reader.problem(error)).collect());
    }
    let table = table.into_inner();
    if table.is_empty() {
        return Ok(None);
    }
    let value = reader.map(table, Some(Position::START), 0).map_err(|problem| vec![problem])?;
    Ok(Some(Node { position: Some(Position::START), value }))
}

struct Reader<'t> {
    lines: LineIndex<'t>,
    budget: Budget,
}

impl Reader<'_> {
    fn problem(&self, error: &toml::de::Error) -> DocumentProblem {
        let position = error.span().map(|span| self.lines.position(span.start));
        DocumentProblem::of_text(
            position,
            format!("is not TOML: {}", error.message()),
            "TOML 1.0 or 1.1",
        )
    }

    /// Converts a value inside `depth` lists and maps.
    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, DocumentProblem> {
        let position = Some(self.lines.position(value.span().start));
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => Value::Number(number.to_string()),
            DeValue::Float(number) => Value::Number(number.to_string()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(items) => {
                check_depth(depth, position)?;
                let items = items.into_iter().map(|item| self.node(item, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => self.map(table, position, depth)?,
        };
        let text_bytes = match &value {
            Value::Number(text) | Value::Date(text) | Value::String(text) => text.len(),
            _ => 0,
        };
        self.budget.take(text_bytes, position)?;
        Ok(Node { position, value })
    }

    fn map(
        &mut self,
        table: DeTable<'_>,
        position: Option<Position>,
        depth: usize,
    ) -> Result<Value, DocumentProblem> {
        check_depth(depth, position)?;
        let mut entries: Vec<_> = table.into_iter().collect();
        // The parser sorts by key.
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let key_position = Some(self.lines.position(key.span().start));
            let key = key.into_inner().into_owned();
            self.budget.take(key.len(), key_position)?;
            Ok(Entry { key, key_position, node: self.node(value, depth + 1)? })
        });
        Ok(Value::Map(entries.collect::<Result<_, _>>()?))
    }
}
