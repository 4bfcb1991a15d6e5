//! Adds up the decisions of a replay. O(policies + denied keys) of memory, O(limits met) for each check.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use tollgate_core::{
    Attribute, Charge, Decision, Limit, LimitStatus, Mode, Plan, PolicySet, Reason, Timestamp,
};

/// The values of a key, by the names of their attributes.
pub(crate) type Key = Vec<(String, String)>;

/// The highest usage of a policy's limits.
pub(crate) struct Peak {
    pub(crate) count: u64,
    pub(crate) key: Key,
    pub(crate) at: Timestamp,
}

/// The results of one policy.
pub(crate) struct PolicyTally<'p> {
    pub(crate) limit: &'p Limit,
    /// The checks to which it applied.
    pub(crate) checks: u64,
    /// Those that were admitted.
    pub(crate) admitted: u64,
    /// Those to which it said no: denied, or, in shadow mode, reported.
    pub(crate) refused: u64,
    /// The denials with this policy as headline (R5).
    pub(crate) headline_denials: u64,
    /// The time at which its highest usage was first reached; `None` without any usage.
    pub(crate) peak: Option<Peak>,
}

/// The key with the most denials.
pub(crate) struct MostDenied<'p> {
    pub(crate) limit: &'p Limit,
    pub(crate) key: Key,
    pub(crate) denied: u64,
}

/// The sums of a replay.
pub(crate) struct Tally<'p> {
    pub(crate) checks: u64,
    pub(crate) admitted: u64,
    /// Denials by the name of their reason.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    pub(crate) policies: Vec<PolicyTally<'p>>,
    index_by_policy: HashMap<&'p str, usize>,
    /// Denials by the headline's policy and key, in the encoding of [`encode_key`].
    denials: HashMap<Box<[u8]>, u64>,
    key: Vec<u8>,
}

impl<'p> Tally<'p> {
    pub(crate) fn new(policies: &'p PolicySet) -> Self {
        let policies: Vec<_> = policies.limits().map(|limit| PolicyTally::new(limit)).collect();
        let ids = policies.iter().map(|policy| policy.limit.policy_id().as_str());
        Self {
            checks: 0,
            admitted: 0,
            reasons: Reason::OF_LIMITS.iter().map(|reason| (reason.name(), 0)).collect(),
            index_by_policy: ids.zip(0..).collect(),
            policies,
            denials: HashMap::new(),
            key: Vec::new(),
        }
    }

    /// Adds `decision`, taken at `now` over `plan`.
    pub(crate) fn add(&mut self, now: Timestamp, plan: &Plan<'_>, decision: &Decision) {
        self.checks += 1;
        self.admitted += u64::from(decision.allowed());
        let headline = decision.headline().filter(|_| !decision.allowed());
        for (charge, status) in plan.iter().zip(decision.limits()) {
            let Some(&index) = self.index_by_policy.get(charge.limit.policy_id().as_str()) else {
                continue;
            };
            self.policies[index].add(now, charge, status, decision.allowed());
            if headline.is_some_and(|headline| std::ptr::eq(headline, status)) {
                self.policies[index].headline_denials += 1;
                self.count_denial(index, charge);
            }
        }
        if let Some(reason) = decision.reason() {
            *self.reasons.entry(reason.name()).or_default() += 1;
        }
    }

    fn count_denial(&mut self, index: usize, charge: &Charge<'_>) {
        encode_key(&mut self.key, index, charge);
        if let Some(denied) = self.denials.get_mut(self.key.as_slice()) {
            *denied += 1;
        } else {
            self.denials.insert(self.key.as_slice().into(), 1);
        }
    }

    /// The key with the most denials. If several have as many, it is one of the first policy, and of these the smallest
    /// key.
    pub(crate) fn most_denied(&self) -> Option<MostDenied<'p>> {
        let most = self.denials.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        most.map(|(key, &denied)| {
            let (index, values) = decode_key(key);
            let limit = self.policies[index].limit;
            MostDenied { limit, key: named(limit, values), denied }
        })
    }
}

impl<'p> PolicyTally<'p> {
    fn new(limit: &'p Limit) -> Self {
        Self { limit, checks: 0, admitted: 0, refused: 0, headline_denials: 0, peak: None }
    }

    fn add(&mut self, now: Timestamp, charge: &Charge<'_>, status: &LimitStatus, allowed: bool) {
        self.checks += 1;
        self.admitted += u64::from(allowed);
        self.refused += u64::from(!status.allowed);
        if status.count > self.peak.as_ref().map_or(0, |peak| peak.count) {
            let key = named(self.limit, charge.key_values().map(Cow::into_owned));
            self.peak = Some(Peak { count: status.count, key, at: now });
        }
    }

    /// The checks that it denied.
    pub(crate) fn denied(&self) -> u64 {
        if self.limit.mode() == Mode::Enforce { self.refused } else { 0 }
    }

    /// The checks that it would have denied if it were enforced.
    pub(crate) fn would_deny(&self) -> u64 {
        if self.limit.mode() == Mode::Shadow { self.refused } else { 0 }
    }
}

fn named(limit: &Limit, values: impl Iterator<Item = String>) -> Key {
    limit
        .per()
        .attributes()
        .iter()
        .map(|attribute| attribute.name().to_owned())
        // A user's key may end with its tenant.
        .chain(std::iter::once(Attribute::Tenant.name().to_owned()))
        .zip(values)
        .collect()
}

/// Writes the policy's index and the key's values, each with its length, so that no two keys have the same encoding
/// (R8).
fn encode_key(bytes: &mut Vec<u8>, index: usize, charge: &Charge<'_>) {
    bytes.clear();
    bytes.extend((index as u64).to_be_bytes());
    for value in charge.key_values() {
        bytes.extend((value.len() as u64).to_be_bytes());
        bytes.extend(value.as_bytes());
    }
}

fn decode_key(bytes: &[u8]) -> (usize, impl Iterator<Item = String>) {
    let mut rest = bytes;
    let index = take_number(&mut rest).unwrap_or_default();
    let values = std::iter::from_fn(move || {
        let len = take_number(&mut rest)?;
        let (value, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(String::from_utf8_lossy(value).into_owned())
    });
    (index, values)
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u64::from_be_bytes(*number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tollgate_core::{Amount, Attribute, Per, Policy, PolicyId, Subject, Window};

    /// R8: whatever the values contain, a key can be decoded again.
    #[test]
    fn a_key_reads_back_whatever_its_values_hold() {
        let per = Per::new(vec![Attribute::User, Attribute::Model]).unwrap();
        let window = Window::new(Window::MIN).unwrap();
        let policy = Policy::new(PolicyId::new("p").unwrap(), per, Some(Amount::ONE), window);
        let limit = Arc::new(Limit::of(&policy).unwrap());
        let mut written = std::collections::HashSet::new();
        for (user, model) in [("a", "bc"), ("ab", "c"), ("a:b", "{c}"), ("a\u{0}b", "用户")] {
            let subject = Subject::new(user, model);
            let mut bytes = Vec::new();
            encode_key(
                &mut bytes,
                7,
                &Charge { limit: &limit, subject: &subject, cost: Amount::ONE },
            );
            let (index, values) = decode_key(&bytes);
            assert_eq!((index, values.collect::<Vec<_>>()), (7, vec![user.into(), model.into()]));
            assert!(written.insert(bytes));
        }
    }
}
