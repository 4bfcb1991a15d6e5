//! `RateLimiter` from the view of its users: windows, costs, resets, metrics.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::time::Duration;

use proptest::prelude::*;
use tollgate::{BuildError, Counting, ManualClock, RateLimiter, Reason, Timestamp, Unit};

const MINUTE: Duration = Duration::from_mins(1);

/// A time within a counter's aligned window, so that its start is not a special case.
fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_ms(1_700_000_000_123))
}

fn limiter(limit: u64, window: Duration) -> (RateLimiter<ManualClock>, ManualClock) {
    let clock = clock();
    (RateLimiter::builder(limit, window).build_with_clock(clock.clone()).unwrap(), clock)
}

fn admitted(limiter: &RateLimiter<ManualClock>, times: u64) -> usize {
    (0..times).filter(|_| limiter.allow("alice", "gpt-4")).count()
}

#[test]
fn a_limiter_on_the_machine_s_clock_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let limiter = RateLimiter::new(1, MINUTE);
    shared(&limiter);
    assert!(limiter.allow("alice", "gpt-4") && !limiter.allow("alice", "gpt-4"));
}

/// R1: an admission leaves the window exactly W after it was made.
#[test]
fn a_window_slides_to_the_nanosecond() {
    for window in [Duration::from_millis(1), Duration::from_secs(1), MINUTE] {
        let (limiter, clock) = limiter(3, window);
        for _ in 0..5 {
            assert_eq!(admitted(&limiter, 5), 3, "{window:?}");
            let ns = Duration::from_nanos(1);
            clock.advance(window.saturating_sub(ns));
            assert_eq!(admitted(&limiter, 5), 0, "{window:?}");
            clock.advance(ns);
        }
    }
}

#[test]
fn a_limit_of_0_denies_everything_and_says_so() {
    let (limiter, clock) = limiter(0, MINUTE);
    assert_eq!(admitted(&limiter, 10), 0);
    clock.advance(10 * MINUTE);
    let decision = limiter.check("alice", "gpt-4");
    assert_eq!(decision.reason(), Some(Reason::Banned));
    assert_eq!(decision.retry_after_ms(), None);
    assert_eq!((limiter.request_count("alice", "gpt-4"), limiter.stats().keys), (0, 0));
}

/// R8.
#[test]
fn no_choice_of_names_shares_a_limit() {
    let (limiter, _) = limiter(1, MINUTE);
    let names = [
        ("a", "b"),
        ("ab", ""),
        ("", "ab"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a\0b", "c"),
        ("é", "{}"),
    ];
    for (user, model) in names {
        assert!(limiter.allow(user, model), "{user:?} {model:?}");
        assert!(!limiter.allow(user, model), "{user:?} {model:?}");
    }
}

#[test]
fn a_cost_is_charged_whole_or_not_at_all() {
    let (limiter, clock) = limiter(10, MINUTE);
    assert!(limiter.check_cost("alice", "gpt-4", 7).allowed());
    clock.advance(Duration::from_secs(1));
    let denied = limiter.check_cost("alice", "gpt-4", 4);
    assert_eq!((denied.allowed(), denied.retry_after_ms()), (false, Some(59_000)));
    assert_eq!(limiter.request_count("alice", "gpt-4"), 7, "a denial changes nothing (P2)");
    assert!(limiter.check_cost("alice", "gpt-4", 3).allowed());
    assert!(!limiter.check_cost("alice", "gpt-4", 0).allowed(), "0 needs room for 1 (R1)");
    let never = limiter.check_cost("alice", "gpt-4", 11);
    assert_eq!(never.reason(), Some(Reason::CostExceedsLimit));
    assert_eq!(never.retry_after_ms(), None);
}

#[test]
fn to_peek_changes_nothing_and_is_not_counted() {
    let (limiter, _) = limiter(2, MINUTE);
    for _ in 0..5 {
        assert!(limiter.peek("alice", "gpt-4", 2).allowed());
    }
    assert_eq!((limiter.metrics().total(), limiter.stats().keys), (0, 0));
    assert_eq!(admitted(&limiter, 3), 2);
    assert!(!limiter.peek("alice", "gpt-4", 1).allowed());
}

#[test]
fn decisions_show_the_quota_as_it_was_built() {
    let limiter = RateLimiter::builder(1_000, MINUTE)
        .name("tokens-per-minute")
        .unit(Unit::Tokens)
        .counting(|window| Counting::Counter { window })
        .build_with_clock(clock())
        .unwrap();
    limiter.reset_user("bob");
    for user in ["alice", "bob"] {
        let decision = limiter.check_cost(user, "gpt-4", 400);
        let [status] = decision.limits() else { panic!("one limit") };
        assert_eq!(status.limit.policy_id().as_str(), "tokens-per-minute");
        assert_eq!(status.limit.scope(), "USER_MODEL");
        assert_eq!(status.limit.unit(), &Unit::Tokens);
        assert!(matches!(status.limit.counting(), Counting::Counter { .. }));
        assert_eq!((status.count, status.remaining), (400, 600), "{user}");
    }
}

#[test]
fn an_impossible_quota_is_an_error() {
    assert_eq!(RateLimiter::try_new(1 << 53, MINUTE).unwrap_err(), BuildError::Limit(1 << 53));
    for window in [Duration::ZERO, Duration::from_micros(999), Duration::from_hours(367 * 24)] {
        assert_eq!(RateLimiter::try_new(1, window).unwrap_err(), BuildError::Window(window));
    }
    assert!(RateLimiter::builder(1, MINUTE).name("a\nb").build().is_err());
    let builder = || RateLimiter::builder(1, MINUTE);
    for builder in
        [builder().unit(Unit::Concurrency), builder().counting(|_| Counting::Concurrency)]
    {
        let error = builder.build().unwrap_err();
        assert_eq!(error, BuildError::Concurrency);
        assert!(error.to_string().contains("`Policy::of_concurrency`"), "{error}");
    }
}

#[test]
#[should_panic(expected = "the window is 0ns; accepted: 1 ms to 366 days")]
fn an_impossible_quota_in_the_code_panics_with_the_reason() {
    RateLimiter::new(1, Duration::ZERO);
}

#[test]
fn the_cap_on_keys_holds() {
    let limiter = RateLimiter::builder(10, MINUTE).max_keys(100).build_with_clock(clock()).unwrap();
    for n in 0..1_000 {
        assert!(limiter.allow(&n.to_string(), "gpt-4"));
    }
    let stats = limiter.stats();
    assert!(stats.keys <= 100 && stats.keys + stats.evicted == 1_000, "{stats:?}");
}

#[test]
fn a_reset_forgets_all_models_of_one_user() {
    let (limiter, _) = limiter(2, MINUTE);
    for user in ["alice", "bob"] {
        for model in ["gpt-4", "gpt-3.5"] {
            assert!(limiter.allow(user, model) && limiter.allow(user, model));
        }
    }
    for _ in 0..3 {
        limiter.reset_user("alice");
        for model in ["gpt-4", "gpt-3.5"] {
            assert_eq!(limiter.request_count("alice", model), 0);
            assert!(limiter.allow("alice", model) && limiter.allow("alice", model));
            assert!(!limiter.allow("alice", model));
            assert_eq!(limiter.request_count("alice", model), 2);
            assert!(!limiter.allow("bob", model));
        }
    }
}

#[test]
fn metrics_count_and_can_begin_anew() {
    let (limiter, _) = limiter(3, MINUTE);
    admitted(&limiter, 4);
    let metrics = limiter.reset_metrics();
    assert_eq!((metrics.allowed, metrics.denied, metrics.total()), (3, 1, 4));
    assert!((metrics.deny_rate() - 0.25).abs() < f64::EPSILON);
    assert_eq!(limiter.metrics().total(), 0);
    assert_eq!(admitted(&limiter, 2), 0, "only the metrics began anew");
    assert_eq!(limiter.metrics().denied, 2);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(usize),
    Reset(usize),
    AdvanceMs(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Step::Ask),
        1 => (0..2_usize).prop_map(Step::Reset),
        // Windows of a second, and entries that expire after three: steps on both sides of these.
        2 => (1..2_500_u64).prop_map(Step::AdvanceMs),
    ]
}

proptest! {
    /// Compared with the obvious model: the times of the admissions since the last reset. Meanwhile, entries of the map
    /// of resets are added and removed.
    #[test]
    fn resets_forget_the_past_and_nothing_else(steps in prop::collection::vec(step(), 0..80)) {
        const LIMIT: usize = 2;
        let users = ["alice", "bob"];
        let (limiter, clock) = limiter(LIMIT as u64, Duration::from_secs(1));
        let (mut now_ms, mut admissions) = (0, [const { Vec::<u64>::new() }; 2]);
        for step in steps {
            match step {
                Step::Ask(user) => {
                    let live = |at: &&u64| now_ms - **at < 1_000;
                    let expected = admissions[user].iter().filter(live).count() < LIMIT;
                    prop_assert_eq!(limiter.allow(users[user], "gpt-4"), expected);
                    if expected {
                        admissions[user].push(now_ms);
                    }
                }
                Step::Reset(user) => {
                    limiter.reset_user(users[user]);
                    admissions[user].clear();
                }
                Step::AdvanceMs(ms) => {
                    clock.advance(Duration::from_millis(ms));
                    now_ms += ms;
                }
            }
        }
    }

    /// R2: usage of a counter lasts up to two windows, so a reset must be remembered that long.
    #[test]
    fn resets_of_a_counter_change_no_later_decision(
        advances_ms in prop::collection::vec(0..1_500_u64, 1..40), start_ms in 0..1_000_u64,
    ) {
        let start = ManualClock::at(Timestamp::from_ms(1_700_000_000_000 + start_ms));
        let build = |clock| {
            let builder = RateLimiter::builder(5, Duration::from_secs(1));
            builder.counting(|window| Counting::Counter { window }).build_with_clock(clock).unwrap()
        };
        let (reset, fresh) = (build(start.clone()), build(start.clone()));
        for _ in 0..5 {
            reset.allow("alice", "gpt-4");
        }
        reset.reset_user("alice");
        for ms in advances_ms {
            for _ in 0..3 {
                prop_assert_eq!(reset.check("alice", "gpt-4"), fresh.check("alice", "gpt-4"));
            }
            start.advance(Duration::from_millis(ms));
        }
    }
}
