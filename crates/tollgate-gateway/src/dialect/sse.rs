//! Splits a stream of server-sent events into frames, without changing a byte.
//!
//! The parsers that exist for this give events without the bytes that they were parsed from, so a frame could not be passed on
//! as it came. A frame ends with an empty line; lines end with LF, CR or CR LF (WHATWG HTML, section 9.2.5).

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// The longest frame that is kept until it is complete. A longer one passes in pieces, and is not parsed.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Splits a stream into frames. What it returns, put together, is what it was given.
#[derive(Debug, Default)]
pub struct Framer {
    /// The beginning of a frame that is not complete.
    partial: BytesMut,
    scan: Scan,
    /// Whether a frame that is longer than the bound is passing.
    is_oversized: bool,
}

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// A frame with its empty line; at the end of a stream also one without.
    Whole(Bytes),
    /// A piece of a frame that is too long.
    Oversized(Bytes),
}

impl Framed {
    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) | Self::Oversized(bytes) => bytes,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Whether the current line has a character.
    has_text: bool,
    /// Whether the last byte was a CR, so that an LF belongs to the same end of a line.
    after_cr: bool,
    /// Whether that CR ended an empty line.
    ends_after_cr: bool,
}

impl Framer {
    /// Adds a `chunk` and calls `each` with the frames that are complete now. O(its length), and copies only frames that arrive
    /// in several chunks.
    pub fn push(&mut self, mut chunk: Bytes, mut each: impl FnMut(Framed)) {
        while let Some(end) = self.scan.frame_end(&chunk) {
            let last = chunk.split_to(end);
            each(self.complete(last));
        }
        if chunk.is_empty() {
            return;
        }
        if self.is_oversized || self.partial.len() + chunk.len() > MAX_FRAME_BYTES {
            self.is_oversized = true;
            if !self.partial.is_empty() {
                each(Framed::Oversized(self.partial.split().freeze()));
            }
            each(Framed::Oversized(chunk));
        } else {
            self.partial.extend_from_slice(&chunk);
        }
    }

    /// The rest at the end of the stream.
    pub fn finish(&mut self) -> Option<Framed> {
        let rest = self.partial.split().freeze();
        self.scan = Scan::default();
        (!rest.is_empty()).then_some(Framed::Whole(rest))
    }

    fn complete(&mut self, last: Bytes) -> Framed {
        if std::mem::take(&mut self.is_oversized) {
            return Framed::Oversized(last);
        }
        let frame = if self.partial.is_empty() {
            last
        } else {
            self.partial.extend_from_slice(&last);
            self.partial.split().freeze()
        };
        if frame.len() > MAX_FRAME_BYTES { Framed::Oversized(frame) } else { Framed::Whole(frame) }
    }
}

impl Scan {
    /// The length up to the end of the frame; `None` if it does not end in `chunk`, which is then scanned.
    fn frame_end(&mut self, chunk: &[u8]) -> Option<usize> {
        let first = chunk.first()?;
        if std::mem::take(&mut self.ends_after_cr) {
            // Whether an LF follows decides where the frame ends.
            self.after_cr = false;
            return Some(usize::from(*first == b'\n'));
        }
        let mut at = 0;
        while at < chunk.len() {
            let Some(found) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) else {
                (self.has_text, self.after_cr) = (true, false);
                return None;
            };
            if found > 0 {
                (self.has_text, self.after_cr) = (true, false);
            }
            at += found + 1;
            let is_cr = chunk[at - 1] == b'\r';
            if !is_cr && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.after_cr = is_cr;
            if std::mem::take(&mut self.has_text) {
                continue;
            }
            if !is_cr {
                return Some(at);
            }
            match chunk.get(at) {
                Some(next) => {
                    self.after_cr = false;
                    return Some(at + usize::from(*next == b'\n'));
                }
                None => self.ends_after_cr = true,
            }
        }
        None
    }
}

/// The name and the data of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// What `event:` says; empty if it says nothing.
    pub(super) name: &'a [u8],
    /// The lines of `data:`; `None` if there are none, as in a comment.
    pub(super) data: Option<Cow<'a, [u8]>>,
}

impl<'a> Event<'a> {
    /// The event in `frame`.
    pub(super) fn of(frame: &'a [u8]) -> Self {
        let mut event = Self { name: b"", data: None };
        for line in frame.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if let Some(value) = field(line, b"data") {
                match &mut event.data {
                    None => event.data = Some(Cow::Borrowed(value)),
                    Some(data) => {
                        let data = data.to_mut();
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                }
            } else if let Some(value) = field(line, b"event") {
                event.name = value;
            }
        }
        event
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The frames of `text`, cut into chunks after each of `cuts`.
    fn frames(text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let (mut framer, mut found) = (Framer::default(), Vec::new());
        let mut each = |framed: Framed| found.push(framed.into_bytes().to_vec());
        let mut from = 0;
        for cut in cuts.iter().chain([&text.len()]) {
            let to = (*cut).clamp(from, text.len());
            framer.push(Bytes::copy_from_slice(&text[from..to]), &mut each);
            from = to;
        }
        if let Some(rest) = framer.finish() {
            each(rest);
        }
        found
    }

    #[test]
    fn a_frame_ends_with_an_empty_line() {
        let cases: [(&str, &[&str]); 8] = [
            ("data: 1\n\ndata: 2\n\n", &["data: 1\n\n", "data: 2\n\n"]),
            ("data: 1\r\n\r\ndata: 2\r\n\r\n", &["data: 1\r\n\r\n", "data: 2\r\n\r\n"]),
            ("data: 1\r\rdata: 2\r\r", &["data: 1\r\r", "data: 2\r\r"]),
            ("event: a\ndata: 1\n\n: note\n\n", &["event: a\ndata: 1\n\n", ": note\n\n"]),
            ("data: 1\n\r\nx", &["data: 1\n\r\n", "x"]),
            ("data: 1", &["data: 1"]),
            ("\n\n", &["\n", "\n"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|frame| frame.as_bytes()).collect();
            assert_eq!(frames(text.as_bytes(), &[]), expected, "{text:?}");
        }
    }

    #[test]
    fn an_oversized_frame_passes_in_pieces() {
        let long = [b"data: ", &vec![b'x'; MAX_FRAME_BYTES][..], b"\n\n"].concat();
        let (mut framer, mut passed, mut complete) = (Framer::default(), 0, 0);
        for chunk in long.chunks(100_000).chain([&b"data: next\n\n"[..]]) {
            framer.push(Bytes::copy_from_slice(chunk), |framed| {
                complete += usize::from(matches!(framed, Framed::Whole(_)));
                passed += framed.into_bytes().len();
            });
            assert!(framer.partial.len() <= MAX_FRAME_BYTES);
        }
        assert_eq!((passed, complete), (long.len() + 12, 1));
    }

    #[test]
    fn an_event_has_a_name_and_data() {
        let event = |frame: &'static str| {
            let event = Event::of(frame.as_bytes());
            (event.name, event.data.map(Cow::into_owned))
        };
        assert_eq!(event("data: {}\n\n"), (&b""[..], Some(b"{}".to_vec())));
        assert_eq!(event("event: a\r\ndata:x\r\n\r\n"), (&b"a"[..], Some(b"x".to_vec())));
        assert_eq!(event("data: 1\ndata: 2\n\n"), (&b""[..], Some(b"1\n2".to_vec())));
        assert_eq!(event(": ping\n\n"), (&b""[..], None));
        assert_eq!(event("database: 1\n\n"), (&b""[..], None));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_frames_are_the_same(
            text in "(data: [a-c]{0,3}|: x|event: e|\n|\r|\r\n){0,30}",
            mut cuts in proptest::collection::vec(0..200_usize, 0..20),
        ) {
            cuts.sort_unstable();
            let whole = frames(text.as_bytes(), &[]);
            prop_assert_eq!(whole.concat(), text.as_bytes());
            prop_assert_eq!(frames(text.as_bytes(), &cuts), whole);
        }
    }
}
