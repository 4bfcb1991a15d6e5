//! The secrets of API keys: created at random, shown once, and stored only as keyed hashes (P15).
//!
//! The hash is HMAC-SHA-256. Its key is a setting of the server and is not in the database, so whoever has only the
//! database can neither use the keys nor verify a guess.

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The beginning of every secret.
pub const SECRET_START: &str = "tg_live_";

/// The number of random bytes in a secret.
#[cfg(any(feature = "database", test))]
const SECRET_BYTES: usize = 32;

/// How many characters of the random part a record keeps to tell keys apart. They reveal 4 of 32 bytes.
const PREFIX_RANDOM_CHARS: usize = 8;

/// A secret in clear text. It has no `Display`, and `Debug` hides it, so that no log shows it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    /// A new secret from the system's random source; fails only if the system has none.
    #[cfg(any(feature = "database", test))]
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{SECRET_START}{}", hex(&bytes))))
    }

    /// The secret, to be shown to its new owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The part that a record keeps.
    pub(crate) fn prefix(&self) -> &str {
        self.0.get(..SECRET_START.len() + PREFIX_RANDOM_CHARS).unwrap_or_default()
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}…)", self.prefix())
    }
}

/// The keyed hash of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash in hexadecimal digits, as it is stored.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Parses the hash in `text`.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Hashes secrets with one key, which is processed once.
#[derive(Clone)]
pub struct KeyHasher(Hmac<Sha256>);

impl KeyHasher {
    /// A hasher with the key `key`: at least 32 random bytes, the same on every node and for the whole life of the API
    /// keys.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it cannot fail")]
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)"))
    }

    /// The hash of `secret`.
    #[inline]
    pub fn hash(&self, secret: &str) -> KeyHash {
        let mut mac = self.0.clone();
        mac.update(secret.as_bytes());
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_32_random_bytes_and_debug_hides_it() {
        let (secret, other) = (ApiKeySecret::random().unwrap(), ApiKeySecret::random().unwrap());
        assert_ne!(secret, other);
        assert_eq!(secret.reveal().len(), SECRET_START.len() + 2 * SECRET_BYTES);
        assert_eq!(secret.prefix(), &secret.reveal()[..16]);
        assert!(!format!("{secret:?}").contains(&secret.reveal()[16..]));
    }

    /// The second test vector of RFC 4231.
    #[test]
    fn a_hash_is_that_of_hmac_sha_256_and_reads_back() {
        let hash = KeyHasher::new(b"Jefe").hash("what do ya want for nothing?");
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hash.to_hex(), hex);
        assert_eq!(KeyHash::from_hex(hex), Some(hash));
        assert_eq!(KeyHash::from_hex("5b"), None);
        assert_eq!(KeyHash::from_hex(&"é".repeat(32)), None);
        assert_ne!(KeyHasher::new(b"other").hash("what do ya want for nothing?"), hash);
    }
}
