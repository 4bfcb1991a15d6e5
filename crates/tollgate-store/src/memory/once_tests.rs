//! How many request ids are remembered, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Amount, Charge, Limit, ManualClock, Policy, Subject};

use super::{MemoryStore, MemoryStoreOptions};

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
