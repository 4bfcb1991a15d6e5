//! What do callers notice when Redis hangs (P3)?
//!
//! `tollgate serve` runs over a Redis that is stopped with SIGSTOP under 200 checks a second, by a schedule that does
//! not wait for answers; each latency counts from when the check was due. The failure mode is `allow`, so an answer
//! that is not 200 and `allowed` ends the benchmark. Then Redis continues, and checks are sent until it decides again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::TOLLGATE;
use super::load::{self, Load};
use super::server::Server;
use crate::redis::server::{Client, Server as Redis};
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::{now, to_f64};

const P50: &str = "median latency, ms";
const P99_9: &str = "99.9 % of the latencies, ms";
const MAX: &str = "longest latency, ms";
const ENFORCING: &str = "enforcing again after, ms";
const CONNECTS: &str = "connections made per second";
const CHECKS_PER_SECOND: f64 = 200.0;
const CONNECTIONS: u32 = 50;
/// How long it may take until Redis decides again.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long Redis is stopped.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    stopped: Duration,
}

impl Plan {
    /// For this many seconds; `docs/BENCHMARKS.md` uses 60.
    pub fn lasting(seconds: u32) -> Self {
        Self { stopped: Duration::from_secs(seconds.into()) }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { stopped: Duration::from_secs(1) }
    }
}

/// Measures the program `tollgate` by `plan`.
pub fn run(plan: &Plan, tollgate: &Path) -> Result<Section, String> {
    let redis = Redis::start()?;
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let server =
        Server::start(TOLLGATE, tollgate, &["serve", "--http", "127.0.0.1:0", "--store", &url])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let measurements = runtime.block_on(measure(plan, &redis, server.address()))?;
    let goal = |question, most| Goal { question, contender: TOLLGATE, bound: Bound::AtMost(most) };
    Ok(Section {
        title: format!("outage: Redis stopped for {} s", plan.stopped.as_secs()),
        measurements,
        goals: vec![
            goal(P99_9, 100.0),
            goal(MAX, 150.0),
            goal(ENFORCING, 2_000.0),
            goal(CONNECTS, 10.0),
        ],
    })
}

async fn measure(plan: &Plan, redis: &Redis, address: SocketAddr) -> Result<Measurements, String> {
    until_enforcing(address).await?;
    let before = connections(redis)?;
    let mut load = Load::start_paced(address, CONNECTIONS, 0, Some(CHECKS_PER_SECOND)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.begin_measuring();
    signal(redis, "-STOP")?;
    tokio::time::sleep(plan.stopped).await;
    let outcome = load.finish().await;
    signal(redis, "-CONT")?;
    let again = now();
    until_enforcing(address).await?;
    let enforcing = again.elapsed();
    let outcome = outcome?;
    let made = connections(redis)? - before;
    let mut measured = Measurements::in_unit("value");
    measured.add(P50, TOLLGATE, outcome.latency_us_at(500) / 1e3);
    measured.add(P99_9, TOLLGATE, outcome.latency_us_at(999) / 1e3);
    measured.add(MAX, TOLLGATE, outcome.latency_us_at(1_000) / 1e3);
    measured.add(ENFORCING, TOLLGATE, enforcing.as_secs_f64() * 1e3);
    measured.add(CONNECTS, TOLLGATE, to_f64(made) / plan.stopped.as_secs_f64());
    Ok(measured)
}

/// Sends checks until the store decides one.
async fn until_enforcing(address: SocketAddr) -> Result<(), String> {
    let start = now();
    while start.elapsed() < PATIENCE {
        if load::ask_once(address).await?.contains(r#""degraded":false"#) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(format!("{address}: still degraded {PATIENCE:?} after Redis continued"))
}

/// The number of connections that Redis has accepted so far.
fn connections(redis: &Redis) -> Result<u64, String> {
    let info = Client::connect(redis.port())?.ask(&[b"INFO", b"stats"])?;
    let text = String::from_utf8_lossy(&info);
    let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.and_then(|count| count.parse().ok()).ok_or("INFO names no connections".to_owned())
}

fn signal(redis: &Redis, signal: &str) -> Result<(), String> {
    let pid = redis.pid().to_string();
    let status = Command::new("kill").args([signal, &pid]).status();
    match status.map_err(|error| format!("kill: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("kill {signal} {pid}: {status}")),
    }
}
