//! Time that passes, stands still, or steps back: the reference model to the millisecond, P1, P9, P12.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tollgate_core::reference::Model;
use tollgate_core::{Amount, Attribute, Calendar, Check, Counting, Policy, Timestamp, Zone};

use super::over_limit::charging;
use super::{START, check_at, counted_by, policy};
use crate::compare::in_model_words;
use crate::generate::{END_NS, OwnedCheck, Script, Step, script, script_with_one_key};
use crate::property::for_all;
use crate::{Limiter, MovableClock, Way};

/// R1–R6, R8, R10, P12: random checks over random policies, compared with the model in every value of a decision, and
/// of a peek before it.
pub fn random_checks_agree_with_the_model<H: MovableClock>() {
    for_all("random_checks_agree_with_the_model", &script(), |script| {
        Rehearsal::<H>::agrees(&script, H::ONE_TIMELINE)
    });
}

/// R7: the same for one key, with a clock that also steps back.
pub fn random_checks_of_one_key_agree_with_the_model_when_time_steps_back<H: MovableClock>() {
    let name = "random_checks_of_one_key_agree_with_the_model_when_time_steps_back";
    for_all(name, &script_with_one_key(), |script| Rehearsal::<H>::agrees(&script, true));
}

/// A script run on a store and on the model at the same time.
struct Rehearsal<'s, H> {
    harness: H,
    policies: Vec<Policy>,
    model: Model,
    now: Timestamp,
    /// The latest time at which the store was called: its own time.
    latest: Timestamp,
    /// The last check, and whether it was allowed.
    last: Option<(&'s OwnedCheck, bool)>,
}

impl<'s, H: MovableClock> Rehearsal<'s, H> {
    fn agrees(script: &'s Script, may_step_back: bool) -> TestCaseResult {
        let mut rehearsal = Self {
            harness: H::new(),
            policies: script.policies.clone(),
            model: Model::new(script.policies.clone()).in_ticks_of(H::TICK_NS),
            now: script.start,
            latest: Timestamp::default(),
            last: None,
        };
        for step in &script.steps {
            match step {
                Step::Ask(moved, check) => {
                    let now = script.moment_after(rehearsal.now, *moved, may_step_back);
                    rehearsal.set(now);
                    rehearsal.ask(check)?;
                }
                Step::AskAgain => rehearsal.ask_again()?,
                Step::Forget => rehearsal.forget(),
                Step::Limits(amounts) => rehearsal.change_limits(amounts),
            }
        }
        Ok(())
    }

    fn limiter(&self) -> Limiter<'_, H> {
        Limiter::new(&self.harness, self.policies.clone())
    }

    fn set(&mut self, now: Timestamp) {
        self.now = now;
        self.harness.set(now);
    }

    fn ask(&mut self, owned: &'s OwnedCheck) -> TestCaseResult {
        let (check, now) = (owned.as_check(), self.now);
        let (peeked, decision) = (self.limiter().peek(&check), self.limiter().check(&check));
        prop_assert_eq!(in_model_words(&peeked), self.model.peek_uncharged(now, &check), "peek");
        prop_assert_eq!(in_model_words(&decision), self.model.check(now, &check), "check");
        if !decision.limits().is_empty() {
            self.latest = self.latest.max(now);
        }
        self.last = Some((owned, decision.allowed()));
        Ok(())
    }

    /// P12: 1 ms before the wait is over the check is still denied; then it is admitted.
    fn ask_again(&mut self) -> TestCaseResult {
        let Some((owned, _)) = self.last else { return Ok(()) };
        let check = owned.as_check();
        let denied = self.limiter().peek(&check);
        let (false, Some(wait_ms)) = (denied.allowed(), denied.retry_after_ms()) else {
            return Ok(());
        };
        let from_now = |ms| self.latest.after(Duration::from_millis(ms));
        let (early, due) = (from_now(wait_ms - 1), from_now(wait_ms));
        if due.as_ns() > END_NS {
            return Ok(());
        }
        self.set(early);
        prop_assert!(!self.limiter().peek(&check).allowed(), "admitted 1 ms too early");
        self.set(due);
        self.ask(owned)?;
        prop_assert!(self.last.is_some_and(|(_, allowed)| allowed), "denied after the wait");
        Ok(())
    }

    fn forget(&mut self) {
        if let Some((owned, _)) = self.last {
            let check = owned.as_check();
            self.limiter().reset(&check);
            let met: Vec<_> = self.model.met_by(&check).into_iter().cloned().collect();
            for id in met {
                self.model.reset(&id, &check.subject);
            }
        }
    }

    fn change_limits(&mut self, amounts: &[Amount]) {
        for (policy, amount) in self.policies.iter_mut().zip(amounts) {
            policy.limit = policy.limit.map(|_| *amount);
        }
        self.model.replace_policies(self.policies.clone());
    }
}

/// One admission, from the view of the caller.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    at_ns: u64,
    cost: u64,
}

/// P1, directly from the list of admissions: no interval of length W holds more than L, and for a counter fewer than
/// 2L.
pub fn no_window_holds_more_than_its_limit<H: MovableClock>() {
    for_all("no_window_holds_more_than_its_limit", &script(), |script| {
        let harness = H::new();
        let limiter = Limiter::new(&harness, script.policies.clone());
        let mut now = script.start;
        let mut admitted: HashMap<_, Vec<Admitted>> = HashMap::new();
        for step in &script.steps {
            let Step::Ask(moved, owned) = step else { continue };
            now = script.moment_after(now, *moved, false);
            harness.set(now);
            let check = owned.as_check();
            let decision = limiter.check(&check);
            for status in decision.limits().iter().filter(|s| decision.allowed() && s.allowed) {
                let parts = status.limit.key_parts(&check.subject);
                let values: Vec<_> = parts.map(|(_, value)| value.into_owned()).collect();
                let key = (status.limit.policy_id().clone(), values);
                let cost = status.limit.cost_of(&check.cost).get();
                admitted.entry(key).or_default().push(Admitted { at_ns: now.as_ns(), cost });
            }
        }
        for ((id, _), admitted) in &admitted {
            let policy = script.policies.iter().find(|policy| policy.id == *id).unwrap();
            holds_in_every_window(policy, admitted)?;
        }
        Ok(())
    });
}

fn holds_in_every_window(policy: &Policy, admitted: &[Admitted]) -> TestCaseResult {
    // A check holds no slot, so there is nothing to add up.
    let Some(window) = policy.counting.window() else { return Ok(()) };
    let (limit, window_ns) = (u128::from(policy.limit.unwrap().get()), window.as_ns());
    // An interval that holds the most can be moved until it ends with an admission.
    for last in admitted {
        let inside = admitted
            .iter()
            .filter(|one| one.at_ns <= last.at_ns && last.at_ns - one.at_ns < window_ns);
        let total: u128 = inside.map(|one| u128::from(one.cost)).sum();
        match policy.counting {
            Counting::Log { .. } => {
                prop_assert!(total <= limit, "{total} in a log of {limit}");
            }
            Counting::Counter { .. } => {
                prop_assert!(total < 2 * limit.max(1), "{total} in a counter of {limit}");
            }
            Counting::Bucket { refill, .. } => {
                let most = limit + u128::from(refill.get());
                prop_assert!(total <= most, "{total} from a bucket of {limit} and {refill}");
            }
            Counting::Concurrency => {}
            Counting::Calendar { calendar, zone } => {
                let period = calendar.period(zone, Timestamp::from_ns(last.at_ns));
                let inside =
                    admitted.iter().filter(|one| period.contains(Timestamp::from_ns(one.at_ns)));
                let total: u128 = inside.map(|one| u128::from(one.cost)).sum();
                prop_assert!(total <= limit, "{total} in a {} of {limit}", calendar.name());
            }
        }
    }
    Ok(())
}

/// P1: the worst case of a counter, a full limit at the end of a window and then everything that fits as the window
/// passes, stays below 2L and comes close to it.
pub fn the_edge_of_two_windows_holds_less_than_twice_a_counters_limit<H: MovableClock>() {
    const LIMIT: u64 = 1_000;
    let window = Duration::from_secs(10);
    let harness = H::new();
    let limiter =
        Limiter::new(&harness, vec![counted_by(Way::Counter, policy("p", &[], LIMIT, window))]);
    let admit_all = |at_ms: u64| {
        harness.set(START.after(Duration::from_millis(at_ms)));
        (0..=LIMIT).take_while(|_| limiter.check(&check_at("alice", 1)).allowed()).count() as u64
    };
    assert_eq!(admit_all(9_999), LIMIT);
    let next: u64 = (10_000..19_999).step_by(100).map(admit_all).sum();
    assert!((LIMIT * 9 / 10..LIMIT).contains(&next), "{next} more within one window");
}

/// R18: a period starts anew for everything at once, so the worst interval of a calendar holds 2L: around the start of a
/// day, of an hour that is shown again, and of a day after one that was skipped.
pub fn the_edge_of_two_periods_holds_twice_a_calendars_limit<H: MovableClock>() {
    const LIMIT: u64 = 10;
    let edges = [
        (Calendar::Day, "Asia/Kathmandu", 1_700_072_100),
        (Calendar::Hour, "Europe/Berlin", 1_792_890_000),
        (Calendar::Day, "Pacific/Apia", 1_325_239_200),
        (Calendar::Week, "America/New_York", 1_762_146_000),
        (Calendar::Month, "UTC", 1_709_251_200),
    ];
    for (calendar, zone, edge_s) in edges {
        let context = format!("{} in {zone}", calendar.name());
        let zone = Zone::named(zone).unwrap();
        let counting = Counting::Calendar { calendar, zone };
        let policy = Policy { counting, ..policy("p", &[], LIMIT, Duration::from_hours(1)) };
        let harness = H::new();
        let limiter = Limiter::new(&harness, vec![policy]);
        let edge = Timestamp::from_ms(edge_s * 1_000);
        let admit_all = |at: Timestamp| {
            harness.set(at);
            (0..=LIMIT).take_while(|_| limiter.check(&check_at("alice", 1)).allowed()).count()
                as u64
        };
        assert_eq!(admit_all(edge.before(Duration::from_millis(2))), LIMIT, "{context}");
        assert_eq!(limiter.check_one(&check_at("alice", 1)).retry_after_ms, Some(2), "{context}");
        assert_eq!(admit_all(edge.before(Duration::from_millis(1))), 0, "{context}");
        assert_eq!(admit_all(edge), LIMIT, "{context}");
    }
}

/// P12: for windows from the shortest to the longest, and of odd lengths, a full limit admits again after the wait and
/// not 1 ms earlier.
pub fn a_wait_is_exact_for_windows_of_any_length<H: MovableClock>() {
    let windows_ns = [
        1_000_000,
        1_000_001,
        1_999_999,
        1_000_000_000,
        1_600_000_001,
        86_400_000_000_000,
        1_728_000_123_456_789,
        366 * 86_400_000_000_000,
    ];
    for (window_ns, way) in windows_ns.into_iter().flat_map(|w| Way::ALL.map(|a| (w, a))) {
        for (offset_ns, cost) in [(0, 1), (0, 2), (1, 3), (999_999, 1), (123_456_789, 2)] {
            let context = format!("{way:?}, {window_ns} ns, {offset_ns} ns off, cost {cost}");
            let harness = H::new();
            let set = |after_ns: u64| {
                harness.set(Timestamp::from_ns(START.as_ns() + offset_ns + after_ns));
            };
            let window = Duration::from_nanos(window_ns);
            let limiter =
                Limiter::new(&harness, vec![counted_by(way, policy("p", &[], 3, window))]);
            set(0);
            assert!(limiter.check(&check_at("alice", 1)).allowed());
            let full_ns = window_ns / 3;
            set(full_ns);
            while limiter.check(&check_at("alice", 1)).allowed() {}
            let check = check_at("alice", cost);
            let wait_ms = limiter.check_one(&check).retry_after_ms.unwrap();
            assert!(wait_ms > 0, "{context}");
            set(full_ns + (wait_ms - 1) * 1_000_000);
            assert!(!limiter.check(&check).allowed(), "{context}: 1 ms too early");
            set(full_ns + wait_ms * 1_000_000);
            assert!(limiter.check(&check).allowed(), "{context}: after the wait");
        }
    }
}

/// P9 and R7: after a step back, the store's time stands still until the clock has caught up. Nothing is forgotten, no
/// wait is longer than a window from then, and no answer gives a longer one.
pub fn a_step_back_of_the_clock_lengthens_no_wait<H: MovableClock>() {
    let window = Duration::from_secs(10);
    for back_s in [1, 9, 10, 11, 3_600, 1_000_000] {
        let harness = H::new();
        let limiter = Limiter::new(&harness, vec![policy("p", &[], 2, window)]);
        let check: Check<'_> = check_at("alice", 1);
        let set_ms = |ms: u64| harness.set(Timestamp::from_ms(ms));
        let start_ms = START.as_ns() / 1_000_000;
        for after_ms in [0, 4_000] {
            set_ms(start_ms + after_ms);
            assert!(limiter.check(&check).allowed());
        }
        set_ms(start_ms + 4_000 - back_s * 1_000);
        let denied = limiter.check_one(&check);
        assert_eq!((denied.allowed, denied.count), (false, 2), "{back_s} s back");
        assert_eq!(denied.retry_after_ms, Some(6_000), "{back_s} s back");
        assert_eq!(denied.reset_after_ms, 10_000);
        set_ms(start_ms + 9_999);
        assert!(!limiter.check(&check).allowed());
        set_ms(start_ms + 10_000);
        assert!(limiter.check(&check).allowed(), "{back_s} s back");
    }
}

/// R6 and R19: the wait of a denied check whose cost was recorded is that of the same check sent again, also under a limit that
/// admitted it.
pub fn a_wait_after_a_recorded_denial_is_exact<H: MovableClock>() {
    for (way, cost) in Way::ALL.into_iter().flat_map(|way| [3, 6, 10].map(|cost| (way, cost))) {
        for denied_by_itself in [true, false] {
            let context = format!("{way:?} at {cost}, {denied_by_itself}");
            let harness = H::new();
            let minute = Duration::from_mins(1);
            let user = charging(counted_by(way, policy("user", &[Attribute::User], 10, minute)));
            let model = policy("model", &[Attribute::Model], 10, Duration::from_secs(1));
            let limiter = Limiter::new(&harness, vec![user, model]);
            harness.set(START);
            let first = if denied_by_itself { "alice" } else { "bob" };
            assert!(limiter.check(&check_at(first, 10)).allowed(), "{context}");
            let check = check_at("alice", cost);
            let denied = limiter.check(&check);
            let recorded = cost + if denied_by_itself { 10 } else { 0 };
            assert!(!denied.allowed(), "{context}");
            assert_eq!(denied.limits()[0].count, recorded, "{context}");
            let wait_ms = denied.retry_after_ms().unwrap();
            harness.set(START.after(Duration::from_millis(wait_ms - 1)));
            assert!(!limiter.peek(&check).allowed(), "{context}: 1 ms too early");
            harness.set(START.after(Duration::from_millis(wait_ms)));
            assert!(limiter.check(&check).allowed(), "{context}: after the wait");
        }
    }
}

/// R12: a request id is remembered for the longest window of the limits that it charged, and no longer.
pub fn a_request_id_is_new_after_the_longest_window_of_its_limits<H: MovableClock>() {
    let harness = H::new();
    let user = policy("user", &[Attribute::User], 10, Duration::from_secs(10));
    let model = policy("model", &[Attribute::Model], 10, Duration::from_mins(1));
    let limiter = Limiter::new(&harness, vec![user, model]);
    let check = check_at("alice", 1).with_request_id("id");
    harness.set(START);
    let first = limiter.check(&check);
    for (after_ms, counts) in [(10_000, [0, 1]), (59_999, [0, 1])] {
        harness.set(START.after(Duration::from_millis(after_ms)));
        assert_eq!(limiter.check(&check), first, "after {after_ms} ms");
        assert_eq!(limiter.counts(&check), counts, "after {after_ms} ms");
    }
    harness.set(START.after(Duration::from_mins(1)));
    assert!(limiter.check(&check).allowed());
    assert_eq!(limiter.counts(&check), [1, 1]);
}
