//! Nodes over one Redis answer known denials without it: exactly, and with announcements of usage that is given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::{Amount, Charge, Limit, MonotonicClock, Subject};
use tollgate_redis::{Announcement, RedisStore};
use tollgate_store::Store;
use tollgate_store::resilience::{DenialCache, Invalidations};
use tollgate_testkit::Way;
use tollgate_testkit::redis::{Fault, Proxy, RedisCluster, RedisServer};

use crate::support::{RUNTIME, limit_of, per_hour, store_at};

/// A node: its store, and how often it was connected, disconnected and notified of a key.
struct Node {
    store: DenialCache<RedisStore, Arc<MonotonicClock>>,
    news: watch::Receiver<News>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    /// The number of primaries to which it is subscribed.
    connected: usize,
    given_back: u64,
}

impl Node {
    /// A node over the single primary at `url` that receives announcements.
    async fn listening(url: &str) -> Self {
        Self::listening_to(url, 1).await
    }

    /// The same over this many primaries.
    async fn listening_to(url: &str, primaries: usize) -> Self {
        let mut node = Self::starting(url);
        node.until(|news| news.connected == primaries).await;
        node
    }

    fn starting(url: &str) -> Self {
        let redis = store_at(url);
        let clock = Arc::new(MonotonicClock::new());
        let store = DenialCache::new(redis.clone(), clock, 65_536, Arc::new(()));
        let (tell, news) = watch::channel(News::default());
        let invalidations = store.invalidations();
        let listening = tokio::spawn(redis.listen(move |announcement| {
            pass_on(&invalidations, announcement);
            tell.send_modify(|news| match announcement {
                Announcement::Connected(_) => news.connected += 1,
                Announcement::Disconnected(_) => news.connected -= 1,
                Announcement::GivenBack(_) => news.given_back += 1,
                _ => {}
            });
        }));
        Self { store, news, listening }
    }

    async fn until(&mut self, is_so: impl FnMut(&News) -> bool) {
        let told = tokio::time::timeout(Duration::from_secs(30), self.news.wait_for(is_so)).await;
        told.expect("it is told within its time").unwrap();
    }

    async fn allowed(&self, limits: &[Arc<Limit>], subject: &Subject<'_>) -> bool {
        let charge = |limit| Charge { limit, subject, cost: Amount::ONE };
        let charges: Vec<_> = limits.iter().map(charge).collect();
        let answer = self.store.charge(&charges, None).await.unwrap();
        answer.verdicts.iter().all(|verdict| verdict.allowed)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn pass_on(invalidations: &Invalidations, announcement: Announcement<'_>) {
    match announcement {
        Announcement::Connected(domain) => invalidations.connected(domain),
        Announcement::Disconnected(domain) => invalidations.disconnected(domain),
        Announcement::GivenBack(key) => invalidations.forget(key),
        _ => invalidations.forget_all(),
    }
}

/// How many scripts the servers have run.
fn scripts_run(servers: &[&RedisServer]) -> u64 {
    let calls = |server: &&RedisServer| {
        let stats = server.info("cmdstat_evalsha").unwrap_or_default();
        let calls = stats.split([',', '=']).nth(1).and_then(|calls| calls.parse::<u64>().ok());
        calls.unwrap_or_default()
    };
    servers.iter().map(calls).sum()
}

/// One key at 50 times its limit, from three nodes: Redis runs at most twice as many scripts as the limit admits, and
/// not one check too many is admitted.
#[test]
fn a_client_that_hammers_a_spent_limit_costs_redis_next_to_nothing() {
    const LIMIT: u64 = 100;
    let server = RedisServer::start();
    let limits = [per_hour(LIMIT)];
    RUNTIME.block_on(async {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(Node::listening(&server.url()).await);
        }
        let before = scripts_run(&[&server]);
        let mut admitted = 0;
        for number in 0..50 * LIMIT {
            let node = &nodes[(number % 3) as usize];
            admitted += u64::from(node.allowed(&limits, &Subject::new("alice", "m")).await);
        }
        assert_eq!(admitted, LIMIT);
        let run = scripts_run(&[&server]) - before;
        assert!((LIMIT..=2 * LIMIT).contains(&run), "{run} scripts");
    });
}

/// A reset on one node takes effect on all, on one server and on a Cluster.
#[test]
fn a_reset_is_told_to_every_node() {
    let (server, cluster) = (RedisServer::start(), RedisCluster::start());
    for (url, primaries) in [(server.url(), 1), (cluster.url(), 3)] {
        RUNTIME.block_on(async {
            let (limits, subject) = ([per_hour(1)], Subject::new("alice", "m"));
            let mut here = Node::listening_to(&url, primaries).await;
            let there = Node::listening_to(&url, primaries).await;
            assert!(here.allowed(&limits, &subject).await);
            assert!(!here.allowed(&limits, &subject).await);
            there.store.reset(&limits[0], &subject).await.unwrap();
            here.until(|news| news.given_back > 0).await;
            assert!(here.allowed(&limits, &subject).await, "{url}");
        });
    }
}

/// If a charge is refunded because a limit in another slot of the Cluster denies, every node is notified: the limit
/// that was full meanwhile has room again.
#[test]
fn a_charge_taken_back_is_told_to_every_node() {
    let cluster = RedisCluster::start();
    let url = cluster.url();
    let by_model = limit_of("m", "MODEL", 2, Duration::from_hours(1), Way::Log);
    let by_user = per_hour(1);
    RUNTIME.block_on(async {
        let mut here = Node::listening_to(&url, 3).await;
        let there = Node::listening_to(&url, 3).await;
        let alice = Subject::new("alice", "m");
        let both = [by_model.clone(), by_user.clone()];
        assert!(there.allowed(&both, &alice).await);
        // The model's limit is charged, the user's limit denies, and the charge is refunded.
        assert!(!there.allowed(&both, &alice).await);
        here.until(|news| news.given_back > 0).await;
        let (by_model, bob) = ([by_model], Subject::new("bob", "m"));
        assert!(here.allowed(&by_model, &bob).await);
        assert!(!here.allowed(&by_model, &bob).await);
    });
}

/// A Cluster with more primaries than may be connected to at once: all get a subscription, one after the other, and
/// none repeatedly.
#[test]
fn every_primary_of_a_large_cluster_is_heard() {
    const PRIMARIES: usize = 8;
    let cluster = RedisCluster::of(PRIMARIES, 0);
    let received = || {
        let of = |node: &RedisServer| node.info("total_connections_received").unwrap();
        cluster.nodes().iter().map(|node| of(node).parse::<usize>().unwrap()).sum::<usize>()
    };
    RUNTIME.block_on(async {
        let before = received();
        let (limits, subject) = ([per_hour(1)], Subject::new("alice", "m"));
        let node = Node::listening_to(&cluster.url(), PRIMARIES).await;
        // Each lookup of the Cluster connects to each of its nodes.
        let connected = received() - before - PRIMARIES;
        assert!(connected <= 2 * PRIMARIES, "{connected} connections");
        assert!(node.allowed(&limits, &subject).await);
        let run = || scripts_run(&cluster.nodes().iter().collect::<Vec<_>>());
        assert!(!node.allowed(&limits, &subject).await);
        let asked = run();
        assert!(!node.allowed(&limits, &subject).await);
        assert_eq!(run(), asked, "a denial that is known is answered here");
    });
}

/// A node without a subscription does not answer known denials, whatever cut the connection; later it subscribes again.
#[test]
fn a_node_that_cannot_be_told_asks_every_time() {
    let server = RedisServer::start();
    for fault in [Fault::Reset, Fault::BlackHole] {
        let proxy = Proxy::start(server.port());
        let subject = Subject::new("alice", "m");
        let limits =
            [limit_of(&format!("{fault:?}"), "USER", 1, Duration::from_hours(1), Way::Log)];
        RUNTIME.block_on(async {
            let mut here = Node::listening(&proxy.url()).await;
            let there = Node::listening(&server.url()).await;
            assert!(here.allowed(&limits, &subject).await);
            assert!(!here.allowed(&limits, &subject).await);
            proxy.set(fault);
            here.until(|news| news.connected == 0).await;
            there.store.reset(&limits[0], &subject).await.unwrap();
            proxy.set(Fault::None);
            here.until(|news| news.connected == 1).await;
            // This call notices that the connection for checks was lost too.
            let charge = Charge { limit: &limits[0], subject: &subject, cost: Amount::ONE };
            let _ = here.store.peek(&[charge]).await;
            assert!(here.allowed(&limits, &subject).await, "{fault:?}");
        });
    }
}
