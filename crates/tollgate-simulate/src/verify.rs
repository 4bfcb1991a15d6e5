//! Verifies every decision with the reference model.
//!
//! This module must use nothing of the first decision except its result.

use std::fmt;

use tollgate_core::reference::{Model, ModelDecision};
use tollgate_core::{Check, Decision, Policy, PolicyId, Reason, Timestamp};

use crate::trace::TraceCheck;

/// Recomputes decisions. The model keeps every admission that counts: O(keys + admissions) of memory.
pub(crate) struct Verifier {
    model: Model,
    /// The latest time of a line so far: like a machine's clock, the trace's time never steps back (R7).
    latest: Timestamp,
    index: u64,
}

impl Verifier {
    pub(crate) fn new(policies: &[Policy]) -> Self {
        Self { model: Model::new(policies.to_vec()), latest: Timestamp::default(), index: 0 }
    }

    /// Decides `check`, which the line `traced` became, and compares with `decision`. The line's time is clamped here again, so that the clamp of the
    /// replay is verified too; the model does not see the time of a check that meets no limit.
    pub(crate) fn verify(
        &mut self,
        traced: &TraceCheck,
        check: &Check<'_>,
        decision: &Decision,
    ) -> Result<(), Box<Difference>> {
        let index = self.index;
        self.index += 1;
        self.latest = self.latest.max(traced.at);
        let expected = self.model.check(self.latest, check);
        let (replayed, expected) =
            (ComparedDecision::of_replay(decision), ComparedDecision::of_model(&expected));
        if replayed == expected {
            return Ok(());
        }
        Err(Box::new(Difference {
            index,
            line: traced.line,
            check: shown_check(check),
            replayed: replayed.to_string(),
            expected: expected.to_string(),
        }))
    }
}

/// The first check on which the replay and the reference model differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The index of the check, from 0.
    pub index: u64,
    /// Its line in the trace, from 1.
    pub line: u64,
    /// The subject and the cost.
    pub check: String,
    /// The decision of the replay.
    pub replayed: String,
    /// The decision of the reference model.
    pub expected: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, line, check, replayed, expected } = self;
        writeln!(
            f,
            "check {index} ({check}, line {line} of the trace) differs from the reference model"
        )?;
        writeln!(f, "  replay: {replayed}")?;
        write!(f, "  model:  {expected}")
    }
}

/// The compared values.
#[derive(PartialEq, Eq)]
struct ComparedDecision<'a> {
    allowed: bool,
    policy_id: Option<&'a PolicyId>,
    reason: Option<Reason>,
    retry_after_ms: Option<u64>,
    limits: Vec<ComparedLimit<'a>>,
}

#[derive(PartialEq, Eq)]
struct ComparedLimit<'a> {
    policy_id: &'a PolicyId,
    allowed: bool,
    count: u64,
    remaining: u64,
    retry_after_ms: Option<u64>,
    reset_after_ms: u64,
}

impl<'a> ComparedDecision<'a> {
    fn of_replay(decision: &'a Decision) -> Self {
        let limits = decision.limits().iter().map(|status| ComparedLimit {
            policy_id: status.limit.policy_id(),
            allowed: status.allowed,
            count: status.count,
            remaining: status.remaining,
            retry_after_ms: status.retry_after_ms,
            reset_after_ms: status.reset_after_ms,
        });
        Self {
            allowed: decision.allowed(),
            policy_id: decision.headline().map(|headline| headline.limit.policy_id()),
            reason: decision.reason(),
            retry_after_ms: decision.retry_after_ms(),
            limits: limits.collect(),
        }
    }

    fn of_model(decision: &'a ModelDecision) -> Self {
        let limits = decision.limits.iter().map(|limit| ComparedLimit {
            policy_id: &limit.policy_id,
            allowed: limit.allowed,
            count: limit.count,
            remaining: limit.remaining,
            retry_after_ms: limit.retry_after_ms,
            reset_after_ms: limit.reset_after_ms,
        });
        Self {
            allowed: decision.allowed,
            policy_id: decision.headline.as_ref(),
            reason: decision.reason,
            retry_after_ms: decision.retry_after_ms,
            limits: limits.collect(),
        }
    }
}

impl fmt::Display for ComparedDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy_id = self.policy_id.map_or("null", PolicyId::as_str);
        let reason = self.reason.map_or("null", Reason::name);
        let retry_after_ms = shown_ms(self.retry_after_ms);
        let allowed = self.allowed;
        write!(
            f,
            "allowed={allowed} policyId={policy_id} reason={reason} retryAfterMs={retry_after_ms}"
        )?;
        for limit in &self.limits {
            let ComparedLimit {
                policy_id,
                allowed,
                count,
                remaining,
                retry_after_ms,
                reset_after_ms,
            } = limit;
            let retry_after_ms = shown_ms(*retry_after_ms);
            write!(
                f,
                " [{policy_id}: allowed={allowed} count={count} remaining={remaining} \
                 retryAfterMs={retry_after_ms} resetAfterMs={reset_after_ms}]"
            )?;
        }
        Ok(())
    }
}

fn shown_ms(ms: Option<u64>) -> String {
    ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string())
}

fn shown_check(check: &Check<'_>) -> String {
    let get = |attribute| check.subject.get(&attribute).unwrap_or("-");
    format!(
        "user={} model={}",
        get(tollgate_core::Attribute::User),
        get(tollgate_core::Attribute::Model)
    )
}

#[cfg(test)]
mod tests {
    use tollgate_core::PolicySet;

    use super::*;
    use crate::Replay;

    fn policies(limit: u64) -> PolicySet {
        let mut policy = Policy::default_policy();
        policy.limit = tollgate_core::Amount::new(limit);
        PolicySet::new(vec![policy]).unwrap()
    }

    #[test]
    fn the_first_check_that_differs_is_shown_with_both_answers() {
        let (replayed, modelled) = (policies(2), policies(1));
        let mut verifier = Verifier::new(modelled.policies());
        let mut replay = Replay::new(&replayed);
        let at = Timestamp::from_ms(1);
        replay.advance_to(at);
        let mut verify = |line| {
            let traced = TraceCheck { line, ..TraceCheck::at(at) };
            let check = Check::new("alice", "gpt-4");
            let (_, decision) = replay.decide(&check);
            verifier.verify(&traced, &check, &decision)
        };
        let difference = verify(2).unwrap_err();
        assert_eq!((difference.index, difference.line), (0, 2));
        let difference = verify(7).unwrap_err();
        let expected = "check 1 (user=alice model=gpt-4, line 7 of the trace) differs from the reference model\n  \
             replay: allowed=true policyId=default reason=null retryAfterMs=0 \
             [default: allowed=true count=2 remaining=0 retryAfterMs=0 resetAfterMs=3600000]\n  \
             model:  allowed=false policyId=default reason=limit_exceeded retryAfterMs=3600000 \
             [default: allowed=false count=1 remaining=0 retryAfterMs=3600000 resetAfterMs=3600000]";
        assert_eq!(difference.to_string(), expected);
        assert_eq!(crate::SimulateError::Difference(difference).exit_code(), 1);
    }
}
