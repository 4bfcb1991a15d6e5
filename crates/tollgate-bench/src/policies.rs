//! What do a thousand policies with prefixes and address blocks cost a check, compared with a thousand exact ones?
//!
//! Both sets have half their policies on models and half on addresses, and every check meets exactly one policy of each
//! half. Prefixes and blocks are nested two deep, as in `openai/*`, `openai/gpt-4*`. Checks are decided by the
//! library in memory: finding the policies, and charging the limits.

use std::hint::black_box;
use std::time::Duration;

use tollgate::PolicyLimiter;
use tollgate_core::{
    Accepted, Amount, Attribute, Check, Condition, Pattern, Per, Policy, PolicyId, PolicySet,
    Subject, Window,
};

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::ns_in_median_slice;

const QUESTION: &str = "a check that meets two limits";
const FINDING: &str = "finding these two limits";
const EXACT: &str = "exact values";
const PATTERNS: &str = "prefixes and blocks";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds; the median of them counts.
    pub rounds: u32,
    /// The number of policies, a multiple of 20.
    pub policies: u32,
    /// Checks of a round.
    pub checks: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, policies: 1_000, checks: 1_000_000 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 2, policies: 20, checks: 100 }
    }
}

/// Measures both sets by `plan`.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let sets = [(EXACT, exact(plan.policies)), (PATTERNS, patterns(plan.policies))];
    let mut contenders = Vec::new();
    for (name, policies) in sets {
        let set = PolicySet::new(policies.ok_or("the policies are invalid")?);
        contenders.push((name, PolicyLimiter::new(set.map_err(|error| error.to_string())?)));
    }
    let subjects = subjects(plan.policies);
    let checks: Vec<Check<'_>> = subjects
        .iter()
        .map(|(model, ip)| Check::of(Subject::new("alice", model).with(&Attribute::Ip, ip)))
        .collect();
    for (name, limiter) in &contenders {
        let policies = limiter.policies();
        if let Some(check) = checks.iter().find(|check| policies.plan(check).len() != 2) {
            return Err(format!("{name}: {check:?} does not meet two limits"));
        }
    }
    let mut measured = Measurements::in_unit("ns");
    for _ in 0..plan.rounds {
        for (name, limiter) in &contenders {
            let policies = limiter.policies();
            let found = each(plan.checks, &checks, |check| policies.plan(check).len());
            measured.add(FINDING, name, found);
            let decided = each(plan.checks, &checks, |check| limiter.check(check).allowed());
            measured.add(QUESTION, name, decided);
        }
    }
    Ok(Section {
        title: format!("policies: nanoseconds a check, {} policies", plan.policies),
        measurements: measured,
        goals: vec![Goal {
            question: QUESTION,
            contender: PATTERNS,
            bound: Bound::AtMostRatio { ratio: 1.5, of: EXACT },
        }],
    })
}

/// The time that `decide` takes for each of `checks` in turn, in nanoseconds.
fn each<T>(times: u64, checks: &[Check<'_>], decide: impl Fn(&Check<'_>) -> T) -> f64 {
    // A step without a common divisor with the number of checks, so that neighbours do not follow each other.
    let mut order = checks.iter().cycle().step_by(7);
    ns_in_median_slice(times, |times| {
        for _ in 0..times {
            if let Some(check) = order.next() {
                black_box(decide(black_box(check)));
            }
        }
    })
}

/// A provider and a family of models, of the half of `count` policies that are on models.
fn families(count: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..count / 20).flat_map(|provider| (0..10).map(move |family| (provider, family)))
}

/// The models and addresses that are checked: one for each policy on models.
fn subjects(count: u32) -> Vec<(String, String)> {
    let subject = |(provider, family): (u32, u32)| {
        let model = format!("provider-{provider}/model-{family}-large");
        (model, format!("10.{provider}.{family}.7"))
    };
    families(count).map(subject).collect()
}

fn exact(count: u32) -> Option<Vec<Policy>> {
    let subjects = subjects(count);
    let conditions = subjects.iter().flat_map(|(model, ip)| {
        [Condition::one_of(Attribute::Model, &[model]), Condition::one_of(Attribute::Ip, &[ip])]
    });
    conditions.zip(0..).map(|(condition, number)| policy(number, condition)).collect()
}

fn patterns(count: u32) -> Option<Vec<Policy>> {
    let texts = families(count).flat_map(|(provider, family)| match family {
        0 => [
            (Attribute::Model, format!("provider-{provider}/*")),
            (Attribute::Ip, format!("10.{provider}.0.0/16")),
        ],
        _ => [
            (Attribute::Model, format!("provider-{provider}/model-{family}*")),
            (Attribute::Ip, format!("10.{provider}.{family}.0/24")),
        ],
    });
    let condition = |(attribute, text): (Attribute, String)| {
        let pattern = Pattern::parse(&attribute, &text).ok()?;
        Some(Condition { attribute, accepted: Accepted::AnyOf(vec![pattern]) })
    };
    texts.zip(0..).map(|(text, number)| policy(number, condition(text)?)).collect()
}

/// A policy that no check uses up, on what is counted for its attribute.
fn policy(number: u32, condition: Condition) -> Option<Policy> {
    let per = Per::new(vec![condition.attribute.clone()])?;
    let hour = Window::new(Duration::from_hours(1))?;
    let id = PolicyId::new(&format!("policy-{number}")).ok()?;
    let counter = tollgate_core::Counting::Counter { window: hour };
    let policy = Policy::new(id, per, Some(Amount::MAX), hour);
    Some(Policy { conditions: vec![condition], counting: counter, ..policy })
}
