//! Converts byte offsets to lines and columns; fast even for long lines.

use crate::problem::Position;

/// A position is stored at least every this many bytes; characters are counted from there.
const STRIDE_BYTES: usize = 128;

/// The positions in a text. Lines end with a line feed.
pub(super) struct LineIndex<'t> {
    text: &'t str,
    /// Offsets in ascending order, on character boundaries, with their positions.
    kept: Vec<(usize, Position)>,
}

impl<'t> LineIndex<'t> {
    /// Indexes `text`; O(its length).
    pub(super) fn new(text: &'t str) -> Self {
        let mut kept = vec![(0, Position::START)];
        let (mut last, mut position) = (0, Position::START);
        for (offset, c) in text.char_indices() {
            if offset - last >= STRIDE_BYTES {
                kept.push((offset, position));
                last = offset;
            }
            advance(&mut position, c);
        }
        Self { text, kept }
    }

    /// The position at `offset`, which is clamped to the text and to the start of its character.
    pub(super) fn position(&self, offset: usize) -> Position {
        let after = self.kept.partition_point(|(kept, _)| *kept <= offset);
        let (kept, mut position) = self.kept[after.saturating_sub(1)];
        let rest = self.text[kept..].char_indices();
        for (_, c) in rest.take_while(|(at, c)| kept + at + c.len_utf8() <= offset) {
            advance(&mut position, c);
        }
        position
    }
}

fn advance(position: &mut Position, c: char) {
    if c == '\n' {
        position.line += 1;
        position.column = 1;
    } else {
        position.column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(text: &str, offset: usize) -> Position {
        let before = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= offset);
        let mut position = Position::START;
        before.for_each(|(_, c)| advance(&mut position, c));
        position
    }

    proptest! {
        #[test]
        fn positions_are_those_of_counting_from_the_start(
            text in "[a\né𝄞]{0,3000}",
            offset in 0_usize..9_000,
        ) {
            prop_assert_eq!(LineIndex::new(&text).position(offset), slow(&text, offset));
        }
    }

    #[test]
    fn columns_count_characters_and_lines_end_with_a_line_feed() {
        let index = LineIndex::new("é\r\nab");
        assert_eq!(index.position(2), Position { line: 1, column: 2 });
        assert_eq!(index.position(5), Position { line: 2, column: 2 });
        assert_eq!(index.position(99), Position { line: 2, column: 3 });
    }
}
