//! Keys: injective (R8), short, and in a Cluster placed so that the limits of one user share a slot.
//!
//! A key is the prefix and 160 bits of a SHA-256 over the policy id and the values, each with its length. Clients
//! choose the ids, so the hash must resist a deliberate search for collisions, which takes 2^80 tries. In a Cluster the
//! key has a hash tag: that of the user if the limit is kept per user, otherwise that of the whole key.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tollgate_core::{Attribute, Charge, Counting, Limit, Subject};

const DIGEST_BYTES: usize = 20;
const TAG_BYTES: usize = 8;
/// The letters of a hash tag.
pub(crate) const TAG_LETTERS: usize = 11;
/// What follows the prefix of a key with a hash tag.
const KEY_BYTES: usize = 40;
/// What the key of the slots of a limit ends with: a policy may have counted otherwise before.
const SLOTS_SUFFIX: &str = "s";
/// What the key of the holds ends with that leases give back when they expire: the rest is that of their limit.
const DUE_SUFFIX: &str = "x";
/// What follows the prefix in the key of a lease, and in that of the request id of one.
const LEASE: char = 'l';
const LEASE_REQUEST: char = 'q';
/// The letters of a digest at the end of a key.
const DIGEST_LETTERS: usize = 27;
pub(crate) const ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Builds the keys of a store.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) prefix: Arc<str>,
    pub(crate) tagged: bool,
}

impl Keys {
    /// The key of the usage that `charge` changes.
    pub(crate) fn of_charge(&self, charge: &Charge<'_>) -> String {
        self.of(charge.limit, charge.subject)
    }

    /// The key of the usage of `subject` under `limit`.
    pub(crate) fn of(&self, limit: &Limit, subject: &Subject<'_>) -> String {
        let mut hash = Sha256::new();
        add(&mut hash, limit.policy_id().as_str());
        let per = limit.per().attributes();
        limit.key_parts(subject).for_each(|(_, value)| add(&mut hash, &value));
        let user = subject.get(&Attribute::User).filter(|_| per.contains(&Attribute::User));
        let mut key = self.of_digest(&hash.finalize(), user.map(str::as_bytes));
        if limit.counting() == Counting::Concurrency {
            key.push_str(SLOTS_SUFFIX);
        }
        key
    }

    fn of_digest(&self, digest: &[u8], user: Option<&[u8]>) -> String {
        let mut key = String::with_capacity(self.prefix.len() + KEY_BYTES);
        key.push_str(&self.prefix);
        if self.tagged {
            key.push('{');
            // A check without a user has an empty one in its key.
            match user.filter(|user| !user.is_empty()) {
                Some(user) => encode(&Sha256::digest(user)[..TAG_BYTES], &mut key),
                None => encode(&digest[DIGEST_BYTES..DIGEST_BYTES + TAG_BYTES], &mut key),
            }
            key.push('}');
        }
        encode(&digest[..DIGEST_BYTES], &mut key);
        key
    }

    /// The key that holds the first answer to `request_id` for all limits of a check, in their order (R12). It lies
    /// beside `neighbour`, one of their keys.
    pub(crate) fn of_request(
        &self,
        request_id: &str,
        limit_keys: &[String],
        neighbour: &str,
        once: Once,
    ) -> String {
        let mut hash = Sha256::new();
        add(&mut hash, request_id);
        if once == Once::RecordedDenial {
            add(&mut hash, "");
        }
        for key in limit_keys {
            add(&mut hash, key);
        }
        let kind = if once == Once::Lease { LEASE_REQUEST } else { 'o' };
        // In a Cluster, in the same slot.
        self.beside(kind, tag_of(neighbour), &hash.finalize())
    }

    /// The key of the lease `id` in the slot of `tag`, the hash tag of its limits there. Whoever reads it does not know the id.
    pub(crate) fn of_lease(&self, id: &str, tag: &str) -> String {
        self.beside(LEASE, tag, &Sha256::digest(id))
    }

    /// The key of the request id of a lease in the slot of `tag` whose [`request_digest`] is `digest`.
    pub(crate) fn of_lease_request(&self, digest: &str, tag: &str) -> String {
        let mut key = self.beside_prefix(LEASE_REQUEST, tag);
        key.push_str(digest);
        key
    }

    fn beside(&self, kind: char, tag: &str, digest: &[u8]) -> String {
        let mut key = self.beside_prefix(kind, tag);
        encode(&digest[..DIGEST_BYTES], &mut key);
        key
    }

    /// What the keys of all leases begin with.
    pub(crate) fn of_leases(&self) -> String {
        format!("{}{LEASE}", self.prefix)
    }

    fn beside_prefix(&self, kind: char, tag: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + KEY_BYTES + 2);
        key.push_str(&self.prefix);
        key.push(kind);
        if !tag.is_empty() {
            key.push('{');
            key.push_str(tag);
            key.push('}');
        }
        key.push('-');
        key
    }

    /// The key that [`Keys::of`] returned for the limit that is called `name` in announcements, which is of slots or not. `tag` is its
    /// hash tag, empty for none.
    pub(crate) fn of_name(&self, name: &[u8], tag: &str, is_of_slots: bool) -> String {
        let mut key = String::with_capacity(self.prefix.len() + KEY_BYTES + 1);
        key.push_str(&self.prefix);
        if !tag.is_empty() {
            key.push('{');
            key.push_str(tag);
            key.push('}');
        }
        encode(&Sha256::digest(name)[..DIGEST_BYTES], &mut key);
        if is_of_slots {
            key.push_str(SLOTS_SUFFIX);
        }
        key
    }
}

/// What is called by a request id. A check and a lease with the same id are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Once {
    /// A check.
    Check,
    /// Those limits of a check that record denied costs.
    RecordedDenial,
    /// A lease.
    Lease,
}

/// The key of what leases give back in the limit of `key` when they expire.
pub(crate) fn due_key(key: &str) -> String {
    [key, DUE_SUFFIX].concat()
}

/// The digest at the end of the key of a request id.
pub(crate) fn request_digest(key: &str) -> &str {
    key.get(key.len().saturating_sub(DIGEST_LETTERS)..).unwrap_or_default()
}

/// The hash tag of `key`; empty if it has none.
pub(crate) fn tag_of(key: &str) -> &str {
    key.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .unwrap_or_default()
}

fn add(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// Appends `bytes` in base 64, without padding.
pub(crate) fn encode(bytes: &[u8], text: &mut String) {
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
}

/// The slot of a Cluster for `key`: CRC-16 (XMODEM) of its hash tag, or of the whole key.
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The slots of a Cluster.
pub(crate) const SLOTS: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        for (key, expected) in [("123456789", 0x31c3), ("a{123456789}b", 0x31c3), ("foo", 12182)] {
            assert_eq!(slot(key), expected, "{key}");
        }
    }

    #[test]
    fn bytes_are_written_in_base_64() {
        for (bytes, expected) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v")] {
            let mut text = String::new();
            encode(bytes.as_bytes(), &mut text);
            assert_eq!(text, expected);
        }
    }
}
