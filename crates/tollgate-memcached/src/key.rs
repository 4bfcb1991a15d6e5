//! Keys: injective (R8), of the same length whatever the ids, and of letters that memcached takes.
//!
//! A key is the prefix and 160 bits of a SHA-256 over the policy id and the values, each with its length. Clients choose the
//! ids, so the hash must resist a deliberate search for collisions, which takes 2^80 tries.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tollgate_core::{Charge, Limit, Subject};
use tollgate_store::key_bytes;

/// The bytes of a [`KeyId`].
pub(crate) const KEY_ID_BYTES: usize = 20;
/// The bytes of a [`RequestDigest`].
pub(crate) const REQUEST_DIGEST_BYTES: usize = 16;

/// Names the usage of one key: 160 bits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyId(pub(crate) [u8; KEY_ID_BYTES]);

/// Names a check with a request id (R12): 128 bits of a hash.
pub(crate) type RequestDigest = [u8; REQUEST_DIGEST_BYTES];

impl KeyId {
    /// The name of the usage of `subject` under `limit`.
    pub(crate) fn of(limit: &Limit, subject: &Subject<'_>) -> Self {
        Self(first_bytes(&Sha256::digest(key_bytes(limit, subject))))
    }

    /// The name of the usage that `charge` changes.
    pub(crate) fn of_charge(charge: &Charge<'_>) -> Self {
        Self::of(charge.limit, charge.subject)
    }
}

/// Names the check of `request_id` over these keys, in their order.
pub(crate) fn request_digest(request_id: &str, keys: &[KeyId]) -> RequestDigest {
    let mut hash = Sha256::new();
    hash.update((request_id.len() as u64).to_le_bytes());
    hash.update(request_id);
    for key in keys {
        hash.update(key.0);
    }
    first_bytes(&hash.finalize())
}

fn first_bytes<const LENGTH: usize>(digest: &[u8]) -> [u8; LENGTH] {
    let mut first = [0; LENGTH];
    first.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    first
}

/// Builds the keys in memcached.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) prefix: Arc<str>,
}

/// What follows the prefix in the key of the announcements, and in that which probes write. Those of usage are longer.
const ANNOUNCEMENTS: &str = "given-back";
const PROBE: &str = "probe";

impl Keys {
    /// The key of the usage `id`.
    pub(crate) fn of(&self, id: &KeyId) -> String {
        let mut key = String::with_capacity(self.prefix.len() + 27);
        key.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(id.0, &mut key);
        key
    }

    /// The key of the announcements of usage that was given back.
    pub(crate) fn announcements(&self) -> String {
        format!("{}{ANNOUNCEMENTS}", self.prefix)
    }

    /// The key that probes write.
    pub(crate) fn probe(&self) -> String {
        format!("{}{PROBE}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// memcached takes keys of up to 250 bytes without spaces and control characters.
    #[test]
    fn keys_are_short_and_plain() {
        let keys = Keys { prefix: "x".repeat(64).as_str().into() };
        let usage = keys.of(&KeyId([255; KEY_ID_BYTES]));
        for key in [usage, keys.announcements(), keys.probe()] {
            assert!(key.len() <= 100, "{key}");
            assert!(key.bytes().all(|byte| byte.is_ascii_graphic()), "{key}");
        }
    }

    #[test]
    fn a_request_is_named_by_its_id_and_its_keys_in_order() {
        let [one, two] = [1, 2].map(|byte| KeyId([byte; KEY_ID_BYTES]));
        let digests = [
            request_digest("a", &[one, two]),
            request_digest("a", &[two, one]),
            request_digest("a", &[one]),
            request_digest("b", &[one, two]),
            request_digest("", &[one, two]),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[index + 1..].contains(digest), "{index}");
        }
    }
}
