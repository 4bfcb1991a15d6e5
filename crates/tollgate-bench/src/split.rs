//! How many admissions a second do 20 nodes make on one limit, if they take parts of it ahead of time, compared with asking its key in
//! Redis for each?
//!
//! The nodes are stores in one process, each with connections and decorators of its own, as servers have them. All share one
//! Redis on the same cores, and each has some tasks that check without a pause. No limit denies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::{
    Amount, Charge, Limit, MonotonicClock, Per, Policy, PolicyId, Share, Split, Subject, Window,
};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;
use tollgate_store::resilience::{ResilienceOptions, Resilient};

use crate::redis::server::Server;
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::{now, to_f64};

const QUESTION: &str = "admissions a second of one limit, 20 nodes";
const ONE_KEY: &str = "one Redis key";
const PARTS: &str = "parts taken ahead";
const NODES: usize = 20;
/// The tasks of each node.
const TASKS: usize = 8;
/// A task lets others run after so many checks, as a server does between requests.
const CHECKS_IN_A_ROW: u64 = 64;
/// How often a server tends its store.
const TEND_EVERY: Duration = Duration::from_millis(100);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds, in which both contenders take turns; the median of them counts.
    pub rounds: u32,
    /// How long the nodes check before they are measured, and how long they are measured.
    pub length: Duration,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, length: Duration::from_secs(2) }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 1, length: Duration::from_millis(50) }
    }
}

type Node = Resilient<RedisStore, Arc<MonotonicClock>>;

/// Measures by `plan`.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let mut measured = Measurements::in_unit("admissions/s");
    for round in 0..plan.rounds {
        for contender in [ONE_KEY, PARTS] {
            let limit = limit(&format!("{contender}, {round}"), contender == PARTS)?;
            let nodes = (0..NODES).map(|_| node(server.port())).collect::<Result<Vec<_>, _>>()?;
            let rate = runtime.block_on(admissions_per_second(plan, &nodes, &limit))?;
            measured.add(QUESTION, contender, rate);
        }
    }
    Ok(Section {
        title: "Split: 20 nodes on one limit, with Redis on the same cores".to_owned(),
        measurements: measured,
        goals: vec![Goal {
            question: QUESTION,
            contender: PARTS,
            bound: Bound::AtLeastRatio { ratio: 20.0, of: ONE_KEY },
        }],
    })
}

fn limit(id: &str, is_split: bool) -> Result<Arc<Limit>, String> {
    let limit = || {
        let (id, per) = (PolicyId::new(id).ok()?, Per::from_scope("GLOBAL")?);
        let window = Window::new(Duration::from_mins(1))?;
        let policy = Policy::new(id, per, Amount::new(1_000_000_000_000), window);
        let split = Split::new(Share::of_millionths(50_000)?).filter(|_| is_split);
        Limit::of(&Policy { split, ..policy }).map(Arc::new)
    };
    limit().ok_or_else(|| "the limit is invalid".to_owned())
}

fn node(port: u16) -> Result<Arc<Node>, String> {
    let url = format!("redis://127.0.0.1:{port}");
    let url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    // A benchmark waits for what a server would give up.
    let mut redis = RedisOptions::default();
    redis.deadline = Duration::from_secs(10);
    let store = RedisStore::new(&url, &redis).map_err(|error| error.to_string())?;
    let mut options = ResilienceOptions::default();
    options.timeout = None;
    Ok(Arc::new(Resilient::around(store, Arc::new(MonotonicClock::new()), &options, Arc::new(()))))
}

/// What the tasks of all nodes share.
#[derive(Default)]
struct Run {
    admitted: AtomicU64,
    is_over: AtomicBool,
}

async fn admissions_per_second(
    plan: &Plan,
    nodes: &[Arc<Node>],
    limit: &Arc<Limit>,
) -> Result<f64, String> {
    let run = Arc::<Run>::default();
    let mut tasks = JoinSet::new();
    for node in nodes {
        for _ in 0..TASKS {
            tasks.spawn(check_on(Arc::clone(node), Arc::clone(limit), Arc::clone(&run)));
        }
        let (node, run) = (Arc::clone(node), Arc::clone(&run));
        tasks.spawn(async move {
            while !run.is_over.load(Ordering::Relaxed) {
                tokio::time::sleep(TEND_EVERY).await;
                node.tend().await;
            }
            Ok(())
        });
    }
    tokio::time::sleep(plan.length).await;
    let (before, start) = (run.admitted.load(Ordering::Relaxed), now());
    tokio::time::sleep(plan.length).await;
    let (after, seconds) = (run.admitted.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    run.is_over.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| error.to_string())??;
    }
    for node in nodes {
        node.finish().await;
    }
    Ok(to_f64(after - before) / seconds)
}

/// Checks without a pause.
async fn check_on(node: Arc<Node>, limit: Arc<Limit>, run: Arc<Run>) -> Result<(), String> {
    let subject = Subject::empty();
    while !run.is_over.load(Ordering::Relaxed) {
        let mut admitted = 0;
        for _ in 0..CHECKS_IN_A_ROW {
            let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
            let charged = node.charge(&[charge], None).await.map_err(|error| error.to_string())?;
            if charged.degraded || !charged.verdicts.iter().all(|verdict| verdict.allowed) {
                return Err("a check was denied, or decided without Redis".to_owned());
            }
            admitted += 1;
        }
        run.admitted.fetch_add(admitted, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    Ok(())
}
