//! The records of a CSV file, one to a line.
//!
//! No field of a trace may contain a control character, so a record never spans lines. Reading line by line keeps the
//! line numbers exact and the memory bounded, even if a stray quote opens a field.

use std::io::{BufRead, Read};

use super::ReadError;
use crate::error::LineProblem;

/// The longest line, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 1 << 16;

/// The most columns.
pub(super) const MAX_COLUMNS: usize = 64;

// A line with the longest ids, in which each byte is a doubled quote, is not too long.
const _: () =
    assert!(MAX_COLUMNS * (2 * tollgate_core::subject::MAX_ID_BYTES + 3) < MAX_LINE_BYTES);

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reads records and stores the last one.
pub(super) struct RecordReader<R> {
    input: R,
    parser: csv_core::Reader,
    line: Vec<u8>,
    line_number: u64,
    bytes_read: u64,
    /// The bytes of the fields, one after the other.
    text: Vec<u8>,
    /// Where in `text` each field ends.
    ends: [usize; MAX_COLUMNS + 1],
    len: usize,
}

impl<R> RecordReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            parser: csv_core::Reader::new(),
            line: Vec::new(),
            line_number: 0,
            bytes_read: 0,
            text: Vec::new(),
            ends: [0; MAX_COLUMNS + 1],
            len: 0,
        }
    }

    /// The number of the record's line, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line_number
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Field `index` of the record; `column` is its name in messages.
    pub(super) fn field(&self, index: usize, column: &str) -> Result<&str, LineProblem> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        std::str::from_utf8(&self.text[start..self.ends[index]])
            .map_err(|_| LineProblem::new(column, "is not UTF-8", "text in UTF-8"))
    }

    /// All fields of the record; `column` is their name in messages.
    pub(super) fn fields(&self, column: &str) -> Result<Vec<&str>, LineProblem> {
        (0..self.len).map(|index| self.field(index, column)).collect()
    }

    /// Refuses a record whose number of fields is not that of the `columns`.
    pub(super) fn expect_len(&self, columns: usize) -> Result<(), LineProblem> {
        if self.len == columns {
            return Ok(());
        }
        let problem = format!("has {} fields", self.len);
        Err(LineProblem::new("line", problem, format!("{columns} fields, as in the header")))
    }

    fn parse_line(&mut self) -> Result<(), LineProblem> {
        let ends_quoted = self.line.iter().fold(false, |quoted, byte| quoted ^ (*byte == b'"'));
        if ends_quoted {
            let accepted = "each quoted field closed on its own line, a quote inside it doubled";
            return Err(LineProblem::new("line", "has a quote that is not closed", accepted));
        }
        self.line.push(b'\n');
        // Removing quotes never makes a line longer.
        self.text.resize(self.line.len(), 0);
        let (result, _, _, fields) =
            self.parser.read_record(&self.line, &mut self.text, &mut self.ends);
        self.parser.reset();
        self.len = fields;
        if matches!(result, csv_core::ReadRecordResult::Record) && fields <= MAX_COLUMNS {
            return Ok(());
        }
        let problem = format!("has more than {MAX_COLUMNS} fields");
        Err(LineProblem::new("line", problem, format!("at most {MAX_COLUMNS} columns")))
    }
}

impl<R: BufRead> RecordReader<R> {
    /// Reads the next record, if there is one; empty lines are skipped.
    pub(super) fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            self.line.clear();
            // A line within the bound may be followed by two bytes for the line end.
            let most_bytes = MAX_LINE_BYTES as u64 + 2;
            let mut bounded = self.input.by_ref().take(most_bytes);
            let bytes = bounded.read_until(b'\n', &mut self.line).map_err(ReadError::Io)?;
            if bytes == 0 {
                return Ok(false);
            }
            self.bytes_read += bytes as u64;
            self.line_number += 1;
            if self.line_number == 1 && self.line.starts_with(UTF8_BOM) {
                self.line.drain(..UTF8_BOM.len());
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                self.line.pop_if(|byte| *byte == b'\r');
            }
            if self.line.len() > MAX_LINE_BYTES {
                let problem = format!("is longer than {MAX_LINE_BYTES} bytes");
                let accepted = format!("lines of at most {MAX_LINE_BYTES} bytes");
                return Err(ReadError::LineProblem(LineProblem::new("line", problem, accepted)));
            }
            if !self.line.is_empty() {
                return self.parse_line().map(|()| true).map_err(ReadError::LineProblem);
            }
        }
    }
}
