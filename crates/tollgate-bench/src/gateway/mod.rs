//! How much does the gateway cost, compared with a bare reverse proxy?
//!
//! A model server without a model answers behind three paths: directly, through `tollgate-bench-proxy`, a reverse proxy of hyper
//! that parses and limits nothing, and through `tollgate serve --gateway` with four limits in memory (requests, tokens, tokens of
//! answers and concurrency). All keys are of one tenant, so all requests meet the same limits. The server that is measured has one
//! core; the model and the load generator have another.
//!
//! CPU time is that of the server, with all its threads, in user and kernel mode, while it answers as fast as it can. Latencies are
//! measured at a fixed rate, and compared with those of the model itself. Memory is measured twice: of servers that have just
//! started, which is what streams take, and after the load, when the gateway also holds what its windows of a minute count.
//!
//! [`peers`] measures other gateways in the same way.

mod load;
mod measure;
pub mod peers;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use crate::cores::{CORE_OF_LOAD, Pinned};
use crate::report::{Bound, Goal, Measurements, Section};
use measure::{Figures, measure, measure_open};
use servers::Servers;

const DIRECT: &str = "the model itself";
const PROXY: &str = "bare hyper proxy";
const GATEWAY: &str = "tollgate gateway";

const PER_SECOND: &str = "requests per second, 16 connections";
const CPU_PER_REQUEST: &str = "CPU per request, µs";
const CPU_PER_CHUNK: &str = "CPU per streamed chunk, µs";
const P50: &str = "median latency at a fixed rate, ms";
const P99: &str = "99th percentile at that rate, ms";
const FIRST_BYTE: &str = "first byte with 200 open streams, median, ms";
const NEW_MEMORY_200: &str = "memory of a new server with 200 open streams, MB";
const NEW_MEMORY_1000: &str = "memory of a new server with 1,000 open streams, MB";
const MEMORY_200: &str = "memory after the load with 200 open streams, MB";
const MEMORY_1000: &str = "memory after the load with 1,000 open streams, MB";

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
    pub rates: &'static [f64],
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
            rates: &[2_000.0],
            streams: [200, 1_000],
        }
    }

    /// The same for [`peers`], of which one answers about a hundred requests a second.
    pub fn peers(rounds: u32) -> Self {
        Self { rates: &[50.0, 2_000.0], streams: [50, 200], ..Self::full(rounds) }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            warm_up: Duration::from_millis(10),
            measured: Duration::from_millis(200),
            rates: &[100.0],
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
    let runtime = runtime()?;
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        progress("gateway", round, plan.rounds);
        // New ones in each round: the exact logs of the last one would be in their memory.
        let servers = Servers::start(programs)?;
        for contender in servers.contenders() {
            for (streams, memory) in plan.streams.into_iter().zip([NEW_MEMORY_200, NEW_MEMORY_1000])
            {
                let open = runtime.block_on(measure_open(plan, &contender, streams))?;
                add(&mut measured, memory, contender.name, open.memory_mb);
            }
        }
        for contender in servers.contenders() {
            let figures = runtime.block_on(measure(plan, &contender, false))?;
            record(&mut measured, contender.name, &figures);
        }
    }
    let rates: Vec<String> = plan.rates.iter().map(f64::to_string).collect();
    Ok(Section {
        title: format!(
            "gateway: before a model server, {} requests/s for latencies",
            rates.join(", ")
        ),
        measurements: measured,
        goals: goals(),
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))
}

fn goals() -> Vec<Goal> {
    let goal = |question, bound| Goal { question, contender: GATEWAY, bound };
    vec![
        goal(CPU_PER_REQUEST, Bound::AtMostRatio { ratio: 1.8, of: PROXY }),
        goal(CPU_PER_CHUNK, Bound::AtMostRatio { ratio: 1.5, of: PROXY }),
        goal(P50, Bound::AtMostAbove { value: 0.2, of: DIRECT }),
        goal(P99, Bound::AtMostAbove { value: 1.0, of: DIRECT }),
        goal(FIRST_BYTE, Bound::AtMostAbove { value: 0.3, of: DIRECT }),
        goal(NEW_MEMORY_200, Bound::AtMost(40.0)),
        goal(NEW_MEMORY_1000, Bound::AtMostAbove { value: 60.0, of: PROXY }),
        goal(MEMORY_200, Bound::AtMost(40.0)),
        goal(MEMORY_1000, Bound::AtMostAbove { value: 60.0, of: PROXY }),
    ]
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(benchmark: &str, round: u32, rounds: u32) {
    eprintln!("{benchmark}: round {} of {rounds}", round + 1);
}

fn record(measured: &mut Measurements, contender: &str, figures: &Figures) {
    measured.add(PER_SECOND, contender, figures.per_second);
    add(measured, CPU_PER_REQUEST, contender, figures.cpu_per_request_us);
    add(measured, CPU_PER_CHUNK, contender, figures.cpu_per_chunk_us);
    for paced in &figures.paced {
        measured.add(P50, contender, paced.p50_ms);
        measured.add(P99, contender, paced.p99_ms);
    }
    for (open, memory) in figures.open.iter().zip([MEMORY_200, MEMORY_1000]) {
        add(measured, memory, contender, open.memory_mb);
        if memory == MEMORY_200 {
            measured.add(FIRST_BYTE, contender, open.first_byte_ms);
        }
    }
}

/// Adds a figure that not every contender has.
fn add(measured: &mut Measurements, question: &str, contender: &str, value: Option<f64>) {
    if let Some(value) = value {
        measured.add(question, contender, value);
    }
}
