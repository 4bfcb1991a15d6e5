//! Who uses most of a policy's limits, and who is denied most.

use tollgate_core::{Amount, Charge, Decision, LimitStatus, PolicyId, Subject, Timestamp};
use tollgate_store::Store;

use crate::RateLimitService;
use crate::watch::{By, KeyCounts};

/// The keys whose usage is asked for to find those that use most now.
const MAX_ASKED: usize = 128;

/// A key of a policy's limit.
#[derive(Clone, Debug)]
pub struct TopKey {
    /// The key, and how often it was admitted and denied on this node.
    pub counts: KeyCounts,
    /// Its usage now, exactly; `None` if the store does not answer.
    pub status: Option<LimitStatus>,
}

impl<S: Store> RateLimitService<S> {
    /// At most `most` keys of `policy`, those with the greatest usage now or the most denials first, and since when this
    /// node has counted; `None` if no policy in force has this id and a limit.
    ///
    /// Which keys come into question is known from the decisions that this node made and sampled lately; the usage of each is
    /// asked from the store.
    pub async fn top_keys(
        &self,
        policy: &PolicyId,
        by: By,
        most: usize,
    ) -> Option<(Timestamp, Vec<TopKey>)> {
        let snapshot = self.policies().snapshot();
        let limit = snapshot.policies().limits().find(|limit| limit.policy_id() == policy)?;
        let watch = self.watch()?;
        let asked = if by == By::Use { MAX_ASKED } else { most };
        let (since, counts) = watch.top(policy, by, asked);
        let mut keys = Vec::with_capacity(counts.len());
        let mut answers = true;
        for counts in counts {
            let mut subject = Subject::empty();
            for (attribute, value) in &counts.key {
                subject.set(attribute, value);
            }
            let charge = [Charge { limit, subject: &subject, cost: Amount::ZERO }];
            // A store that has failed once is not waited for again and again.
            let answer = if answers { self.store().peek(&charge).await.ok() } else { None };
            let answer = answer.filter(|answer| !answer.degraded);
            answers = answer.is_some();
            let decision = answer.map(|answer| Decision::assemble(&charge, &answer.verdicts));
            let status = decision.and_then(|decision| decision.limits().first().cloned());
            // What was counted before `per` of the policy changed is no key of its limit now.
            if charge[0].key_values().count() == limit.per().attributes().len() {
                keys.push(TopKey { counts, status });
            }
        }
        if by == By::Use && answers {
            keys.sort_by_key(|key| {
                std::cmp::Reverse(key.status.as_ref().map(|status| status.count))
            });
        }
        keys.truncate(most);
        Some((since, keys))
    }
}
