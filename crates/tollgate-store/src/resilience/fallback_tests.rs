use crate::LeaseRequest;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::{
    ManualClock, Mode, OverLimit, Per, Policy, PolicyId, Quality, Timestamp, Totals, Ttl, Unit,
    Window,
};
use tollgate_testkit::harness::block_on;

use super::super::scripted::{Behaviour, Scripted, some_lease};
use super::*;

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn limit(id: &str, amount: u64, mode: Option<FailureMode>) -> Arc<Limit> {
    let per = Per::from_scope("USER").unwrap();
    let window = Window::new(SECOND).unwrap();
    let mut policy = Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(amount), window);
    policy.on_store_error = mode;
    Arc::new(Limit::of(&policy).unwrap())
}

fn shadow(id: &str, amount: u64, mode: FailureMode) -> Arc<Limit> {
    let mut policy = Policy::default_policy();
    policy.id = PolicyId::new(id).unwrap();
    policy.limit = Amount::new(amount);
    policy.mode = Mode::Shadow;
    policy.on_store_error = Some(mode);
    Arc::new(Limit::of(&policy).unwrap())
}

/// One of `nodes`, whose store fails.
fn node(mode: FailureMode, nodes: u32) -> (Scripted, Fallback<Scripted, ManualClock>) {
    let store = Scripted::new(MemoryStore::new());
    store.set(Behaviour::Unavailable);
    let nodes = NonZeroU32::new(nodes).unwrap();
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    (store.clone(), Fallback::new(store, clock, mode, nodes, Arc::new(())))
}

fn charge_as(
    fallback: &Fallback<Scripted, ManualClock>,
    limits: &[&Arc<Limit>],
    cost: u64,
    request_id: Option<&str>,
) -> Charged {
    let subject = Subject::new("alice", "gpt-4");
    let cost = Amount::new(cost).unwrap();
    let charges: Vec<_> =
        limits.iter().map(|limit| Charge { limit, subject: &subject, cost }).collect();
    block_on(fallback.charge(&charges, request_id)).unwrap()
}

fn charge(
    fallback: &Fallback<Scripted, ManualClock>,
    limits: &[&Arc<Limit>],
    cost: u64,
) -> Charged {
    charge_as(fallback, limits, cost, None)
}

/// R11: the policy's mode, or else the server's; results that need no store are the same in every mode.
#[test]
fn a_failed_store_is_answered_for_by_the_mode_of_each_limit() {
    use FailureMode::{Allow, Deny, Local};
    // The server's mode, the policy's mode, limit and cost; then whether it admits, its usage and its wait.
    let cases = [
        (Allow, None, 10, 1, (true, 0, Wait::None)),
        (Deny, None, 10, 1, (false, 10, Wait::Unknown)),
        (Local, None, 10, 1, (true, 6, Wait::None)),
        (Allow, Some(Deny), 10, 1, (false, 10, Wait::Unknown)),
        (Deny, Some(Allow), 10, 1, (true, 0, Wait::None)),
        (Deny, Some(Local), 10, 5, (true, 10, Wait::None)),
        (Allow, None, 0, 1, (false, 0, Wait::Never)),
        (Allow, None, 10, 11, (false, 0, Wait::Never)),
        (Local, None, 10, 11, (false, 0, Wait::Never)),
        // Above this node's share of 5, but not above the limit.
        (Local, None, 10, 6, (false, 5, Wait::Unknown)),
        // A share of 0.
        (Local, None, 1, 1, (false, 1, Wait::Unknown)),
    ];
    for (server, policy, amount, cost, expected) in cases {
        let (_store, fallback) = node(server, 2);
        let charged = charge(&fallback, &[&limit("p", amount, policy)], cost);
        let verdict = charged.verdicts[0];
        let case = format!("{server:?} {policy:?} {amount} {cost}");
        assert_eq!((verdict.allowed, verdict.usage, verdict.wait), expected, "{case}");
        assert!(charged.degraded, "{case}");
    }
}

#[test]
fn a_store_that_works_decides_by_itself() {
    let (store, fallback) = node(FailureMode::Deny, 1);
    store.set(Behaviour::Works);
    let charged = charge(&fallback, &[&limit("p", 10, None)], 1);
    assert!(charged.verdicts[0].allowed && !charged.degraded);
}

/// P5: whatever the limit and the number of nodes, all of them together stay within it in each window.
#[test]
fn nodes_that_decide_locally_admit_together_at_most_the_limit() {
    for (amount, nodes) in [(100, 1), (100, 3), (100, 7), (7, 3), (3, 3), (2, 3), (1, 5)] {
        let limit = limit("p", amount, Some(FailureMode::Local));
        let mut admitted = 0;
        for _ in 0..nodes {
            let (_store, fallback) = node(FailureMode::Allow, nodes);
            for _ in 0..2 * amount {
                admitted += u64::from(charge(&fallback, &[&limit], 1).verdicts[0].allowed);
            }
        }
        assert_eq!(admitted, amount / u64::from(nodes) * u64::from(nodes), "{amount} {nodes}");
    }
}

/// R6 and R9 for the local share: a denial waits until this node's admissions leave the window.
#[test]
fn a_local_denial_says_when_this_node_admits_again() {
    let (_store, fallback) = node(FailureMode::Local, 2);
    let limit = limit("p", 4, None);
    for _ in 0..2 {
        assert!(charge(&fallback, &[&limit], 1).verdicts[0].allowed);
    }
    let denied = charge(&fallback, &[&limit], 1).verdicts[0];
    assert_eq!((denied.usage, denied.wait), (4, Wait::Ns(1_000_000_000)));
    fallback.local.clock().advance(SECOND);
    assert!(charge(&fallback, &[&limit], 1).verdicts[0].allowed);
}

/// R3: if a limit denies, the local ones are not charged; a shadow limit that denies does not prevent it (R10).
#[test]
fn a_check_over_several_modes_is_charged_all_or_nothing() {
    let (_store, fallback) = node(FailureMode::Allow, 1);
    let local = limit("local", 2, Some(FailureMode::Local));
    let deny = limit("deny", 2, Some(FailureMode::Deny));
    for _ in 0..10 {
        let denied = charge(&fallback, &[&local, &deny], 1).verdicts;
        assert_eq!((denied[0].allowed, denied[0].usage, denied[1].allowed), (true, 0, false));
    }
    let tried = shadow("tried", 2, FailureMode::Deny);
    let open = limit("open", 2, Some(FailureMode::Allow));
    for expected in [(true, 1), (true, 2), (false, 2)] {
        let verdicts = charge(&fallback, &[&tried, &local, &open], 1).verdicts;
        assert_eq!((verdicts[1].allowed, verdicts[1].usage), expected);
        assert!(!verdicts[0].allowed && verdicts[2].allowed);
    }
}

/// R12 without the store.
#[test]
fn a_request_id_is_charged_once_to_the_local_share() {
    let (_store, fallback) = node(FailureMode::Local, 1);
    let limit = limit("p", 2, None);
    let first = charge_as(&fallback, &[&limit], 1, Some("id"));
    assert_eq!(charge_as(&fallback, &[&limit], 1, Some("id")), first);
    assert_eq!(charge(&fallback, &[&limit], 1).verdicts[0].usage, 2);
}

#[test]
fn a_degraded_peek_changes_nothing() {
    let (_store, fallback) = node(FailureMode::Local, 1);
    let (limit, subject) = (limit("p", 2, None), Subject::new("alice", "gpt-4"));
    let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    for _ in 0..5 {
        let peeked = block_on(fallback.peek(&charges)).unwrap();
        assert!(peeked.degraded);
        assert_eq!((peeked.verdicts[0].allowed, peeked.verdicts[0].usage), (true, 0));
    }
}

#[test]
fn a_reset_that_the_store_did_not_take_is_an_error() {
    let (store, fallback) = node(FailureMode::Allow, 1);
    let (limit, subject) = (limit("p", 2, None), Subject::new("alice", "gpt-4"));
    assert!(block_on(fallback.reset(&limit, &subject)).is_err());
    store.set(Behaviour::Works);
    assert!(block_on(fallback.reset(&limit, &subject)).is_ok());
}

/// Counts the events.
#[derive(Debug, Default)]
struct Counting {
    failed: AtomicU64,
    by_mode: [AtomicU64; 3],
}

// Relaxed: there is only one thread.
impl StoreObserver for Counting {
    fn failed(&self, _: &StoreError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn degraded(&self, mode: FailureMode) {
        self.by_mode[mode as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// P5: each degraded decision is counted, once for each mode of its limits.
#[test]
fn degraded_decisions_are_counted_by_mode() {
    let store = Scripted::new(MemoryStore::new());
    let counting = Arc::new(Counting::default());
    let observer: Arc<dyn StoreObserver> = Arc::<Counting>::clone(&counting);
    let fallback = Fallback::new(
        store.clone(),
        ManualClock::default(),
        FailureMode::Allow,
        NonZeroU32::MIN,
        observer,
    );
    let (open, closed) = (limit("a", 9, None), limit("b", 9, Some(FailureMode::Deny)));
    charge(&fallback, &[&open, &closed], 1);
    store.set(Behaviour::HasForeignKey);
    charge(&fallback, &[&open, &closed, &open], 1);
    charge(&fallback, &[&open], 1);
    let counts = counting.by_mode.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!((counting.failed.load(Ordering::Relaxed), counts), (2, [2, 1, 0]));
}

/// A caller must not believe that something was given back when it was not.
#[test]
fn a_settlement_fails_with_the_store() {
    let (store, fallback) = node(FailureMode::Local, 1);
    let release = || block_on(fallback.update_lease(&some_lease(), &LeaseUpdate::Release));
    assert!(release().is_err());
    store.set(Behaviour::Works);
    assert!(release().unwrap().is_none());
}

/// A lease that was reserved without the store is kept by the node: it holds the local shares only, and is settled here also
/// when the store is back.
#[test]
fn a_reservation_without_the_store_holds_the_local_shares() {
    let (store, fallback) = node(FailureMode::Allow, 2);
    let subject = Subject::new("alice", "gpt-4");
    let (local, open) = (limit("a", 10, Some(FailureMode::Local)), limit("b", 10, None));
    let reserve = |limits: &[&Arc<Limit>], cost: u64| {
        let cost = Amount::new(cost).unwrap();
        let charges: Vec<_> =
            limits.iter().map(|limit| Charge { limit, subject: &subject, cost }).collect();
        block_on(fallback.reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT))).unwrap()
    };
    let reserved = reserve(&[&local, &open], 5);
    assert!(reserved.degraded && reserved.verdicts.iter().all(|one| one.allowed));
    assert_eq!(reserved.verdicts[0].usage, 10, "its share, and those of the others");
    let id = reserved.lease.unwrap().id;
    let denied = reserve(&[&local, &open], 1);
    assert!(denied.lease.is_none() && !denied.verdicts[0].allowed);
    let closed = limit("c", 10, Some(FailureMode::Deny));
    assert!(reserve(&[&closed], 1).lease.is_none());
    assert!(reserve(&[&open], 1).lease.is_some(), "a lease that holds nothing");
    store.set(Behaviour::Works);
    let usage = Totals::none().with(Unit::Requests, Amount::ONE);
    let (seq, quality) = (Amount::ONE, Quality::Exact);
    let settled =
        block_on(fallback.update_lease(&id, &LeaseUpdate::Settle { seq, usage, quality }));
    let settled = settled.unwrap().unwrap();
    assert_eq!(settled.holds.iter().map(|hold| hold.charged).collect::<Vec<_>>(), [1]);
    store.set(Behaviour::Unavailable);
    assert!(reserve(&[&local], 4).lease.is_some(), "the room is back");
}

/// R19: local usage takes what is denied, whichever limit denies, and once per request id.
#[test]
fn a_local_limit_records_denied_costs() {
    let charging = |id, amount, mode| {
        let policy = Policy {
            id: PolicyId::new(id).unwrap(),
            limit: Amount::new(amount),
            on_store_error: Some(mode),
            over_limit: OverLimit::Charge,
            ..Policy::default_policy()
        };
        Arc::new(Limit::of(&policy).unwrap())
    };
    let (_store, fallback) = node(FailureMode::Local, 1);
    let usage =
        |charged: &Charged| charged.verdicts.iter().map(|one| one.usage).collect::<Vec<_>>();
    let local = charging("p", 10, FailureMode::Local);
    let above = charge(&fallback, &[&local], 11);
    assert_eq!((above.verdicts[0].allowed, above.verdicts[0].wait), (false, Wait::Never));
    assert_eq!(usage(&above), [11]);
    assert_eq!(usage(&charge(&fallback, &[&local], 1)), [12]);
    let denying = charging("q", 10, FailureMode::Deny);
    for _ in 0..2 {
        let charged = charge_as(&fallback, &[&local, &denying], 2, Some("id"));
        assert_eq!(usage(&charged), [14, 10], "recorded once");
    }
    assert_eq!(usage(&charge(&fallback, &[&local, &denying], 2)), [16, 10]);
    let plain = limit("r", 10, Some(FailureMode::Local));
    assert_eq!(usage(&charge(&fallback, &[&plain, &denying], 2)), [0, 10]);
}
