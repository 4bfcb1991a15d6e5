//! Short keys: a keyed 128-bit hash instead of the strings of a key.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};
use tollgate_core::{Limit, Subject};

/// What stands for a key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// Kept in the slot; never 0, which marks an empty slot.
    pub(super) fingerprint: u64,
    /// Chooses the shard; independent of the fingerprint.
    pub(super) shard_bits: u64,
}

/// Hashes keys with a secret of this store, so that nobody can choose ids whose digests meet.
///
/// SipHash-1-3 with 128 bits: a pseudo-random function for whoever does not know the secret (Aumasson and
/// Bernstein, "SipHash: a fast short-input PRF", 2012). Among n keys the odds that any two share usage are at
/// most n²·2^−(65 + the bits that choose a shard): 1 in 400 million for 10 million keys (R8).
#[derive(Debug)]
pub(super) struct KeyHasher {
    secret: (u64, u64),
}

impl KeyHasher {
    /// A hasher with a secret from the system.
    pub(super) fn new() -> Self {
        // RandomState is the standard library's door to the system's randomness.
        Self { secret: (RandomState::new().hash_one(0), RandomState::new().hash_one(1)) }
    }

    /// The digest of the key of `subject` under `limit`.
    ///
    /// Injective before it is hashed: the policy id and every value come with their length.
    #[inline]
    pub(super) fn digest(&self, limit: &Limit, subject: &Subject<'_>) -> Digest {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        write(&mut hasher, limit.policy_id().as_str());
        for attribute in limit.per().attributes() {
            write(&mut hasher, subject.get(attribute).unwrap_or_default());
        }
        let hash = hasher.finish128();
        Digest { fingerprint: hash.h1.max(1), shard_bits: hash.h2 }
    }
}

#[inline]
fn write(hasher: &mut SipHasher13, value: &str) {
    hasher.write_usize(value.len());
    hasher.write(value.as_bytes());
}
