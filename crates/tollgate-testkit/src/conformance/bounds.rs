//! The number of keys stays bounded (R9, P10): idle keys are removed, and a cap holds whatever ids arrive.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Amount, Attribute, Charge, Limit, Subject};

use super::{MONTH, START, check_at, counted_by, policy};
use crate::limiter::charge;
use crate::{BoundedKeys, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];

/// From the start of the clock to the next full hour.
const HOUR_ENDS_AFTER_S: u64 = 3_600 - START.as_ns() / 1_000_000_000 % 3_600;

/// A key is removed when its usage no longer counts, and not before.
pub fn idle_keys_are_swept<H: BoundedKeys>() {
    const KEYS: u64 = 10_000;
    // A log is idle a window after its last admission; a counter when the window after that has ended; a token bucket when
    // it is full, which is noticed at the end of a window; a calendar at the end of the period.
    for (way, last_s) in Way::ALL.into_iter().zip([10, 20, 10, HOUR_ENDS_AFTER_S]) {
        let harness = H::new();
        harness.set(START);
        let one_limit = counted_by(way, policy("p", USER, 8, Duration::from_secs(10)));
        let limiter = Limiter::new(&harness, vec![one_limit]);
        for key in 0..KEYS {
            // Logs of every form: short, long and weighted.
            let (times, cost) = [(1, 1), (6, 1), (2, 3)][usize::try_from(key % 3).unwrap()];
            for _ in 0..times {
                assert!(limiter.check(&check_at(&key.to_string(), cost)).allowed());
            }
        }
        let keys_at = |after: Duration| {
            harness.set(START.after(after));
            harness.sweep();
            harness.keys()
        };
        let last = Duration::from_secs(last_s);
        assert_eq!(
            keys_at(Duration::from_millis(last_s * 1_000 - 1)),
            KEYS,
            "{way:?}: still counting"
        );
        assert_eq!(keys_at(last), 0, "{way:?}");
        assert_eq!(harness.evicted(), 0);
    }
}

/// Denied checks need no memory: an attacker cannot fill the store with denials.
pub fn denied_checks_and_peeks_add_no_key<H: BoundedKeys>() {
    for way in Way::ALL {
        let harness = H::new();
        harness.set(START);
        let policies = vec![
            counted_by(way, policy("banned", USER, 0, MONTH)),
            counted_by(way, policy("other", &[Attribute::User, Attribute::Model], 5, MONTH)),
        ];
        let limiter = Limiter::new(&harness, policies);
        for user in 0..1_000 {
            let user = user.to_string();
            limiter.peek(&check_at(&user, 1));
            assert!(!limiter.check(&check_at(&user, 1)).allowed());
        }
        assert_eq!(harness.keys(), 0);
    }
}

/// P10: two million ids, a cap of ten thousand keys.
pub fn the_cap_on_keys_holds_under_a_flood_of_ids<H: BoundedKeys>() {
    const CAP: usize = 10_000;
    const IDS: u64 = 2_000_000;
    let harness = H::with_max_keys(CAP);
    harness.set(START);
    let limit = Arc::new(Limit::of(&policy("p", USER, 1, MONTH)).unwrap());
    for id in 0..IDS {
        let user = id.to_string();
        let subject = Subject::empty().with(&Attribute::User, &user);
        let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
        assert!(charge(&harness, &charges)[0].allowed, "a new id is not locked out");
        if id % 10_000 == 0 {
            assert!(harness.keys() <= CAP as u64, "{} keys", harness.keys());
        }
    }
    let (keys, evicted) = (harness.keys(), harness.evicted());
    assert!((CAP as u64 / 2..=CAP as u64).contains(&keys), "{keys} keys");
    assert_eq!(keys + evicted, IDS, "every key that counted and is gone was counted as evicted");
}
