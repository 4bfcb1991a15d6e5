//! What the fuzz target of script replies calls. Compiled only for it, with `--cfg fuzzing`: no part of what the crate offers.

use std::sync::Arc;

use tollgate_core::counting::Wait;
use tollgate_core::{Amount, Charge, Counting, Limit, Policy, Subject};

use crate::wire::{self, Answer};

/// Reads `reply` as the answer to a check that meets one or two limits, as the bits of `asked` say. A reply that is
/// accepted must hold a verdict on each, and one that allows must leave the limit kept.
pub fn reply(asked: u8, reply: &[u8]) {
    let subject = Subject::new("alice", "gpt-4");
    let limits: Vec<_> = (0..=asked & 1).filter_map(|index| limit(asked >> (1 + index))).collect();
    let charges: Vec<_> = limits
        .iter()
        .map(|limit| Charge { limit, subject: &subject, cost: cost(asked >> 4) })
        .collect();
    let Some(Answer::Said(said)) = wire::answer(reply, &charges) else { return };
    assert_eq!(said.len(), charges.len());
    for (said, charge) in said.iter().zip(&charges) {
        let (verdict, limit) = (said.before, charge.limit.amount().get());
        assert_eq!(verdict.allowed, verdict.wait == Wait::None, "{said:?}");
        let total = verdict.usage.checked_add(charge.cost.get());
        assert!(!verdict.allowed || total.is_some_and(|total| total <= limit), "{said:?}");
    }
}

fn limit(bits: u8) -> Option<Arc<Limit>> {
    let mut policy = Policy::default_policy();
    if bits & 1 == 1 {
        policy.counting = Counting::Counter { window: policy.counting.window() };
    }
    Limit::of(&policy).map(Arc::new)
}

fn cost(bits: u8) -> Amount {
    Amount::new(u64::from(bits & 3)).unwrap_or(Amount::ONE)
}
