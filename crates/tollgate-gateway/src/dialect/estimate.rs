//! Estimates how many tokens a request has, before the upstream has counted them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The tokens of an image or another attachment, which are not in proportion to its bytes.
const ATTACHMENT_TOKENS: u64 = 1_600;

/// A string of base64 that is longer than this is an attachment.
const MIN_ATTACHMENT_BYTES: usize = 1_024;

/// How much a model reads in one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextSize {
    /// The bytes of the body, without attachments.
    pub text_bytes: u64,
    /// The number of attachments in base64.
    pub attachments: u64,
}

impl TextSize {
    /// The size of the JSON text `body`. O(its length).
    pub fn of(body: &[u8]) -> Self {
        let (mut attachments, mut attached_bytes, mut at) = (0, 0, 0);
        while let Some(start) = memchr::memchr(b'"', &body[at..]).map(|found| at + found + 1) {
            let end = string_end(body, start);
            if is_attachment(&body[start..end]) {
                attachments += 1;
                attached_bytes += end - start;
            }
            at = (end + 1).min(body.len());
        }
        Self { text_bytes: (body.len() - attached_bytes) as u64, attachments }
    }
}

/// Where the string ends whose content begins at `start`.
pub(super) fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at = (at + 2).min(text.len());
    }
    text.len()
}

/// Whether the content of a string is a file in base64, with or without the head of a `data:` URL.
fn is_attachment(content: &[u8]) -> bool {
    if content.len() < MIN_ATTACHMENT_BYTES {
        return false;
    }
    let data = match content.strip_prefix(b"data:") {
        Some(url) => match memchr::memchr(b',', &url[..url.len().min(256)]) {
            Some(comma) => &url[comma + 1..],
            None => return false,
        },
        None => content,
    };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\\".contains(byte);
    data.iter().all(is_base64)
}

/// The tokens per byte of the requests to one model, learned from the counts of its upstreams.
///
/// An estimate is at most one token for two bytes.
#[derive(Debug)]
pub struct InputRatio {
    /// In millionths of a token per byte.
    millionths: AtomicU64,
}

/// One token for three bytes.
const FIRST_MILLIONTHS: u64 = 333_333;
/// One token for two bytes.
const MOST_MILLIONTHS: u64 = 500_000;
/// One token for 20 bytes: less is learned from requests that are mostly markup.
const LEAST_MILLIONTHS: u64 = 50_000;
/// A new observation counts for one in so many.
const MEMORY: u64 = 16;
/// Requests of fewer bytes say little, because templates add tokens to them.
const MIN_OBSERVED_BYTES: u64 = 256;

impl Default for InputRatio {
    fn default() -> Self {
        Self { millionths: AtomicU64::new(FIRST_MILLIONTHS) }
    }
}

impl InputRatio {
    /// The tokens that a request of `size` is estimated to have; at least 1.
    pub fn estimate(&self, size: TextSize) -> u64 {
        // Relaxed: the ratio is an estimate, and no other memory depends on it.
        let millionths = self.millionths.load(Ordering::Relaxed);
        let tokens = size.text_bytes.saturating_mul(millionths).div_ceil(1_000_000);
        tokens.saturating_add(size.attachments.saturating_mul(ATTACHMENT_TOKENS)).max(1)
    }

    /// A request of `size` had `tokens`. Requests with attachments teach nothing.
    pub fn observe(&self, size: TextSize, tokens: u64) {
        if size.attachments > 0 || size.text_bytes < MIN_OBSERVED_BYTES || tokens == 0 {
            return;
        }
        let seen = tokens.saturating_mul(1_000_000).div_ceil(size.text_bytes);
        let seen = seen.clamp(LEAST_MILLIONTHS, MOST_MILLIONTHS);
        let step = |old: u64| Some((old * (MEMORY - 1) + seen).div_ceil(MEMORY));
        // Relaxed, for the same reason.
        _ = self.millionths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_counts_by_itself_and_not_by_its_bytes() {
        let image = "iVBORw0KGgo+/".repeat(1_000);
        let words = "a long text ".repeat(1_000);
        let cases = [
            (format!(r#"{{"image_url":{{"url":"data:image/png;base64,{image}"}}}}"#), 1),
            (format!(r#"{{"source":{{"type":"base64","data":"{image}"}}}}"#), 1),
            (format!(r#"{{"content":"{words}"}}"#), 0),
            (r#"{"data":"c2hvcnQ="}"#.to_owned(), 0),
        ];
        for (body, attachments) in cases {
            let size = TextSize::of(body.as_bytes());
            assert_eq!(size.attachments, attachments);
            let counted = if attachments == 0 { body.len() } else { 100 };
            assert!(size.text_bytes <= counted as u64, "{}", size.text_bytes);
        }
    }

    #[test]
    fn any_bytes_have_a_size() {
        for body in [&b""[..], b"\"", b"\"\\", b"\"\\\"", b"\"a\"\"", b"\xff\"\xfe"] {
            assert_eq!(TextSize::of(body).text_bytes, body.len() as u64);
        }
    }

    #[test]
    fn the_ratio_is_learned_and_bounded() {
        let ratio = InputRatio::default();
        let size = TextSize { text_bytes: 4_000, attachments: 0 };
        assert_eq!(ratio.estimate(size), 1_334);
        for _ in 0..200 {
            ratio.observe(size, 1_000);
        }
        assert!((1_000..=1_001).contains(&ratio.estimate(size)), "{}", ratio.estimate(size));
        for _ in 0..200 {
            ratio.observe(size, 1_000_000);
        }
        assert_eq!(ratio.estimate(size), 2_000);
        for _ in 0..200 {
            ratio.observe(size, 1);
        }
        assert!(ratio.estimate(size) >= 200);
        assert_eq!(ratio.estimate(TextSize::default()), 1);
    }
}
