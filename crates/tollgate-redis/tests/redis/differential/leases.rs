//! Leases over logs whose older part is in a hash, and over more slots than one call removes, against the reference model. The
//! conformance suite compares leases over short logs.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tollgate_core::reference::{Model, ModelLeaseState};
use tollgate_core::{
    Amount, Attribute, Charge, Check, Cost, Counting, LeaseUpdate, Limit, ManualClock, OnExpire,
    Per, Policy, PolicyId, Quality, Subject, Timestamp, Totals, Ttl, Unit, Window,
};
use tollgate_redis::RedisStore;
use tollgate_store::{Effect, LeaseId, LeaseRequest, LeaseState, Store};
use tollgate_testkit::property::for_all;

use super::constants::Crossed;
use crate::conformance::{SERVER_STORE, apart};
use crate::support::RUNTIME;

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);
const WINDOW: Duration = Duration::from_secs(10);
/// More than a string holds, so that the log has a hash.
const FILLED: u64 = 320;
/// The checks of one call.
const AT_ONCE: usize = 64;

#[derive(Clone, Debug)]
enum Step {
    /// Reserves so many tokens, for so many milliseconds.
    Reserve(u64, u64),
    /// Charges so many tokens.
    Check(u64),
    /// Updates a lease, counted from the newest.
    Update(usize, LeaseUpdate),
}

fn amount(amount: u64) -> Amount {
    Amount::new(amount).unwrap()
}

fn policies(on_expire: OnExpire) -> [Policy; 2] {
    let per = || Per::new(vec![Attribute::User]).unwrap();
    let new = |id, limit| {
        Policy::new(
            PolicyId::new(id).unwrap(),
            per(),
            Some(amount(limit)),
            Window::new(WINDOW).unwrap(),
        )
    };
    let tokens = Policy { unit: Unit::Tokens, on_expire, ..new("tokens", 2 * FILLED) };
    let slots =
        Policy { unit: Unit::Concurrency, counting: Counting::Concurrency, ..new("slots", 3) };
    [tokens, slots]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let totals = || (0..400_u64).prop_map(|total| Totals::none().with(Unit::Tokens, amount(total)));
    let seq = || (1..6_u64).prop_map(amount);
    let quality = prop_oneof![Just(Quality::Exact), Just(Quality::LowerBound)];
    let update = prop_oneof![
        3 => (seq(), totals(), quality)
            .prop_map(|(seq, usage, quality)| LeaseUpdate::Settle { seq, usage, quality }),
        2 => (seq(), totals(), totals()).prop_map(|(seq, observed, wanted)| {
            LeaseUpdate::Extend { seq, ttl: None, observed, wanted }
        }),
        1 => Just(LeaseUpdate::Release),
    ];
    let step = prop_oneof![
        2 => (0..90_u64, prop_oneof![Just(30_000), 100..9_000_u64])
            .prop_map(|(tokens, ttl_ms)| Step::Reserve(tokens, ttl_ms)),
        1 => (0..90_u64).prop_map(Step::Check),
        3 => (0..4_usize, update).prop_map(|(back, update)| Step::Update(back, update)),
    ];
    let pause = prop_oneof![3 => Just(0), 3 => 0..900_u64, 1 => 4_000..11_000_u64];
    vec((pause, step), 1..24)
}

/// A store and a model with the same log of [`FILLED`] admissions in the last seconds.
struct Run {
    store: RedisStore,
    clock: Arc<ManualClock>,
    model: Model,
    limits: Vec<Arc<Limit>>,
    now: Timestamp,
}

impl Run {
    fn new(on_expire: OnExpire) -> Self {
        let clock = Arc::new(ManualClock::default());
        let policies = policies(on_expire);
        let store = apart(&SERVER_STORE).with_test_clock(clock.clone()).with_hint(clock.clone());
        let limits = policies.iter().map(|policy| Arc::new(Limit::of(policy).unwrap())).collect();
        let model = Model::new(policies.to_vec()).in_ticks_of(Some(1_000));
        let mut run = Self { store, clock, model, limits, now: START };
        run.pause(0);
        let subject = Subject::new("alice", "m");
        for _ in 0..FILLED / AT_ONCE as u64 {
            let charge = [Charge { limit: &run.limits[0], subject: &subject, cost: Amount::ONE }];
            let checks = vec![&charge[..]; AT_ONCE];
            RUNTIME.block_on(run.store.charge_many_with_ids(&checks)).unwrap();
            for _ in 0..AT_ONCE {
                run.model.check(run.now, &check(1));
            }
            run.pause(500);
        }
        run
    }

    fn pause(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.clock.set(self.now);
    }

    fn charges<'a>(&'a self, subject: &'a Subject<'a>, tokens: u64) -> Vec<Charge<'a>> {
        let costs = [amount(tokens), Amount::ZERO];
        let limits = self.limits.iter().zip(costs);
        limits.map(|(limit, cost)| Charge { limit, subject, cost }).collect()
    }

    fn play(&mut self, steps: &[(u64, Step)]) -> TestCaseResult {
        let subject = Subject::new("alice", "m");
        let mut leases: Vec<(LeaseId, usize)> = Vec::new();
        for (after_ms, step) in steps {
            self.pause(*after_ms);
            match step {
                Step::Reserve(tokens, ttl_ms) => {
                    let ttl = Ttl::from_ms(*ttl_ms).unwrap();
                    let charges = self.charges(&subject, *tokens);
                    let request = LeaseRequest::new(&charges, ttl);
                    let reserved = RUNTIME.block_on(self.store.reserve(&request)).unwrap();
                    let (_, number) = self.model.reserve(self.now, &check(*tokens), ttl);
                    prop_assert_eq!(reserved.lease.is_some(), number.is_some(), "{:?}", step);
                    leases.extend(reserved.lease.map(|lease| lease.id).zip(number));
                }
                Step::Check(tokens) => {
                    let charges = self.charges(&subject, *tokens);
                    RUNTIME.block_on(self.store.charge(&charges, None)).unwrap();
                    self.model.check(self.now, &check(*tokens));
                }
                Step::Update(back, update) => {
                    let Some(index) = leases.len().checked_sub(back + 1) else { continue };
                    let (id, number) = &leases[index];
                    let state = RUNTIME.block_on(self.store.update_lease(id, update)).unwrap();
                    let modelled = self.model.update_lease(self.now, *number, update);
                    prop_assert_eq!(
                        state.as_ref().map(in_words),
                        modelled.as_ref().map(model_words),
                        "{:?} at {:?}",
                        step,
                        self.now
                    );
                }
            }
            let charges = self.charges(&subject, 1);
            let peeked = RUNTIME.block_on(self.store.peek(&charges)).unwrap().verdicts;
            let modelled = self.model.peek_uncharged(self.now, &check(1));
            for (verdict, charge) in peeked.iter().zip(&charges) {
                let id = charge.limit.policy_id();
                let limit = modelled.limits.iter().find(|one| one.policy_id == *id).unwrap();
                prop_assert_eq!(verdict.usage, limit.count, "{} after {:?}", id, step);
            }
        }
        Ok(())
    }
}

fn check(tokens: u64) -> Check<'static> {
    Check::new("alice", "m").at_cost(Cost::default().with(Unit::Tokens, amount(tokens)))
}

/// What can be compared, and each hold by its policy.
type Words = (bool, bool, Amount, bool, Vec<(String, u64, u64)>);

fn in_words(state: &LeaseState) -> Words {
    let hold =
        |hold: &tollgate_store::HoldState| (hold.policy_id.to_string(), hold.usage, hold.charged);
    let mut holds: Vec<_> = state.holds.iter().map(hold).collect();
    holds.sort();
    (state.effect == Effect::Changed, state.is_live(), state.seq, state.proceed, holds)
}

fn model_words(state: &ModelLeaseState) -> Words {
    let mut holds: Vec<_> = state
        .holds
        .iter()
        .map(|hold| (hold.policy_id.to_string(), hold.usage, hold.charged))
        .collect();
    holds.sort();
    (state.counted, state.is_live, state.seq, state.proceed, holds)
}

/// Settlements, extensions, releases and leases that expire in a log with a hash.
#[test]
fn leases_over_long_logs_agree_with_the_model() {
    let on_expire = proptest::sample::select(vec![OnExpire::Keep, OnExpire::Refund]);
    let courses = (steps(), on_expire);
    for_all("leases_over_long_logs_agree_with_the_model", &courses, |(steps, on_expire)| {
        Run::new(on_expire).play(&steps)
    });
}

/// More slots expire than one call removes: the usage is exact nevertheless.
pub(super) fn crossed_by_slots() -> Crossed {
    let mut crossed = Crossed::default();
    let clock = Arc::new(ManualClock::default());
    let store = apart(&SERVER_STORE).with_test_clock(clock.clone()).with_hint(clock.clone());
    let [_, slots] = policies(OnExpire::Keep);
    let limit = Arc::new(Limit::of(&slots).unwrap().with_amount(amount(100)));
    let subject = Subject::new("alice", "m");
    let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    let mut now = START;
    let ttl = Ttl::from_ms(1_000).unwrap();
    for many in [30, 100, 90, 64, 1] {
        clock.set(now);
        for taken in 0..many {
            let reserved =
                RUNTIME.block_on(store.reserve(&LeaseRequest::new(&charge, ttl))).unwrap();
            assert!(reserved.lease.is_some());
            assert_eq!(reserved.verdicts[0].usage, taken + 1, "of {many}");
        }
        crossed.note("MOST_FREED", many);
        now = now.after(Duration::from_secs(1));
    }
    crossed
}
