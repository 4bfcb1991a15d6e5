//! `--leases`: what if each line reserved its output before the answer, and settled it after?
//!
//! The same trace is replayed with several reservations side by side, each with a store of its own: a fixed amount, the client's
//! own cap, and what was learned from the answers that had ended by then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tollgate_core::{
    Amount, Attribute, Check, Decision, LeaseUpdate, ManualClock, PolicySet, Quality, Timestamp,
    Totals, Ttl, Unit,
};
use tollgate_service::{Answers, LearnedUsage};
use tollgate_store::memory::MemoryStoreOptions;
use tollgate_store::{LeaseId, LeaseRequest, LeaseState, MemoryStore};

use crate::trace::TraceCheck;

/// What the reservations are, and how long answers take that do not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LeaseOptions {
    /// The fixed reservation of output tokens; also that of an answer without a cap, and until something was learned.
    pub(crate) reserve: Amount,
    /// The quantile of the answers within which a learned reservation stays, 0 to 1.
    pub(crate) quantile: f64,
    /// How fast answers without a duration are written, in tokens per second.
    pub(crate) tokens_per_second: u32,
}

/// How much output an answer reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    Fixed,
    Cap,
    Learned,
}

/// All reservations, side by side.
pub(crate) struct Leases<'p> {
    options: LeaseOptions,
    pub(crate) strategies: Vec<Strategy<'p>>,
    /// The output tokens of all lines.
    pub(crate) demand: u64,
    /// The lines that say how much output they had.
    pub(crate) lines: u64,
}

/// One of them, with its own store.
pub(crate) struct Strategy<'p> {
    pub(crate) reservation: Reservation,
    policies: &'p PolicySet,
    clock: ManualClock,
    store: MemoryStore<ManualClock>,
    learned: LearnedUsage,
    ending: BinaryHeap<Reverse<Ending>>,
    pub(crate) outcome: StrategyOutcome,
}

/// What became of the leases of one reservation.
#[derive(Clone, Debug, Default)]
pub(crate) struct StrategyOutcome {
    pub(crate) admitted: u64,
    pub(crate) denied: u64,
    /// Output tokens that were reserved, and those that the admitted answers used.
    pub(crate) reserved: u64,
    pub(crate) used: u64,
    /// The answers that stayed within their reservation.
    pub(crate) within: u64,
    /// The tokens used above reservations.
    pub(crate) over: u64,
    /// The highest usage above a limit, of which policy and when.
    pub(crate) worst_debt: Option<(u64, String, Timestamp)>,
}

/// A lease whose answer ends at `at`; `number` is the order of the reservations.
struct Ending {
    at: Timestamp,
    number: u64,
    lease: LeaseId,
    input: Amount,
    reserved: Amount,
    used: Amount,
    answers: Answers,
}

impl Ending {
    fn turn(&self) -> (Timestamp, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Ending {
    fn eq(&self, other: &Self) -> bool {
        self.turn() == other.turn()
    }
}

impl Eq for Ending {}

impl PartialOrd for Ending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.turn().cmp(&other.turn())
    }
}

impl<'p> Leases<'p> {
    /// No lease yet; the client's caps are only compared if the trace has them.
    pub(crate) fn new(policies: &'p PolicySet, options: LeaseOptions, has_caps: bool) -> Self {
        let all = [Reservation::Fixed, Reservation::Cap, Reservation::Learned].into_iter();
        let compared = all.filter(|one| *one != Reservation::Cap || has_caps);
        let strategies = compared.map(|reservation| Strategy::new(policies, reservation)).collect();
        Self { options, strategies, demand: 0, lines: 0 }
    }

    /// Reserves for `check`, which `traced` became, at `now`. A line that does not say how much output it had is left out.
    pub(crate) fn take(&mut self, now: Timestamp, traced: &TraceCheck, check: &Check<'_>) {
        let Some(used) = traced.output else { return };
        self.lines += 1;
        self.demand = self.demand.saturating_add(used.get());
        let writing_ms =
            used.get().saturating_mul(1_000) / u64::from(self.options.tokens_per_second);
        let lasts = traced.lasts.unwrap_or(Duration::from_millis(writing_ms));
        let ends = now.after(lasts.min(Ttl::MAX.as_duration()));
        for strategy in &mut self.strategies {
            strategy.advance_to(now);
            strategy.reserve(self.lines, ends, traced, check, used, &self.options);
        }
    }

    /// Settles what is left.
    pub(crate) fn finish(&mut self) {
        for strategy in &mut self.strategies {
            strategy.advance_to(Timestamp::from_ns(u64::MAX));
        }
    }
}

impl<'p> Strategy<'p> {
    fn new(policies: &'p PolicySet, reservation: Reservation) -> Self {
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        Self {
            reservation,
            policies,
            clock,
            store,
            learned: LearnedUsage::new(LearnedUsage::MAX_SKETCHES),
            ending: BinaryHeap::new(),
            outcome: StrategyOutcome::default(),
        }
    }

    /// Settles the leases whose answers have ended by `now`, each at its time.
    fn advance_to(&mut self, now: Timestamp) {
        while self.ending.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(ending)) = self.ending.pop() {
                self.clock.set(ending.at);
                self.settle(&ending);
            }
        }
        if now.as_ns() < u64::MAX {
            self.clock.set(now);
        }
    }

    fn reserve(
        &mut self,
        number: u64,
        ends: Timestamp,
        traced: &TraceCheck,
        check: &Check<'_>,
        used: Amount,
        options: &LeaseOptions,
    ) {
        let text = |attribute| check.subject.get(&attribute).map(str::to_owned);
        let answers = Answers { model: text(Attribute::Model), tenant: text(Attribute::Tenant) };
        let reserved = match self.reservation {
            Reservation::Fixed => options.reserve,
            Reservation::Cap => traced.cap.unwrap_or(options.reserve),
            Reservation::Learned => {
                let learned =
                    self.learned.quantile(&answers, &Unit::OutputTokens, options.quantile);
                learned.unwrap_or(options.reserve)
            }
        };
        let input = check.cost.of(&Unit::InputTokens);
        let cost = check
            .cost
            .clone()
            .with(Unit::OutputTokens, reserved)
            .with(Unit::Tokens, together(input, reserved));
        let check = check.clone().at_cost(cost);
        let plan = self.policies.plan(&check);
        let leased =
            self.store.reserve(&LeaseRequest::new(&plan, Ttl::MAX).named(check.request_id));
        if !Decision::assemble(&plan, &leased.verdicts).allowed() {
            self.outcome.denied += 1;
            return;
        }
        self.outcome.admitted += 1;
        self.outcome.reserved = self.outcome.reserved.saturating_add(reserved.get());
        let Some(lease) = leased.lease.map(|lease| lease.id) else { return };
        let ending = Ending { at: ends, number, lease, input, reserved, used, answers };
        self.ending.push(Reverse(ending));
    }

    fn settle(&mut self, ending: &Ending) {
        let Ending { input, used, .. } = *ending;
        let usage =
            Totals::none().with(Unit::OutputTokens, used).with(Unit::Tokens, together(input, used));
        let (seq, quality) = (Amount::ONE, Quality::Exact);
        let settlement = LeaseUpdate::Settle { seq, usage, quality };
        let state = self.store.update_lease(&ending.lease, &settlement);
        self.learned.observe(&ending.answers, &Unit::OutputTokens, used);
        let outcome = &mut self.outcome;
        outcome.used = outcome.used.saturating_add(used.get());
        outcome.within += u64::from(used <= ending.reserved);
        outcome.over += used.get().saturating_sub(ending.reserved.get());
        for hold in state.iter().flat_map(|state: &LeaseState| &state.holds) {
            let worst = outcome.worst_debt.as_ref().map_or(0, |(debt, _, _)| *debt);
            if hold.debt() > worst {
                outcome.worst_debt = Some((hold.debt(), hold.policy_id.to_string(), ending.at));
            }
        }
    }
}

/// Input and output tokens; at most the largest amount.
fn together(input: Amount, output: Amount) -> Amount {
    Amount::new(input.get() + output.get()).unwrap_or(Amount::MAX)
}
