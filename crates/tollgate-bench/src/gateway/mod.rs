//! How much does the gateway cost, compared with a bare reverse proxy?
//!
//! A model server without a model answers behind three paths: directly, through `tollgate-bench-proxy`, a reverse proxy of hyper
//! that parses and limits nothing, and through `tollgate serve --gateway` with four limits in memory (requests, tokens, tokens of
//! answers and concurrency). All keys are of one tenant, so all requests meet the same limits. The server that is measured has one
//! core; the model and the load generator have another.
//!
//! CPU time is that of the server, with all its threads, in user and kernel mode, while it answers as fast as it can. Latencies are
//! measured at a fixed rate, and compared with those of the model itself.

mod load;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use crate::cores::{CORE_OF_LOAD, Pinned};
use crate::http::server::Server;
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;
use load::{Load, Outcome, Work};
use servers::{Contender, Servers};

const DIRECT: &str = "the model itself";
const PROXY: &str = "bare hyper proxy";
const GATEWAY: &str = "tollgate gateway";

const PER_SECOND: &str = "requests per second, 16 connections";
const CPU_PER_REQUEST: &str = "CPU per request, µs";
const CPU_PER_CHUNK: &str = "CPU per streamed chunk, µs";
const P50: &str = "median latency at a fixed rate, ms";
const P99: &str = "99th percentile at that rate, ms";
const FIRST_BYTE: &str = "first byte with 200 open streams, median, ms";
const MEMORY_200: &str = "memory with 200 open streams, MB";
const MEMORY_1000: &str = "memory with 1,000 open streams, MB";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds; the median of them counts.
    pub rounds: u32,
    /// How long each server gets requests before a measurement.
    pub warm_up: Duration,
    /// How long a measurement lasts.
    pub measured: Duration,
    /// Requests a second when latencies are measured.
    pub rate: f64,
    /// The open streams of the two measurements of memory.
    pub streams: [u32; 2],
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self {
            rounds,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs(3),
            rate: 2_000.0,
            streams: [200, 1_000],
        }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            warm_up: Duration::from_millis(10),
            measured: Duration::from_millis(200),
            rate: 100.0,
            streams: [2, 4],
        }
    }
}

/// The programs that are measured, and the model.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tollgate`.
    pub tollgate: PathBuf,
    /// `tollgate-bench-proxy`.
    pub proxy: PathBuf,
    /// `tollgate-mock-model`.
    pub model: PathBuf,
}

/// Measures by `plan`.
pub fn run(plan: &Plan, programs: &Programs) -> Result<Section, String> {
    let _load = Pinned::all_threads_of(std::process::id(), CORE_OF_LOAD)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let servers = Servers::start(programs)?;
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        progress(round, plan.rounds);
        for contender in servers.contenders() {
            runtime.block_on(measure(plan, &contender, &mut measured))?;
        }
    }
    Ok(Section {
        title: format!("gateway: before a model server, {} requests/s for latencies", plan.rate),
        measurements: measured,
        goals: goals(),
    })
}

fn goals() -> Vec<Goal> {
    let goal = |question, bound| Goal { question, contender: GATEWAY, bound };
    vec![
        goal(CPU_PER_REQUEST, Bound::AtMostRatio { ratio: 1.8, of: PROXY }),
        goal(CPU_PER_CHUNK, Bound::AtMostRatio { ratio: 1.5, of: PROXY }),
        goal(P50, Bound::AtMostAbove { value: 0.2, of: DIRECT }),
        goal(P99, Bound::AtMostAbove { value: 1.0, of: DIRECT }),
        goal(FIRST_BYTE, Bound::AtMostAbove { value: 0.3, of: DIRECT }),
        goal(MEMORY_200, Bound::AtMost(40.0)),
        goal(MEMORY_1000, Bound::AtMostAbove { value: 60.0, of: PROXY }),
    ]
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(round: u32, rounds: u32) {
    eprintln!("gateway: round {} of {rounds}", round + 1);
}

/// All measurements of one round.
async fn measure(
    plan: &Plan,
    contender: &Contender<'_>,
    measured: &mut Measurements,
) -> Result<(), String> {
    let name = contender.name;
    let (answers, cpu) = measure_load(plan, contender, 16, None, Work::WHOLE).await?;
    measured.add(PER_SECOND, name, to_f64(answers.requests()) / answers.elapsed.as_secs_f64());
    if let Some(cpu) = cpu {
        measured.add(CPU_PER_REQUEST, name, cpu.as_secs_f64() * 1e6 / to_f64(answers.requests()));
    }
    let (streams, cpu) = measure_load(plan, contender, 16, None, Work::LONG_STREAM).await?;
    if let Some(cpu) = cpu {
        measured.add(CPU_PER_CHUNK, name, cpu.as_secs_f64() * 1e6 / to_f64(streams.events));
    }
    let (paced, _) = measure_load(plan, contender, 32, Some(plan.rate), Work::WHOLE).await?;
    measured.add(P50, name, paced.latency_ms(50));
    measured.add(P99, name, paced.latency_ms(99));
    for (streams, memory) in plan.streams.into_iter().zip([MEMORY_200, MEMORY_1000]) {
        let mut load = Load::start(contender.target(), streams, None, Work::SLOW_STREAM).await?;
        tokio::time::sleep(plan.warm_up).await;
        load.begin_measuring();
        tokio::time::sleep(plan.measured).await;
        if let Some(server) = contender.server {
            measured.add(memory, name, server.resident_mb()?);
        }
        let outcome = load.finish().await?;
        if memory == MEMORY_200 {
            measured.add(FIRST_BYTE, name, outcome.first_byte_ms(50));
        }
    }
    Ok(())
}

/// The answers, and the CPU time of the server; `None` for the model, which has no core of its own.
async fn measure_load(
    plan: &Plan,
    contender: &Contender<'_>,
    connections: u32,
    per_second: Option<f64>,
    work: Work,
) -> Result<(Outcome, Option<Duration>), String> {
    let mut load = Load::start(contender.target(), connections, per_second, work).await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    let before = contender.server.map(Server::cpu_time).transpose()?;
    tokio::time::sleep(plan.measured).await;
    let after = contender.server.map(Server::cpu_time).transpose()?;
    let outcome = load.finish().await?;
    let cpu = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok((outcome, cpu))
}
