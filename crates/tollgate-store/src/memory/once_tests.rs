//! How many request ids are remembered, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{
    Amount, Charge, LeaseUpdate, Limit, ManualClock, Policy, Subject, Totals, Ttl,
};

use super::{MemoryStore, MemoryStoreOptions};
use crate::LeaseRequest;

/// The usage of alice after a check of cost 1 with `request_id`.
fn usage_after(store: &MemoryStore<ManualClock>, request_id: &str) -> u64 {
    let limit = Arc::new(Limit::of(&Policy::default_policy()).unwrap());
    let subject = Subject::new("alice", "gpt-4");
    let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    store.charge_once(&charges, request_id);
    store.peek(&charges)[0].usage
}

#[test]
fn at_the_bound_the_oldest_request_id_is_forgotten_and_no_other() {
    let options = MemoryStoreOptions::default().max_request_ids(3);
    let store = MemoryStore::with_clock(ManualClock::default(), &options);
    for (usage, id) in (1..).zip(["a", "b", "c", "d"]) {
        assert_eq!(usage_after(&store, id), usage);
    }
    for id in ["b", "c", "d"] {
        assert_eq!(usage_after(&store, id), 4, "{id} is remembered");
    }
    assert_eq!(usage_after(&store, "a"), 5, "the oldest was forgotten");
    assert_eq!(store.once.held(), (3, 3));
}

#[test]
fn expired_records_are_swept_also_those_behind_longer_ones() {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
    for id in 0..1_000 {
        usage_after(&store, &id.to_string());
    }
    // Only the first 100 are admitted.
    assert_eq!(store.once.held(), (100, 100));
    clock.advance(Duration::from_secs(3_599));
    store.sweep();
    assert_eq!(store.once.held(), (100, 100));
    clock.advance(Duration::from_secs(1));
    store.sweep();
    assert_eq!(store.once.held(), (0, 0));
}

#[test]
fn an_expired_record_that_is_made_anew_outlives_the_entry_of_the_old_one() {
    let clock = ManualClock::default();
    let options = MemoryStoreOptions::default().max_request_ids(2);
    let store = MemoryStore::with_clock(clock.clone(), &options);
    assert_eq!(usage_after(&store, "a"), 1);
    clock.advance(Duration::from_hours(1));
    assert_eq!(usage_after(&store, "a"), 1, "a window later it is a new check");
    assert_eq!(usage_after(&store, "b"), 2);
    assert_eq!(usage_after(&store, "a"), 2);
    assert_eq!(store.once.held(), (2, 2));
}

/// The order of records does not grow with extensions, and a record goes when its lease could not be extended any more.
#[test]
fn the_record_of_an_extended_lease_lives_on_in_one_entry() {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
    let limit = Arc::new(Limit::of(&Policy::default_policy()).unwrap());
    let subject = Subject::new("alice", "gpt-4");
    let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    let request = LeaseRequest::new(&charges, Ttl::MAX).named(Some("id"));
    let id = store.reserve(&request).lease.unwrap().id;
    for seq in 1..=100 {
        clock.advance(Duration::from_mins(59));
        let seq = Amount::new(seq).unwrap();
        let (observed, wanted) = (Totals::none(), Totals::none());
        store.update_lease(&id, &LeaseUpdate::Extend { seq, ttl: None, observed, wanted });
        if seq.get().is_multiple_of(10) {
            store.sweep();
        }
        usage_after(&store, &seq.to_string());
        assert_eq!(store.reserve(&request).lease.unwrap().id, id);
    }
    let (records, order) = store.once.held();
    assert!(records <= 4 && order <= 4, "{records} records, {order} in their order");
    clock.advance(Duration::from_hours(2));
    store.sweep();
    assert_eq!(store.once.held(), (0, 0));
    assert_ne!(store.reserve(&request).lease.unwrap().id, id);
    let id = store.reserve(&request).lease.unwrap().id;
    store.update_lease(&id, &LeaseUpdate::Release);
    usage_after(&store, "other");
    clock.advance(Duration::from_hours(2));
    store.sweep();
    assert_eq!(store.once.held(), (0, 0), "what was released is gone");
}
