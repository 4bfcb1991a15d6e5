//! Guarantees when many threads send checks at once (R1, P1).

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tollgate::{ManualClock, Metrics, MultiTierRateLimiter, Quota, RateLimiter, Timestamp};

const THREADS: usize = 64;
const MINUTE: Duration = Duration::from_mins(1);

fn limiter(limit: u64, window: Duration) -> (RateLimiter<ManualClock>, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_ms(1_700_000_000_000));
    (RateLimiter::builder(limit, window).build_with_clock(clock.clone()).unwrap(), clock)
}

/// P1: 64 threads use one key over 1,000 windows. Each window admits exactly the limit, and every check is counted once.
#[test]
fn of_64_threads_on_one_key_exactly_the_limit_is_admitted_in_each_of_1_000_rounds() {
    const ASKS: usize = 2;
    for (limit, rounds) in [(100, 1_000), (1, 100)] {
        let (limiter, clock) = limiter(limit, Duration::from_millis(1));
        let barrier = Barrier::new(THREADS);
        let admitted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let mine = (0..ASKS).filter(|_| limiter.allow("alice", "gpt-4")).count();
                        admitted.fetch_add(mine as u64, Ordering::Relaxed);
                        // One thread checks the result and moves to the next window while the others wait.
                        if barrier.wait().is_leader() {
                            assert_eq!(admitted.swap(0, Ordering::Relaxed), limit);
                            clock.advance(Duration::from_millis(1));
                        }
                        barrier.wait();
                    }
                });
            }
        });
        let allowed = limit * rounds as u64;
        let denied = (THREADS * ASKS * rounds) as u64 - allowed;
        assert_eq!(limiter.metrics(), Metrics { allowed, denied });
    }
}

#[test]
fn a_limit_of_0_admits_nobody_of_64_threads() {
    let (limiter, _) = limiter(0, MINUTE);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| assert!((0..1_000).all(|_| !limiter.allow("alice", "gpt-4"))));
        }
    });
    assert_eq!(limiter.metrics(), Metrics { allowed: 0, denied: 64_000 });
}

/// R3: if one of the two limits has no room, the other is not charged.
#[test]
fn two_limits_are_charged_together_by_64_threads() {
    const PER_MODEL: u64 = 500;
    let limiter = MultiTierRateLimiter::builder(Quota::per_hour(20), Quota::per_hour(PER_MODEL))
        .build_with_clock(ManualClock::default())
        .unwrap();
    let users: Vec<String> = (0..THREADS).map(|n| format!("user {}", n % 32)).collect();
    thread::scope(|scope| {
        for user in &users {
            scope.spawn(|| {
                for _ in 0..100 {
                    limiter.allow(user, "gpt-4");
                }
            });
        }
    });
    let by_users: u64 = users[..32].iter().map(|user| limiter.request_count(user, "gpt-4")).sum();
    assert_eq!(limiter.metrics().allowed, PER_MODEL);
    assert_eq!((limiter.model_request_count("gpt-4"), by_users), (PER_MODEL, PER_MODEL));
}

/// Between two resets at most the limit is admitted, plus the checks in progress while they ran. After a reset has
/// returned, the whole limit is available.
#[test]
fn resets_race_with_checks_and_never_lift_or_lower_the_limit() {
    const LIMIT: u64 = 5;
    const RESETS: u64 = 100;
    const ASKERS: usize = 4;
    let (limiter, _) = limiter(LIMIT, MINUTE);
    let (running, admitted) = (AtomicBool::new(true), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| {
                while running.load(Ordering::Relaxed) {
                    if limiter.allow("alice", "gpt-4") {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(limiter.request_count("alice", "gpt-4") <= LIMIT);
                }
            });
        }
        for _ in 0..RESETS {
            limiter.reset_user("alice");
            thread::yield_now();
        }
        running.store(false, Ordering::Relaxed);
    });
    assert!(admitted.load(Ordering::Relaxed) <= LIMIT * (RESETS + 1));
    assert_eq!(limiter.metrics().allowed, admitted.load(Ordering::Relaxed));
    limiter.reset_user("alice");
    assert_eq!((0..10).filter(|_| limiter.allow("alice", "gpt-4")).count() as u64, LIMIT);
}

/// A thread that learned that a reset is over counts nothing from before, however it learned it.
#[test]
fn who_knows_of_a_reset_sees_it() {
    let (limiter, _) = limiter(1, MINUTE);
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2_000 {
                while turn.load(Ordering::Acquire) != 2 * round {
                    thread::yield_now();
                }
                limiter.reset_user("alice");
                turn.store(2 * round + 1, Ordering::Release);
            }
        });
        for round in 0..2_000 {
            while turn.load(Ordering::Acquire) != 2 * round + 1 {
                thread::yield_now();
            }
            assert!(limiter.allow("alice", "gpt-4"), "round {round}");
            assert!(!limiter.allow("alice", "gpt-4"), "round {round}");
            turn.store(2 * round + 2, Ordering::Release);
        }
    });
}

/// While the entry of a user that was reset is added and removed, no window holds more than the limit.
#[test]
fn the_limit_holds_while_the_memory_of_a_reset_goes() {
    const LIMIT: u64 = 3;
    let (limiter, clock) = limiter(LIMIT, Duration::from_millis(1));
    let barrier = Barrier::new(8);
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (limiter, clock, barrier, admitted) = (&limiter, &clock, &barrier, &admitted);
            scope.spawn(move || {
                for _ in 0..200 {
                    if thread == 0 {
                        limiter.reset_user("alice");
                        // Later than the time for which a reset of a window of 1 ms is remembered.
                        clock.advance(Duration::from_millis(1_003));
                    }
                    barrier.wait();
                    for _ in 0..5 {
                        let allowed = limiter.allow("alice", "gpt-4");
                        admitted.fetch_add(u64::from(allowed), Ordering::Relaxed);
                        limiter.allow("bob", "gpt-4");
                    }
                    if barrier.wait().is_leader() {
                        assert_eq!(admitted.swap(0, Ordering::Relaxed), LIMIT);
                    }
                    barrier.wait();
                }
            });
        }
    });
}
