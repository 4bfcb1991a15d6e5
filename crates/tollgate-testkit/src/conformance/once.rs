//! Request ids (R12, P6): a check that is sent again with its id is charged once.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use tollgate_core::{Attribute, Mode, OverLimit, Policy};

use super::{MONTH, check_at, counted_by, policy};
use crate::{Harness, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];

/// R12: over one limit and over several, whatever was charged in between.
pub fn a_request_id_is_charged_once_and_gets_the_first_answer<H: Harness>() {
    for way in Way::ALL {
        for limits in [1, 2] {
            let harness = H::new();
            let policies = vec![policy("user", USER, 5, MONTH), policy("model", MODEL, 100, MONTH)];
            let policies = policies.into_iter().map(|policy| counted_by(way, policy));
            let limiter = Limiter::new(&harness, policies.take(limits).collect());
            let check = check_at("alice", 2).with_request_id("first");
            let first = limiter.check(&check);
            assert!(first.allowed());
            for _ in 0..3 {
                assert_eq!(limiter.check(&check), first);
            }
            // Also at another cost, even one for which there is no room.
            for cost in [0, 1, 4, 1_000] {
                let again = check_at("alice", cost).with_request_id("first");
                assert_eq!(limiter.check(&again), first, "at {cost}");
            }
            assert!(limiter.check(&check_at("alice", 2).with_request_id("second")).allowed());
            assert!(limiter.check(&check_at("alice", 1)).allowed(), "checks without an id count");
            assert!(!limiter.check(&check_at("alice", 1)).allowed(), "nothing is left");
            assert_eq!(limiter.check(&check), first, "also when nothing is left");
            assert_eq!(limiter.counts(&check), vec![5; limits]);
        }
    }
}

/// R3 and R12: a denial writes nothing, so there is nothing to repeat.
pub fn a_denied_request_id_is_decided_afresh<H: Harness>() {
    let harness = H::new();
    let limiter = Limiter::new(&harness, vec![policy("p", USER, 1, MONTH)]);
    let check = check_at("alice", 1).with_request_id("id");
    assert!(limiter.check(&check_at("alice", 1)).allowed());
    for _ in 0..3 {
        assert!(!limiter.check(&check).allowed());
    }
    limiter.reset(&check);
    assert!(limiter.check(&check).allowed(), "there is room again");
    assert!(limiter.check(&check).allowed(), "and now it was admitted");
    assert_eq!(limiter.counts(&check), [1]);
}

/// R10 and R12: a check that only a shadow limit denies is admitted.
pub fn a_shadow_limit_that_refuses_does_not_make_a_request_id_new<H: Harness>() {
    let harness = H::new();
    let shadow = Policy { mode: Mode::Shadow, ..policy("tried", USER, 1, MONTH) };
    let limiter = Limiter::new(&harness, vec![shadow, policy("model", MODEL, 10, MONTH)]);
    let check = check_at("alice", 2).with_request_id("id");
    let first = limiter.check(&check);
    assert!(first.allowed() && !first.limits()[0].allowed);
    assert_eq!(limiter.check(&check), first);
    assert_eq!(limiter.counts(&check), [0, 2]);
}

/// R12: an id belongs to the limits' keys with which it was sent, and not to the cost.
pub fn different_checks_share_no_request_id<H: Harness>() {
    let harness = H::new();
    let policies = vec![policy("user", USER, 10, MONTH), policy("model", MODEL, 10, MONTH)];
    let limiter = Limiter::new(&harness, policies.clone());
    for user in ["alice", "bob"] {
        assert!(limiter.check(&check_at(user, 1).with_request_id("id")).allowed());
    }
    assert_eq!(limiter.counts(&check_at("alice", 1)), [1, 2]);
    assert!(limiter.check(&check_at("alice", 3).with_request_id("id")).allowed());
    assert_eq!(limiter.counts(&check_at("alice", 1)), [1, 2], "the cost makes no other check");
    let fewer = Limiter::new(&harness, policies[..1].to_vec());
    assert!(fewer.check(&check_at("alice", 1).with_request_id("id")).allowed());
    assert_eq!(fewer.counts(&check_at("alice", 1)), [2], "other limits are another check");
}

/// R8 and R12: ids and users that are the same when they are joined, whatever the separator; and ids whose only
/// difference a careless comparison would ignore.
pub fn request_ids_that_read_alike_are_different<H: Harness>() {
    let longest = "x".repeat(256);
    let mut sent: BTreeSet<(&str, &str)> =
        ["A", "a", " a", "a ", "e\u{301}", "é", &longest, &longest[1..]].map(|id| (id, "u")).into();
    for text in ["abc", "a:b:c", "{a}{b}", "a|b|c", "11:22", "a/b", "ééé", "aaaa"] {
        for cut in (1..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let (left, right) = text.split_at(cut);
            sent.extend([(left, right), (right, left), (text, left), (left, text)]);
        }
    }
    let harness = H::new();
    let policies = vec![policy("user", USER, 1_000, MONTH), policy("all", &[], 1_000, MONTH)];
    let limiter = Limiter::new(&harness, policies);
    for _ in 0..2 {
        for (id, user) in &sent {
            let check = check_at(user, 1).with_request_id(id);
            assert!(limiter.check(&check).allowed());
        }
        assert_eq!(limiter.counts(&check_at("nobody", 1)), [0, sent.len() as u64]);
    }
}

/// A peek returns what a new check would get.
pub fn a_peek_takes_no_notice_of_request_ids<H: Harness>() {
    let harness = H::new();
    let limiter = Limiter::new(&harness, vec![policy("p", USER, 1, MONTH)]);
    let check = check_at("alice", 1).with_request_id("id");
    assert!(limiter.peek(&check).allowed());
    assert!(limiter.check(&check).allowed(), "the peek left no trace");
    assert!(!limiter.peek(&check).allowed());
    assert!(limiter.check(&check).allowed());
}

/// P6: copies of the same checks sent by many threads at once.
pub fn threads_with_the_same_request_ids_charge_each_once<H: Harness>() {
    const THREADS: usize = 8;
    const IDS: u64 = 200;
    let harness = H::new();
    let policies = vec![policy("user", USER, IDS, MONTH), policy("model", MODEL, IDS, MONTH)];
    let limiter = Limiter::new(&harness, policies);
    let barrier = Barrier::new(THREADS);
    let denied: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let ids = (0..IDS).map(|id| id.to_string());
                    let denied = ids.filter(|id| {
                        let check = check_at("alice", 1).with_request_id(id);
                        !limiter.check(&check).allowed()
                    });
                    denied.count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(denied, 0, "every copy gets the admission of the first");
    assert_eq!(limiter.counts(&check_at("alice", 1)), [IDS, IDS]);
}

/// R12: the first answer stands, also if the policy was changed meanwhile. (A tier of another priority class does the same.)
pub fn a_request_id_keeps_its_answer_when_the_policy_changes<H: Harness>() {
    for way in Way::ALL {
        let harness = H::new();
        let limiter = |way: Way, amount: u64, over_limit: OverLimit| {
            let user = counted_by(way, policy("user", USER, amount, MONTH));
            Limiter::new(&harness, vec![Policy { over_limit, ..user }])
        };
        let admitted = check_at("alice", 8).with_request_id("id");
        let denied = check_at("bob", 8).with_request_id("id");
        assert!(limiter(way, 100, OverLimit::Deny).check(&admitted).allowed());
        assert!(!limiter(way, 5, OverLimit::Charge).check(&denied).allowed());
        for (other, amount) in Way::ALL.into_iter().flat_map(|way| [0, 5, 100].map(|n| (way, n))) {
            for over_limit in [OverLimit::Deny, OverLimit::Charge] {
                let limiter = limiter(other, amount, over_limit);
                let context = format!("{way:?}, then {amount} by {other:?}");
                let again = limiter.check_one(&admitted);
                assert_eq!((again.allowed, again.retry_after_ms), (true, Some(0)), "{context}");
                assert_eq!((again.count, again.remaining), (8, amount.saturating_sub(8)));
                let again = limiter.check_one(&denied);
                assert_eq!((again.allowed, again.retry_after_ms), (false, None), "{context}");
                assert_eq!(again.count, 8, "{context}");
            }
        }
        assert_eq!(limiter(way, 100, OverLimit::Deny).counts(&denied), [8], "{way:?}");
    }
}
