//! What a limit takes from its policy.

use std::collections::HashSet;

use tollgate_core::{
    Amount, Calendar, Counting, FailureMode, Limit, Mode, Per, Policy, PolicyId, PolicySet,
    PriorityClass, Share, Unit, Window, Zone,
};

#[expect(clippy::unwrap_used, reason = "the names and numbers are right")]
fn policy(id: &str) -> Policy {
    let per = Per::from_scope("USER_MODEL").unwrap();
    let window = Window::new(std::time::Duration::from_secs(90)).unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(100), window)
}

#[test]
fn a_limit_says_what_its_policy_says() {
    let policy = policy("p");
    let window = policy.counting.window().unwrap();
    for mode in [Mode::Enforce, Mode::Shadow] {
        for on_store_error in [None, Some(FailureMode::Deny), Some(FailureMode::Allow)] {
            let bucket = Counting::Bucket { window, refill: Amount::ONE };
            let day = Counting::Calendar { calendar: Calendar::Day, zone: Zone::utc() };
            for counting in [Counting::Log { window }, Counting::Counter { window }, bucket, day] {
                let unit = Unit::Tokens;
                let policy =
                    Policy { mode, on_store_error, counting, unit: unit.clone(), ..policy.clone() };
                let limit = Limit::of(&policy).unwrap();
                assert_eq!(limit.policy_id(), &policy.id);
                assert_eq!((limit.per(), limit.scope()), (&policy.per, "USER_MODEL"));
                assert_eq!((limit.unit(), limit.counting()), (&unit, counting));
                assert_eq!((limit.mode(), limit.on_store_error()), (mode, on_store_error));
                assert_eq!((limit.amount().get(), limit.class_share()), (100, None));
            }
        }
    }
    assert!(Limit::of(&Policy { limit: None, ..policy }).is_none(), "it exempts");
    assert!((window.as_seconds() - 90.0).abs() < 1e-9);
}

#[test]
fn a_class_with_a_share_knows_what_it_is_a_part_of() {
    let mut policy = policy("p");
    let half = Share::of_millionths(500_000).unwrap();
    assert!(policy.shares.is_empty());
    policy.shares.set(PriorityClass::Batch, half);
    assert!(!policy.shares.is_empty());
    let limits = Limit::of_classes(&policy).unwrap();
    let batch = &limits[PriorityClass::Batch.index()];
    let part = batch.class_share().unwrap();
    assert_eq!((part.class, part.share, part.whole.get()), (PriorityClass::Batch, half, 100));
    assert_eq!(batch.amount().get(), 50);
    let premium = &limits[PriorityClass::Premium.index()];
    assert_eq!((premium.amount().get(), premium.class_share()), (100, None));
    // An equal share is no inversion, a greater one is.
    policy.shares.set(PriorityClass::Standard, half);
    assert_eq!(policy.shares.inversion(), None);
    let less = Share::of_millionths(499_999).unwrap();
    policy.shares.set(PriorityClass::Standard, less);
    let inverted = (PriorityClass::Batch, PriorityClass::Standard);
    assert_eq!(policy.shares.inversion(), Some(inverted));
}

#[test]
fn policy_tags_tell_policies_apart_in_each_half() {
    let tags: Vec<u128> =
        (0..1_000).map(|n| Limit::of(&policy(&format!("p{n}"))).unwrap().policy_tag()).collect();
    let halves = |shift: u32| tags.iter().map(move |tag| tag >> shift & u128::from(u64::MAX));
    for shift in [0, 64] {
        assert_eq!(halves(shift).collect::<HashSet<_>>().len(), tags.len());
    }
    assert!(tags.iter().all(|tag| tag >> 64 != tag & u128::from(u64::MAX)));
    assert_eq!(Limit::of(&policy("p7")).unwrap().policy_tag(), tags[7]);
}

#[test]
fn a_set_lists_the_limits_of_its_enabled_policies() {
    let off = Policy { enabled: false, ..policy("off") };
    let exempt = Policy { limit: None, ..policy("exempt") };
    let set = PolicySet::new(vec![policy("a"), off, exempt, policy("b")]).unwrap();
    let ids: Vec<_> = set.limits().map(|limit| limit.policy_id().as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    let of_classes: Vec<_> = set.limits_of_classes().map(<[_]>::len).collect();
    assert_eq!(of_classes, [PriorityClass::ALL.len(); 2]);
}
