//! The cost in Redis of leases, compared with an admission that nobody settles.

use std::sync::Arc;

use tollgate_core::{
    Amount, Attribute, Charge, Counting, LeaseUpdate, Limit, Per, Policy, PolicyId, Quality,
    Subject, Totals, Ttl, Unit, Window,
};
use tollgate_store::{LeaseRequest, Store};

use super::{Bench, Plan, WINDOW};
use crate::report::{Bound, Goal, Measurements};
use crate::stopwatch::to_f64;

/// How many leases of each kind are measured.
const LEASES: u64 = 2_000;
/// The tokens that a lease reserves, and those that it uses.
const RESERVED: u64 = 40;
const USED: u64 = 25;

const ADMISSION: &str = "Redis µs an admission of 40 tokens, one at a time";
const LEASE: &str = "Redis µs to reserve and settle";
const SETTLE: &str = "Redis µs to settle";
const RATIO: &str = "reserve and settle over an admission";

const ONE: &str = "one limit";
const FOUR: &str = "four limits, one of concurrency";
const SHORT: &str = "one limit, 100 in the log";
const LONG: &str = "one limit, 100,000 in the log";

/// The goals for leases.
pub(super) fn goals() -> Vec<Goal> {
    let goal = |question, contender, bound| Goal { question, contender, bound };
    vec![
        goal(RATIO, ONE, Bound::AtMost(2.5)),
        goal(RATIO, FOUR, Bound::AtMost(6.0)),
        goal(SETTLE, LONG, Bound::AtMostRatio { ratio: 2.0, of: SHORT }),
    ]
}

impl Bench {
    pub(super) fn leases(&mut self, plan: &Plan, into: &mut Measurements) -> Result<(), String> {
        let (one, four) = (limits(&["tokens"])?, limits(&["tokens", "day", "week", "slots"])?);
        self.reset()?;
        self.admit_tokens(&one[0], 100 * plan.keys.min(20), plan.keys.min(20))?;
        self.forget_times()?;
        self.admit_tokens(&one[0], LEASES, plan.keys.min(20))?;
        let admission = self.client.script_us()? / to_f64(LEASES);
        into.add(ADMISSION, ONE, admission);
        for (limits, contender) in [(&one, ONE), (&four, FOUR)] {
            self.reset()?;
            let (reserve, settle) = self.lease_all(limits, plan.keys.min(20))?;
            into.add(LEASE, contender, reserve + settle);
            into.add(SETTLE, contender, settle);
            into.add(RATIO, contender, (reserve + settle) / admission);
        }
        for (length, contender) in [(100.min(plan.longest), SHORT), (plan.longest, LONG)] {
            self.reset()?;
            self.admit_tokens(&one[0], length, 1)?;
            let (_, settle) = self.lease_all(&one, 1)?;
            into.add(SETTLE, contender, settle);
        }
        Ok(())
    }

    fn forget_times(&mut self) -> Result<(), String> {
        self.client.ask(&[b"CONFIG", b"RESETSTAT"]).map(drop)
    }

    fn admit_tokens(&self, limit: &Arc<Limit>, number: u64, keys: u64) -> Result<(), String> {
        for turn in 0..number {
            let user = (turn % keys).to_string();
            let subject = Subject::new(&user, "model");
            let charge = Charge { limit, subject: &subject, cost: tokens(RESERVED) };
            let charged = self.runtime.block_on(self.store.charge(&[charge], None));
            charged.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Reserves and settles leases, one after the other; Redis's time for each of both.
    fn lease_all(&mut self, limits: &[Arc<Limit>], keys: u64) -> Result<(f64, f64), String> {
        self.forget_times()?;
        let mut ids = Vec::new();
        for turn in 0..LEASES {
            let user = (turn % keys).to_string();
            let subject = Subject::new(&user, "model");
            let charge = |limit| Charge { limit, subject: &subject, cost: tokens(RESERVED) };
            let charges: Vec<_> = limits.iter().map(charge).collect();
            let reserved =
                self.runtime.block_on(self.store.reserve(&LeaseRequest::new(&charges, Ttl::MAX)));
            let reserved = reserved.map_err(|error| error.to_string())?;
            ids.push(reserved.lease.ok_or("a lease was denied")?.id);
        }
        let reserve = self.client.script_us()? / to_f64(LEASES);
        self.forget_times()?;
        for id in &ids {
            let usage = Totals::none().with(Unit::Tokens, tokens(USED));
            let quality = Quality::Exact;
            let update = LeaseUpdate::Settle { seq: Amount::ONE, usage, quality };
            let settled = self.runtime.block_on(self.store.update_lease(id, &update));
            settled.map_err(|error| error.to_string())?.ok_or("a lease is not known")?;
        }
        // The script reads the lease once more, which takes as long as the first time.
        let read = self.client.us_of_one("get")?;
        Ok((reserve, self.client.script_us()? / to_f64(LEASES) + read))
    }
}

/// Limits of each user, in one slot. That of slots has the name `slots`.
fn limits(names: &[&str]) -> Result<Vec<Arc<Limit>>, String> {
    let limit = |name: &&str| {
        let per = Per::new(vec![Attribute::User])?;
        let window = Window::new(WINDOW)?;
        let policy = Policy::new(PolicyId::new(name).ok()?, per, Some(Amount::MAX), window);
        let policy = match *name {
            "slots" => {
                let (unit, counting) = (Unit::Concurrency, Counting::Concurrency);
                Policy { unit, counting, ..policy }
            }
            _ => Policy { unit: Unit::Tokens, ..policy },
        };
        Limit::of(&policy).map(Arc::new)
    };
    names.iter().map(|name| limit(name).ok_or(format!("no limit {name}"))).collect()
}

fn tokens(amount: u64) -> Amount {
    Amount::new(amount).unwrap_or(Amount::MAX)
}
