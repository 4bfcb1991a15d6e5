//! Decisions of many threads are made one after the other, and each covers all its limits at one moment (R3, P1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use tollgate_core::{Attribute, Charge, Check, PolicySet};

use super::{MONTH, check_at, counted_by, policy};
use crate::limiter::charge;
use crate::{Harness, Limiter, Way};

/// P1: 64 threads, one key, 1,000 rounds, exactly its limit each.
pub fn threads_on_one_key_are_admitted_exactly_to_its_limit<H: Harness>() {
    const THREADS: usize = 64;
    const ROUNDS: usize = 1_000;
    const TRIES: u64 = 2;
    for (way, limit) in Way::ALL.into_iter().zip([100, 37, 50, 64]) {
        let harness = H::new();
        let one_limit = counted_by(way, policy("p", &[Attribute::User], limit, MONTH));
        let limiter = Limiter::new(&harness, vec![one_limit]);
        let (barrier, admitted) = (Barrier::new(THREADS), AtomicU64::new(0));
        let admitted_by_round = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let check = check_at("alice", 1);
                    for _ in 0..ROUNDS {
                        let mine = (0..TRIES).filter(|_| limiter.check(&check).allowed()).count();
                        // Relaxed: the barrier orders it.
                        admitted.fetch_add(mine as u64, Ordering::Relaxed);
                        if barrier.wait().is_leader() {
                            // Compared at the end: if a thread failed here, the others would wait forever.
                            admitted_by_round
                                .lock()
                                .unwrap()
                                .push(admitted.swap(0, Ordering::Relaxed));
                            limiter.reset(&check);
                        }
                        barrier.wait();
                    }
                });
            }
        });
        assert_eq!(admitted_by_round.into_inner().unwrap(), [limit; ROUNDS]);
    }
}

/// R3: limits that checks meet in crossing orders are all charged or none, and no two checks deadlock.
pub fn crossing_limits_are_charged_together<H: Harness>() {
    const THREADS: usize = 8;
    const CHECKS: usize = 3_000;
    const USERS: [&str; 3] = ["ann", "bob", "cem"];
    const MODELS: [&str; 2] = ["large", "small"];
    let harness = H::new();
    // The users' limits are only slightly higher than the models': some checks are denied by the one limit, some by the
    // other.
    let per_user = policy("user", &[Attribute::User], 1_700, MONTH);
    let per_model = counted_by(Way::Counter, policy("model", &[Attribute::Model], 2_500, MONTH));
    let policies = vec![per_user, per_model];
    let set = PolicySet::new(policies.clone()).unwrap();
    let admitted: [[AtomicU64; 2]; 3] = Default::default();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (harness, set, admitted) = (&harness, &set, &admitted);
            scope.spawn(move || {
                for index in 0..CHECKS {
                    let (user, model) = ((index + thread) % 3, (index / 3 + thread) % 2);
                    let check = Check::new(USERS[user], MODELS[model]);
                    let mut charges: Vec<Charge<'_>> = set.plan(&check).to_vec();
                    if thread % 2 == 1 {
                        charges.reverse();
                    }
                    if charge(harness, &charges).iter().all(|verdict| verdict.allowed) {
                        // Relaxed: read after the threads have ended.
                        admitted[user][model].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let limiter = Limiter::new(&harness, policies);
    let count = |user: usize, model: usize| admitted[user][model].load(Ordering::Relaxed);
    for (user, user_id) in USERS.iter().enumerate() {
        for (model, model_id) in MODELS.iter().enumerate() {
            let of_user: u64 = (0..MODELS.len()).map(|model| count(user, model)).sum();
            let of_model: u64 = (0..USERS.len()).map(|user| count(user, model)).sum();
            let counts = limiter.counts(&Check::new(user_id, model_id));
            assert_eq!(counts, [of_user, of_model], "{user_id} {model_id}");
        }
    }
    let total: u64 = admitted.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum();
    // If a user is denied although the model has room, the user's limit is used up; two models cannot use up all three
    // users.
    assert_eq!(total, 2 * 2_500, "both models are used up");
}
