//! Short keys: a keyed hash instead of the strings of a key.
//!
//! The hash is MULTILINEAR over 64-bit words with 128-bit secrets (Lemire and Kaser, "Strongly universal string
//! hashing is fast", The Computer Journal 57(11), 2014): the high half of `m₀ + Σ mᵢ·wᵢ mod 2^128`. It is
//! strongly universal: whatever two keys are chosen without knowing the secret, they share a digest of b bits with
//! a probability of 2^−b, which no other fast hash proves. All products are independent, so it takes a
//! third of the time of SipHash. No digest leaves the store, so nobody can learn the secret from one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip128::{Hasher128, SipHasher24};
use tollgate_core::{Limit, Subject};

/// What stands for a key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// Kept in the slot; never 0, which marks an empty slot.
    pub(super) fingerprint: u64,
    /// Chooses the shard; independent of the fingerprint.
    pub(super) shard_bits: u64,
}

/// The words of a key that are hashed as they are: two of the policy, and up to 22 of lengths and values.
const MAX_WORDS: usize = 24;

/// Opens the words of a key that is too long for [`MAX_WORDS`]; no key has two values of 4 GiB.
const LONG_KEY: u64 = u64::MAX;

/// Hashes keys with a secret of this store.
///
/// Among n keys the odds that any two share usage are at most n²·2^−(65 + the bits that choose a shard): 1 in
/// 180 million for 10 million keys in 512 shards (R8).
#[derive(Debug)]
pub(super) struct KeyHasher {
    /// For each word its two factors, of the fingerprint and of the shard bits.
    factors: [[u128; 2]; MAX_WORDS],
    start: [u128; 2],
    long: (u64, u64),
}

impl KeyHasher {
    /// A hasher with a secret from the system.
    pub(super) fn new() -> Self {
        // RandomState is the standard library's door to the system's randomness; its hashes of 0, 1, 2… are
        // those of a pseudo-random function.
        let random = RandomState::new();
        let mut words = (0_u64..).map(|index| random.hash_one(index));
        let mut word = || words.next().unwrap_or_default();
        let mut wide = || u128::from(word()) << 64 | u128::from(word());
        Self {
            factors: std::array::from_fn(|_| [wide(), wide()]),
            start: [wide(), wide()],
            long: (random.hash_one("long keys, first"), random.hash_one("long keys, second")),
        }
    }

    /// The digest of the key of `subject` under `limit`.
    ///
    /// What is hashed is injective: the policy, the lengths of the values in the order of `per`, the values.
    #[inline]
    pub(super) fn digest(&self, limit: &Limit, subject: &Subject<'_>) -> Digest {
        let mut sum = self.sum(limit);
        if sum.add_key(limit, subject).is_none() {
            sum = self.sum(limit);
            let [high, low] = self.shorten(limit, subject);
            for word in [LONG_KEY, high, low] {
                // Room for five words: never `None`.
                let _ = sum.add(word);
            }
        }
        let [fingerprint, shard_bits] = sum.totals.map(high_half);
        Digest { fingerprint: fingerprint.max(1), shard_bits }
    }

    #[inline]
    fn sum(&self, limit: &Limit) -> Sum<'_> {
        let mut sum = Sum { totals: self.start, factors: self.factors.iter() };
        for word in limit.policy_tag() {
            let _ = sum.add(word);
        }
        sum
    }

    /// 128 bits that stand for a long key: `SipHash`, which takes any length.
    #[cold]
    fn shorten(&self, limit: &Limit, subject: &Subject<'_>) -> [u64; 2] {
        let mut hasher = SipHasher24::new_with_keys(self.long.0, self.long.1);
        for value in values(limit, subject) {
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

/// A hash under way.
struct Sum<'a> {
    totals: [u128; 2],
    factors: std::slice::Iter<'a, [u128; 2]>,
}

impl Sum<'_> {
    /// Adds a word; `None` if there are too many.
    #[inline]
    fn add(&mut self, word: u64) -> Option<()> {
        let factors = self.factors.next()?;
        for (total, factor) in self.totals.iter_mut().zip(factors) {
            *total = total.wrapping_add(factor.wrapping_mul(u128::from(word)));
        }
        Some(())
    }

    /// Adds the lengths of the values and then the values; `None` if they have too many words.
    #[inline]
    fn add_key(&mut self, limit: &Limit, subject: &Subject<'_>) -> Option<()> {
        for pair in limit.per().attributes().chunks(2) {
            let lengths = pair.iter().map(|attribute| {
                let value = subject.get(attribute).unwrap_or_default();
                u32::try_from(value.len()).unwrap_or(u32::MAX)
            });
            self.add(lengths.fold(0, |word, length| word << 32 | u64::from(length)))?;
        }
        for value in values(limit, subject) {
            self.add_value(value.as_bytes())?;
        }
        Some(())
    }

    /// Adds a value whose length was added: its words, the last one overlapping the one before.
    #[inline]
    fn add_value(&mut self, value: &[u8]) -> Option<()> {
        if let Some(last) = value.last_chunk::<8>() {
            // The last word is added apart, so that no value is a copy of odd size.
            for chunk in value[..value.len() - 1].chunks_exact(8) {
                self.add(chunk.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk)))?;
            }
            return self.add(u64::from_le_bytes(*last));
        }
        if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
            let [first, last] = [first, last].map(|chunk| u64::from(u32::from_le_bytes(*chunk)));
            return self.add(first << 32 | last);
        }
        self.add(value.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }
}

#[inline]
fn values<'a>(limit: &'a Limit, subject: &'a Subject<'_>) -> impl Iterator<Item = &'a str> {
    let attributes = limit.per().attributes().iter();
    attributes.map(|attribute| subject.get(attribute).unwrap_or_default())
}

#[inline]
fn high_half(total: u128) -> u64 {
    (total >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate_core::Policy;

    proptest! {
        /// R8: values of every length around a word's and the bound of long keys, over a small alphabet.
        #[test]
        fn different_keys_have_different_digests(
            a in "[ab]{0,18}", b in "[ab]{0,3}", c in "[ab]{0,18}", d in "[ab]{0,3}", long in 0..3_usize,
        ) {
            let limit = Limit::of(&Policy::default_policy()).unwrap();
            let hasher = KeyHasher::new();
            let prefix = "x".repeat(long * 80);
            let digest = |user: &str, model: &str| {
                hasher.digest(&limit, &Subject::new(&format!("{prefix}{user}"), model))
            };
            prop_assert_eq!(digest(&a, &b) == digest(&c, &d), (&a, &b) == (&c, &d));
        }
    }

    #[test]
    fn the_digest_depends_on_the_policy_and_on_the_secret() {
        let digest_of = |hasher: &KeyHasher, id| {
            let policy = Policy { id, ..Policy::default_policy() };
            hasher.digest(&Limit::of(&policy).unwrap(), &Subject::new("u", "m"))
        };
        let id = |id| tollgate_core::PolicyId::new(id).unwrap();
        let (one, two) = (KeyHasher::new(), KeyHasher::new());
        assert_eq!(digest_of(&one, id("a")), digest_of(&one, id("a")));
        assert_ne!(digest_of(&one, id("a")), digest_of(&one, id("b")));
        assert_ne!(digest_of(&one, id("a")), digest_of(&two, id("a")));
    }
}
