//! Costs that are changed after the charge, and charges that are given back. A store that cannot do that says so, and passes
//! the other tests of this group without being asked.

use tollgate_core::{Amount, Attribute, Mode, Policy};
use tollgate_store::{Capabilities, Receipt, Settled, Store, StoreErrorKind};

use super::{MONTH, check_at, counted_by, policy};
use crate::{Harness, Limiter, Way};

const USER: &[Attribute] = &[Attribute::User];
const MODEL: &[Attribute] = &[Attribute::Model];

/// A store, if it can settle.
pub(super) fn settling<H: Harness>() -> Option<H> {
    let harness = H::new();
    harness.store().capabilities().settles.then_some(harness)
}

/// A limit of 10 per user and one of 20 per model.
fn two_limits<H: Harness>(harness: &H, way: Way) -> Limiter<'_, H> {
    let policies = [policy("user", USER, 10, MONTH), policy("model", MODEL, 20, MONTH)];
    Limiter::new(harness, policies.map(|policy| counted_by(way, policy)).to_vec())
}

pub(super) fn costs<const N: usize>(costs: [u64; N]) -> [Amount; N] {
    costs.map(|cost| Amount::new(cost).unwrap())
}

/// A store that cannot settle has empty receipts and says that it cannot.
pub fn a_store_says_whether_it_can_settle<H: Harness>() {
    let harness = H::new();
    let (store, limiter) = (harness.store(), two_limits(&harness, Way::Log));
    let (_, receipt) = limiter.charge(&check_at("alice", 3));
    let settled = harness.run(store.settle(&receipt, &costs([1, 1])));
    let settled = settled.and_then(|settled| harness.run(store.release(&settled.receipt)));
    if store.capabilities().settles {
        assert_eq!(settled.unwrap(), Settled::default());
        assert_eq!(receipt.held().count(), 2);
    } else {
        assert_eq!(store.capabilities(), Capabilities::NONE);
        assert_eq!(settled.unwrap_err().kind(), StoreErrorKind::Unsupported);
        assert!(receipt.is_empty());
    }
    assert!(limiter.check(&check_at("alice", 1)).allowed(), "the store still decides");
}

/// R14: a settled charge counts its new cost, each time.
pub fn a_settled_charge_counts_its_new_cost<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let alice = check_at("alice", 3);
        let (_, mut receipt) = limiter.charge(&alice);
        let (_, other) = limiter.charge(&check_at("bob", 1));
        for new in [[5, 5], [5, 5], [1, 9], [10, 2], [4, 4]] {
            let settled = limiter.settle(&receipt, &costs(new));
            assert!(settled.not_found.is_empty(), "{way:?}: {new:?}");
            assert_eq!(limiter.counts(&alice), [new[0], new[1] + 1], "{way:?}");
            receipt = settled.receipt;
        }
        let kept = limiter.settle(&receipt, &costs([6]));
        assert_eq!(limiter.counts(&alice), [6, 5], "a charge beyond the costs keeps its own");
        assert_eq!(kept.receipt.held().map(|held| held.cost().get()).collect::<Vec<_>>(), [6, 4]);
        limiter.settle(&other, &costs([2, 2]));
        assert_eq!(limiter.counts(&check_at("bob", 1)), [2, 6], "{way:?}");
    }
}

/// A release makes room at once, for this check and others; there is nothing left to release.
pub fn a_release_gives_the_room_back<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let (_, receipt) = limiter.charge(&check_at("alice", 10));
        assert!(!limiter.check(&check_at("alice", 1)).allowed());
        assert_eq!(limiter.release(&receipt), Settled::default());
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 0], "{way:?}");
        assert!(limiter.check(&check_at("alice", 10)).allowed(), "{way:?}");
        assert_eq!(limiter.release(&Receipt::none()), Settled::default());
    }
}

/// R14: what is used is charged, although it is above the limit.
pub fn a_settlement_may_exceed_the_limit<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let (_, receipt) = limiter.charge(&check_at("alice", 10));
        let settled = limiter.settle(&receipt, &costs([50, 15]));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [50, 15], "{way:?}");
        assert!(!limiter.check(&check_at("alice", 1)).allowed());
        assert!(limiter.check(&check_at("bob", 5)).allowed());
        assert!(limiter.settle(&settled.receipt, &costs([9, 9])).not_found.is_empty());
        assert!(limiter.check(&check_at("alice", 1)).allowed(), "{way:?}");
    }
}

/// A receipt names what was charged and nothing else.
pub fn what_was_not_charged_is_not_in_the_receipt<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        let shadow = Policy { mode: Mode::Shadow, ..policy("tried", MODEL, 3, MONTH) };
        let policies = [shadow, policy("user", USER, 10, MONTH)];
        let policies = policies.map(|policy| counted_by(way, policy)).to_vec();
        let limiter = Limiter::new(&harness, policies);
        let charged_to = |cost: u64| -> Vec<usize> {
            let (_, receipt) = limiter.charge(&check_at("alice", cost));
            receipt.held().map(|held| held.place()).collect()
        };
        assert_eq!(charged_to(0), [0; 0], "{way:?}: a cost of 0");
        assert_eq!(charged_to(3), [0, 1], "{way:?}");
        assert_eq!(charged_to(4), [1], "{way:?}: the shadow limit denies");
        assert_eq!(charged_to(4), [0; 0], "{way:?}: a denial");
    }
}

/// The bytes of a receipt are as good as the receipt.
pub fn a_receipt_can_be_settled_from_its_bytes<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        if !harness.store().capabilities().settles_from_elsewhere {
            return;
        }
        let limiter = two_limits(&harness, way);
        let (_, receipt) = limiter.charge(&check_at("alice", 3));
        let read = Receipt::from_bytes(receipt.as_bytes()).unwrap();
        assert!(read.held().all(|held| held.unit() == b"requests"));
        assert!(limiter.settle(&read, &costs([2, 1])).not_found.is_empty());
        assert_eq!(limiter.counts(&check_at("alice", 1)), [2, 1], "{way:?}");
    }
}

/// R12: a request id that is seen again, also at another cost, gets the first receipt.
pub fn a_request_id_keeps_its_first_receipt<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        if !harness.store().capabilities().keeps_receipts {
            return;
        }
        let limiter = two_limits(&harness, way);
        let (_, first) = limiter.charge(&check_at("alice", 3).with_request_id("id"));
        limiter.check(&check_at("alice", 1));
        let (_, again) = limiter.charge(&check_at("alice", 7).with_request_id("id"));
        assert_eq!(first, again, "{way:?}");
        limiter.settle(&again, &costs([2, 2]));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [3, 3], "{way:?}");
        let (_, again) = limiter.charge(&check_at("alice", 3).with_request_id("id"));
        assert_eq!(first, again, "{way:?}: a settlement does not make it a new check");
    }
}

/// What was reset is gone.
pub fn a_reset_leaves_nothing_to_settle<H: Harness>() {
    for way in Way::ALL {
        let Some(harness) = settling::<H>() else { return };
        let limiter = two_limits(&harness, way);
        let (_, receipt) = limiter.charge(&check_at("alice", 3));
        limiter.reset(&check_at("alice", 1));
        let settled = limiter.settle(&receipt, &costs([5, 5]));
        assert_eq!((settled.not_found.as_slice(), settled.receipt.is_empty()), (&[0, 1][..], true));
        assert_eq!(limiter.counts(&check_at("alice", 1)), [0, 0], "{way:?}");
    }
}
