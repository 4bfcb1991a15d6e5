//! Writes JSON piece by piece, for the most frequent answers.

use serde::Serialize;

/// A growing JSON text.
#[derive(Debug)]
pub(super) struct JsonWriter(Vec<u8>);

impl JsonWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends a piece of JSON unchanged.
    #[inline]
    pub(super) fn raw(&mut self, piece: &str) -> &mut Self {
        self.0.extend_from_slice(piece.as_bytes());
        self
    }

    #[inline]
    pub(super) fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// Appends a number, or `null`.
    #[inline]
    pub(super) fn number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.raw(itoa::Buffer::new().format(number)),
            None => self.raw("null"),
        };
    }

    /// Appends a string, or `null`.
    #[inline]
    pub(super) fn text(&mut self, text: Option<&str>) -> serde_json::Result<()> {
        match text {
            Some(text) if text.bytes().fold(true, |plain, byte| plain & needs_no_escape(byte)) => {
                self.raw("\"").raw(text).raw("\"");
                Ok(())
            }
            other => self.value(&other),
        }
    }

    /// Appends any serializable value.
    #[inline]
    pub(super) fn value(&mut self, value: &impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.0, value)
    }
}

#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches, many bytes are looked at at once"
)]
fn needs_no_escape(byte: u8) -> bool {
    (byte >= b' ') & (byte != b'"') & (byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_written_as_serde_writes_it(text in any::<Option<String>>()) {
            let mut json = JsonWriter::with_capacity(0);
            json.text(text.as_deref()).unwrap();
            prop_assert_eq!(json.into_bytes(), serde_json::to_vec(&text).unwrap());
        }
    }
}
