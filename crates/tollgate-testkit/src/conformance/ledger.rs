//! Settled costs over time (R14): usage is as if each admission had been made at its settled cost.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tollgate_core::reference::Model;
use tollgate_core::{Amount, Attribute, Check, Cost, Policy, Timestamp, Unit};
use tollgate_store::Receipt;

use super::settle::{costs, settling};
use super::{START, counted_by, policy};
use crate::compare::in_model_words;
use crate::property::for_all;
use crate::{Limiter, MovableClock, Way};

const USER: &[Attribute] = &[Attribute::User];
const USERS: [&str; 2] = ["alice", "bob"];
const MOST: u64 = 12;

/// What is done after some time.
#[derive(Clone, Debug)]
enum Step {
    /// Charges this user so many requests and tokens.
    Charge(usize, [u64; 2]),
    /// Settles one of the receipts, counted from the newest.
    Settle(usize, [u64; 2]),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let two = || [0..MOST, 0..MOST];
    let step = prop_oneof![
        (0..USERS.len(), two()).prop_map(|(user, costs)| Step::Charge(user, costs)),
        (0..6_usize, two()).prop_map(|(back, costs)| Step::Settle(back, costs)),
    ];
    // Often at one moment, and often about a window later.
    vec((prop_oneof![Just(0), 0..4_000_u64, 8_000..24_000_u64], step), 1..30)
}

/// One admission: when, whose, and its costs now.
struct Admitted {
    at: Timestamp,
    user: usize,
    costs: [u64; 2],
    receipt: Receipt,
}

fn check_of(user: usize, [requests, tokens]: [u64; 2]) -> Check<'static> {
    let amount = |cost| Amount::new(cost).unwrap();
    let cost =
        Cost::default().with(Unit::Requests, amount(requests)).with(Unit::Tokens, amount(tokens));
    Check::new(USERS[user], "gpt-4").at_cost(cost)
}

/// R14: usage is as if each admission had been made at its settled cost.
pub fn settled_charges_agree_with_the_model<H: MovableClock>() {
    let cases = (steps(), any::<bool>());
    for_all("settled_charges_agree_with_the_model", &cases, |(steps, is_log)| {
        let Some(harness) = settling::<H>() else { return Ok(()) };
        let window = Duration::from_secs(10);
        let way = if is_log { Way::Log } else { Way::Counter };
        let tokens = Policy { unit: Unit::Tokens, ..policy("all", &[], 15, window) };
        let policies = [policy("user", USER, 10, window), tokens];
        let policies = policies.map(|policy| counted_by(way, policy)).to_vec();
        agrees(&harness, &policies, &steps)
    });
}

fn agrees<H: MovableClock>(
    harness: &H,
    policies: &[Policy],
    steps: &[(u64, Step)],
) -> TestCaseResult {
    let limiter = Limiter::new(harness, policies.to_vec());
    let (mut now, mut admitted) = (START, Vec::<Admitted>::new());
    for (after_ms, step) in steps {
        now = now.after(Duration::from_millis(*after_ms));
        harness.set(now);
        match *step {
            Step::Charge(user, costs) => {
                let (decision, receipt) = limiter.charge(&check_of(user, costs));
                if decision.allowed() {
                    admitted.push(Admitted { at: now, user, costs, receipt });
                }
            }
            Step::Settle(back, new) => {
                let Some(index) = admitted.len().checked_sub(back + 1) else { continue };
                let one = &mut admitted[index];
                let settled = limiter.settle(&one.receipt, &costs(new));
                for held in
                    one.receipt.held().filter(|held| !settled.not_found.contains(&held.place()))
                {
                    one.costs[held.place()] = new[held.place()];
                }
                one.receipt = settled.receipt;
            }
        }
        let model = model_of(policies, H::TICK_NS, &admitted);
        for user in 0..USERS.len() {
            let check = check_of(user, [1, 1]);
            let peeked = in_model_words(&limiter.peek(&check));
            prop_assert_eq!(
                peeked,
                model.peek_uncharged(now, &check),
                "after {:?} at {:?}",
                step,
                now
            );
        }
    }
    Ok(())
}

/// A model in which each admission was made at its present cost. It is made without limits, because a settled cost may
/// exceed them.
fn model_of(policies: &[Policy], tick_ns: Option<u64>, admitted: &[Admitted]) -> Model {
    let unlimited = policies.iter().cloned();
    let unlimited = unlimited.map(|policy| Policy { limit: Some(Amount::MAX), ..policy });
    let mut model = Model::new(unlimited.collect()).in_ticks_of(tick_ns);
    for one in admitted {
        model.check(one.at, &check_of(one.user, one.costs));
    }
    model.replace_policies(policies.to_vec());
    model
}
