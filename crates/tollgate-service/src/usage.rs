//! The keys of a policy with the most usage or the most denials.

use tollgate_core::{Amount, Charge, Decision, LimitStatus, PolicyId, Subject, Timestamp};
use tollgate_store::Store;

use crate::RateLimitService;
use crate::decision_feed::{By, KeyCounts};

/// How many keys are asked for their usage, to find those with the most usage now.
const MAX_ASKED: usize = 128;

/// A key of a policy's limit.
#[derive(Clone, Debug)]
pub struct TopKey {
    /// The key, and how often it was admitted and denied on this node.
    pub counts: KeyCounts,
    /// Its current, exact usage; `None` if the store does not answer.
    pub status: Option<LimitStatus>,
}

impl<S: Store> RateLimitService<S> {
    /// At most `most` keys of `policy`, those with the greatest usage now or the most denials first, and the time since
    /// which this node has counted; `None` if no policy in force has this id and a limit.
    ///
    /// The candidates come from the sampled recent decisions of this node; the store is asked for the usage of each.
    pub async fn top_keys(
        &self,
        policy: &PolicyId,
        by: By,
        most: usize,
    ) -> Option<(Timestamp, Vec<TopKey>)> {
        let snapshot = self.policies().snapshot();
        let limit = snapshot.policies().limits().find(|limit| limit.policy_id() == policy)?;
        let decision_feed = self.decision_feed()?;
        let asked = if by == By::Use { MAX_ASKED } else { most };
        let (since, counts) = decision_feed.top(policy, by, asked);
        let mut keys = Vec::with_capacity(counts.len());
        let mut answers = true;
        for counts in counts {
            let mut subject = Subject::empty();
            for (attribute, value) in &counts.key {
                subject.set(attribute, value);
            }
            let charge = [Charge { limit, subject: &subject, cost: Amount::ZERO }];
            // If the store has failed once, do not wait for it again.
            let answer = if answers { self.store().peek(&charge).await.ok() } else { None };
            let answer = answer.filter(|answer| !answer.degraded);
            answers = answer.is_some();
            let decision = answer.map(|answer| Decision::assemble(&charge, &answer.verdicts));
            let status = decision.and_then(|decision| decision.limits().first().cloned());
            // If `per` of the policy has changed, older keys no longer belong to its limit.
            if limit.per().attributes().iter().all(|one| subject.get(one).is_some()) {
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
