//! Compares decisions of the fast code with those of the reference model.

use tollgate_core::reference::{ModelDecision, ModelLimit};
use tollgate_core::{Decision, LimitStatus};

/// Converts `decision` to the model's type, so that the two can be compared with `==` and printed side by side.
pub fn in_model_words(decision: &Decision) -> ModelDecision {
    ModelDecision {
        allowed: decision.allowed(),
        reason: decision.reason(),
        headline: decision.headline().map(|limit| limit.limit.policy_id().clone()),
        retry_after_ms: decision.retry_after_ms(),
        limits: decision.limits().iter().map(limit_in_model_words).collect(),
    }
}

fn limit_in_model_words(status: &LimitStatus) -> ModelLimit {
    ModelLimit {
        policy_id: status.limit.policy_id().clone(),
        allowed: status.allowed,
        count: status.count,
        remaining: status.remaining,
        retry_after_ms: status.retry_after_ms,
        reset_after_ms: status.reset_after_ms,
    }
}
