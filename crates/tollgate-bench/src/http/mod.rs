//! How much does the server cost, compared with the simplest one that could replace it?
//!
//! `tollgate serve`, in memory and with the default policy, and `tollgate-bench-bare`, an axum handler that parses the
//! same body and answers a fixed JSON of the same size, run as separate processes on 127.0.0.1. One load generator
//! sends requests to both in turn, over the same number of kept-alive HTTP/1.1 connections, each with one request in
//! flight. Users are drawn at random from so many that every check is admitted.
//!
//! The goal is in *requests per CPU second* of the server, with all its threads, in user and kernel mode: the generator
//! shares the machine, so throughput and latency also depend on the generator. Tollgate's answer has the same body and
//! additionally its `RateLimit` headers. A lease, which takes two requests, counts as one.

mod load;
pub mod outage;
pub mod over_catalog;
pub mod over_redis;
pub(crate) mod server;
pub mod telemetry;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;
use load::{Load, Outcome};
use server::Server;

const TOLLGATE: &str = "tollgate serve";
const BARE: &str = "bare axum";
const LEASES: &str = "the same, reserve and settle";

const PER_CPU_SECOND: &str = "requests per CPU second";
const PER_SECOND: &str = "requests per second";
const P50: &str = "median latency, µs";
const P99: &str = "99th percentile of latency, µs";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds; the median of them counts.
    pub rounds: u32,
    /// Connections, each with one request in flight.
    pub connections: u32,
    /// How long each server gets requests before a measurement.
    pub warm_up: Duration,
    /// How long a measurement lasts.
    pub measured: Duration,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self {
            rounds,
            connections: 32,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs(3),
        }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self {
            rounds: 2,
            connections: 2,
            warm_up: Duration::from_millis(10),
            measured: Duration::from_millis(100),
        }
    }
}

/// Measures both servers, the programs `tollgate` and `bare`, by `plan`.
pub fn run(plan: &Plan, tollgate: &Path, bare: &Path) -> Result<Section, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let tollgate = Server::start(TOLLGATE, tollgate, &["serve", "--http", "127.0.0.1:0"])?;
    let body = runtime.block_on(load::ask_once(tollgate.address()))?;
    let body_bytes = body.len();
    let bare = Server::start(BARE, bare, &[&body])?;
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        progress(round, plan.rounds);
        for server in [&bare, &tollgate] {
            let of = runtime.block_on(measure(plan, server, u64::from(round)))?;
            note(&mut measured, server.name(), &of);
        }
        let of = runtime.block_on(measure_leases(plan, &tollgate, u64::from(round)))?;
        note(&mut measured, LEASES, &of);
    }
    Ok(Section {
        title: format!(
            "http: POST /rate-limit/check over {} connections, bodies of {body_bytes} bytes",
            plan.connections
        ),
        measurements: measured,
        goals: vec![
            Goal {
                question: PER_CPU_SECOND,
                contender: TOLLGATE,
                bound: Bound::AtLeastRatio { ratio: 0.85, of: BARE },
            },
            Goal {
                question: PER_CPU_SECOND,
                contender: LEASES,
                bound: Bound::AtLeastRatio { ratio: 0.45, of: TOLLGATE },
            },
        ],
    })
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(round: u32, rounds: u32) {
    eprintln!("http: round {} of {rounds}", round + 1);
}

/// One measurement of one server.
struct Measured {
    outcome: Outcome,
    cpu: Duration,
}

async fn measure(plan: &Plan, server: &Server, seed: u64) -> Result<Measured, String> {
    let address: SocketAddr = server.address();
    measure_load(plan, server, Load::start(address, plan.connections, seed).await?).await
}

async fn measure_leases(plan: &Plan, server: &Server, seed: u64) -> Result<Measured, String> {
    let address: SocketAddr = server.address();
    measure_load(plan, server, Load::start_leases(address, plan.connections, seed).await?).await
}

async fn measure_load(plan: &Plan, server: &Server, mut load: Load) -> Result<Measured, String> {
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    let cpu_before = server.cpu_time()?;
    tokio::time::sleep(plan.measured).await;
    let cpu = server.cpu_time()?.saturating_sub(cpu_before);
    let outcome = load.finish().await?;
    Ok(Measured { outcome, cpu })
}

fn note(measured: &mut Measurements, server: &str, of: &Measured) {
    let requests = to_f64(of.outcome.requests);
    measured.add(PER_CPU_SECOND, server, requests / of.cpu.as_secs_f64());
    measured.add(PER_SECOND, server, requests / of.outcome.elapsed.as_secs_f64());
    measured.add(P50, server, of.outcome.latency_us(50));
    measured.add(P99, server, of.outcome.latency_us(99));
}
