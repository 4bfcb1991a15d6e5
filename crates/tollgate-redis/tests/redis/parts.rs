//! Parts of limits that nodes take ahead of time (R22), in a real Redis: what is charged, given back and announced, and that several
//! nodes never admit more than the limit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::{
    Amount, Charge, Limit, ManualClock, MonotonicClock, Per, Policy, PolicyId, Share, Split,
    Subject, Timestamp, Window,
};
use tollgate_redis::RedisStore;
use tollgate_store::resilience::{PartEvent, ResilienceOptions, Resilient, StoreObserver};
use tollgate_store::{Store, StoreErrorKind, Taken};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{Fault, Proxy, RedisCluster, RedisServer};

use crate::support::{RUNTIME, limit_of, store_at};

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);
const WINDOW: Duration = Duration::from_secs(100);

fn amount(amount: u64) -> Amount {
    Amount::new(amount).unwrap()
}

fn charge<'a>(limit: &'a Arc<Limit>, subject: &'a Subject<'a>, cost: u64) -> Charge<'a> {
    Charge { limit, subject, cost: amount(cost) }
}

fn split_limit(limit: u64) -> Arc<Limit> {
    let (id, per) = (PolicyId::new("hot").unwrap(), Per::from_scope("GLOBAL").unwrap());
    let split = Split::new(Share::of_millionths(50_000).unwrap());
    let policy = Policy::new(id, per, Some(amount(limit)), Window::new(WINDOW).unwrap());
    Arc::new(Limit::of(&Policy { split, ..policy }).unwrap())
}

/// A store in virtual time, and the limit of 20 of which its tests take parts.
struct Run {
    _server: RedisServer,
    store: RedisStore,
    clock: Arc<ManualClock>,
    limit: Arc<Limit>,
}

impl Run {
    fn new() -> Self {
        let (server, clock) = (RedisServer::start(), Arc::new(ManualClock::default()));
        let store = store_at(&server.url()).with_test_clock(clock.clone()).with_hint(clock.clone());
        let run = Self {
            _server: server,
            store,
            clock,
            limit: limit_of("p", "USER", 20, WINDOW, Way::Log),
        };
        run.at(0);
        run
    }

    fn at(&self, ms: u64) {
        self.clock.set(START.after(Duration::from_millis(ms)));
    }

    fn take(&self, cost: u64) -> Taken {
        let subject = Subject::new("alice", "gpt-4");
        RUNTIME.block_on(self.store.take(&charge(&self.limit, &subject, cost))).unwrap()
    }

    fn give_back(&self, taken: &Taken, unused: u64) {
        let part = taken.part.as_ref().unwrap();
        RUNTIME.block_on(self.store.give_back(part, amount(unused))).unwrap();
    }

    fn usage(&self) -> u64 {
        let subject = Subject::new("alice", "gpt-4");
        let peeked = RUNTIME.block_on(self.store.peek(&[charge(&self.limit, &subject, 1)]));
        peeked.unwrap().verdicts[0].usage
    }
}

#[test]
fn a_part_is_given_back_once_at_its_time() {
    let run = Run::new();
    let taken = run.take(10);
    assert_eq!((taken.verdict.allowed, taken.verdict.usage, run.usage()), (true, 10, 10));
    run.at(5_000);
    let denied = run.take(11);
    assert!(!denied.verdict.allowed && denied.part.is_none());
    for _ in 0..2 {
        run.give_back(&taken, 4);
        assert_eq!(run.usage(), 6, "what is repeated changes nothing");
    }
    let second = run.take(14);
    assert_eq!(run.usage(), 20);
    run.give_back(&second, 14);
    assert_eq!(run.usage(), 6);
    // The rest leaves a window after it was taken.
    run.at(99_999);
    assert_eq!(run.usage(), 6);
    run.at(100_000);
    assert_eq!(run.usage(), 0);
    run.give_back(&taken, 4);
    assert_eq!(run.usage(), 0, "what has left cannot be given back");
}

#[test]
fn a_part_that_was_reset_gives_nothing_back() {
    let run = Run::new();
    let taken = run.take(10);
    let subject = Subject::new("alice", "gpt-4");
    RUNTIME.block_on(run.store.reset(&run.limit, &subject)).unwrap();
    run.at(1);
    run.take(10);
    run.give_back(&taken, 10);
    assert_eq!(run.usage(), 10);
}

#[test]
fn only_a_log_gives_parts() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    assert!(store.capabilities().parts);
    let limit = limit_of("c", "USER", 20, WINDOW, Way::Counter);
    let subject = Subject::new("alice", "gpt-4");
    let error = RUNTIME.block_on(store.take(&charge(&limit, &subject, 1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
}

/// What is spent from parts.
#[derive(Debug, Default)]
struct Units(Mutex<[u64; 5]>);

impl Units {
    fn of(&self, event: PartEvent) -> u64 {
        self.0.lock().unwrap()[event as usize]
    }
}

impl StoreObserver for Units {
    fn parts_changed(&self, event: PartEvent, units: u64) {
        self.0.lock().unwrap()[event as usize] += units;
    }
}

type Node = Resilient<RedisStore, Arc<MonotonicClock>>;

fn node(url: &str, units: &Arc<Units>) -> Arc<Node> {
    let mut options = ResilienceOptions::default();
    options.timeout = None;
    let observer = Arc::<Units>::clone(units);
    Arc::new(Resilient::around(store_at(url), Arc::new(MonotonicClock::new()), &options, observer))
}

/// 3 nodes with 8 tasks each, until the limit denies; none is degraded.
async fn admitted_by(nodes: &[Arc<Node>], limit: &Arc<Limit>, checks: u64) -> u64 {
    let admitted = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes.iter().cycle().take(8 * nodes.len()) {
        let (node, limit, admitted) = (Arc::clone(node), Arc::clone(limit), Arc::clone(&admitted));
        tasks.spawn(async move {
            let subject = Subject::empty();
            for _ in 0..checks {
                let charged = node.charge(&[charge(&limit, &subject, 1)], None).await.unwrap();
                assert!(!charged.degraded);
                // Relaxed: read after all tasks have ended.
                admitted.fetch_add(u64::from(charged.verdicts[0].allowed), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    admitted.load(Ordering::Relaxed)
}

/// Nodes that end give back what they hold, so together they admit exactly the limit.
async fn nodes_admit_exactly_the_limit(url: &str) {
    let (units, limit) = (Arc::<Units>::default(), split_limit(20_000));
    let nodes: Vec<_> = (0..3).map(|_| node(url, &units)).collect();
    let admitted = admitted_by(&nodes, &limit, 1_500).await;
    assert!(admitted <= 20_000, "{admitted}");
    for node in &nodes {
        node.finish().await;
    }
    let events = [PartEvent::Taken, PartEvent::Spent, PartEvent::GivenBack, PartEvent::Left];
    let [taken, spent, given_back, left] = events.map(|event| units.of(event));
    assert_eq!((left, taken), (0, spent + given_back));
    assert!(spent > 0, "no part was taken");
    // What was held is left to a node that comes later.
    let last = node(url, &units);
    let rest = admitted_by(&[Arc::clone(&last)], &limit, 20_000 - admitted + 1).await;
    assert_eq!(admitted + rest, 20_000);
}

#[test]
fn nodes_over_one_redis_admit_exactly_the_limit() {
    let server = RedisServer::start();
    RUNTIME.block_on(nodes_admit_exactly_the_limit(&server.url()));
}

#[test]
fn nodes_over_a_cluster_admit_exactly_the_limit() {
    let cluster = RedisCluster::start().patient();
    RUNTIME.block_on(nodes_admit_exactly_the_limit(&cluster.url()));
}

/// Redis loses answers: parts whose answers are lost are charged and never spent, so the limit holds.
#[test]
fn lost_answers_never_exceed_the_limit() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let (units, limit) = (Arc::<Units>::default(), split_limit(5_000));
    RUNTIME.block_on(async {
        let near = node(&server.url(), &units);
        let admitted = admitted_by(&[Arc::clone(&near)], &limit, 100).await;
        assert_eq!(admitted, 800);
        let mut options = ResilienceOptions::default();
        options.on_store_error = tollgate_core::FailureMode::Deny;
        let clock = Arc::new(MonotonicClock::new());
        let observer = Arc::<Units>::clone(&units);
        let far = Resilient::around(store_at(&proxy.url()), clock, &options, observer);
        let subject = Subject::empty();
        let mut by_far = 0;
        for number in 0..200 {
            proxy.set(if number % 20 == 10 { Fault::LoseAnswers } else { Fault::None });
            let charged = far.charge(&[charge(&limit, &subject, 1)], None).await.unwrap();
            by_far += u64::from(charged.verdicts[0].allowed);
        }
        proxy.set(Fault::None);
        let rest = admitted_by(&[near], &limit, 1_000).await;
        assert!(admitted + by_far + rest <= 5_000, "{admitted} + {by_far} + {rest}");
    });
}
