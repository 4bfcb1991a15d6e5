//! The entry point of the fuzz target for script replies. Compiled only with `--cfg fuzzing`; not part of the crate's
//! interface.

use std::sync::Arc;

use tollgate_core::counting::Wait;
use tollgate_core::{Amount, Charge, Counting, Limit, Policy, Subject};

use crate::wire::{self, ScriptReply};

/// Parses `reply` as the answer to a check that meets one or two limits, according to the bits of `asked`. An accepted
/// reply must have a verdict for each limit, and a verdict that allows must not exceed its limit.
pub fn reply(asked: u8, reply: &[u8]) {
    let subject = Subject::new("alice", "gpt-4");
    let limits: Vec<_> = (0..=asked & 1).filter_map(|index| limit(asked >> (1 + index))).collect();
    let charges: Vec<_> = limits
        .iter()
        .map(|limit| Charge { limit, subject: &subject, cost: cost(asked >> 4) })
        .collect();
    let Some(ScriptReply::LimitReply(said)) = wire::answer(reply, &charges) else { return };
    assert_eq!(said.len(), charges.len());
    // The first answer to a request id is about the limits of then.
    let is_new = reply.len() == wire::answer_bytes(charges.len());
    for (said, charge) in said.iter().zip(&charges) {
        let (verdict, limit) = (said.before, charge.limit.amount().get());
        assert_eq!(verdict.allowed, verdict.wait == Wait::None, "{said:?}");
        let total = verdict.usage.checked_add(charge.cost.get());
        assert!(
            !is_new || !verdict.allowed || total.is_some_and(|total| total <= limit),
            "{said:?}"
        );
    }
}

fn limit(bits: u8) -> Option<Arc<Limit>> {
    let mut policy = Policy::default_policy();
    if bits & 1 == 1 {
        if let Some(window) = policy.counting.window() {
            policy.counting = Counting::Counter { window };
        }
    }
    Limit::of(&policy).map(Arc::new)
}

fn cost(bits: u8) -> Amount {
    Amount::new(u64::from(bits & 3)).unwrap_or(Amount::ONE)
}
