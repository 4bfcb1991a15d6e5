//! Estimates, for each policy, which keys use most and are denied most, however many keys there are.
//!
//! The Space-Saving algorithm (Metwally, Agrawal and El Abbadi, 2005) keeps the counts of [`MAX_KEYS`] keys. A new key
//! replaces the one with the smallest count and takes over its count. So a key with more than 1/[`MAX_KEYS`] of the
//! total is always included.

use std::collections::HashMap;
use std::time::Duration;

use tollgate_core::{Attribute, Decision, LimitStatus, OverLimit, PolicyId, Subject, Timestamp};

use crate::rate_limit::Verb;

/// How many keys of a policy are counted, by usage and by denials each.
const MAX_KEYS: usize = 128;
/// How many policies have their keys counted: those that are met first.
const MAX_POLICIES: usize = 256;
/// After this time, counting starts again; the old counts are shown for the same time again.
const GENERATION: Duration = Duration::from_mins(5);

/// How top keys are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the number of checks that were charged: admitted, or recorded although they were denied (R19).
    Use,
    /// By the number of denials.
    Denials,
}

/// A key of a policy, and its numbers of admissions and denials, estimated from sampled decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCounts {
    /// Its attributes and their values.
    pub key: Vec<(Attribute, Box<str>)>,
    /// The number of admissions.
    pub admitted: u64,
    /// The number of denials by this limit.
    pub denied: u64,
}

type Key = Vec<(Attribute, Box<str>)>;

/// The counts of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    admitted: u64,
    denied: u64,
    /// The checks that it was charged: those admitted, and those recorded although they were denied (R19).
    charged: u64,
    /// The count of the key that it replaced.
    inherited: u64,
}

impl Counts {
    fn rank(&self, by: By) -> u64 {
        self.inherited
            + match by {
                By::Use => self.charged,
                By::Denials => self.denied,
            }
    }
}

#[derive(Debug)]
struct Sketch {
    by: By,
    counts: HashMap<Key, Counts>,
}

impl Sketch {
    fn new(by: By) -> Self {
        Self { by, counts: HashMap::new() }
    }

    /// Counts a decision about `key`. A key that is not in the sketch is only added by what the sketch ranks by.
    fn record(&mut self, key: &Key, mut new: Counts) {
        if let Some(counts) = self.counts.get_mut(key) {
            counts.admitted += new.admitted;
            counts.denied += new.denied;
            counts.charged += new.charged;
            return;
        }
        if new.rank(self.by) == 0 {
            return;
        }
        if self.counts.len() >= MAX_KEYS {
            let by = self.by;
            let least = self.counts.iter().min_by_key(|(_, counts)| counts.rank(by));
            let Some((key, rank)) = least.map(|(key, counts)| (key.clone(), counts.rank(by)))
            else {
                return;
            };
            self.counts.remove(&key);
            new.inherited = rank;
        }
        self.counts.insert(key.clone(), new);
    }
}

/// The sketches of a policy.
#[derive(Debug)]
struct OfPolicy([Sketch; 2]);

impl OfPolicy {
    fn new() -> Self {
        Self([Sketch::new(By::Use), Sketch::new(By::Denials)])
    }

    /// The keys of the sketch that is ranked `by`. The other number counts only since the key was added; the other
    /// sketch may have counted it for longer.
    fn keys(&self, by: By) -> impl Iterator<Item = (&Key, Counts)> {
        let [by_use, by_denials] = &self.0;
        let (sketch, other) = match by {
            By::Use => (by_use, by_denials),
            By::Denials => (by_denials, by_use),
        };
        sketch.counts.iter().map(move |(key, counts)| {
            let (mut counts, more) = (*counts, other.counts.get(key).copied().unwrap_or_default());
            match by {
                By::Use => counts.denied = counts.denied.max(more.denied),
                By::Denials => counts.admitted = counts.admitted.max(more.admitted),
            }
            (key, counts)
        })
    }
}

type Generation = HashMap<PolicyId, OfPolicy>;

/// The top keys of all policies.
#[derive(Debug)]
pub(super) struct TopKeys {
    current: Generation,
    current_since: Timestamp,
    previous: Generation,
    previous_since: Timestamp,
}

impl TopKeys {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            current: HashMap::new(),
            current_since: now,
            previous: HashMap::new(),
            previous_since: now,
        }
    }

    /// Counts a decision that represents `weight` decisions on such a call. O([`MAX_KEYS`]) for each limit.
    pub(super) fn record(
        &mut self,
        now: Timestamp,
        subject: &Subject<'_>,
        decision: &Decision,
        (weight, verb): (u64, Verb),
    ) {
        self.turn(now);
        for status in decision.limits() {
            let weight_if = |holds: bool| if holds { weight } else { 0 };
            let is_admitted = status.allowed && decision.allowed();
            // A reservation that is denied is recorded nowhere.
            let is_recorded =
                verb == Verb::Charge && status.limit.over_limit() == OverLimit::Charge;
            let counts = Counts {
                admitted: weight_if(is_admitted),
                denied: weight_if(!status.allowed),
                charged: weight_if(is_admitted || is_recorded),
                inherited: 0,
            };
            // Another limit denied, so nothing was charged here.
            if counts.charged == 0 && counts.denied == 0 {
                continue;
            }
            let policy = status.limit.policy_id();
            if !self.current.contains_key(policy) && self.current.len() >= MAX_POLICIES {
                continue;
            }
            let of_policy = self.current.entry(policy.clone()).or_insert_with(OfPolicy::new);
            let key = key(status, subject);
            for sketch in &mut of_policy.0 {
                sketch.record(&key, counts);
            }
        }
    }

    /// The keys of `policy`, ranked `by`, greatest first, and the time since which they were counted.
    pub(super) fn top(
        &mut self,
        now: Timestamp,
        policy: &PolicyId,
        by: By,
        most: usize,
    ) -> (Timestamp, Vec<KeyCounts>) {
        self.turn(now);
        let mut sums: HashMap<&Key, Counts> = HashMap::new();
        let generations = [&self.previous, &self.current].into_iter();
        let counted = generations.filter_map(|generation| Some(generation.get(policy)?.keys(by)));
        for (key, counts) in counted.flatten() {
            let sum = sums.entry(key).or_default();
            sum.admitted += counts.admitted;
            sum.denied += counts.denied;
            sum.charged += counts.charged;
            sum.inherited += counts.inherited;
        }
        let mut ranked: Vec<_> = sums.into_iter().collect();
        ranked.sort_by(|(a_key, a), (b_key, b)| b.rank(by).cmp(&a.rank(by)).then(a_key.cmp(b_key)));
        ranked.truncate(most);
        let counted = ranked.into_iter().map(|(key, counts)| KeyCounts {
            key: key.clone(),
            admitted: counts.admitted,
            denied: counts.denied,
        });
        (self.previous_since, counted.collect())
    }

    /// Starts a new generation when the current one is over.
    fn turn(&mut self, now: Timestamp) {
        if now >= self.current_since.after(GENERATION) {
            self.previous = std::mem::take(&mut self.current);
            self.previous_since = self.current_since;
            self.current_since = now;
        }
    }
}

/// The key of `subject` under the limit of `status`.
fn key(status: &LimitStatus, subject: &Subject<'_>) -> Key {
    let parts = status.limit.key_parts(subject);
    parts.map(|(attribute, value)| (attribute.clone(), value.as_ref().into())).collect()
}

#[cfg(test)]
mod tests {
    use tollgate_core::{Amount, Check, Per, Policy, PolicySet, Window};
    use tollgate_store::MemoryStore;

    use super::*;

    struct Counted {
        set: PolicySet,
        store: MemoryStore,
        top: TopKeys,
    }

    impl Counted {
        fn new(limit: u64) -> Self {
            Self::of(limit, OverLimit::Deny)
        }

        fn of(limit: u64, over_limit: OverLimit) -> Self {
            let window = Window::new(Duration::from_hours(1)).unwrap();
            let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("USER").unwrap());
            let policy = Policy::new(id, per, Amount::new(limit), window);
            let set = PolicySet::new(vec![Policy { over_limit, ..policy }]);
            let top = TopKeys::new(Timestamp::from_ms(0));
            Self { set: set.unwrap(), store: MemoryStore::new(), top }
        }

        fn check(&mut self, at_ms: u64, user: &str, weight: u64) {
            let check = Check::new(user, "m");
            let charges = self.set.plan(&check);
            let decision = Decision::assemble(&charges, &self.store.charge(&charges));
            let counted = (weight, Verb::Charge);
            self.top.record(Timestamp::from_ms(at_ms), &check.subject, &decision, counted);
        }

        fn top(&mut self, at_ms: u64, by: By) -> (u64, Vec<(String, u64, u64)>) {
            let policy = PolicyId::new("p").unwrap();
            let (since, top) = self.top.top(Timestamp::from_ms(at_ms), &policy, by, 3);
            let top =
                top.into_iter().map(|one| (one.key[0].1.to_string(), one.admitted, one.denied));
            (since.as_ns() / 1_000_000, top.collect())
        }
    }

    fn counted(user: &str, admitted: u64, denied: u64) -> (String, u64, u64) {
        (user.to_owned(), admitted, denied)
    }

    #[test]
    fn keys_are_ranked_by_what_is_asked_for() {
        let mut counted_keys = Counted::new(2);
        for (user, times) in [("a", 1), ("b", 6), ("c", 4)] {
            (0..times).for_each(|_| counted_keys.check(1, user, 10));
        }
        let by_use = [counted("b", 20, 40), counted("c", 20, 20), counted("a", 10, 0)];
        assert_eq!(counted_keys.top(2, By::Use), (0, by_use.to_vec()));
        let by_denials = [counted("b", 20, 40), counted("c", 20, 20)];
        assert_eq!(counted_keys.top(2, By::Denials), (0, by_denials.to_vec()));
    }

    #[test]
    fn what_is_recorded_of_denied_checks_counts_as_use() {
        let mut counted_keys = Counted::of(0, OverLimit::Charge);
        for (user, times) in [("a", 1), ("b", 2)] {
            (0..times).for_each(|_| counted_keys.check(1, user, 10));
        }
        let keys = [counted("b", 0, 20), counted("a", 0, 10)];
        assert_eq!(counted_keys.top(2, By::Use), (0, keys.to_vec()));
        assert_eq!(counted_keys.top(2, By::Denials), (0, keys.to_vec()));
    }

    #[test]
    fn a_frequent_key_is_found_among_any_number_of_others() {
        let mut counted_keys = Counted::new(1_000_000);
        for round in 0..20_000 {
            counted_keys.check(1, &format!("seldom-{round}"), 1);
            if round % 50 == 0 {
                counted_keys.check(1, "often", 1);
            }
        }
        let (_, top) = counted_keys.top(2, By::Use);
        assert!(top.iter().any(|(user, admitted, _)| user == "often" && *admitted > 1), "{top:?}");
        let held = &counted_keys.top.current[&PolicyId::new("p").unwrap()];
        assert_eq!(held.keys(By::Use).count(), MAX_KEYS);
        assert_eq!(held.keys(By::Denials).count(), 0);
    }

    #[test]
    fn counts_are_told_for_two_generations() {
        let mut counted_keys = Counted::new(100);
        let ms = u64::try_from(GENERATION.as_millis()).unwrap();
        counted_keys.check(1, "a", 1);
        counted_keys.check(ms, "a", 1);
        assert_eq!(counted_keys.top(ms + 1, By::Use), (0, vec![counted("a", 2, 0)]));
        assert_eq!(counted_keys.top(2 * ms, By::Use), (ms, vec![counted("a", 1, 0)]));
        assert_eq!(counted_keys.top(3 * ms, By::Use), (2 * ms, Vec::new()));
    }
}
