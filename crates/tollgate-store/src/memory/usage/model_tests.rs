//! The compact forms of a log in memory behave like [`LogState`], the plain form in core.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tollgate_core::counting::log::{Admission, LogState, LogTime};
use tollgate_core::{Amount, Limit, Per, Policy, PolicyId, Timestamp, Window};

use super::Usage;

/// On both sides of what fits into a slot, and of the sizes at which a ring grows and shrinks.
const LIMITS: [u64; 6] = [1, 5, 7, 40, 200, 100_000];

fn limit(amount: u64, window: Window) -> Limit {
    let per = Per::from_scope("GLOBAL").unwrap();
    Limit::of(&Policy::new(PolicyId::new("p").unwrap(), per, Amount::new(amount), window)).unwrap()
}

proptest! {
    #[test]
    fn usage_in_a_slot_and_the_plain_log_agree(
        amounts in vec(select(LIMITS.to_vec()), 1..4),
        window_ms in select(vec![1_u64, 7, 1_000, 60_000, 3_600_000]),
        // A pause in thousandths of the window, how many checks follow it at one moment, and their cost.
        bursts in vec((0..1_300_u64, 1..60_usize, select(vec![1_u64, 1, 1, 1, 0, 2, 3, 900])), 1..40),
    ) {
        let window = Window::new(Duration::from_millis(window_ms)).unwrap();
        let limits: Vec<_> = amounts.iter().map(|amount| limit(*amount, window)).collect();
        let (mut usage, mut model) = (Usage::NONE, LogState::default());
        let mut now_ns = 1_700_000_000_000_000_000_u64;
        for (number, (pause, checks, cost)) in bursts.into_iter().enumerate() {
            now_ns += window_ms * 1_000 * pause;
            let (limit, cost) = (&limits[number % limits.len()], Amount::new(cost).unwrap());
            let now = Timestamp::from_ns(now_ns);
            let time = LogTime::new(window, now);
            for charge in std::iter::repeat_n(true, checks).chain([false]) {
                let said = usage.decide(limit, now, cost, charge);
                let (modelled, _) = model.decide(limit.amount(), &time, cost, charge);
                prop_assert_eq!(said, modelled, "{} of {} at {}", cost, limit.amount(), now_ns);
            }
        }
    }
}

/// An admission of a log, and its cost now.
struct Admitted {
    at: Timestamp,
    admission: Admission,
    cost: u64,
}

/// On both sides of what fits into a slot, and of the sums of a ring's blocks.
const MOST_ADMISSIONS: usize = 400;

proptest! {
    /// R14: a changed cost is as if it had been admitted so, whatever form the log has.
    #[test]
    fn changed_costs_in_a_slot_and_in_the_plain_log_agree(
        bursts in vec((0..1_300_u64, 1..70_usize, select(vec![1_u64, 1, 1, 2, 900])), 1..12),
        changes in vec((0..MOST_ADMISSIONS, select(vec![0_u64, 0, 1, 2, 5, 4_000])), 0..20),
    ) {
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let limit = limit(100_000, window);
        let (mut usage, mut model) = (Usage::NONE, LogState::default());
        let mut now_ns = 1_700_000_000_000_000_000_u64;
        let (mut admitted, mut changes) = (Vec::<Admitted>::new(), changes.into_iter());
        for (pause, checks, cost) in bursts {
            now_ns += 60_000_000 * pause;
            let now = Timestamp::from_ns(now_ns);
            let time = LogTime::new(window, now);
            let amount = Amount::new(cost).unwrap();
            for _ in 0..checks {
                let said = usage.decide(&limit, now, amount, true);
                let (modelled, admission) = model.decide(limit.amount(), &time, amount, true);
                prop_assert_eq!(said, modelled);
                admitted.extend(admission.map(|admission| Admitted { at: now, admission, cost }));
            }
            for (index, new) in changes.by_ref().take(2) {
                let Some(one) = admitted.len().checked_sub(index % admitted.len().max(1) + 1) else {
                    continue;
                };
                let one = &mut admitted[one];
                // What was given back is held by nobody.
                if one.cost == 0 {
                    continue;
                }
                let (old, new) = (Amount::new(one.cost).unwrap(), Amount::new(new).unwrap());
                usage.change(&limit, now, (one.at, 0), old, new);
                model.change(one.admission, old, new);
                one.cost = new.get();
                for asked in [1, 3, 90_000, 99_000, 100_000] {
                    let asked = Amount::new(asked).unwrap();
                    let said = usage.decide(&limit, now, asked, false);
                    let (modelled, _) = model.decide(limit.amount(), &time, asked, false);
                    prop_assert_eq!(said, modelled, "{} after {:?} to {}", asked, one.at, new);
                }
            }
        }
    }
}
