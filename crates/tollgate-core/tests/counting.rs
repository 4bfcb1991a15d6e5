//! The ways of counting against the reference model: a store in its plainest form, which keeps what core records.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};
use tollgate_core::counting::log::{LogState, LogTime};
use tollgate_core::counting::slots::{self, Slots};
use tollgate_core::counting::{Verdict, bucket, calendar, counter};
use tollgate_core::reference::Model;
use tollgate_core::{Charge, Check, Counting, Decision, PolicySet, Timestamp};
use tollgate_testkit::compare::in_model_words;
use tollgate_testkit::generate::{Script, Step, script};

/// The usage of one key.
#[derive(Clone, Debug)]
enum Usage {
    Log(LogState),
    Counter(counter::Counter),
    Bucket(bucket::Bucket),
    Calendar(calendar::PeriodCount),
}

/// The usage of each policy and key.
#[derive(Debug, Default)]
struct PlainStore(HashMap<(String, Vec<String>), Usage>);

fn key_of(charge: &Charge<'_>) -> (String, Vec<String>) {
    let policy = charge.limit.policy_id().as_str().to_owned();
    (policy, charge.key_values().map(Cow::into_owned).collect())
}

/// There are no leases here.
struct NoSlots;

impl Slots for NoSlots {
    fn held(&self) -> u64 {
        0
    }

    fn expire_at(&self, _: u64) -> Timestamp {
        Timestamp::default()
    }
}

impl PlainStore {
    /// What the limit of `charge` says, and what it says and keeps once the cost is charged.
    fn decide(&self, now: Timestamp, charge: &Charge<'_>) -> (Verdict, Option<(Verdict, Usage)>) {
        let (limit, kept) = (charge.limit, self.0.get(&key_of(charge)));
        match limit.counting() {
            Counting::Concurrency => (slots::evaluate(&NoSlots, limit.amount(), now), None),
            Counting::Log { window } => {
                let mut log = match kept {
                    Some(Usage::Log(log)) => log.clone(),
                    _ => LogState::default(),
                };
                let time = LogTime::new(window, now);
                let before = log.decide(limit.amount(), &time, charge.cost, false).0;
                let (after, admission) = log.decide(limit.amount(), &time, charge.cost, true);
                (before, admission.map(|_| (after, Usage::Log(log))))
            }
            Counting::Counter { window } => {
                let kept = match kept {
                    Some(Usage::Counter(counter)) => *counter,
                    _ => counter::Counter::default(),
                };
                let kept = kept.at(window, now);
                let (before, charged) =
                    counter::decide(kept, limit.amount(), window, now, charge.cost);
                (before, charged.map(|(after, counter)| (after, Usage::Counter(counter))))
            }
            Counting::Bucket { window, refill } => {
                let rate = bucket::Rate { refill, window };
                let kept = match kept {
                    Some(Usage::Bucket(bucket)) => *bucket,
                    _ => bucket::Bucket::default(),
                };
                let kept = kept.at(rate, now);
                let (before, charged) =
                    bucket::decide(kept, limit.amount(), rate, now, charge.cost);
                (before, charged.map(|(after, bucket)| (after, Usage::Bucket(bucket))))
            }
            Counting::Calendar { calendar, zone } => {
                let period = calendar.period(zone, now);
                let kept = match kept {
                    Some(Usage::Calendar(count)) => *count,
                    _ => calendar::PeriodCount::default(),
                };
                let kept = kept.in_period(period);
                let (before, charged) =
                    calendar::decide(kept, limit.amount(), period, now, charge.cost);
                (before, charged.map(|(after, count)| (after, Usage::Calendar(count))))
            }
        }
    }

    /// Records what is denied (R19), as if the limit was the most that may be recorded; the verdict after that.
    fn record_denied(&mut self, now: Timestamp, charge: &Charge<'_>, before: Verdict) -> Verdict {
        let most = Arc::new(charge.limit.with_amount(charge.limit.most_recorded()));
        let (_, charged) = self.decide(now, &Charge { limit: &most, ..*charge });
        let Some((_, usage)) = charged else { return before };
        self.0.insert(key_of(charge), usage);
        Verdict { allowed: before.allowed, ..self.decide(now, charge).0 }
    }

    /// All limits are charged, or none (R3), except what is recorded of a denied check.
    fn check(
        &mut self,
        set: &PolicySet,
        now: Timestamp,
        check: &Check<'_>,
        charges: bool,
    ) -> Decision {
        let plan = set.plan(check);
        let decided: Vec<_> = plan.iter().map(|charge| self.decide(now, charge)).collect();
        let before: Vec<_> = decided.iter().map(|(verdict, _)| *verdict).collect();
        let decision = Decision::assemble(&plan, &before);
        if !charges {
            return decision;
        }
        let mut after = Vec::new();
        for (charge, (before, charged)) in plan.iter().zip(decided) {
            after.push(match charged {
                Some((verdict, usage)) if decision.allowed() => {
                    self.0.insert(key_of(charge), usage);
                    verdict
                }
                _ if charge.is_recorded_if_denied() => self.record_denied(now, charge, before),
                _ => before,
            });
        }
        Decision::assemble(&plan, &after)
    }
}

fn agrees(script: &Script) -> TestCaseResult {
    let mut policies = script.policies.clone();
    let mut set =
        PolicySet::new(policies.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let (mut store, mut model) = (PlainStore::default(), Model::new(policies.clone()));
    let (mut now, mut last) = (script.start, None);
    for step in &script.steps {
        match step {
            Step::Ask(moved, asked) => {
                now = script.moment_after(now, *moved, false);
                let check = asked.as_check();
                let peeked = store.check(&set, now, &check, false);
                prop_assert_eq!(in_model_words(&peeked), model.peek_uncharged(now, &check));
                let decided = store.check(&set, now, &check, true);
                prop_assert_eq!(in_model_words(&decided), model.check(now, &check));
                prop_assert!(!decided.degraded());
                last = Some(asked);
            }
            // P12: the check is denied until the wait is over.
            Step::AskAgain => {
                let Some(check) = last.map(|asked| asked.as_check()) else { continue };
                let denied = store.check(&set, now, &check, false);
                let (false, Some(wait_ms)) = (denied.allowed(), denied.retry_after_ms()) else {
                    continue;
                };
                let early = now.after(Duration::from_millis(wait_ms - 1));
                prop_assert!(!store.check(&set, early, &check, false).allowed());
                let due = now.after(Duration::from_millis(wait_ms));
                prop_assert!(store.check(&set, due, &check, false).allowed());
            }
            Step::Forget => {
                let Some(check) = last.map(|asked| asked.as_check()) else { continue };
                for charge in set.plan(&check) {
                    store.0.remove(&key_of(&charge));
                    model.reset(charge.limit.policy_id(), &check.subject);
                }
            }
            Step::Limits(amounts) => {
                for (policy, amount) in policies.iter_mut().zip(amounts) {
                    policy.limit = policy.limit.map(|_| *amount);
                }
                model.replace_policies(policies.clone());
                set = PolicySet::new(policies.clone())
                    .map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/counting.txt"))),
        ..ProptestConfig::default()
    })]

    /// R1-R6, R8, R10, R19: everything that a decision says, over random policies, checks and courses of time.
    #[test]
    fn decisions_over_what_core_records_are_those_of_the_model(script in script()) {
        agrees(&script)?;
    }
}
