//! Texts that must not appear in any log or message.

use std::fmt;

/// A secret, or a URL that may contain one. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The minimum length of a token or a key in bytes; a shorter one could be guessed.
    pub const MIN_BYTES: usize = 16;

    /// `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for comparing or using it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
