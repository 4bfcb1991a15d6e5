//! Values that expire, by key, and at most so many.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tollgate::Timestamp;

/// How many expired keys a new key removes: more than one, so that they become fewer while keys come and go.
const REMOVED_AT_ONCE: usize = 2;

/// At the cap, a new key evicts the one that expires first.
#[derive(Debug)]
pub(super) struct Expiring<V> {
    values: HashMap<Arc<str>, Value<V>>,
    by_end: BTreeSet<(Timestamp, Arc<str>)>,
    max_keys: usize,
}

#[derive(Debug)]
pub(super) struct Value<V> {
    pub(super) end: Timestamp,
    pub(super) value: V,
}

impl<V> Expiring<V> {
    pub(super) fn new(max_keys: usize) -> Self {
        Self { values: HashMap::new(), by_end: BTreeSet::new(), max_keys }
    }

    /// The value of `key`, unless it has expired.
    pub(super) fn get(&self, key: &str, now: Timestamp) -> Option<&Value<V>> {
        self.values.get(key).filter(|found| found.end > now)
    }

    /// [`Expiring::get`], to change the value in place.
    pub(super) fn get_mut(&mut self, key: &str, now: Timestamp) -> Option<&mut V> {
        let found = self.values.get_mut(key).filter(|found| found.end > now);
        found.map(|found| &mut found.value)
    }

    /// Sets `key` to a value that expires at `end`.
    pub(super) fn set(&mut self, key: &str, end: Timestamp, value: V, now: Timestamp) {
        if let Some(found) = self.values.get_mut(key).filter(|found| found.end == end) {
            found.value = value;
            return;
        }
        self.remove(key);
        for _ in 0..REMOVED_AT_ONCE {
            self.remove_first(|end| end <= now);
        }
        if self.values.len() >= self.max_keys {
            self.remove_first(|_| true);
        }
        let key = Arc::<str>::from(key);
        self.by_end.insert((end, Arc::clone(&key)));
        self.values.insert(key, Value { end, value });
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some((key, found)) = self.values.remove_entry(key) {
            self.by_end.remove(&(found.end, key));
        }
    }

    /// How many have not expired. O(n).
    pub(super) fn len(&self, now: Timestamp) -> usize {
        self.values.values().filter(|found| found.end > now).count()
    }

    /// Removes the key that expires first if its end is `wanted`.
    fn remove_first(&mut self, wanted: impl Fn(Timestamp) -> bool) {
        if self.by_end.first().is_some_and(|(end, _)| wanted(*end))
            && let Some((_, key)) = self.by_end.pop_first()
        {
            self.values.remove(&key);
        }
    }
}
