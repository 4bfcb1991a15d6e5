//! Denials that a node knows, and how other nodes learn that they do not hold any more.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Charge, Limit, ManualClock, Subject, Timestamp};
use tollgate_memcached::MemcachedStore;
use tollgate_store::Store;
use tollgate_testkit::Way;
use tollgate_testkit::memcached::MemcachedServer;

use crate::support::{RUNTIME, charge_of, limit_of, per_hour, store_at};

fn allowed(store: &MemcachedStore, charges: &[Charge<'_>]) -> bool {
    let decided = RUNTIME.block_on(store.charge(charges, None)).unwrap();
    tollgate_store::admits(charges, &decided.verdicts)
}

/// The commands about values that memcached has run.
fn commands(server: &MemcachedServer) -> u64 {
    ["cmd_get", "cmd_set", "cmd_meta"].map(|name| server.stat(name)).iter().sum()
}

/// A key at 50 times its limit, from one node: its denials reach memcached at most twice in a window.
#[test]
fn a_client_that_hammers_a_spent_limit_costs_memcached_nothing() {
    const LIMIT: u64 = 100;
    let server = MemcachedServer::start();
    let clock = ManualClock::at(Timestamp::from_ms(1_800_000_000_000));
    let store = store_at(&server.url()).with_clock(Arc::new(clock.clone()));
    RUNTIME.block_on(store.hear());
    for way in Way::ALL {
        let limit = limit_of(&format!("{way:?}"), "USER", LIMIT, Duration::from_hours(1), way);
        let subject = Subject::new("alice", "m");
        let charge = [charge_of(&limit, &subject, 1)];
        let admitted = (0..LIMIT).all(|_| allowed(&store, &charge));
        assert!(admitted, "{way:?}");
        let before = commands(&server);
        for _ in 0..50 * LIMIT {
            assert!(!allowed(&store, &charge), "{way:?}");
        }
        // Another cost, and a check of several limits.
        let (other, costly) = (per_hour(1_000_000), charge_of(&limit, &subject, 3));
        let several = [charge_of(&other, &subject, 1), costly];
        for _ in 0..LIMIT {
            assert!(!allowed(&store, &[costly]) && !allowed(&store, &several), "{way:?}");
        }
        let asked = commands(&server) - before;
        assert!(asked <= 2, "{way:?}: {asked}");
        clock.advance(Duration::from_hours(2));
        assert!(allowed(&store, &charge), "{way:?}: after the window");
    }
}

/// The wait of a denial that is known is exact: it is asked again when it is over, and not a moment earlier.
#[test]
fn a_known_denial_ends_with_its_wait() {
    let server = MemcachedServer::start();
    let start = Timestamp::from_ms(1_800_000_000_000);
    let clock = ManualClock::at(start);
    let store = store_at(&server.url()).with_clock(Arc::new(clock.clone()));
    RUNTIME.block_on(store.hear());
    let (limit, subject) = (per_hour(1), Subject::new("alice", "m"));
    let charge = [charge_of(&limit, &subject, 1)];
    assert!(allowed(&store, &charge));
    clock.set(start.after(Duration::from_hours(1)).before(Duration::from_micros(1)));
    let verdict = RUNTIME.block_on(store.charge(&charge, None)).unwrap().verdicts[0];
    assert_eq!(verdict.wait, tollgate_core::counting::Wait::Ns(1_000));
    clock.advance(Duration::from_micros(1));
    assert!(allowed(&store, &charge));
}

/// Nobody would tell this node that it does not hold any more.
#[test]
fn a_node_that_does_not_listen_asks_every_time() {
    let server = MemcachedServer::start();
    let [here, there] = [(); 2].map(|()| store_at(&server.url()));
    let (limit, subject) = (per_hour(1), Subject::new("alice", "m"));
    let charge = [charge_of(&limit, &subject, 1)];
    assert!(allowed(&here, &charge) && !allowed(&here, &charge));
    RUNTIME.block_on(there.reset(&limit, &subject)).unwrap();
    assert!(allowed(&here, &charge));
}

/// Waits until `here` admits, which it does as soon as it has read what was announced.
fn admits_soon(here: &MemcachedStore, charges: &[Charge<'_>]) {
    for _ in 0..1_000 {
        if allowed(here, charges) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the node has not heard that usage was given back");
}

fn listening(server: &MemcachedServer) -> MemcachedStore {
    let store = store_at(&server.url());
    RUNTIME.block_on(store.hear());
    RUNTIME.spawn(store.clone().listen());
    store
}

/// A reset on one node takes effect on all.
#[test]
fn a_reset_is_told_to_every_node() {
    let server = MemcachedServer::start();
    let (here, there) = (listening(&server), store_at(&server.url()));
    let (limit, subject) = (per_hour(1), Subject::new("alice", "m"));
    let charge = [charge_of(&limit, &subject, 1)];
    for _ in 0..3 {
        admits_soon(&here, &charge);
        assert!(!allowed(&here, &charge));
        RUNTIME.block_on(there.reset(&limit, &subject)).unwrap();
    }
}

/// What a denied check had charged to its other limits is given back, and every node learns it.
#[test]
fn a_charge_taken_back_is_told_to_every_node() {
    let server = MemcachedServer::start();
    let (here, there) = (listening(&server), store_at(&server.url()));
    let by_model = limit_of("m", "MODEL", 2, Duration::from_hours(1), Way::Log);
    let by_user = per_hour(1);
    let (alice, bob) = (Subject::new("alice", "m"), Subject::new("bob", "m"));
    let both = |subject| [charge_of(&by_model, subject, 1), charge_of(&by_user, subject, 1)];
    assert!(allowed(&there, &both(&alice)));
    // The model's limit is charged, the user's limit denies, and the charge is refunded.
    assert!(!allowed(&there, &both(&alice)));
    let charge = [charge_of(&by_model, &bob, 1)];
    admits_soon(&here, &charge);
    assert!(!allowed(&here, &charge), "no more than the limit");
}

/// A limit that was raised, or counts otherwise now, is asked for.
#[test]
fn a_changed_policy_is_asked_for() {
    let server = MemcachedServer::start();
    let store = store_at(&server.url());
    RUNTIME.block_on(store.hear());
    let subject = Subject::new("alice", "m");
    let check = |limit: &Arc<Limit>| allowed(&store, &[charge_of(limit, &subject, 1)]);
    assert!(check(&per_hour(1)) && !check(&per_hour(1)));
    assert!(check(&per_hour(2)) && !check(&per_hour(2)), "raised");
    let counted = limit_of("p", "USER", 1, Duration::from_hours(1), Way::Counter);
    assert!(check(&counted) && !check(&counted), "its usage starts at 0");
}
