//! What do a reservation and its settlement cost in memory, compared with one check of the same limit?
//!
//! A thousand users reserve in turn; each limit is a log or a counter of tokens, and no limit ever denies. In the steady state a
//! log holds some tens of admissions. A lease is settled right after it was reserved: to what it reserved, to less, or to more.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{
    Amount, Attribute, Charge, Counting, LeaseUpdate, Limit, Per, Policy, PolicyId, Quality,
    Subject, Totals, Ttl, Unit, Window,
};
use tollgate_store::{LeaseRequest, MemoryStore};

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::ns_in_median_slice;

const LOG: &str = "one log";
const COUNTER: &str = "one counter";
const CHECK: &str = "a check";
const SETTLED: &str = "reserve, settle";
const LESS: &str = "reserve, settle less";
const MORE: &str = "reserve, settle more";

const RESERVED: u64 = 100;
const SETTLEMENTS: [(&str, u64); 3] = [(SETTLED, RESERVED), (LESS, 40), (MORE, 140)];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds; the median of them counts.
    pub rounds: u32,
    /// Leases and checks of a round.
    pub leases: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, leases: 1_000_000 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 2, leases: 100 }
    }
}

/// Measures by `plan`.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let users: Vec<String> = (0..1_000).map(|number| format!("user-{number:011}")).collect();
    let subjects: Vec<Subject<'_>> = users.iter().map(|user| Subject::new(user, "gpt-4")).collect();
    let cost = Amount::new(RESERVED).ok_or("the cost is no amount")?;
    let mut measured = Measurements::in_unit("ns");
    let limits = [(LOG, limit(true)), (COUNTER, limit(false))];
    let limits: Vec<_> = limits
        .into_iter()
        .map(|(name, limit)| Some((name, limit?, MemoryStore::new())))
        .collect::<Option<_>>()
        .ok_or("the limit is invalid")?;
    for _ in 0..plan.rounds {
        for (question, limit, store) in &limits {
            let mut subjects = subjects.iter().cycle();
            let mut charge = || Some(Charge { limit, subject: subjects.next()?, cost });
            let checked = ns_in_median_slice(plan.leases, |times| {
                for charge in (0..times).filter_map(|_| charge()) {
                    black_box(store.charge_one(black_box(&charge)));
                }
            });
            measured.add(question, CHECK, checked);
            for (contender, used) in SETTLEMENTS {
                let usage = Totals::none().with(Unit::Tokens, Amount::new(used).unwrap_or(cost));
                let (seq, quality) = (Amount::ONE, Quality::Exact);
                let settlement = LeaseUpdate::Settle { seq, usage, quality };
                let leased = ns_in_median_slice(plan.leases, |times| {
                    for charge in (0..times).filter_map(|_| charge()) {
                        let reserved =
                            store.reserve(&LeaseRequest::new(black_box(&[charge]), Ttl::DEFAULT));
                        let lease = reserved.lease.map(|lease| lease.id);
                        black_box(lease.and_then(|id| store.update_lease(&id, &settlement)));
                    }
                });
                measured.add(question, contender, leased);
            }
        }
    }
    let goals = [LOG, COUNTER].into_iter().flat_map(|question| {
        SETTLEMENTS.map(|(contender, _)| Goal {
            question,
            contender,
            bound: Bound::AtMostRatio { ratio: 3.0, of: CHECK },
        })
    });
    Ok(Section {
        title: "leases: nanoseconds in memory".to_owned(),
        measurements: measured,
        goals: goals.collect(),
    })
}

/// A limit of tokens that nothing uses up.
fn limit(is_log: bool) -> Option<Arc<Limit>> {
    let per = Per::new(vec![Attribute::User])?;
    let window = Window::new(Duration::from_millis(20))?;
    let policy = Policy::new(PolicyId::new("tokens").ok()?, per, Some(Amount::MAX), window);
    let counting = if is_log { policy.counting } else { Counting::Counter { window } };
    Limit::of(&Policy { unit: Unit::Tokens, counting, ..policy }).map(Arc::new)
}
