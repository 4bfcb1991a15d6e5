//! Many keys and long logs, for stores in this process. Networked stores have their own tests of size.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Amount, Attribute, Charge, Limit, Subject};

use super::{MONTH, START, policy};
use crate::MovableClock;
use crate::limiter::charge;

const MILLION: u64 = 1_000_000;

fn limit_of(amount: u64, per: &[Attribute], window: Duration) -> Arc<Limit> {
    Arc::new(Limit::of(&policy("p", per, amount, window)).unwrap())
}

/// A million keys, each with its own limit.
pub fn a_million_keys_have_a_limit_each<H: MovableClock>() {
    let harness = H::new();
    harness.set(START);
    let limit = limit_of(1, &[Attribute::User], MONTH);
    let admits = |user: u64| {
        let user = user.to_string();
        let subject = Subject::empty().with(&Attribute::User, &user);
        charge(&harness, &[Charge { limit: &limit, subject: &subject, cost: Amount::ONE }])[0]
            .allowed
    };
    assert_eq!((0..MILLION).find(|&user| !admits(user)), None, "a new key is full");
    assert_eq!((0..MILLION).step_by(7).find(|&user| admits(user)), None, "a key forgot");
    assert!(admits(MILLION));
}

/// A log of a million admissions of cost 1, one each microsecond.
pub fn a_log_of_a_million_entries_is_exact<H: MovableClock>() {
    fill_and_drain::<H>(1);
}

/// A log of a million admissions of cost 3.
pub fn a_log_of_a_million_weighted_entries_is_exact<H: MovableClock>() {
    fill_and_drain::<H>(3);
}

fn fill_and_drain<H: MovableClock>(cost: u64) {
    let (harness, window) = (H::new(), Duration::from_secs(10));
    let limit = limit_of(MILLION * cost, &[], window);
    let subject = Subject::empty();
    let charge_at = |after: Duration, cost: u64| -> Verdict {
        harness.set(START.after(after));
        let cost = Amount::new(cost).unwrap();
        charge(&harness, &[Charge { limit: &limit, subject: &subject, cost }])[0]
    };
    let made_at = |index: u64| Duration::from_micros(index);
    for index in 0..MILLION {
        let verdict = charge_at(made_at(index), cost);
        assert!(verdict.allowed && verdict.usage == (index + 1) * cost, "entry {index}");
    }
    let full = charge_at(made_at(MILLION), cost);
    assert_eq!((full.allowed, full.usage), (false, MILLION * cost));
    assert_eq!(full.wait, Wait::Ns(9_000_000_000), "until the first entry leaves");
    let half = charge_at(made_at(MILLION), MILLION / 2 * cost);
    assert_eq!(half.wait, Wait::Ns(9_499_999_000), "until half of the entries have left");
    // A quarter of the entries leaves, and the room is used again.
    let quarter = MILLION / 4;
    let verdict = charge_at(window + made_at(quarter - 1), 0);
    assert_eq!((verdict.allowed, verdict.usage), (true, (MILLION - quarter) * cost));
    for index in 0..quarter {
        assert!(charge_at(window + made_at(quarter - 1), cost).allowed, "entry {index} again");
    }
    assert!(!charge_at(window + made_at(quarter - 1), cost).allowed);
    // Then all of the first ones.
    let verdict = charge_at(window + made_at(MILLION - 1), 0);
    assert_eq!(verdict.usage, quarter * cost);
    let verdict = charge_at(window * 2 + made_at(quarter - 1), 0);
    assert_eq!((verdict.usage, verdict.reset_after_ns), (0, 0));
}
