//! Short keys: a keyed hash instead of the strings of a key.
//!
//! The hash is MULTILINEAR (Lemire and Kaser, "Strongly universal string hashing is fast", The Computer Journal 57(11),
//! 2014) over words of 56 bits with 128-bit secrets: the upper 73 bits of `m₀ + Σ mᵢ·wᵢ mod 2^128` are strongly
//! universal. If two keys are chosen without knowing the secret, they share all 73 bits with a probability of 2^−73. A
//! fingerprint of 64 bits and the choice among 2^9 shards need 73 bits; longer words would leave fewer, and a second
//! sum would double the work. All products are independent, so the hash takes a small part of the time of `SipHash`. No
//! digest leaves the store, so nobody can learn the secret from one.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip128::{Hasher128, SipHasher24};
use tollgate_core::{Attribute, Limit, Subject};

/// Represents a key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// Kept in the slot; never 0, which marks an empty slot.
    pub(super) fingerprint: u64,
    /// [`SHARD_BITS`] bits that choose the shard; independent of the fingerprint.
    pub(super) shard_bits: u64,
}

/// The bits of a digest besides its fingerprint.
pub(super) const SHARD_BITS: u32 = 9;
/// The bits of a word: what the bits of a digest leave of 128 (Theorem 1 of the paper: the upper K − w + 1 bits
/// are strongly universal).
const WORD_BITS: u32 = u128::BITS + 1 - u64::BITS - SHARD_BITS;
const WORD_BYTES: usize = 7;
const _: () = assert!(WORD_BITS as usize == 8 * WORD_BYTES);
const WORD_MASK: u64 = (1 << WORD_BITS) - 1;

/// The most words of a key that is hashed directly: one for the lengths, the others for values.
pub(super) const MAX_WORDS: usize = 32;

/// The longest value of such a key, in bytes: the length of a value is stored in one byte.
const MAX_VALUE_BYTES: usize = u8::MAX as usize;
/// The most values of such a key: their lengths share a word with a 1.
const MAX_VALUES: usize = WORD_BYTES - 1;

/// The word of the lengths for a key that is too long for [`MAX_WORDS`]: no other key has it.
const LONG_KEY: u64 = 0;

/// Hashes keys with a secret of this store.
///
/// Among n keys the probability that any two share usage is at most n²·2^−(65 + the bits that choose a shard): 1 in 180
/// million for 10 million keys in 512 shards (R8).
#[derive(Debug)]
pub(super) struct KeyHasher {
    start: u128,
    /// A factor for each word.
    factors: [u128; MAX_WORDS],
    long: (u64, u64),
}

impl KeyHasher {
    /// A hasher with a random secret.
    pub(super) fn new() -> Self {
        // RandomState is how the standard library gives access to the system's randomness; its hashes of 0, 1, 2… are
        // those of a pseudo-random function.
        let random = RandomState::new();
        let mut words = (0_u64..).map(|index| random.hash_one(index));
        let mut word = || words.next().unwrap_or_default();
        let mut wide = || u128::from(word()) << 64 | u128::from(word());
        Self {
            start: wide(),
            factors: std::array::from_fn(|_| wide()),
            long: (random.hash_one("long keys, first"), random.hash_one("long keys, second")),
        }
    }

    /// What the digests of a key depend on, for a snapshot.
    #[cfg(feature = "snapshots")]
    pub(super) fn secrets(&self) -> (u128, &[u128; MAX_WORDS], (u64, u64)) {
        (self.start, &self.factors, self.long)
    }

    /// The hasher with the [secrets](KeyHasher::secrets) of another.
    #[cfg(feature = "snapshots")]
    pub(super) fn with_secrets(start: u128, factors: &[u128; MAX_WORDS], long: (u64, u64)) -> Self {
        Self { start, factors: *factors, long }
    }

    /// The digest of the key of `subject` under `limit`.
    ///
    /// The hashed data is injective: the policy, the lengths of the values of [`Limit::key_parts`], the values.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a call costs a twentieth of a check")]
    pub(super) fn digest(&self, limit: &Limit, subject: &Subject<'_>) -> Digest {
        // The tag is already a hash, so it needs no product. Equal words under two policies differ by the difference of
        // the tags, which is as good as random; different words differ by their products.
        let start = self.start.wrapping_add(limit.policy_tag());
        let total = self.sum_of_usual(start, limit, subject);
        let total = total.unwrap_or_else(|| self.sum_of_any(start, limit, subject));
        let fingerprint = high_half(total).max(1);
        Digest { fingerprint, shard_bits: low_half(total) >> (u64::BITS - SHARD_BITS) }
    }

    /// Adds the words of a key to `start`, if the key is short and has the usual attributes.
    ///
    /// It is separate from [`KeyHasher::sum_of_any`], so that the processor does not have to read the limit to know
    /// where the values are, nor the lengths to know which factors to use.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `digest`")]
    fn sum_of_usual(&self, start: u128, limit: &Limit, subject: &Subject<'_>) -> Option<u128> {
        if limit.per().attributes() != [Attribute::User, Attribute::Model] {
            return None;
        }
        if subject.user_tenant().is_some() {
            return None;
        }
        let user = subject.get(&Attribute::User)?;
        let model = subject.get(&Attribute::Model)?;
        let [first, second] = short_value(user.as_bytes())?;
        let [third, fourth] = short_value(model.as_bytes())?;
        let lengths = with_length(with_length(NO_LENGTHS, user), model);
        Some(self.add(start, [lengths, first, second, third, fourth]))
    }

    /// Adds the words of any key to `start`; a key with too many words is replaced by its `SipHash`.
    #[inline(never)]
    fn sum_of_any(&self, start: u128, limit: &Limit, subject: &Subject<'_>) -> u128 {
        let sum = self.sum_of_words(start, limit, subject);
        sum.unwrap_or_else(|| self.sum_of_long(start, limit, subject))
    }

    /// Adds the words of a key to `start`; `None` if there are too many.
    fn sum_of_words(&self, start: u128, limit: &Limit, subject: &Subject<'_>) -> Option<u128> {
        // A user's tenant may be added.
        if limit.per().attributes().len() >= MAX_VALUES {
            return None;
        }
        let [_, factors @ ..] = &self.factors;
        let mut sum = Sum { total: start, factors: factors.iter() };
        let mut lengths = NO_LENGTHS;
        for value in values(limit, subject) {
            lengths = with_length(lengths, &value);
            sum.add_value(value.as_bytes())?;
        }
        Some(self.add(sum.total, [lengths]))
    }

    /// Adds the first words of a key.
    ///
    /// A loop, not a `fold`: the compiler does not always inline the latter, and then writes the words to memory first.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `digest`")]
    fn add<const WORDS: usize>(&self, start: u128, words: [u64; WORDS]) -> u128 {
        const { assert!(WORDS <= MAX_WORDS) }
        let mut sum = start;
        for (word, factor) in words.iter().zip(&self.factors) {
            // A branch costs less than a product.
            if *word != 0 {
                sum = sum.wrapping_add(factor.wrapping_mul(u128::from(*word)));
            }
        }
        sum
    }

    /// Adds 128 bits that represent a long key to `start`: its `SipHash`, which takes any length.
    #[cold]
    fn sum_of_long(&self, start: u128, limit: &Limit, subject: &Subject<'_>) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.long.0, self.long.1);
        for value in values(limit, subject) {
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
        let hash = hasher.finish128();
        let [first, last] = [hash.h1, hash.h2];
        let rest = first >> WORD_BITS << (u64::BITS - WORD_BITS) | last >> WORD_BITS;
        let words = [LONG_KEY, first & WORD_MASK, last & WORD_MASK, rest];
        self.add(start, words)
    }
}

/// A hash in progress.
struct Sum<'a> {
    total: u128,
    /// The factors of the remaining words.
    factors: std::slice::Iter<'a, u128>,
}

impl Sum<'_> {
    /// Adds a word, of which only the lower [`WORD_BITS`] may be set; `None` if there are too many.
    fn add(&mut self, word: u64) -> Option<()> {
        let factor = self.factors.next()?;
        self.total = self.total.wrapping_add(factor.wrapping_mul(u128::from(word)));
        Some(())
    }

    /// Adds the words of a value; `None` if it is too long.
    fn add_value(&mut self, value: &[u8]) -> Option<()> {
        if let Some([first, second]) = short_value(value) {
            self.add(first)?;
            return self.add(second);
        }
        if value.len() > MAX_VALUE_BYTES {
            return None;
        }
        let mut rest = value;
        while let Some(chunk) = rest.first_chunk::<8>() {
            self.add(word(*chunk))?;
            rest = &rest[WORD_BYTES..];
        }
        self.add(last_word(*value.last_chunk()?))
    }
}

/// The words of a value of at most two words; the second is 0 if one is enough. Together with the length they are
/// injective.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as `digest`")]
fn short_value(value: &[u8]) -> Option<[u64; 2]> {
    if let (Some(first), Some(last)) = (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        // The second overlaps the first.
        return (value.len() <= 2 * WORD_BYTES).then(|| [word(*first), last_word(*last)]);
    }
    if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
        // Three bytes of the first four and all of the last four cover every byte of up to seven.
        let [first, last] = [first, last].map(|chunk| u64::from(u32::from_le_bytes(*chunk)));
        return Some([last << 24 | first & 0xff_ffff, 0]);
    }
    Some([value.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0])
}

/// The lengths of no values: a 1, whose position gives the number of lengths.
const NO_LENGTHS: u64 = 1;

#[inline]
fn with_length(lengths: u64, value: &str) -> u64 {
    lengths << u8::BITS | value.len() as u64
}

/// The last word of a value that ends with this chunk.
#[inline]
fn last_word(chunk: [u8; 8]) -> u64 {
    u64::from_le_bytes(chunk) >> (u64::BITS - WORD_BITS)
}

/// The word at the beginning of a chunk.
#[inline]
fn word(chunk: [u8; 8]) -> u64 {
    u64::from_le_bytes(chunk) & WORD_MASK
}

#[inline]
fn values<'a>(limit: &'a Limit, subject: &'a Subject<'_>) -> impl Iterator<Item = Cow<'a, str>> {
    limit.key_parts(subject).map(|(_, value)| value)
}

#[inline]
fn high_half(total: u128) -> u64 {
    (total >> 64) as u64
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low_half(total: u128) -> u64 {
    total as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate_core::{Per, Policy};

    proptest! {
        /// R8: values of every length around that of a word and around the bound of long keys, over a small alphabet.
        #[test]
        fn different_keys_have_different_digests(
            a in "[ab]{0,23}", b in "[ab]{0,9}", c in "[ab]{0,23}", d in "[ab]{0,9}", long in 0..5_usize,
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

    /// The limit of the default policy with these attributes.
    fn limit_per(names: &[&str]) -> Limit {
        let attributes = names.iter().map(|name| Attribute::parse(name).unwrap()).collect();
        let per = Per::new(attributes).unwrap();
        Limit::of(&Policy { per, ..Policy::default_policy() }).unwrap()
    }

    proptest! {
        #[test]
        fn the_usual_key_has_the_digest_of_any_other(user in "[ab]{0,16}", model in "[ab]{0,16}") {
            let (limit, hasher) = (limit_per(&["user", "model"]), KeyHasher::new());
            let subject = Subject::new(&user, &model);
            if let Some(sum) = hasher.sum_of_usual(hasher.start, &limit, &subject) {
                prop_assert_eq!(sum, hasher.sum_of_any(hasher.start, &limit, &subject));
            } else {
                prop_assert!(user.len().max(model.len()) > 2 * WORD_BYTES);
            }
        }

        /// Up to six values are hashed directly, more are shortened; a missing value is empty.
        #[test]
        fn keys_of_any_number_of_values_differ(
            count in 1..=Per::MAX_ATTRIBUTES,
            one in prop::collection::vec("[ab]{0,2}", 8), two in prop::collection::vec("[ab]{0,2}", 8),
        ) {
            let names = ["tenant", "user", "apiKey", "model", "service", "ip", "tier", "region"];
            let (limit, hasher) = (limit_per(&names[..count]), KeyHasher::new());
            let digest = |values: &[String]| {
                let mut subject = Subject::empty();
                for (name, value) in names.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
                    subject.set_named(name, value);
                }
                hasher.digest(&limit, &subject)
            };
            prop_assert_eq!(digest(&one) == digest(&two), one[..count] == two[..count]);
        }
    }

    #[test]
    fn every_byte_of_a_key_counts_and_so_does_whose_it_is() {
        let (limit, hasher) = (limit_per(&["user", "model"]), KeyHasher::new());
        let digest = |user: &str, model: &str| hasher.digest(&limit, &Subject::new(user, model));
        for length in 0..=MAX_VALUE_BYTES + 2 {
            let text = "a".repeat(length);
            let whole = digest(&text, "m");
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "b");
                assert_ne!(digest(&other, "m"), whole, "{length} bytes, number {place}");
                let (user, model) = text.split_at(place);
                assert_ne!(
                    digest(user, model),
                    digest(&text, ""),
                    "{length} bytes, {place} of the user"
                );
            }
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
