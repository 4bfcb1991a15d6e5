//! Leases over time (R13–R16), against the reference model.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tollgate_core::reference::{Model, ModelHold, ModelLeaseState};
use tollgate_core::{Attribute, LeaseUpdate, OnExpire, Policy, Quality, Totals, Ttl, Unit};
use tollgate_store::{Effect, LeaseState, LeaseStatus, NewLease, Store};

use super::leases::{amount, check_of, leasing, settle, slots};
use super::{START, check_at, counted_by, policy};
use crate::compare::in_model_words;
use crate::generate::{tokens_by_kind, weights};
use crate::property::for_many;
use crate::{Limiter, MovableClock, Way};

const USER: &[Attribute] = &[Attribute::User];
const USERS: [&str; 2] = ["alice", "bob"];
const MOST: u64 = 12;
const WINDOW: Duration = Duration::from_secs(10);

/// What is done after some time.
#[derive(Clone, Debug)]
enum Step {
    /// Reserves so many requests and tokens for a user.
    Reserve(usize, [u64; 2], u64),
    /// Charges a check.
    Check(usize, [u64; 2]),
    /// Updates one of the leases, counted from the newest.
    Update(usize, LeaseUpdate),
}

fn totals() -> impl Strategy<Value = Totals> {
    let total = || proptest::option::of(0..MOST);
    (total(), total(), tokens_by_kind(MOST)).prop_map(|(requests, tokens, by_kind)| {
        let mut totals = Totals::none();
        for (unit, total) in by_kind {
            totals.set(unit, total);
        }
        for (unit, total) in [(Unit::Requests, requests), (Unit::Tokens, tokens)] {
            if let Some(total) = total {
                totals.set(unit, amount(total));
            }
        }
        totals
    })
}

fn update() -> impl Strategy<Value = LeaseUpdate> {
    let seq = || (1..6_u64).prop_map(amount);
    let ttl = proptest::option::of((100..12_000_u64).prop_map(|ms| Ttl::from_ms(ms).unwrap()));
    let quality = prop_oneof![Just(Quality::Exact), Just(Quality::LowerBound)];
    prop_oneof![
        3 => (seq(), totals(), quality)
            .prop_map(|(seq, usage, quality)| LeaseUpdate::Settle { seq, usage, quality }),
        3 => (seq(), ttl, totals(), totals()).prop_map(|(seq, ttl, observed, wanted)| {
            LeaseUpdate::Extend { seq, ttl, observed, wanted }
        }),
        1 => Just(LeaseUpdate::Release),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let two = || [0..MOST, 0..MOST];
    let step = prop_oneof![
        2 => (0..USERS.len(), two(), 100..12_000_u64)
            .prop_map(|(user, costs, ttl)| Step::Reserve(user, costs, ttl)),
        1 => (0..USERS.len(), two()).prop_map(|(user, costs)| Step::Check(user, costs)),
        3 => (0..5_usize, update()).prop_map(|(back, update)| Step::Update(back, update)),
    ];
    // Often at one moment, often about a window later, rarely so late that leases are forgotten.
    let pause = prop_oneof![
        6 => Just(0),
        6 => 0..4_000_u64,
        3 => 8_000..24_000_u64,
        1 => 55_000..85_000_u64,
    ];
    vec((pause, step), 1..30)
}

/// R13–R16, P7, P16: every answer, and all usage after every step.
pub fn leases_agree_with_the_model<H: MovableClock>() {
    let way = proptest::sample::select(Way::ALL.to_vec());
    let on_expire = || proptest::sample::select(vec![OnExpire::Keep, OnExpire::Refund]);
    let courses = (steps(), way, [on_expire(), on_expire()], weights());
    for_many(
        "leases_agree_with_the_model",
        H::LEASE_COURSES,
        &courses,
        |(steps, way, of, weights)| {
            let Some(harness) = leasing::<H>() else { return Ok(()) };
            let of = if harness.store().capabilities().refunds_expired {
                of
            } else {
                <[_; 2]>::default()
            };
            let tokens = Policy { unit: Unit::Tokens, weights, ..policy("all", &[], 15, WINDOW) };
            let policies = [policy("user", USER, 10, WINDOW), tokens];
            let policies = policies.map(|policy| counted_by(way, policy)).into_iter().zip(of);
            let mut policies: Vec<_> =
                policies.map(|(policy, on_expire)| Policy { on_expire, ..policy }).collect();
            policies.push(slots("slots", USER, 2));
            agrees(&harness, &policies, &steps)
        },
    );
}

fn agrees<H: MovableClock>(
    harness: &H,
    policies: &[Policy],
    steps: &[(u64, Step)],
) -> TestCaseResult {
    let limiter = Limiter::new(harness, policies.to_vec());
    let mut model = Model::new(policies.to_vec()).in_ticks_of(H::TICK_NS);
    let (mut now, mut leases) = (START, Vec::<(NewLease, usize)>::new());
    for (after_ms, step) in steps {
        now = now.after(Duration::from_millis(*after_ms));
        harness.set(now);
        match step {
            Step::Reserve(user, costs, ttl_ms) => {
                let ttl = Ttl::from_ms(*ttl_ms).unwrap();
                let check = check_of(USERS[*user], *costs);
                let (decision, lease) = limiter.reserve(&check, ttl);
                let (modelled, number) = model.reserve(now, &check, ttl);
                prop_assert_eq!(in_model_words(&decision), modelled, "{:?} at {:?}", step, now);
                prop_assert_eq!(lease.is_some(), number.is_some());
                leases.extend(lease.zip(number));
            }
            Step::Check(user, costs) => {
                let check = check_of(USERS[*user], *costs);
                let decision = in_model_words(&limiter.check(&check));
                prop_assert_eq!(decision, model.check(now, &check), "{:?} at {:?}", step, now);
            }
            Step::Update(back, update) => {
                let Some(index) = leases.len().checked_sub(back + 1) else { continue };
                let (lease, number) = &leases[index];
                let state = limiter.update(&lease.id, update).map(|state| in_words(&state));
                let modelled = model.update_lease(now, *number, update);
                prop_assert_eq!(state, modelled, "{:?} at {:?}", step, now);
            }
        }
        for user in USERS {
            let check = check_of(user, [1, 1]);
            let peeked = in_model_words(&limiter.peek(&check));
            let modelled = model.peek_uncharged(now, &check);
            prop_assert_eq!(peeked, modelled, "after {:?} at {:?}", step, now);
        }
    }
    Ok(())
}

/// The state of a lease in the words of the model.
fn in_words(state: &LeaseState) -> ModelLeaseState {
    let holds = state.holds.iter().map(|hold| ModelHold {
        policy_id: hold.policy_id.clone(),
        usage: hold.usage,
        charged: hold.charged,
    });
    ModelLeaseState {
        counted: state.effect == Effect::Changed,
        is_live: state.is_live(),
        ending: state.ending,
        seq: state.seq,
        proceed: state.proceed,
        holds: holds.collect(),
    }
}

/// R15, P16: a slot is free at the end of the time to live, to the millisecond, and not before.
pub fn a_lease_that_expires_frees_its_slot<H: MovableClock>() {
    let Some(harness) = leasing::<H>() else { return };
    let limiter = Limiter::new(&harness, vec![slots("slots", USER, 1)]);
    harness.set(START);
    let ttl = Ttl::from_ms(5_000).unwrap();
    let (_, lease) = limiter.reserve(&check_at("alice", 1), ttl);
    let at = |ms| harness.set(START.after(Duration::from_millis(ms)));
    at(4_000);
    let denied = limiter.check_one(&check_at("alice", 1));
    assert_eq!((denied.allowed, denied.retry_after_ms), (false, Some(1_000)));
    let id = lease.unwrap().id;
    let wanted = || Totals::none();
    let extended = limiter.update(&id, &super::leases::extend(1, wanted(), wanted())).unwrap();
    assert_eq!(extended.lives_for, Duration::from_secs(5));
    at(8_999);
    assert!(!limiter.check(&check_at("alice", 1)).allowed());
    at(9_000);
    assert!(limiter.check(&check_at("alice", 1)).allowed());
    // It takes the slot again if it is still free.
    let revived = limiter.update(&id, &super::leases::extend(2, wanted(), wanted())).unwrap();
    assert!(revived.is_live() && revived.proceed);
    at(14_000);
    assert!(limiter.reserve(&check_at("alice", 1), Ttl::MAX).1.is_some());
    let lost = limiter.update(&id, &super::leases::extend(3, wanted(), wanted())).unwrap();
    assert!(!lost.is_live() && !lost.proceed, "somebody else has the slot");
}

/// R15: rate holds stay as reserved, and a late settlement still corrects them.
pub fn a_late_settlement_corrects_what_is_in_its_window<H: MovableClock>() {
    let alice = check_at("alice", 8);
    for (late_ms, before, after) in [(9_999, 8, 3), (10_000, 0, 0)] {
        let Some(harness) = leasing::<H>() else { return };
        let limiter = Limiter::new(&harness, vec![policy("user", USER, 10, WINDOW)]);
        harness.set(START);
        let ttl = Ttl::from_ms(1_000).unwrap();
        let id = limiter.reserve(&alice, ttl).1.unwrap().id;
        harness.set(START.after(Duration::from_millis(late_ms)));
        assert_eq!(limiter.counts(&alice), [before], "an expired lease keeps its holds");
        let usage = Totals::none().with(Unit::Requests, amount(3));
        let state = limiter.update(&id, &settle(1, usage)).unwrap();
        assert_eq!((state.holds[0].usage, state.is_live()), (after, false));
        assert_eq!((state.was, state.holds[0].charged_before), (LeaseStatus::Expired, 8));
        assert_eq!(limiter.counts(&alice), [after]);
    }
}
