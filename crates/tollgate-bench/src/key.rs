//! Keys of 16 bytes, built in place, so that drawing one causes no cache miss.

use std::str;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// The bytes of a key that are the user, for contenders with a user and a model; the other bytes are the model.
const USER_BYTES: usize = 12;

/// A reused buffer that holds one key at a time.
#[derive(Debug)]
pub struct Key {
    text: String,
}

impl Key {
    /// The key numbered `index`.
    pub fn new(index: u64) -> Self {
        let mut key = Self { text: String::with_capacity(KEY_BYTES) };
        key.set(index);
        key
    }

    /// Changes this key to the one numbered `index`. Different numbers give different keys.
    #[inline]
    pub fn set(&mut self, index: u64) {
        let hex = hex(mixed(index));
        self.text.clear();
        // Hexadecimal digits are UTF-8: the other branch is never taken.
        self.text.push_str(str::from_utf8(&hex).unwrap_or_default());
    }

    /// The whole key, for contenders that borrow a `String`.
    #[inline]
    pub fn as_string(&self) -> &String {
        &self.text
    }

    /// The key as a user and a model.
    #[inline]
    pub fn user_and_model(&self) -> (&str, &str) {
        self.text.split_at(USER_BYTES)
    }
}

/// A bijection of the 64-bit numbers (the finalizer of `SplitMix64`), so that keys look like random ids.
#[inline]
const fn mixed(index: u64) -> u64 {
    let z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two hexadecimal digits for each byte.
const DIGITS: [[u8; 2]; 256] = {
    let nibbles = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < digits.len() {
        digits[byte] = [nibbles[byte >> 4], nibbles[byte & 15]];
        byte += 1;
    }
    digits
};

#[inline]
fn hex(value: u64) -> [u8; KEY_BYTES] {
    let mut text = [0; KEY_BYTES];
    for (two, byte) in text.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        two.copy_from_slice(&DIGITS[usize::from(byte)]);
    }
    text
}

/// Draws random key numbers: `xorshift64*`, about two nanoseconds a number. The same seed gives the same numbers.
#[derive(Debug)]
pub struct Draw {
    state: u64,
    count: u64,
}

impl Draw {
    /// Draws from `0..count`.
    pub fn new(seed: u64, count: u64) -> Self {
        Self { state: mixed(seed) | 1, count }
    }

    /// The next number.
    #[inline]
    pub fn next_index(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(random) * u128::from(self.count)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_distinct_and_16_bytes() {
        let mut key = Key::new(0);
        let keys: HashSet<String> = (0..10_000)
            .map(|index| {
                key.set(index);
                key.as_string().clone()
            })
            .collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == KEY_BYTES));
        let (user, model) = key.user_and_model();
        assert_eq!(format!("{user}{model}"), *key.as_string());
    }

    #[test]
    fn a_draw_stays_in_range_and_reaches_everything() {
        let mut draw = Draw::new(7, 100);
        let drawn: HashSet<u64> = (0..10_000).map(|_| draw.next_index()).collect();
        assert_eq!(drawn.len(), 100);
        assert!(drawn.iter().all(|index| *index < 100));
    }
}
