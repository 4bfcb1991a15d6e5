//! How many checks a second does the store on memcached decide, with a memcached on the same two cores?
//!
//! 64 tasks check keys of their own in turn, each a log of a few admissions. No limit denies, because a known denial needs no memcached.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Amount, Attribute, Charge, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_memcached::{MemcachedOptions, MemcachedStore};
use tollgate_store::Store;

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::{now, to_f64};

const QUESTION: &str = "checks of own keys, 64 at a time";
const CONTENDER: &str = "tollgate store";
const TASKS: u64 = 64;
/// How often to try whether memcached has started, and the pause between two attempts.
const MAX_ATTEMPTS: u32 = 500;
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds, each on new keys; the median of them counts.
    pub rounds: u32,
    /// The keys of each task.
    pub keys: u64,
    /// The checks of each key in a round.
    pub checks: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, keys: 300, checks: 6 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 2, keys: 2, checks: 2 }
    }
}

/// A memcached that is killed when it is dropped.
struct Server(Child);

impl Server {
    fn start() -> Result<(Self, u16), String> {
        let problem = |error: std::io::Error| format!("memcached: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(problem)?;
        let port = listener.local_addr().map_err(problem)?.port();
        drop(listener);
        let mut command = Command::new("memcached");
        command.args(["-M", "-m", "256", "-U", "0", "-u", "nobody", "-l", "127.0.0.1"]);
        command.args(["-p", &port.to_string()]).stdout(Stdio::null());
        Ok((Self(command.spawn().map_err(problem)?), port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures by `plan`.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let (_server, port) = Server::start()?;
    let url = format!("memcached://127.0.0.1:{port}").parse().map_err(|_| "the URL is wrong")?;
    // A benchmark waits for what a server would give up.
    let mut options = MemcachedOptions::default();
    options.deadline = Duration::from_secs(5);
    let store = MemcachedStore::new(&url, &options);
    let mut measured = Measurements::in_unit("checks/s");
    runtime.block_on(async {
        until_up(&store).await?;
        for round in 0..plan.rounds {
            measured.add(QUESTION, CONTENDER, checks_per_second(&store, plan, round).await?);
        }
        Ok::<(), String>(())
    })?;
    Ok(Section {
        title: "memcached: checks a second, with memcached on the same cores".to_owned(),
        measurements: measured,
        goals: vec![Goal {
            question: QUESTION,
            contender: CONTENDER,
            bound: Bound::AtLeast(15_000.0),
        }],
    })
}

async fn until_up(store: &MemcachedStore) -> Result<(), String> {
    let limit = limit().ok_or("the limit is invalid")?;
    let mut problem = String::new();
    for _ in 0..MAX_ATTEMPTS {
        let subject = Subject::new("nobody", "gpt-4");
        match store.peek(&[Charge { limit: &limit, subject: &subject, cost: Amount::ONE }]).await {
            Ok(_) => return Ok(()),
            Err(error) => problem = error.to_string(),
        }
        tokio::time::sleep(ATTEMPT_EVERY).await;
    }
    Err(format!("memcached has not started: {problem}"))
}

async fn checks_per_second(store: &MemcachedStore, plan: &Plan, round: u32) -> Result<f64, String> {
    let limit = limit().ok_or("the limit is invalid")?;
    let start = now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, limit, plan) = (store.clone(), Arc::clone(&limit), *plan);
        tasks.spawn(async move {
            for number in 0..plan.keys * plan.checks {
                let user = format!("{round}-{task}-{}", number % plan.keys);
                let subject = Subject::new(&user, "gpt-4");
                let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                store.charge(&[charge], None).await.map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| error.to_string())??;
    }
    Ok(to_f64(TASKS * plan.keys * plan.checks) / start.elapsed().as_secs_f64())
}

fn limit() -> Option<Arc<Limit>> {
    let per = Per::new(vec![Attribute::User])?;
    let window = Window::new(Duration::from_hours(1))?;
    let policy = Policy::new(PolicyId::new("requests").ok()?, per, Amount::new(100), window);
    Limit::of(&policy).map(Arc::new)
}
