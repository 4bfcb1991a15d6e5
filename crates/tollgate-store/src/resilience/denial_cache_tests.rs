use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use proptest::prelude::*;
use tollgate_core::{
    Amount, Counting, ManualClock, OnExpire, OverLimit, Per, Policy, PolicyId, Quality, Totals,
    Ttl, Unit, Window,
};
use tollgate_testkit::harness::block_on;

use super::super::scripted::{Behaviour, Parts, Scripted};
use super::*;
use crate::memory::MemoryStoreOptions;
use crate::{LeaseRequest, MemoryStore, key_bytes};

type Inner = Scripted<MemoryStore<ManualClock>>;
type Cached = DenialCache<Inner, ManualClock>;

fn limit(id: &str, scope: &str, amount: u64, seconds: u64) -> Policy {
    let per = Per::from_scope(scope).unwrap();
    let window = Window::new(Duration::from_secs(seconds)).unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(amount), window)
}

fn compiled(policy: &Policy) -> Arc<Limit> {
    Arc::new(Limit::of(policy).unwrap())
}

fn memory(clock: &ManualClock) -> MemoryStore<ManualClock> {
    MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default())
}

fn cached(max_keys: usize) -> (ManualClock, Inner, Cached) {
    let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
    let store = Scripted::new(memory(&clock));
    let cache = DenialCache::new(store.clone(), clock.clone(), max_keys, Arc::new(()));
    cache.invalidations().connected(FaultDomain::WHOLE);
    (clock, store, cache)
}

fn ask<S: Store>(store: &S, limits: &[Arc<Limit>], user: &str, cost: u64) -> Verdicts {
    ask_as(store, limits, user, cost, None)
}

fn ask_as<S: Store>(
    store: &S,
    limits: &[Arc<Limit>],
    user: &str,
    cost: u64,
    request_id: Option<&str>,
) -> Verdicts {
    let subject = Subject::new(user, "gpt-4");
    let cost = Amount::new(cost).unwrap();
    let charges: Vec<_> =
        limits.iter().map(|limit| Charge { limit, subject: &subject, cost }).collect();
    block_on(store.charge(&charges, request_id)).unwrap().verdicts
}

/// One key at 50 times its limit: the store gets at most twice as many calls as its limit in a window.
#[test]
fn a_client_that_hammers_a_spent_limit_costs_the_store_next_to_nothing() {
    let window = Window::new(Duration::from_secs(10)).unwrap();
    for counting in [Counting::Log { window }, Counting::Counter { window }] {
        let (clock, store, cache) = cached(1_000);
        let limits = [compiled(&Policy { counting, ..limit("p", "USER", 100, 10) })];
        for window in 0..5 {
            let (before, mut admitted) = (store.calls(), 0);
            for _ in 0..5_000 {
                admitted += u64::from(ask(&cache, &limits, "alice", 1)[0].allowed);
                clock.advance(Duration::from_millis(2));
            }
            // An admission, the denial after it with its wait, and occasionally a call in the last thousandth of a
            // wait.
            let asked = store.calls() - before;
            assert!(asked <= 2 * admitted + 10, "{asked} for {admitted} in window {window}");
            assert!((99..=101).contains(&admitted), "{admitted} in window {window}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Check { limits: usize, user: bool, cost: u64 },
    Reset { limit: usize, user: bool },
    Raise(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..1_500_u64).prop_map(Step::Advance),
        10 => (1..8_usize, any::<bool>(), 0..9_u64)
            .prop_map(|(limits, user, cost)| Step::Check { limits, user, cost }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(limit, user)| Step::Reset { limit, user }),
        1 => (0..9_u64).prop_map(Step::Raise),
    ]
}

proptest! {
    /// The store alone and the store behind the cache give the same answers to the same checks: who is admitted, which
    /// limits deny, for how long, and when all is reset. The checks meet several limits, including a shadow one, with
    /// costs, resets and changed limits.
    #[test]
    fn what_is_answered_here_is_what_the_store_would_answer(steps in prop::collection::vec(step(), 1..150)) {
        let (clock, _store, cache) = cached(1_000);
        let plain = memory(&clock);
        let window = Window::new(Duration::from_secs(3)).unwrap();
        let mut policies = [
            limit("user", "USER", 5, 2),
            Policy { counting: Counting::Counter { window }, ..limit("all", "GLOBAL", 8, 3) },
            Policy { mode: Mode::Shadow, ..limit("model", "MODEL", 4, 5) },
        ];
        let name = |user: bool| if user { "alice" } else { "bob" };
        for step in steps {
            match step {
                Step::Advance(ms) => clock.advance(Duration::from_millis(ms)),
                Step::Raise(amount) => policies[0].limit = Amount::new(amount),
                Step::Reset { limit, user } => {
                    let (limit, subject) = (compiled(&policies[limit]), Subject::new(name(user), "gpt-4"));
                    plain.reset(&limit, &subject);
                    block_on(cache.reset(&limit, &subject)).unwrap();
                }
                Step::Check { limits, user, cost } => {
                    let met: Vec<_> = (0..3).filter(|index| limits >> index & 1 == 1)
                        .map(|index| compiled(&policies[index])).collect();
                    let expected = ask(&plain, &met, name(user), cost);
                    let told = ask(&cache, &met, name(user), cost);
                    let say = |verdicts: &Verdicts| -> Vec<_> {
                        verdicts.iter().map(|v| (v.allowed, v.wait, v.reset_after_ns)).collect()
                    };
                    prop_assert_eq!(say(&told), say(&expected));
                }
            }
        }
    }
}

/// A store with a network delay in both directions.
#[derive(Debug)]
struct Far(MemoryStore<ManualClock>, Duration);

impl Store for Far {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.0.clock().advance(self.1);
        let answer = Store::charge(&self.0, charges, request_id).await;
        self.0.clock().advance(self.1);
        answer
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        Store::peek(&self.0, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        Store::reset(&self.0, limit, subject).await
    }
}

proptest! {
    /// Whatever the delay, no check is denied at a moment at which the store would admit it, and a client that waits as
    /// long as it was told is admitted (P12).
    #[test]
    fn the_way_to_the_store_lengthens_no_denial(way_ms in 0..50_u64, ask_after_ms in 0..12_000_u64) {
        let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
        let cache = DenialCache::new(
            Far(memory(&clock), Duration::from_millis(way_ms)), clock.clone(), 100, Arc::new(()));
        cache.invalidations().connected(FaultDomain::WHOLE);
        let limits = [compiled(&limit("p", "USER", 1, 10))];
        prop_assert!(ask(&cache, &limits, "alice", 1)[0].allowed);
        prop_assert!(!ask(&cache, &limits, "alice", 1)[0].allowed);
        clock.advance(Duration::from_millis(ask_after_ms));
        let subject = Subject::new("alice", "gpt-4");
        let charges = [Charge { limit: &limits[0], subject: &subject, cost: Amount::ONE }];
        let store_admits = cache.inner().0.peek(&charges)[0].allowed;
        let told = ask(&cache, &limits, "alice", 1)[0];
        prop_assert!(told.allowed || !store_admits);
        if let Wait::Ns(wait_ns) = told.wait {
            clock.advance(Duration::from_nanos(wait_ns));
            prop_assert!(ask(&cache, &limits, "alice", 1)[0].allowed, "waited {} ns", wait_ns);
        }
    }
}

/// A cache with one exhausted limit: its next check is denied here.
fn spent(max_keys: usize) -> (Inner, Cached, [Arc<Limit>; 1]) {
    let (_clock, store, cache) = cached(max_keys);
    let limits = [compiled(&limit("p", "USER", 1, 10))];
    for allowed in [true, false, false] {
        assert_eq!(ask(&cache, &limits, "alice", 1)[0].allowed, allowed);
    }
    assert_eq!(store.calls(), 2, "the third was answered here");
    (store, cache, limits)
}

/// The number of store calls for the next check.
fn calls_of_next(store: &Inner, cache: &Cached, limits: &[Arc<Limit>]) -> u64 {
    let before = store.calls();
    ask(cache, limits, "alice", 1);
    store.calls() - before
}

#[test]
fn a_reset_on_this_node_or_another_is_seen_at_once() {
    let subject = Subject::new("alice", "gpt-4");
    let (_store, cache, limits) = spent(1_000);
    block_on(cache.reset(&limits[0], &subject)).unwrap();
    assert!(ask(&cache, &limits, "alice", 1)[0].allowed);

    let forget: [fn(&Invalidations, &[u8]); 3] = [
        |invalidations, key| invalidations.forget(key),
        |invalidations, _| invalidations.forget_all(),
        |invalidations, _| invalidations.connected(FaultDomain::WHOLE),
    ];
    for forget in forget {
        let (store, cache, limits) = spent(1_000);
        store.store().reset(&limits[0], &subject);
        forget(&cache.invalidations(), &key_bytes(&limits[0], &subject));
        assert!(ask(&cache, &limits, "alice", 1)[0].allowed);
    }
}

#[test]
fn the_news_of_another_key_forgets_nothing() {
    let (store, cache, limits) = spent(1_000);
    cache.invalidations().forget(&key_bytes(&limits[0], &Subject::new("bob", "gpt-4")));
    assert_eq!(calls_of_next(&store, &cache, &limits), 0);
}

#[test]
fn nothing_is_answered_here_while_the_store_cannot_tell_what_changes() {
    let (store, cache, limits) = spent(1_000);
    cache.invalidations().disconnected(FaultDomain::WHOLE);
    assert_eq!(calls_of_next(&store, &cache, &limits), 1);
    assert_eq!(calls_of_next(&store, &cache, &limits), 1, "and nothing is learned");
    cache.invalidations().connected(FaultDomain::WHOLE);
    assert_eq!(calls_of_next(&store, &cache, &limits), 1);
    assert_eq!(calls_of_next(&store, &cache, &limits), 0);
}

/// An answer from before a reset may arrive after it.
#[test]
fn an_answer_from_before_a_reset_is_not_learned() {
    let (_store, cache, limits) = spent(1_000);
    let subject = Subject::new("alice", "gpt-4");
    let charges = [Charge { limit: &limits[0], subject: &subject, cost: Amount::ONE }];
    cache.invalidations().forget_all();
    let CacheLookup::Ask(asked) = cache.known.look(&charges, cache.now()) else {
        panic!("the check was not answered from the cache")
    };
    let denied = block_on(cache.inner().charge(&charges, None)).unwrap().verdicts;
    block_on(cache.reset(&limits[0], &subject)).unwrap();
    cache
        .known
        .learn(&charges, &denied, &asked, (cache.now(), cache.now()), |_| FaultDomain::WHOLE);
    assert!(ask(&cache, &limits, "alice", 1)[0].allowed);
}

/// A reset whose caller gives up may have been carried out.
#[test]
fn an_abandoned_reset_forgets_too() {
    let (store, cache, limits) = spent(1_000);
    let subject = Subject::new("alice", "gpt-4");
    store.set(Behaviour::Hangs);
    block_on(async {
        let mut reset = pin!(cache.reset(&limits[0], &subject));
        poll_fn(|context| {
            assert!(reset.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    store.set(Behaviour::Works);
    assert_eq!(calls_of_next(&store, &cache, &limits), 1);
}

/// R12 comes first: a check that was admitted gets that answer again, however exhausted the limit is.
#[test]
fn a_check_with_a_request_id_is_not_denied_here() {
    let (_clock, _store, cache) = cached(1_000);
    let limits = [compiled(&limit("p", "USER", 1, 10))];
    assert!(ask_as(&cache, &limits, "alice", 1, Some("id"))[0].allowed);
    assert!(!ask(&cache, &limits, "alice", 1)[0].allowed);
    assert!(ask_as(&cache, &limits, "alice", 1, Some("id"))[0].allowed);
}

#[test]
fn a_changed_limit_is_asked_for() {
    let (_store, cache, _) = spent(1_000);
    assert!(ask(&cache, &[compiled(&limit("p", "USER", 2, 10))], "alice", 1)[0].allowed);
}

#[test]
fn what_is_known_is_bounded_whatever_ids_arrive() {
    const MAX_KEYS: usize = 1_280;
    let (_clock, store, cache) = cached(MAX_KEYS);
    let limits = [compiled(&limit("p", "USER", 0, 10))];
    for id in 0..20_000 {
        ask(&cache, &limits, &id.to_string(), 1);
    }
    let shards = cache.known.shards.iter().map(|shard| shard.lock().unwrap());
    let held: usize = shards.map(|shard| shard.recent.len() + shard.old.len()).sum();
    assert!((MAX_KEYS / 4..=MAX_KEYS).contains(&held), "{held} keys");
    assert_eq!(store.calls(), 20_000);
}

/// If a part of the store can announce nothing, the known denials of that part are forgotten, and no others.
#[test]
fn what_is_known_of_other_domains_holds_on() {
    let store = Parts::default();
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    let cache = DenialCache::new(store.clone(), clock, 1_024, Arc::new(()));
    let invalidations = cache.invalidations();
    for domain in [Parts::LEFT, Parts::RIGHT] {
        invalidations.connected(domain);
    }
    let limit = compiled(&limit("p", "USER", 1, 60));
    let ask = |user: &str| {
        let subject = Subject::new(user, "m");
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
        let before = store.calls();
        let answer = block_on(cache.charge(&[charge], None)).unwrap();
        (answer.verdicts[0].allowed, store.calls() > before)
    };
    for user in ["left", "right"] {
        assert_eq!(
            (ask(user), ask(user), ask(user)),
            ((true, true), (false, true), (false, false))
        );
    }
    invalidations.disconnected(Parts::LEFT);
    assert_eq!((ask("left"), ask("left")), ((false, true), (false, true)), "asked every time");
    assert_eq!(ask("right"), (false, false), "still known");
    invalidations.connected(Parts::LEFT);
    assert_eq!((ask("left"), ask("left")), ((false, true), (false, false)));
}

/// After an update of a lease, the store is asked about the keys that it holds, and about no others.
#[test]
fn an_update_forgets_the_keys_of_its_lease() {
    let limits = [compiled(&limit("p", "USER", 5, 10))];
    let (_clock, store, cache) = cached(1_000);
    let is_known = |user: &str| {
        let before = store.calls();
        assert!(!ask(&cache, &limits, user, 5)[0].allowed);
        store.calls() == before
    };
    let reserve = |user: &str| {
        let subject = Subject::new(user, "gpt-4");
        let cost = Amount::new(3).unwrap();
        let charges = [Charge { limit: &limits[0], subject: &subject, cost }];
        block_on(cache.reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT)))
            .unwrap()
            .lease
            .unwrap()
            .id
    };
    let [alice, _] = ["alice", "bob"].map(reserve);
    for user in ["alice", "bob"] {
        assert_eq!((is_known(user), is_known(user)), (false, true));
    }
    let usage = Totals::none().with(Unit::Requests, Amount::ONE);
    let (seq, quality) = (Amount::ONE, Quality::Exact);
    let update = LeaseUpdate::Settle { seq, usage, quality };
    let settled = block_on(cache.update_lease(&alice, &update)).unwrap().unwrap();
    assert_eq!(settled.holds[0].usage, 1);
    assert!(is_known("bob"));
    assert_eq!((is_known("alice"), is_known("alice")), (false, true));
}

/// R19: a denied cost that is recorded reaches the store each time; one that is not, as usual once.
#[test]
fn a_cost_that_is_recorded_although_it_is_denied_is_not_answered_here() {
    let (_clock, store, cache) = cached(1_000);
    let charging = Policy { over_limit: OverLimit::Charge, ..limit("p", "USER", 1, 10) };
    let limits = [compiled(&charging), compiled(&limit("q", "USER", 1, 10))];
    for usage in 1..=5 {
        let verdicts = ask(&cache, &limits, "alice", 1);
        assert_eq!((verdicts[0].allowed, verdicts[0].usage), (usage == 1, usage));
        assert_eq!(verdicts[1].usage, 1);
        assert_eq!(store.calls(), usage);
    }
    for _ in 0..3 {
        assert!(!ask(&cache, &limits, "alice", 0)[0].allowed);
    }
    assert!(store.calls() <= 6, "a cost of 0 records nothing, so its denial may be known");
}

/// R15: nobody announces that a lease expires, so a denial by a limit to which it gives back reaches the store each time.
#[test]
fn a_limit_to_which_expired_leases_give_back_is_not_answered_here() {
    let (clock, store, cache) = cached(1_000);
    let refunds = Policy { on_expire: OnExpire::Refund, ..limit("p", "USER", 5, 100) };
    let limits = [compiled(&refunds), compiled(&limit("q", "USER", 9, 100))];
    let subject = Subject::new("alice", "gpt-4");
    let charge = |limit| Charge { limit, subject: &subject, cost: Amount::new(4).unwrap() };
    let charges = [charge(&limits[0])];
    block_on(cache.reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT))).unwrap();
    for _ in 0..3 {
        let before = store.calls();
        assert!(!ask(&cache, &limits, "alice", 2)[0].allowed);
        assert_eq!(store.calls(), before + 1);
    }
    clock.advance(Ttl::DEFAULT.as_duration());
    assert!(ask(&cache, &limits, "alice", 2)[0].allowed);
}
